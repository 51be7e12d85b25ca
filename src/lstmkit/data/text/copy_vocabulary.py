"""Numbers for the words that a text has and a vocabulary has not, so that they can be copied from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer


def numbered(tokens: Tokenizer, ids: Sequence[int], words: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """The ids of a text whose unknown words are ``V``, ``V + 1``, … in order; and these by their words.

    Args:
        tokens: A vocabulary of ``V``.
        ids, words: What :meth:`Tokenizer.spelled` gave of the text, or a part of it.

    >>> tokens = Tokenizer.fit(["a dog"], "words", special=["<unk>"])
    >>> numbered(tokens, *next(tokens.spelled(["a cat , a dog and a cat"])))
    ([1, 3, 4, 1, 2, 5, 1, 3], {'cat': 3, ',': 4, 'and': 5})
    """
    unknown, beyond = tokens.number(UNKNOWN), dict[str, int]()
    found = [
        beyond.setdefault(tokens.normal(word), len(tokens) + len(beyond)) if i == unknown else i
        for i, word in zip(ids, words, strict=True)
    ]
    return found, beyond


def encode_with_extended_vocabulary(
    tokens: Tokenizer, ids: Sequence[int], words: Sequence[str], beyond: Mapping[str, int]
) -> list[int]:
    """The ids of another text, whose unknown words have the numbers of ``beyond`` where they stand in it."""
    unknown = tokens.number(UNKNOWN)
    return [beyond.get(tokens.normal(word), unknown) if i == unknown else i for i, word in zip(ids, words, strict=True)]
