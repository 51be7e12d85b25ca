"""Tagged sentences: files in CoNLL format, or lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences
from lstmkit.data.text.lines import TEXT_FILE, read_text
from lstmkit.errors import DataError

Tokens = tuple[str, ...]

_WORD_NUMBER = re.compile(r"\d+(?:[-.]\d+)?")  # of CoNLL-U: 1 a word, 1-2 a range of words, 2.1 an empty node
_COMMENT = re.compile(r"#\s*(?:[^\s=]+\s*=|newdoc\b|newpar\b|begin document\b|end document\b)[^\t]*$")
_SENTENCE_ENDS = {".", "!", "?"}


#: Formats of tagged sentences.
FORMATS = (
    replace(
        TEXT_FILE,
        name="CoNLL columns or CoNLL-U",
        notes=(
            "Any ending; one that ends in .gz is gzipped. Columns are separated by tabs, or by spaces if there "
            "is no tab; a blank line ends a sentence. Comments begin with # before the first word of a sentence."
        ),
    ),
)


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences with a tag for each token.

    Attributes:
        tokens: Tokens of each sentence; none only in sentences to tag.
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
    """Read sentences with tags, or lists; sentences without tokens are dropped.

    Formats of a file:

    - CoNLL columns: one token and its tag per line, a blank line between sentences. Columns are separated by tabs, or
      by spaces if the file has no tab. Lines ``-DOCSTART-`` are skipped.
    - CoNLL-U: the same with tabs, and the number of the word in the first column. Ranges (``1-2``) and empty nodes
      (``2.1``) are not words.
    - Comments ``# key = value`` stand before the first token of a sentence. ``#`` with the columns of a word is a word.

    Args:
        data: The path of a file; ``(tokens, tags)`` pairs; or, without tags, lists of tokens or sentences as text,
            split at spaces.
        token_column: Column of the token, from 0.
        tag_column: Column of the tag; -1 for the last. A file with one column has no tags.

    Raises:
        DataError: The file does not exist or is empty, a line has too few columns, the lines of a sentence differ in
            their number of columns, or a token has no tag.

    >>> read_tagged_sentences([(["the", "cat"], ["DET", "NOUN"])]).tags
    (('DET', 'NOUN'),)
    """
    sentences = _read(data, token_column, tag_column, None)
    rows = [i for i, words in enumerate(sentences.tokens) if words]
    if not rows:
        raise DataError(f"{sentences.name} has no sentence: give at least one")
    return sentences if len(rows) == len(sentences) else sentences.subset(rows)


def read_sentences(data: Any, tags: Collection[str], token_column: int = 0, tag_column: int = -1) -> TaggedSentences:
    """Read sentences to tag: as :func:`read_tagged_sentences`, or plain text. Sentences without tokens are kept.

    Plain text has a sentence per line, split at spaces. A file whose lines have several words is in columns if most
    words in ``tag_column`` are ``tags``, and plain text if its lines differ in their number of words.

    Args:
        data: The path of a file, sentences as text, lists of tokens, or ``(tokens, tags)`` pairs.
        tags: Tags of the model.
        token_column: Column of the token in a file with columns, from 0.
        tag_column: Column of the tag; -1 for the last.

    Raises:
        DataError: The file cannot be read, or may be in columns or plain text.

    >>> read_sentences(["the cat sat", ""], ["DET", "NOUN"]).tokens
    (('the', 'cat', 'sat'), ())
    """
    sentences = _read(data, token_column, tag_column, frozenset(tags))
    if not any(sentences.tokens):
        raise DataError(f"{sentences.name} has no sentence: give at least one")
    return sentences


def _read(data: Any, token_column: int, tag_column: int, known_tags: frozenset[str] | None) -> TaggedSentences:
    if isinstance(data, TaggedSentences):
        return data
    if isinstance(data, (str, Path)):
        return _from_file(Path(data), token_column, tag_column, known_tags)
    if not isinstance(data, Sequence):
        raise DataError(f"give the path of a CoNLL file, or sentences, not {type(data).__name__}")
    return _from_list(data)


def _from_list(data: Sequence[Any]) -> TaggedSentences:
    pairs = [_is_pair(entry) for entry in data]
    if any(pairs) and not all(pairs):
        raise DataError(f"entry {pairs.index(False) + 1} has no tags, but others have: give all as (tokens, tags)")
    if not all(pairs) or not data:
        tokens = [_tokens(entry, f"entry {i}") for i, entry in enumerate(data, 1)]
        return TaggedSentences(tuple(tokens), None, "the list")
    tokens = [_tokens(entry[0], f"entry {i}") for i, entry in enumerate(data, 1)]
    tags = [_tokens(entry[1], f"the tags of entry {i}") for i, entry in enumerate(data, 1)]
    for i, (words, word_tags) in enumerate(zip(tokens, tags, strict=True), 1):
        if len(words) != len(word_tags):
            raise DataError(f"entry {i} has {len(words)} tokens and {len(word_tags)} tags: give one tag per token")
    return TaggedSentences(tuple(tokens), tuple(tags), "the list")


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


# ---- files ---------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A line with text: its number, from 1, and its columns."""

    line: int
    columns: list[str]


def _from_file(path: Path, token_column: int, tag_column: int, known_tags: frozenset[str] | None) -> TaggedSentences:
    lines = list(read_text(path))
    has_tabs = any("\t" in line for line in lines)
    blocks = _blocks(lines, has_tabs)
    rows = [row for block in blocks for row in block]
    if all(len(row.columns) == 1 for row in rows):
        return TaggedSentences(tuple(tuple(row.columns[0] for row in block) for block in blocks), None, path.name)
    if known_tags is not None and not has_tabs and _is_plain_text(path.name, blocks, tag_column, known_tags):
        return TaggedSentences(tuple(tuple(line.split()) for line in lines), None, path.name)
    if has_tabs and _is_conllu(blocks):
        if token_column == 0:
            raise DataError(
                f"{path.name} has the number of each word in its first column, as CoNLL-U: give token_col=1, and "
                "tag_col=3 for universal parts of speech"
            )
        blocks = [[row for row in block if row.columns[0].isdigit()] for block in blocks]
    # Sentences of one line each may be plain text: their columns must be the same in the whole file.
    alike = blocks if any(len(block) > 1 for block in blocks) else [[row for block in blocks for row in block]]
    for same in alike:
        _check_columns(path.name, same, token_column, tag_column, need_tags=known_tags is None)
    tokens = tuple(tuple(row.columns[token_column] for row in block) for block in blocks)
    tags = tuple(tuple(row.columns[tag_column] for row in block) for block in blocks)
    return TaggedSentences(tokens, tags, path.name)


def _blocks(lines: Sequence[str], has_tabs: bool) -> list[list[_Row]]:
    """Rows of each sentence, without comments and ``-DOCSTART-`` lines."""
    split = [[column.strip() for column in line.split("\t")] if has_tabs else line.split() for line in lines]
    counts = {len(columns) for columns in split if any(columns) and not columns[0].startswith("#")}
    blocks: list[list[_Row]] = [[]]
    for number, (line, columns) in enumerate(zip(lines, split, strict=True), 1):
        if not any(columns) or columns[0] == "-DOCSTART-":
            blocks.append([])
        elif blocks[-1] or not _is_comment(line, len(columns), counts):
            blocks[-1].append(_Row(number, columns))
    return [block for block in blocks if block]


def _is_conllu(blocks: list[list[_Row]]) -> bool:
    """Whether the first of at least four columns is the number of the word: 1, 2, … in each sentence."""
    for block in blocks:
        numbers = [columns[0] for _, columns in block]
        words = [int(number) for number in numbers if number.isdigit()]
        if not all(map(_WORD_NUMBER.fullmatch, numbers)) or not words or words != [*range(1, len(words) + 1)]:
            return False
    return len(blocks[0][0].columns) > 3


def _is_comment(line: str, n_columns: int, counts: set[int]) -> bool:
    """Whether a line before the first token of a sentence is a comment; ``counts``: numbers of columns of words."""
    if _COMMENT.match(line):
        return True
    return line.startswith("# ") and n_columns not in counts


def _is_plain_text(name: str, blocks: list[list[_Row]], tag_column: int, known_tags: frozenset[str]) -> bool:
    """Whether lines with several words are sentences, not a token and its columns. Raises DataError if unclear."""
    rows = [row for block in blocks for row in block]
    if len(rows) == 1:
        return True
    last = [row.columns[tag_column] for row in rows if -len(row.columns) <= tag_column < len(row.columns)]
    if set(last) <= _SENTENCE_ENDS:
        return True
    if 2 * sum(tag in known_tags for tag in last) > len(rows):
        return False
    if len({len(row.columns) for row in rows}) > 1:
        return True
    raise DataError(
        f"{name}, line {rows[0].line}: may be a token with columns or a sentence, as every line has "
        f"{len(rows[0].columns)} words and {last[0] if last else ''!r} is not a tag of the model: give one token per "
        "line, or separate columns with tabs"
    )


def _check_columns(name: str, block: list[_Row], token_column: int, tag_column: int, need_tags: bool) -> None:
    """Raise DataError if a row has too few columns, or if columns counted from the end are not the same ones."""
    min_columns = 1 + max(token_column, tag_column, 1)
    for line, columns in block:
        if len(columns) < min_columns:
            raise DataError(
                f"{name}, line {line}: {len(columns)} columns, expected at least {min_columns}: "
                "add the tag, or correct token_col and tag_col"
            )
        if len(columns) != len(block[0].columns) and min(token_column, tag_column) < 0:
            raise DataError(
                f"{name}, line {line}: {len(columns)} columns, but line {block[0].line} has {len(block[0].columns)}: "
                "give all lines of a sentence the same columns: a token, and its tag in the last one"
            )
        if not columns[token_column] or (need_tags and not columns[tag_column]):
            raise DataError(f"{name}, line {line}: the token or its tag is empty: give both")


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
