"""Extended vocabulary of the copy mechanism: ids for out-of-vocabulary words of a source text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer


def numbered(tokens: Tokenizer, ids: Sequence[int], words: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Encode a source text; out-of-vocabulary words get the ids ``V``, ``V + 1``, … in order of appearance.

    Args:
        tokens: Tokenizer with ``V`` tokens.
        ids, words: Ids and words of the text from :meth:`Tokenizer.spelled`, or a part of them.

    Returns:
        The ids, and the ids of out-of-vocabulary words by word.

    >>> tokens = Tokenizer.fit(["a dog"], "words", special=["<unk>"])
    >>> numbered(tokens, *next(tokens.spelled(["a cat , a dog and a cat"])))
    ([1, 3, 4, 1, 2, 5, 1, 3], {'cat': 3, ',': 4, 'and': 5})
    """
    unknown, beyond = tokens.number(UNKNOWN), dict[str, int]()
    extended_ids = [
        beyond.setdefault(tokens.normal(word), len(tokens) + len(beyond)) if i == unknown else i
        for i, word in zip(ids, words, strict=True)
    ]
    return extended_ids, beyond


def encode_with_extended_vocabulary(
    tokens: Tokenizer, ids: Sequence[int], words: Sequence[str], beyond: Mapping[str, int]
) -> list[int]:
    """Encode a target text; out-of-vocabulary words of the source get their ids in ``beyond``."""
    unknown = tokens.number(UNKNOWN)
    return [beyond.get(tokens.normal(word), unknown) if i == unknown else i for i, word in zip(ids, words, strict=True)]
