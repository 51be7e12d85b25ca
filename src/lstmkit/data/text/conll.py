"""Tagged sentences: files in CoNLL format, or lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.batch import Batch, pad_sequences
from lstmkit.data.text.lines import read_text
from lstmkit.errors import DataError

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences with a tag for each token.

    Attributes:
        tokens: Tokens of each sentence, at least one.
        tags: Tags of each sentence, one per token; ``None`` without tags.
        name: Name of the data in messages.
    """

    tokens: tuple[Tokens, ...]
    tags: tuple[Tokens, ...] | None
    name: str

    def __len__(self) -> int:
        return len(self.tokens)

    def subset(self, rows: Sequence[int] | np.ndarray) -> TaggedSentences:
        """The sentences ``rows``."""
        tags = None if self.tags is None else tuple(self.tags[i] for i in rows)
        return replace(self, tokens=tuple(self.tokens[i] for i in rows), tags=tags)

    def require_tags(self) -> tuple[Tokens, ...]:
        """The tags.

        Raises:
            DataError: There are no tags.
        """
        if self.tags is None:
            raise DataError(f"{self.name} has no tags: give a token and its tag on each line, or (tokens, tags) pairs")
        return self.tags

    def digest(self) -> str:
        """SHA-256 of tokens and tags."""
        return hashlib.sha256(repr((self.tokens, self.tags)).encode()).hexdigest()


def read_tagged_sentences(data: Any, token_column: int = 0, tag_column: int = -1) -> TaggedSentences:
    """Read a CoNLL file (one token and its tag per line, a blank line between sentences), or lists.

    Args:
        data: The path of a file; ``(tokens, tags)`` pairs; or, without tags, lists of tokens or sentences as text,
            split at spaces.
        token_column: Column of the token, from 0. Columns are separated by tabs, or by spaces if a line has no tab.
        tag_column: Column of the tag; -1 for the last. A file with one column has no tags.

    Raises:
        DataError: The file does not exist or is empty, a line has too few columns, or a token has no tag.

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
        raise DataError(f"entry {pairs.index(False) + 1} has no tags, but others have: give all as (tokens, tags)")
    if not all(pairs) or not data:
        tokens = [_tokens(entry, f"entry {i}") for i, entry in enumerate(data, 1)]
        return _non_empty(tokens, None, "the list")
    tokens = [_tokens(entry[0], f"entry {i}") for i, entry in enumerate(data, 1)]
    tags = [_tokens(entry[1], f"the tags of entry {i}") for i, entry in enumerate(data, 1)]
    for i, (words, word_tags) in enumerate(zip(tokens, tags, strict=True), 1):
        if len(words) != len(word_tags):
            raise DataError(f"entry {i} has {len(words)} tokens and {len(word_tags)} tags: give one tag per token")
    return _non_empty(tokens, tags, "the list")


def _is_pair(entry: Any) -> bool:
    """Whether an entry is (tokens, tags), and not a sentence of two words."""
    one_word = (isinstance(side, str) and " " not in side for side in entry)
    return isinstance(entry, tuple) and len(entry) == 2 and not all(one_word)


def _tokens(entry: Any, where: str) -> Tokens:
    tokens = tuple(entry.split()) if isinstance(entry, str) else tuple(entry)
    for token in tokens:
        if not isinstance(token, str) or not token or token.split() != [token]:
            raise DataError(f"{where}: {token!r} is not a token: give text without spaces")
    return tokens


def _from_columns(path: Path, token_column: int, tag_column: int) -> TaggedSentences:
    tokens: list[Tokens] = []
    tags: list[Tokens] = []
    text = read_text(path)
    single = all(len(columns) == 1 for _, columns in _rows(text) if columns)
    min_columns = 1 + max(token_column, tag_column, 0 if single else 1)
    words: list[str] = []
    word_tags: list[str] = []
    for number, columns in (*_rows(text), (0, [])):
        if columns:
            if not single and len(columns) < min_columns:
                raise DataError(
                    f"{path.name}, line {number}: {len(columns)} columns, expected at least {min_columns}: "
                    "add the tag, or correct --token-col and --tag-col"
                )
            words.append(columns[token_column] if not single else columns[0])
            word_tags.append(columns[tag_column] if not single else "")
        elif words:
            tokens.append(tuple(words))
            tags.append(tuple(word_tags))
            words, word_tags = [], []
    return _non_empty(tokens, None if single else tags, path.name)


def _rows(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Number and columns of each line, no columns for a blank line; CoNLL-U comments are skipped."""
    for number, line in enumerate(lines, 1):
        if line.startswith("# ") and ("=" in line or len(line.split()) > 3) and "\t" not in line:
            continue
        columns = [c.strip() for c in line.split("\t")] if "\t" in line else line.split()
        yield number, columns if any(columns) else []


def _non_empty(tokens: list[Tokens], tags: list[Tokens] | None, name: str) -> TaggedSentences:
    kept = [i for i, words in enumerate(tokens) if words]
    if not kept:
        raise DataError(f"{name} has no sentence: give at least one")
    return TaggedSentences(tuple(tokens[i] for i in kept), None if tags is None else tuple(tags[i] for i in kept), name)


class TaggedDataset:
    """Dataset of encoded tagged sentences.

    Args:
        words: Word ids of each sentence, ``(T,)``.
        characters: Character ids of each token, from 1, padded with 0: ``(T, C)``.
        tags: Tag ids ``(T,)``, -1 if unknown.
    """

    def __init__(self, words: list[np.ndarray], characters: list[np.ndarray], tags: list[np.ndarray]) -> None:
        self.words, self.characters, self.tags = words, characters, tags
        self.lengths = np.array([len(ids) for ids in words])

    def __len__(self) -> int:
        return len(self.words)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 1 + C)``: word id, then character ids; targets ``(B, T)``, padded with -1."""
        max_characters = max(self.characters[row].shape[1] for row in rows)
        characters = [
            np.pad(self.characters[row], ((0, 0), (0, max_characters - self.characters[row].shape[1]))) for row in rows
        ]
        inputs = [np.column_stack([self.words[row], ids]) for row, ids in zip(rows, characters, strict=True)]
        return Batch(
            torch.from_numpy(pad_sequences(inputs, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(pad_sequences([self.tags[row] for row in rows], -1)),
            rows=rows,
        )
