"""Drawings as strokes of a pen: from arrays in parts, tables of points, SVG files, or lists."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch, beside
from lstmkit.data.ink.svg import read_svg
from lstmkit.data.tables.parsing import read_numbers, group_rows
from lstmkit.data.tables.table import Table, read_file
from lstmkit.errors import DataError

SPLITS = ("train", "valid", "test")
MAX_POINTS = 100_000  #: Of one drawing.
MAX_JUMP_RATIO = 1000  #: An offset so many times as long as the median one is a fault of the recording.
MAX_TEXT_LENGTH = 10_000  #: Characters of its text.
_FARTHEST = 1e9  # from point to point
_REQUIRED_COLUMNS = ("id", "x", "y", "pen")  # columns of a table


@dataclass(frozen=True, eq=False)
class Ink:
    """One drawing. The pen begins on the paper, at the origin.

    Attributes:
        points: ``(T, 3)`` float32: how far each point is from the one before, to the right and down, and whether the
            pen is lifted after it (1) or goes on drawing (0).
        name: What messages and pictures call it.
        text: What is written; ``""`` where that is not known.
    """

    points: np.ndarray
    name: str
    text: str = ""

    @property
    def strokes(self) -> list[np.ndarray]:
        """The lines that were drawn, ``(n, 2)`` positions each, the origin first where the pen moves from there."""
        return offsets_to_strokes(self.points)


def offsets_to_strokes(points: np.ndarray) -> list[np.ndarray]:
    """``(T, 3)`` offsets to lines ``(n, 2)`` of positions; after a lifted pen a new one begins.

    >>> [line.tolist() for line in offsets_to_strokes(np.array([[1, 0, 0], [0, 2, 1], [3, 0, 0], [0, 1, 1]]))]
    [[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], [[4.0, 2.0], [4.0, 3.0]]]
    """
    if not len(points):
        return []
    places = np.cumsum(points[:, :2].astype(np.float64), axis=0)
    lines = np.split(places, np.flatnonzero(points[:-1, 2] > 0) + 1)
    if points[0, :2].any():
        lines[0] = np.concatenate([np.zeros((1, 2)), lines[0]])
    return lines


def validate_points(points: np.ndarray, name: str) -> np.ndarray:
    """``(T, 3)`` float32, as of :class:`Ink`; a copy.

    Raises:
        DataError: Not of that shape, not finite, fewer than two points, or a pen that is neither 0 nor 1.
    """
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iufb":
        raise DataError(f"{name}: a drawing is numbers in the shape (points, 3): dx, dy, and pen lifted after")
    if len(points) < 2:
        raise DataError(f"{name} has {len(points)} point{'s' * (len(points) != 1)}: a drawing needs two")
    if len(points) > MAX_POINTS:
        raise DataError(f"{name} has {len(points):,} points, more than the {MAX_POINTS:,} that are read: cut it")
    if not (np.abs(points[:, :2]) <= _FARTHEST).all():
        raise DataError(f"{name}: offsets must be numbers of at most {_FARTHEST:g}")
    if not np.isin(points[:, 2], (0, 1)).all():
        raise DataError(f"{name}: the pen must be 0 (goes on drawing) or 1 (lifted after this point)")
    return points.astype(np.float32)


@dataclass(frozen=True, eq=False)
class InkSet:
    """Drawings.

    Attributes:
        inks: They.
        name: What messages call them.
        parts: For each which part it is given for, of ``train``, ``valid``, ``test``; ``None`` where that is open.
        remarks: What was left out in reading.
    """

    inks: tuple[Ink, ...]
    name: str
    parts: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inks)

    @property
    def points(self) -> int:
        """Of all drawings together."""
        return sum(len(ink.points) for ink in self.inks)

    @property
    def has_texts(self) -> bool:
        """Whether it is known what is written.

        Raises:
            DataError: Of some, but not of all.
        """
        missing = [ink.name for ink in self.inks if not ink.text]
        if missing and len(missing) < len(self):
            raise DataError(
                f"{self.name}: {missing[0]} has no text, others have: give a text to each of the drawings, or to none"
            )
        return not missing

    def part(self, rows: Sequence[int] | np.ndarray) -> InkSet:
        """These drawings, for whatever part."""
        return replace(self, inks=tuple(self.inks[i] for i in rows), parts=None)

    def given(self, part: str) -> InkSet | None:
        """The drawings that are given for a part; ``None`` if none is."""
        rows = [i for i, of in enumerate(self.parts or ()) if of == part]
        return self.part(rows) if rows else None

    def digest(self) -> str:
        """A fingerprint of all of it."""
        digest = hashlib.sha256(repr(self.parts).encode())
        for ink in self.inks:
            digest.update(f"{ink.points.shape} {ink.text!r} ".encode() + ink.points.tobytes())
        return digest.hexdigest()


# ---- reading -------------------------------------------------------------------------------------------------------


def read_strokes(data: Any) -> InkSet:
    """Drawings from wherever they are.

    Args:
        data: A ``.npz`` of ``strokes (N, 3)``, all drawings one after another, ``offsets``, where each begins and the
            last ends, and perhaps ``texts``, or these in parts (``train_strokes``, ``valid_offsets``, …); a table
            (``.csv``, ``.parquet``, …) or frame with the columns ``id, x, y, pen`` and perhaps ``text``, a row a point;
            an SVG file, a folder of them, or a list of paths; or a list of drawings, each an array ``(T, 3)`` as of
            :class:`Ink`, or a pair of that and its text.

    Raises:
        DataError: No such file, nothing in it, damaged, a drawing of one point, or not what is told above.

    >>> read_strokes([([[5, 0, 0], [0, 3, 1]], "L")]).inks[0].points.tolist()
    [[5.0, 0.0, 0.0], [0.0, 3.0, 1.0]]
    """
    if isinstance(data, InkSet):
        return data
    if isinstance(data, Ink):
        return InkSet((data,), data.name)
    if isinstance(data, (str, Path)):
        return _sound(_from_path(Path(data)))
    if isinstance(data, pd.DataFrame):
        return _sound(_from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame")))
    if not isinstance(data, (list, tuple)):
        raise DataError(f"give a path, a frame, or a list of paths or of drawings, not {type(data).__name__}")
    if not data:
        raise DataError("the list is empty: there is no drawing in it")
    if all(isinstance(one, (str, Path)) for one in data):
        return _sound(_from_svg([Path(one) for one in data], "the list"))
    return _sound(InkSet(tuple(_from_list(one, f"drawing {i}") for i, one in enumerate(data, 1)), "the list"))


def _from_path(path: Path) -> InkSet:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".svg" and file.is_file())
        if not files:
            raise DataError(f"{path}: there is no SVG file in this folder")
        return _from_svg(files, path.name)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file or folder")
    if path.suffix.lower() == ".svg":
        return _from_svg([path], path.name)
    return _from_npz(path) if path.suffix.lower() == ".npz" else _from_table(read_file(path))


def _from_npz(path: Path) -> InkSet:
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            arrays = dict(file)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as err:
        raise DataError(f"{path.name} is no .npz of strokes that can be read") from err
    parts = [part for part in SPLITS if f"{part}_strokes" in arrays]
    if not parts and "strokes" not in arrays:
        raise DataError(f"{path.name} has no strokes: it must hold strokes and offsets, or train_strokes and so on")
    inks, of = [], []
    for part in parts or [""]:
        found = _cut(arrays, f"{part}_" if part else "", path.name, part or "drawing")
        inks += found
        of += [part] * len(found)
    return InkSet(tuple(inks), path.name, tuple(of) if parts else None)


def _cut(arrays: dict[str, np.ndarray], prefix: str, where: str, unit: str) -> list[Ink]:
    """The drawings of a part."""
    points, offsets = arrays[f"{prefix}strokes"], arrays.get(f"{prefix}offsets", np.zeros(0))
    whole = points.ndim == 2 and offsets.ndim == 1 and len(offsets) > 0 and offsets.dtype.kind in "iu"
    if not whole or offsets[0] != 0 or offsets[-1] != len(points) or (np.diff(offsets) < 0).any():
        raise DataError(f"{where}: {prefix}offsets must rise from 0 to the number of rows of {prefix}strokes")
    texts = arrays.get(f"{prefix}texts", np.full(len(offsets) - 1, ""))
    if texts.shape != (len(offsets) - 1,):
        raise DataError(f"{where}: {prefix}texts must be one text for each of the {len(offsets) - 1} drawings")
    ends = zip(offsets[:-1], offsets[1:], texts, strict=True)
    pieces = enumerate(((points[start:end], str(text)) for start, end, text in ends), 1)
    return [_checked(piece, f"{unit} {i}", text, where) for i, (piece, text) in pieces]


def _from_table(table: Table) -> InkSet:
    """Rows with the same id are a drawing, in their order; positions, of which the first is the origin."""
    for column in _REQUIRED_COLUMNS:
        table.column(column)
    names, rows = group_rows(table, "id")
    values = [read_numbers(table, column) for column in _REQUIRED_COLUMNS[1:]]
    for column, found in zip(_REQUIRED_COLUMNS[1:], values, strict=True):
        table.raise_if_any(column, np.isnan(found), "is a missing value: fill it in, or leave the point out")
    places = np.stack(values, 1)
    texts = [""] * len(table.frame)
    if "text" in table.frame:
        texts = ["" if pd.isna(cell) else str(cell) for cell in table.column("text")]
    inks = []
    for name, of_one in zip(names, rows, strict=True):
        if len({texts[row] for row in of_one}) > 1:
            raise DataError(f"{table.name}: the rows of {name} have several texts: give one")
        inks.append(_checked(_offsets(places[of_one]), name, texts[of_one[0]], table.name))
    return InkSet(tuple(inks), table.name, remarks=tuple(table.notes))


def _offsets(places: np.ndarray) -> np.ndarray:
    """Positions ``(T, 3)`` with the pen beside them, the first being the origin, to offsets."""
    return np.concatenate([np.diff(places[:, :2], axis=0, prepend=places[:1, :2]), places[:, 2:]], 1)


def _from_svg(paths: Sequence[Path], name: str) -> InkSet:
    inks = []
    for path in paths:
        lines = read_svg(path)
        lifted = [np.arange(1, len(line) + 1) == len(line) for line in lines]
        places = np.column_stack([np.concatenate(lines), np.concatenate(lifted)])
        inks.append(_checked(_offsets(places), path.stem, "", path.name))
    return InkSet(tuple(inks), name)


def _from_list(one: Any, name: str) -> Ink:
    if isinstance(one, Ink):
        return one
    paired = isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], str)
    points, text = one if paired else (one, "")
    try:
        array = np.asarray(points, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty(0)
    return _checked(array, name, text, "the list")


def _checked(points: np.ndarray, name: str, text: str, where: str) -> Ink:
    if len(text) > MAX_TEXT_LENGTH:
        raise DataError(
            f"{where}, {name} has {len(text):,} characters, more than the {MAX_TEXT_LENGTH:,} that are read: cut it"
        )
    points = validate_points(points, f"{where}, {name}")
    points[-1, 2] = 1.0  # after the last point there is none to draw to
    return Ink(points, name, " ".join(text.split()))


def _sound(read: InkSet) -> InkSet:
    """Without the drawings that have a jump in them."""
    if not len(read):
        raise DataError(f"{read.name} has no drawing")
    lengths = np.hypot(*np.concatenate([ink.points[:, :2] for ink in read.inks]).T)
    begins = np.cumsum([0, *(len(ink.points) for ink in read.inks[:-1])])
    farthest = np.maximum.reduceat(lengths, begins)
    limit = MAX_JUMP_RATIO * float(np.median(lengths[lengths > 0])) if lengths.any() else 0.0
    kept = np.flatnonzero(farthest <= limit).tolist()
    if len(kept) == len(read):
        return read
    first = read.inks[int(np.argmax(farthest > limit))].name
    said = f"a jump of over {MAX_JUMP_RATIO:,} times the usual offset ({limit / MAX_JUMP_RATIO:.3g})"
    if not kept:
        raise DataError(f"{read.name}: each drawing has {said}, {first} among them: mend them")
    remark = f"{len(read) - len(kept):,} drawings with {said} were left out, {first} first."
    parts = None if read.parts is None else tuple(read.parts[i] for i in kept)
    return replace(read, inks=tuple(read.inks[i] for i in kept), parts=parts, remarks=(*read.remarks, remark))


# ---- batches -------------------------------------------------------------------------------------------------------


class InkDataset:
    """Drawings, scaled, perhaps cut into windows, as a source of batches.

    A window goes on where the one before ended as far as it is told the point before its first; the state begins anew.

    Args:
        inks: The drawings.
        scale: What offsets are divided by.
        window: Points of a window at most; 0 for whole drawings.
        characters: Of the texts that stand beside them, those with a number, from 1 on; ``None`` for no texts.
    """

    def __init__(self, inks: InkSet, scale: float, window: int = 0, characters: Sequence[str] | None = None) -> None:
        self.points = [scaled(ink.points, scale) for ink in inks.inks]
        self.cuts = [
            (number, start, min(start + (window or len(points)), len(points)))
            for number, points in enumerate(self.points)
            for start in range(0, len(points), window or len(points))
        ]
        self.lengths = np.array([end - start for _, start, end in self.cuts])
        self.texts = None if characters is None else [numbered(ink.text, characters) for ink in inks.inks]

    def __len__(self) -> int:
        return len(self.cuts)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 3)``, the point before; targets ``(B, T, 4)``, the point, and whether it is the last.

        With texts, extras ``text (B, U)``, characters by number, and ``characters (B,)``, how many.
        """
        cuts = [self._cut(*self.cuts[row]) for row in rows]
        inputs, targets = ([pair[side] for pair in cuts] for side in (0, 1))
        extras = {}
        if self.texts is not None:
            texts = [self.texts[self.cuts[row][0]] for row in rows]
            extras = {
                "text": torch.from_numpy(beside(texts, 0)),
                "characters": torch.tensor([len(text) for text in texts]),
            }
        return Batch(
            torch.from_numpy(beside(inputs, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(beside(targets, 0)),
            rows=rows,
            extras=extras,
        )

    def _cut(self, number: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        points = self.points[number]
        last = (np.arange(start, end) == len(points) - 1).astype(np.float32)
        return shift_right(points)[start:end], np.column_stack([points[start:end], last])


def scaled(points: np.ndarray, scale: float) -> np.ndarray:
    """``(T, 3)`` with the offsets divided by ``scale``, the pen as it is."""
    return points / np.array([scale, scale, 1.0], dtype=np.float32)


def shift_right(points: np.ndarray) -> np.ndarray:
    """``(T, 3)``: the point before each, before the first nothing: the null vector (Graves 2013, section 2)."""
    return np.concatenate([np.zeros_like(points[:1]), points[:-1]])


def numbered(text: str, characters: Sequence[str]) -> np.ndarray:
    """``(U,)``: each character's number from 1 on; 0 for one that is not among them."""
    numbers = {character: i for i, character in enumerate(characters, 1)}
    return np.array([numbers.get(character, 0) for character in text], dtype=np.int64)
