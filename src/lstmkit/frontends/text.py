"""Texts: tokens by number, a learnt vector for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.progress import Progress


@dataclass
class TextFrontEnd:
    """Texts as tokens. A text without any is read as one unknown token, so that every text gets an answer.

    Attributes:
        tokens, vocabulary, at_least, lower: As of :meth:`Tokenizer.fit`.
        longest: Tokens that are read of a text, its first; 0 for all.
        width: Of a token's vector.
        word_dropout, dropout: As of :class:`TokenEncoder`.
    """

    kind: ClassVar[str] = "text"

    tokens: str
    vocabulary: int
    at_least: int
    lower: bool
    longest: int
    width: int
    word_dropout: float
    dropout: float
    _tokenizer: Tokenizer | None = field(default=None, init=False, repr=False)

    def fit(self, inputs: Sequence[str], progress: Progress) -> None:
        self._tokenizer = Tokenizer.fit(
            inputs,
            self.tokens,
            size=self.vocabulary,
            at_least=self.at_least,
            lower=self.lower,
            progress=progress,
            count=len(inputs),
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts a text into tokens."""
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def _blank(self) -> int:
        return self.tokenizer[UNKNOWN] if UNKNOWN in self.tokenizer else 0  # noqa: SIM401

    def encode(self, inputs: Sequence[str]) -> list[np.ndarray]:
        """Of each text its ids, ``(T,)``."""
        last = self.longest or None
        return [np.array(ids[:last] or [self._blank]) for ids in self.tokenizer.encode(inputs)]

    def build(self) -> tuple[nn.Module, int]:
        return TokenEncoder(len(self.tokenizer), self.width, self.word_dropout, self.dropout), self.width

    def steps(self, example: str) -> list[str]:
        """The words as the text has them, be they known or not."""
        return self.tokenizer.pieces(example)[: self.longest or None] or [""]

    def without(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """The tokens left out; an unknown one where none is left."""
        rest = np.delete(encoded, slice(start, end))
        return rest if len(rest) else np.array([self._blank])

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        """How much is unknown, and how many texts were cut."""
        found = []
        if UNKNOWN in self.tokenizer:
            share = float(np.mean(np.concatenate(encoded) == self._blank))
            found.append(f"Tokens that are unknown: {share:.1%}.")
        cut = sum(len(ids) == self.longest for ids in encoded)
        if self.longest and cut:
            found.append(f"Of texts longer than {self.longest} tokens only those are read ({cut} of {len(encoded)}).")
        return found

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_json()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer(self.tokens, state["tokenizer"])
        if not len(self._tokenizer):
            raise ValueError("its vocabulary is empty")
