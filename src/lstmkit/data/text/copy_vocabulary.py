"""Extended vocabulary of the copy mechanism: ids for out-of-vocabulary words of a source text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer


def encode_source(tokenizer: Tokenizer, ids: Sequence[int], words: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Encode a source text; out-of-vocabulary words get the ids ``V``, ``V + 1``, … in order of appearance.

    Args:
        tokenizer: Tokenizer with ``V`` tokens.
        ids, words: Ids and words of the text from :meth:`Tokenizer.encode_with_tokens`, or a slice of them.

    Returns:
        The ids, and the ids of out-of-vocabulary words by word.

    >>> tokenizer = Tokenizer.fit(["a dog"], "words", special_tokens=["<unk>"])
    >>> encode_source(tokenizer, *next(tokenizer.encode_with_tokens(["a cat , a dog and a cat"])))
    ([1, 3, 4, 1, 2, 5, 1, 3], {'cat': 3, ',': 4, 'and': 5})
    """
    unknown, oov_ids = tokenizer.token_to_id(UNKNOWN), dict[str, int]()
    extended_ids = [
        oov_ids.setdefault(tokenizer.normalize(word), len(tokenizer) + len(oov_ids)) if i == unknown else i
        for i, word in zip(ids, words, strict=True)
    ]
    return extended_ids, oov_ids


def encode_target(
    tokenizer: Tokenizer, ids: Sequence[int], words: Sequence[str], oov_ids: Mapping[str, int]
) -> list[int]:
    """Encode a target text; out-of-vocabulary words of the source get their ids in ``oov_ids``."""
    unknown = tokenizer.token_to_id(UNKNOWN)
    return [
        oov_ids.get(tokenizer.normalize(word), unknown) if i == unknown else i
        for i, word in zip(ids, words, strict=True)
    ]
