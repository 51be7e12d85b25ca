"""Text pairs, such as sentences and translations or texts and summaries: two files, a table, or a list of pairs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.formats import UTF
from lstmkit.data.padding import pad_sequences
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.table import DELIMITED, JSON_LINES, PARQUET, Table, read_file
from lstmkit.data.text.lines import TEXT_FILE, Text, read_text
from lstmkit.errors import DataError, one_line

_TABLES = (replace(DELIMITED.only(".csv", ".tsv"), encoding=UTF), replace(JSON_LINES, encoding=UTF), PARQUET)
#: Formats of pairs: two text files, given as ``SOURCE,TARGET``, or a table.
FORMATS = (replace(TEXT_FILE, name="two text files", notes=f"Given as SOURCE,TARGET. {TEXT_FILE.notes}"), *_TABLES)


class MessageWording(NamedTuple):
    """Words for text pairs in messages.

    Attributes:
        verb: What the job does with a source, as ``translate``.
        doing: The verb's present participle, as ``translating``.
        target: Name of a target, as ``translation``.
        both: Name of the pairs, as ``a parallel text``.
    """

    verb: str
    doing: str
    target: str
    both: str


SUMMARIES = MessageWording("summarize", "summarizing", "summary", "texts and their summaries")
TRANSLATIONS = MessageWording("translate", "translating", "translation", "a parallel text")


@dataclass(frozen=True)
class TextPairs:
    """Source texts and their target texts, such as translations or summaries.

    Attributes:
        sources: ``N`` source texts, not blank.
        targets: ``N`` target texts, not blank.
        name: Name of the data in messages.
        num_blank: Number of pairs dropped because one side is blank.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    name: str
    num_blank: int = 0

    def __len__(self) -> int:
        return len(self.sources)

    def slice(self, first: int, last: int) -> TextPairs:
        """Pairs ``first .. last - 1``."""
        return replace(self, sources=self.sources[first:last], targets=self.targets[first:last], num_blank=0)

    def subset(self, rows: Sequence[int] | np.ndarray) -> TextPairs:
        """Pairs ``rows``, in that order."""
        sources, targets = (tuple(texts[row] for row in rows) for texts in (self.sources, self.targets))
        return replace(self, sources=sources, targets=targets, num_blank=0)

    def digest(self) -> str:
        """SHA-256 of the pairs."""
        digest = hashlib.sha256()
        for pair in zip(self.sources, self.targets, strict=True):
            digest.update("\t".join(pair).encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()


def read_text_pairs(
    data: object, source_col: str = "source", target_col: str = "target", wording: MessageWording = TRANSLATIONS
) -> TextPairs:
    """Read text pairs. Pairs with a blank side are dropped and counted.

    Args:
        data: ``"train.en,train.de"``: two line-aligned files; a table with both columns (.csv, .tsv, .jsonl, .parquet,
            or a DataFrame); or a list of pairs. Files are UTF-8, gzipped or not.
        source_col, target_col: Columns of a table.
        wording: Words for messages.

    Raises:
        DataError: A file or column is missing, the files differ in length or are not UTF-8, or there are no pairs.

    >>> read_text_pairs([("a dog", "ein Hund"), ("", "leer")])
    TextPairs(sources=('a dog',), targets=('ein Hund',), name='the pairs', num_blank=1)
    """
    data = as_pandas(data)
    if isinstance(data, TextPairs):
        return data
    name, sources, targets = _columns(data, source_col, target_col, wording)
    pairs = [(s, t) for s, t in zip(sources, targets, strict=True) if s.strip() and t.strip()]
    if not pairs:
        raise DataError(f"{name} has no pair with text on both sides: give at least one")
    return TextPairs(tuple(s for s, _ in pairs), tuple(t for _, t in pairs), name, len(sources) - len(pairs))


def read_sources(data: object, source_col: str = "source", wording: MessageWording = TRANSLATIONS) -> list[str]:
    """Read source texts: the lines of a text file, a list of lines, or the source side of pairs. Blank lines are kept.

    Raises:
        DataError: The file does not exist, is not UTF-8, or is empty.

    >>> read_sources(["a dog", ""])
    ['a dog', '']
    """
    data = as_pandas(data)
    if isinstance(data, TextPairs):
        return list(data.sources)
    if isinstance(data, (list, tuple)) and not any(isinstance(entry, (list, tuple)) for entry in data):
        if not data:
            raise DataError(f"nothing to {wording.verb}: the list of lines is empty: give at least one line")
        return [_text(entry, i, "the lines") for i, entry in enumerate(data)]
    if isinstance(data, (str, os.PathLike)) and _two_files(data) is None and not _is_table(Path(data)):
        return list(read_text(Path(data), whole=True))
    return _columns(data, source_col, None, wording)[1]


def _columns(
    data: object, source_col: str, target_col: str | None, wording: MessageWording
) -> tuple[str, list[str], list[str]]:
    """Name of the data in messages, sources, and targets. Without a target column, the targets repeat the sources."""
    if isinstance(data, pd.DataFrame):
        table = Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
        return _from_table(table, source_col, target_col)
    if isinstance(data, (str, os.PathLike)):
        files = _two_files(data)
        if files is not None:
            return _from_files(*files, wording)
        path = Path(data)
        if _is_table(path) and path.is_file():
            return _from_table(read_file(path, strict=True), source_col, target_col)
        if not path.is_file():
            raise DataError(f"no such file: {path}")
        raise DataError(
            f"{path.name} is only one side of {wording.both}: give both files as SOURCE,TARGET, or a .tsv, .csv or "
            f".jsonl file with the columns {source_col} and {target_col}"
        )
    if isinstance(data, Sequence):
        return "the pairs", *_from_list(data)
    raise DataError(f"give two files as 'SOURCE,TARGET', a table, or pairs of lines, not {type(data).__name__}")


def _is_table(path: Path) -> bool:
    return any(each.matches(path) for each in _TABLES)


def _two_files(data: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Split ``"a,b"`` into two paths. A comma may be part of an existing path."""
    text = os.fspath(data)
    if "," not in text or Path(text).exists():
        return None
    cuts = [(text[:i], text[i + 1 :]) for i, c in enumerate(text) if c == ","]
    return next((cut for cut in cuts if all(Path(p).is_file() for p in cut)), cuts[0])


def _from_files(source: str, target: str, wording: MessageWording) -> tuple[str, list[str], list[str]]:
    texts: list[Text] = [read_text(Path(path), whole=True) for path in (source, target)]
    (a, b), (first, second) = (len(t) for t in texts), (t.name for t in texts)
    if a != b:
        raise DataError(
            f"{first} has {a:,} lines, {second} has {b:,}: line i of {second} must be the {wording.target} of line i "
            f"of {first}"
        )
    sources, targets = (list(text) for text in texts)
    return f"{first} and {second}", sources, targets


def _from_table(table: Table, source_col: str, target_col: str | None) -> tuple[str, list[str], list[str]]:
    sides: list[list[str]] = []
    for column in (source_col, target_col or source_col):
        values: list[Any] = table.column(column).tolist()
        sides.append([_text(value, i, f"{table.name}, column {column!r}") for i, value in enumerate(values)])
    return table.name, sides[0], sides[1]


def _from_list(data: Sequence[Any]) -> tuple[list[str], list[str]]:
    for i, pair in enumerate(data):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise DataError(f"pair {i + 1} is {one_line(repr(pair))}: give each pair as (source, target)")
    return tuple([_text(pair[k], i, "the pairs") for i, pair in enumerate(data)] for k in (0, 1))  # type: ignore[return-value]


def _text(value: object, index: int, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: entry {index + 1} is {type(value).__name__} {one_line(repr(value))}: give text")
    return value


class TextPairDataset:
    """Dataset of encoded text pairs.

    Args:
        sources: Ids of each source ``(S,)``.
        targets: Ids of each target ``(T,)``, including ``<eos>``; ``None`` without targets.

    >>> pairs = TextPairDataset([np.array([4, 5]), np.array([6])], [np.array([7]), np.array([8, 9])])
    >>> batch = pairs.batch(np.array([0, 1]))
    >>> batch.inputs.tolist(), batch.targets.tolist()
    ([[4, 5], [6, 0]], [[7, -1], [8, 9]])
    """

    def __init__(self, sources: list[np.ndarray], targets: list[np.ndarray] | None = None) -> None:
        self.sources, self.targets = sources, targets
        self._lengths = np.array([len(ids) for ids in sources], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each source, ``(N,)``."""
        return self._lengths

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch with inputs ``(B, S)``, padded with 0, and targets ``(B, T)``, padded with -1."""
        inputs, lengths = torch.from_numpy(pad_sequences([self.sources[r] for r in rows], 0)), self._lengths[rows]
        batch = Batch(inputs, torch.from_numpy(lengths), rows=rows)
        if self.targets is None:
            return batch
        targets = [self.targets[r] for r in rows]
        target_lengths = torch.tensor([len(t) for t in targets])
        return replace(batch, targets=torch.from_numpy(pad_sequences(targets, -1)), target_lengths=target_lengths)


def filter_by_length(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], max_source_tokens: int, max_target_tokens: int
) -> tuple[TextPairDataset, int]:
    """Dataset of the pairs within the maximum lengths in tokens, and the number of pairs dropped."""
    all_pairs = list(pairs)
    kept = [(s, t) for s, t in all_pairs if len(s) <= max_source_tokens and len(t) <= max_target_tokens]
    return TextPairDataset([s for s, _ in kept], [t for _, t in kept]), len(all_pairs) - len(kept)
