"""Digital ink: drawings as sequences of pen offsets. Readers of arrays, tables of points, SVG files and lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.files import load_npz
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import DataFormat, check_format
from lstmkit.data.ink.points import (
    MAX_JUMP_RATIO,
    Ink,
    encode_text,
    find_jumps,
    scale_offsets,
    shift_right,
    validated_ink,
)
from lstmkit.data.ink.svg import read_svg
from lstmkit.data.padding import pad_sequences
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import group_rows, read_numbers
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.errors import DataError

SPLITS = ("train", "valid", "test")
_REQUIRED_COLUMNS = ("id", "x", "y", "pen")  # of a table


#: Formats of drawings.
FORMATS = (
    DataFormat("NumPy archive", (".npz",), notes="Arrays strokes, offsets and texts, or these for each split."),
    *TABLES,
    DataFormat("SVG", (".svg",), encoding="as the XML declares it", notes="The strokes of one drawing."),
    DataFormat("folder of SVG files", folder=True),
)


@dataclass(frozen=True, eq=False)
class InkSet:
    """A set of drawings.

    Attributes:
        inks: The drawings.
        name: Name of the data in messages.
        splits: Predefined split of each drawing, ``train``, ``valid`` or ``test``; ``None`` without predefined splits.
        notes: What was dropped while reading.
    """

    inks: tuple[Ink, ...]
    name: str
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inks)

    @property
    def points(self) -> int:
        """Total number of points."""
        return sum(len(ink.points) for ink in self.inks)

    @property
    def has_texts(self) -> bool:
        """Whether all drawings have texts.

        Raises:
            DataError: Some drawings have a text and some have none.
        """
        missing = [ink.name for ink in self.inks if not ink.text]
        if missing and len(missing) < len(self):
            raise DataError(
                f"{self.name}: {missing[0]} has no text, but others have: give a text for every drawing, or for none"
            )
        return not missing

    def subset(self, rows: Sequence[int] | np.ndarray) -> InkSet:
        """The drawings ``rows``, without predefined splits."""
        return replace(self, inks=tuple(self.inks[i] for i in rows), splits=None)

    def predefined_split(self, name: str) -> InkSet | None:
        """Drawings of a predefined split; ``None`` if it has none."""
        rows = [i for i, split in enumerate(self.splits or ()) if split == name]
        return self.subset(rows) if rows else None

    def digest(self) -> str:
        """SHA-256 of the drawings."""
        digest = hashlib.sha256(repr(self.splits).encode())
        for ink in self.inks:
            digest.update(f"{ink.points.shape} {ink.text!r} ".encode() + ink.points.tobytes())
        return digest.hexdigest()


# ---- reading -------------------------------------------------------------------------------------------------------


def read_strokes(data: Any) -> InkSet:
    """Read drawings from files, frames or lists.

    Args:
        data: A ``.npz`` with ``strokes (N, 3)``, the concatenated drawings, ``offsets``, the start of each and the end
            of the last, and optional ``texts``; or with these for each split (``train_strokes``, ``valid_offsets``, …).
            A table (``.csv``, ``.parquet``, …) or frame with one row per point and the columns ``id, x, y, pen`` and
            optional ``text``. An SVG file, a folder of them, or a list of paths. A list of drawings, each an array
            ``(T, 3)`` as in :class:`~lstmkit.data.ink.points.Ink`, or a pair of an array and its text.

    Raises:
        DataError: The data cannot be read, are empty, or have a drawing with fewer than two points.

    >>> read_strokes([([[5, 0, 0], [0, 3, 1]], "L")]).inks[0].points.tolist()
    [[5.0, 0.0, 0.0], [0.0, 3.0, 1.0]]
    """
    data = as_pandas(data)
    if isinstance(data, InkSet):
        return data
    if isinstance(data, Ink):
        return InkSet((data,), data.name)
    if isinstance(data, (str, Path)):
        return _drop_outliers(_from_path(Path(data)))
    if isinstance(data, pd.DataFrame):
        return _drop_outliers(_from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame")))
    if not isinstance(data, (list, tuple)):
        raise DataError(f"give a path, a frame, or a list of paths or of drawings, not {type(data).__name__}")
    if not data:
        raise DataError("the list is empty: give at least one drawing")
    if all(isinstance(entry, (str, Path)) for entry in data):
        return _drop_outliers(_from_svg([Path(entry) for entry in data], "the list"))
    return _drop_outliers(
        InkSet(tuple(_from_entry(entry, f"drawing {i}") for i, entry in enumerate(data, 1)), "the list")
    )


def _from_path(path: Path) -> InkSet:
    if path.is_dir():
        files = [file for file in visible_files(path) if file.suffix.lower() == ".svg"]
        if not files:
            raise DataError(f"{path} has no SVG files: give a folder with .svg files")
        return _from_svg(files, path.name)
    check_format(path, FORMATS)
    if path.suffix.lower() == ".svg":
        return _from_svg([path], path.name)
    return _from_npz(path) if path.suffix.lower() == ".npz" else _from_table(read_file(path))


def _from_npz(path: Path) -> InkSet:
    arrays = load_npz(path, "strokes")
    names = [split for split in SPLITS if f"{split}_strokes" in arrays]
    if not names and "strokes" not in arrays:
        raise DataError(
            f"{path.name} has no strokes: give the arrays strokes and offsets, or train_strokes, train_offsets, …"
        )
    inks, splits = [], []
    for split in names or [""]:
        drawings = _drawings(arrays, f"{split}_" if split else "", path.name, split or "drawing")
        inks += drawings
        splits += [split] * len(drawings)
    return InkSet(tuple(inks), path.name, tuple(splits) if names else None)


def _drawings(arrays: dict[str, np.ndarray], prefix: str, where: str, unit: str) -> list[Ink]:
    """Split the concatenated drawings of a split."""
    points, offsets = arrays[f"{prefix}strokes"], arrays.get(f"{prefix}offsets", np.zeros(0))
    has_valid_shape = points.ndim == 2 and offsets.ndim == 1 and len(offsets) > 0 and offsets.dtype.kind in "iu"
    if (
        not has_valid_shape
        or offsets[0] != 0
        or offsets[-1] != len(points)
        or (np.diff(offsets.astype(np.int64)) < 0).any()
    ):
        raise DataError(f"{where}: {prefix}offsets must increase from 0 to the number of rows of {prefix}strokes")
    texts = arrays.get(f"{prefix}texts", np.full(len(offsets) - 1, ""))
    if texts.shape != (len(offsets) - 1,):
        raise DataError(
            f"{where}: {prefix}texts has shape {texts.shape}: give one text for each of the {len(offsets) - 1} drawings"
        )
    ends = zip(offsets[:-1], offsets[1:], texts, strict=True)
    drawings = enumerate(((points[start:end], str(text)) for start, end, text in ends), 1)
    return [validated_ink(drawing, f"{unit} {i}", text, where) for i, (drawing, text) in drawings]


def _from_table(table: Table) -> InkSet:
    """Rows with the same id are one drawing, in table order. The first position becomes the origin."""
    for column in _REQUIRED_COLUMNS:
        table.column(column)
    names, rows = group_rows(table, "id")
    values = [read_numbers(table, column) for column in _REQUIRED_COLUMNS[1:]]
    for column, column_values in zip(_REQUIRED_COLUMNS[1:], values, strict=True):
        table.raise_if_any(column, np.isnan(column_values), "is a missing value: fill it in, or remove the point")
    positions = np.stack(values, 1)
    texts = [""] * len(table.frame)
    if "text" in table.frame:
        texts = ["" if pd.isna(cell) else str(cell) for cell in table.column("text")]
    inks = []
    for name, drawing_rows in zip(names, rows, strict=True):
        if len({texts[row] for row in drawing_rows}) > 1:
            raise DataError(f"{table.name}: the rows of {name} have different texts: give one text per drawing")
        inks.append(validated_ink(_offsets(positions[drawing_rows]), name, texts[drawing_rows[0]], table.name))
    return InkSet(tuple(inks), table.name, notes=tuple(table.notes))


def _offsets(positions: np.ndarray) -> np.ndarray:
    """Convert positions and pen ``(T, 3)`` to offsets; the first position becomes the origin."""
    return np.concatenate([np.diff(positions[:, :2], axis=0, prepend=positions[:1, :2]), positions[:, 2:]], 1)


def _from_svg(paths: Sequence[Path], name: str) -> InkSet:
    inks = []
    for path in paths:
        lines = read_svg(path)
        lifted = [np.arange(1, len(line) + 1) == len(line) for line in lines]
        positions = np.column_stack([np.concatenate(lines), np.concatenate(lifted)])
        inks.append(validated_ink(_offsets(positions), path.stem, "", path.name))
    return InkSet(tuple(inks), name)


def _from_entry(entry: Any, name: str) -> Ink:
    if isinstance(entry, Ink):
        return entry
    has_text = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], str)
    points, text = entry if has_text else (entry, "")
    try:
        array = np.asarray(points, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty(0)
    return validated_ink(array, name, text, "the list")


def _drop_outliers(drawings: InkSet) -> InkSet:
    """Drop drawings with a jump of the pen, see :data:`MAX_JUMP_RATIO`."""
    if not len(drawings):
        raise DataError(f"{drawings.name} has no drawing: give at least one")
    jumps = find_jumps([ink.points for ink in drawings.inks])
    rows = np.flatnonzero(~jumps.has_jump).tolist()
    if len(rows) == len(drawings):
        return drawings
    first = drawings.inks[int(np.argmax(jumps.has_jump))].name
    problem = f"a jump of over {MAX_JUMP_RATIO:,} times the usual offset ({jumps.usual_offset:.3g})"
    if not rows:
        raise DataError(f"{drawings.name}: every drawing has {problem}, such as {first}: correct them")
    note = f"{len(drawings) - len(rows):,} drawings with {problem} were dropped, the first is {first}."
    splits = None if drawings.splits is None else tuple(drawings.splits[i] for i in rows)
    return replace(drawings, inks=tuple(drawings.inks[i] for i in rows), splits=splits, notes=(*drawings.notes, note))


# ---- batches -------------------------------------------------------------------------------------------------------


class InkDataset:
    """Dataset of scaled drawings, optionally split into windows.

    A window starts with the point before its first one as input, but with a new recurrent state.

    Args:
        inks: The drawings.
        scale: Divisor of the offsets.
        window: Maximum points per window; 0 for whole drawings.
        characters: Alphabet of the texts, ids from 1; ``None`` to leave texts out.
    """

    def __init__(self, inks: InkSet, scale: float, window: int = 0, characters: Sequence[str] | None = None) -> None:
        self.points = [scale_offsets(ink.points, scale) for ink in inks.inks]
        self.windows = [
            (number, start, min(start + (window or len(points)), len(points)))
            for number, points in enumerate(self.points)
            for start in range(0, len(points), window or len(points))
        ]
        self.lengths = np.array([end - start for _, start, end in self.windows])
        self.texts = None if characters is None else [encode_text(ink.text, characters) for ink in inks.inks]

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 3)``: the previous point; targets ``(B, T, 4)``: the point, and whether it is the last.

        With texts, ``extras["text"] (B, U)`` are character ids and ``extras["characters"] (B,)`` their number.
        """
        windows = [self._window(*self.windows[row]) for row in rows]
        inputs, targets = ([pair[side] for pair in windows] for side in (0, 1))
        extras = {}
        if self.texts is not None:
            texts = [self.texts[self.windows[row][0]] for row in rows]
            extras = {
                "text": torch.from_numpy(pad_sequences(texts, 0)),
                "characters": torch.tensor([len(text) for text in texts]),
            }
        return Batch(
            torch.from_numpy(pad_sequences(inputs, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(pad_sequences(targets, 0)),
            rows=rows,
            extras=extras,
        )

    def _window(self, number: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        points = self.points[number]
        last = (np.arange(start, end) == len(points) - 1).astype(np.float32)
        return shift_right(points)[start:end], np.column_stack([points[start:end], last])
