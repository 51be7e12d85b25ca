"""Pairs of texts, as sentences and their translations, from two files, a table, or pairs."""

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

from lstmkit.data.batch import Batch, beside
from lstmkit.data.tables.table import read_file
from lstmkit.data.text.lines import Text, read_text
from lstmkit.errors import DataError, listing, one_line

_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")  # endings


class MessageWording(NamedTuple):
    """How messages speak of pairs.

    Attributes:
        verb: What is to be done with a source.
        doing: The same, under way.
        target: What a target is.
        both: What both together are.
    """

    verb: str
    doing: str
    target: str
    both: str


SUMMARIES = MessageWording("summarise", "summarising", "summary", "texts and their summaries")
TRANSLATIONS = MessageWording("translate", "translating", "translation", "a parallel text")


@dataclass(frozen=True)
class Pairs:
    """Texts and what was written for each: translations, summaries.

    Attributes:
        sources: ``N`` texts, none of them blank.
        targets: What was written for each, not blank either.
        name: What messages call them.
        left_out: How many pairs were not taken, since one of their sides is blank.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    name: str
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.sources)

    def part(self, first: int, last: int) -> Pairs:
        """The pairs ``first`` to ``last`` of these."""
        return replace(self, sources=self.sources[first:last], targets=self.targets[first:last], left_out=0)

    def digest(self) -> str:
        """A fingerprint."""
        found = hashlib.sha256()
        for pair in zip(self.sources, self.targets, strict=True):
            found.update("\t".join(pair).encode("utf-8", "surrogatepass") + b"\n")
        return found.hexdigest()


def read_text_pairs(
    data: object, source_col: str = "source", target_col: str = "target", wording: MessageWording = TRANSLATIONS
) -> Pairs:
    """Pairs of texts.

    Pairs with a blank side are left out and counted.

    Args:
        data: ``"train.en,train.de"``: two files, line by line beside each other; a table with both as columns (.csv,
            .tsv, .jsonl, .parquet, or a DataFrame); or a list of pairs. Files are UTF-8, gzipped or not.
        source_col, target_col: Columns of a table.
        wording: Of messages.

    Raises:
        DataError: No such file or column, files of different lengths, not UTF-8, or no pairs in it.

    >>> read_text_pairs([("a dog", "ein Hund"), ("", "leer")])
    Pairs(sources=('a dog',), targets=('ein Hund',), name='the pairs', left_out=1)
    """
    if isinstance(data, Pairs):
        return data
    name, sources, targets = _columns(data, source_col, target_col, wording)
    both = [(s, t) for s, t in zip(sources, targets, strict=True) if s.strip() and t.strip()]
    if not both:
        raise DataError(f"{name}: there is no pair of lines in it, both of which have text")
    return Pairs(tuple(s for s, _ in both), tuple(t for _, t in both), name, len(sources) - len(both))


def read_sources(data: object, source_col: str = "source", wording: MessageWording = TRANSLATIONS) -> list[str]:
    """What is to be read: a text file's lines, lines, or the source side of pairs, blank ones too.

    Raises:
        DataError: No such file, not UTF-8, or nothing in it.

    >>> read_sources(["a dog", ""])
    ['a dog', '']
    """
    if isinstance(data, Pairs):
        return list(data.sources)
    if isinstance(data, (list, tuple)) and not any(isinstance(entry, (list, tuple)) for entry in data):
        if not data:
            raise DataError(f"there is nothing to {wording.verb}: the list of lines is empty")
        return [_text(entry, i, "the lines") for i, entry in enumerate(data)]
    if isinstance(data, (str, os.PathLike)) and _two_files(data) is None and _ending(Path(data)) not in _TABLES:
        return list(read_text(Path(data), whole=True))
    return _columns(data, source_col, None, wording)[1]


def _columns(
    data: object, source_col: str, target_col: str | None, wording: MessageWording
) -> tuple[str, list[str], list[str]]:
    """What messages call it, sources, and targets, which may not be asked for."""
    if isinstance(data, pd.DataFrame):
        return _of_frame(data, "the frame", source_col, target_col)
    if isinstance(data, (str, os.PathLike)):
        files = _two_files(data)
        if files is not None:
            return _of_files(*files, wording)
        path = Path(data)
        if _ending(path) in _TABLES and path.is_file():
            return _of_frame(read_file(path, strict=True).frame, path.name, source_col, target_col)
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        raise DataError(
            f"{path.name} has one side of {wording.both}: give both files, as SOURCE,TARGET, or a .tsv, .csv or "
            f".jsonl with columns {source_col} and {target_col}"
        )
    if isinstance(data, Sequence):
        return "the pairs", *_of_list(data)
    raise DataError(f"give two files as 'SOURCE,TARGET', a table, or pairs of lines, not {type(data).__name__}")


def _two_files(data: str | os.PathLike[str]) -> tuple[str, str] | None:
    """``"a,b"`` as two paths; a comma may be part of a path that is there."""
    text = os.fspath(data)
    if "," not in text or Path(text).exists():
        return None
    cuts = [(text[:i], text[i + 1 :]) for i, c in enumerate(text) if c == ","]
    return next((cut for cut in cuts if all(Path(p).is_file() for p in cut)), cuts[0])


def _of_files(source: str, target: str, wording: MessageWording) -> tuple[str, list[str], list[str]]:
    texts: list[Text] = [read_text(Path(path), whole=True) for path in (source, target)]
    (a, b), (first, second) = (len(t) for t in texts), (t.name for t in texts)
    if a != b:
        raise DataError(
            f"{first} has {a:,} lines, {second} has {b:,}: line i of one must be the {wording.target} of line i of the "
            "other"
        )
    sources, targets = (list(text) for text in texts)
    return f"{first} and {second}", sources, targets


def _ending(path: Path) -> str:
    """``.csv`` of ``a.csv`` and of ``a.csv.gz``."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _of_frame(
    frame: pd.DataFrame, name: str, source_col: str, target_col: str | None
) -> tuple[str, list[str], list[str]]:
    sides: list[list[str]] = []
    for column in (source_col, target_col or source_col):
        if column not in frame.columns:
            raise DataError(f"no column {column!r} in {name} (columns: {listing(frame.columns)})")
        values: list[Any] = frame[column].tolist()
        sides.append([_text(value, i, f"{name}, column {column!r}") for i, value in enumerate(values)])
    return name, sides[0], sides[1]


def _of_list(data: Sequence[Any]) -> tuple[list[str], list[str]]:
    for i, pair in enumerate(data):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise DataError(f"pair {i + 1} is {one_line(repr(pair))}: give each as (source, target)")
    return tuple([_text(pair[k], i, "the pairs") for i, pair in enumerate(data)] for k in (0, 1))  # type: ignore[return-value]


def _text(value: object, index: int, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: entry {index + 1} is {type(value).__name__} {one_line(repr(value))}, not text")
    return value


class TextPairDataset:
    """Pairs as numbers, for batches.

    Args:
        sources: Tokens of each source.
        targets: Of each target, its end included; ``None`` where nothing is known of them.
    """

    def __init__(self, sources: list[np.ndarray], targets: list[np.ndarray] | None = None) -> None:
        self.sources, self.targets = sources, targets
        self._lengths = np.array([len(ids) for ids in sources], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def lengths(self) -> np.ndarray:
        """``(N,)`` tokens of each source."""
        return self._lengths

    def batch(self, rows: np.ndarray) -> Batch:
        """Sources ``(B, S)``, padded with 0, and targets ``(B, T)``, padded with -1."""
        inputs, lengths = torch.from_numpy(beside([self.sources[r] for r in rows], 0)), self._lengths[rows]
        batch = Batch(inputs, torch.from_numpy(lengths), rows=rows)
        if self.targets is None:
            return batch
        targets = [self.targets[r] for r in rows]
        ends = torch.tensor([len(t) for t in targets])
        return replace(batch, targets=torch.from_numpy(beside(targets, -1)), target_lengths=ends)


def fitting(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], max_source_tokens: int, max_target_tokens: int
) -> tuple[TextPairDataset, int]:
    """The pairs, without those of more tokens on a side; and how many these are."""
    both = list(pairs)
    kept = [(s, t) for s, t in both if len(s) <= max_source_tokens and len(t) <= max_target_tokens]
    return TextPairDataset([s for s, _ in kept], [t for _, t in kept]), len(both) - len(kept)
