"""Sentences whose every token has a tag: from files in columns, or lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.batch import Batch, beside
from lstmkit.data.text.lines import read_text
from lstmkit.errors import DataError

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences, and their tags.

    Attributes:
        tokens: Of each sentence, at least one.
        tags: As many for each; ``None`` where there are none.
        name: What messages call it.
    """

    tokens: tuple[Tokens, ...]
    tags: tuple[Tokens, ...] | None
    name: str

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, rows: Sequence[int] | np.ndarray) -> TaggedSentences:
        """These sentences."""
        tags = None if self.tags is None else tuple(self.tags[i] for i in rows)
        return replace(self, tokens=tuple(self.tokens[i] for i in rows), tags=tags)

    def told(self) -> tuple[Tokens, ...]:
        """The tags, which must be there.

        Raises:
            DataError: There are none.
        """
        if self.tags is None:
            raise DataError(f"{self.name} has no tags: give a token and its tag on each line, or (tokens, tags) pairs")
        return self.tags

    def digest(self) -> str:
        """A fingerprint of all of it."""
        return hashlib.sha256(repr((self.tokens, self.tags)).encode()).hexdigest()


def read_tagged_sentences(data: Any, token_column: int = 0, tag_column: int = -1) -> TaggedSentences:
    """A file in columns (CoNLL): a token a line with its tag, a blank line between sentences; or lists.

    Args:
        data: The path of a file; or ``(tokens, tags)`` pairs; or without tags lists of tokens, or sentences as text
            that is cut at spaces.
        token_column: Which column of a file has the token, from 0; columns stand between tabs, else between spaces.
        tag_column: Which has the tag; -1 for the last. Where there is only one column there are no tags.

    Raises:
        DataError: No such file, nothing in it, a line with too few columns, or a token without a tag.

    >>> read_tagged_sentences([(["the", "cat"], ["DET", "NOUN"])]).tags
    (('DET', 'NOUN'),)
    """
    if isinstance(data, TaggedSentences):
        return data
    if isinstance(data, (str, Path)):
        return _from_columns(Path(data), token_column, tag_column)
    if not isinstance(data, Sequence):
        raise DataError(f"give the path of a file, or a list of (tokens, tags), not {type(data).__name__}")
    return _from_list(data)


def _from_list(data: Sequence[Any]) -> TaggedSentences:
    pairs = [_is_pair(entry) for entry in data]
    if any(pairs) and not all(pairs):
        raise DataError(f"entry {pairs.index(False) + 1} has no tags, others have: give all as (tokens, tags)")
    if not all(pairs) or not data:
        tokens = [_tokens(entry, f"entry {i}") for i, entry in enumerate(data, 1)]
        return _whole(tokens, None, "the list")
    tokens = [_tokens(entry[0], f"entry {i}") for i, entry in enumerate(data, 1)]
    tags = [_tokens(entry[1], f"the tags of entry {i}") for i, entry in enumerate(data, 1)]
    for i, (words, told) in enumerate(zip(tokens, tags, strict=True), 1):
        if len(words) != len(told):
            raise DataError(f"entry {i} has {len(words)} tokens and {len(told)} tags: there must be one for each")
    return _whole(tokens, tags, "the list")


def _is_pair(entry: Any) -> bool:
    """Tokens and tags, not a sentence of two words."""
    one_word = (isinstance(part, str) and " " not in part for part in entry)
    return isinstance(entry, tuple) and len(entry) == 2 and not all(one_word)


def _tokens(entry: Any, where: str) -> Tokens:
    found = tuple(entry.split()) if isinstance(entry, str) else tuple(entry)
    for token in found:
        if not isinstance(token, str) or not token or token.split() != [token]:
            raise DataError(f"{where}: {token!r} is no token: tokens are text without spaces")
    return found


def _from_columns(path: Path, token_column: int, tag_column: int) -> TaggedSentences:
    tokens: list[Tokens] = []
    tags: list[Tokens] = []
    text = read_text(path)
    single = all(len(columns) == 1 for _, columns in _rows(text) if columns)
    needed = 1 + max(token_column, tag_column, 0 if single else 1)
    words: list[str] = []
    told: list[str] = []
    for number, columns in (*_rows(text), (0, [])):
        if columns:
            if not single and len(columns) < needed:
                raise DataError(f"{path.name}, line {number}: {len(columns)} columns, at least {needed} are needed")
            words.append(columns[token_column] if not single else columns[0])
            told.append(columns[tag_column] if not single else "")
        elif words:
            tokens.append(tuple(words))
            tags.append(tuple(told))
            words, told = [], []
    return _whole(tokens, None if single else tags, path.name)


def _rows(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and columns, none for a blank line; a comment of CoNLL-U is left out."""
    for number, line in enumerate(lines, 1):
        if line.startswith("# ") and ("=" in line or len(line.split()) > 3) and "\t" not in line:
            continue
        columns = [c.strip() for c in line.split("\t")] if "\t" in line else line.split()
        yield number, columns if any(columns) else []


def _whole(tokens: list[Tokens], tags: list[Tokens] | None, name: str) -> TaggedSentences:
    kept = [i for i, words in enumerate(tokens) if words]
    if not kept:
        raise DataError(f"{name} is empty: there is no sentence in it")
    return TaggedSentences(tuple(tokens[i] for i in kept), None if tags is None else tuple(tags[i] for i in kept), name)


class TaggedDataset:
    """Sentences in numbers.

    Args:
        words: The word's number of each token, ``(T,)`` a sentence.
        letters: Its letters' numbers from 1, 0 where it is over: ``(T, C)``.
        tags: The tag's number of each, -1 where it is not known.
    """

    def __init__(self, words: list[np.ndarray], letters: list[np.ndarray], tags: list[np.ndarray]) -> None:
        self.words, self.letters, self.tags = words, letters, tags
        self.lengths = np.array([len(one) for one in words])

    def __len__(self) -> int:
        return len(self.words)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 1 + C)``: the word's number, then its letters'; targets ``(B, T)``, -1 past the end."""
        wide = max(self.letters[row].shape[1] for row in rows)
        letters = [np.pad(self.letters[row], ((0, 0), (0, wide - self.letters[row].shape[1]))) for row in rows]
        both = [np.column_stack([self.words[row], some]) for row, some in zip(rows, letters, strict=True)]
        return Batch(
            torch.from_numpy(beside(both, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(beside([self.tags[row] for row in rows], -1)),
            rows=rows,
        )
