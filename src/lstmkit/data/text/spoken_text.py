"""Texts to speak, checked. It needs no torch."""

from __future__ import annotations

from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.errors import DataError


def check_known_characters(has_known: bool, number: int, tokenizer: Tokenizer) -> None:
    """Raise DataError for text ``number`` unless one of its characters is known; the message names those that are."""
    if not has_known:
        characters = (token for token in tokenizer.vocabulary() if len(token) == 1 and token.strip())
        raise DataError(f"text {number} has no known character: use some of {''.join(sorted(characters))}")
