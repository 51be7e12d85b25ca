"""Examples with labels: texts, sequences of numbers, sounds, or clips, from files, frames and lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.media_files import (
    SOUND,
    Kind,
    MediaColumns,
    Takes,
    from_file,
    is_media_path,
    media_from_objects,
    media_from_table,
    video,
)
from lstmkit.data.tables.parsing import has_decimal_commas, read_numbers, group_rows
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, video_from_array
from lstmkit.errors import DataError, listing

Labels = tuple[str, ...]  #: Of one example: one label; where several may hold, as many as do.


class Columns(NamedTuple):
    """Which column is what.

    Attributes:
        text: The texts, a row an example; not read where ``values`` are given.
        label: The labels; need not be there.
        id: What an example is called; of sequences of numbers which rows are one sequence.
        values: The columns of numbers, a row a step in time.
        separator: What stands between the labels of one example; empty where it has one.
        recording: Paths of sound or video files; not read where there are ``values`` or texts.
        name_label: As of :class:`MediaColumns`, its ``pattern``.
        shape: To which a clip's frames are brought.
    """

    text: str = "text"
    label: str = "label"
    id: str = "id"
    values: tuple[str, ...] = ()
    separator: str = ""
    recording: str = "path"
    name_label: str = ""
    shape: ClipFormat = ClipFormat()

    @property
    def naming(self) -> MediaColumns:
        """What recordings are found by."""
        return MediaColumns(self.recording, self.label, self.id, self.name_label)

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """Of recordings."""
        return SOUND, video(self.shape)


@dataclass(frozen=True)
class LabeledExamples:
    """Examples.

    Attributes:
        inputs: Texts, sequences ``(T, F)`` of float32, sounds or clips, their samples or frames in memory.
        labels: Of each its labels, ``None`` where it is not known.
        ids: What each is called; else its number, from 1.
        name: What messages call them all.
        notes: What was done to read them.
    """

    inputs: Sequence[Any]
    labels: Sequence[Labels | None]
    ids: Sequence[str]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def kind(self) -> str:
        """``"text"``, ``"numbers"``, ``"sound"`` or ``"video"``."""
        named = {str: "text", AudioClip: "sound", VideoClip: "video"}
        return next((name for of, name in named.items() if isinstance(self.inputs[0], of)), "numbers")

    def part(self, rows: Sequence[int] | np.ndarray) -> LabeledExamples:
        """The examples ``rows``."""
        picked = ([of[i] for i in rows] for of in (self.inputs, self.labels, self.ids))
        return replace(self, **dict(zip(("inputs", "labels", "ids"), picked, strict=True)))

    def require_labels(self) -> list[Labels]:
        """The labels of all.

        Raises:
            DataError: One of them has none.
        """
        for i, labels in enumerate(self.labels):
            if labels is None:
                raise DataError(f"{self.name}: example {self.ids[i]} has no label: give it one, or leave it out")
        return [labels for labels in self.labels if labels is not None]

    def check_not_empty(self) -> None:
        """Raise DataError where there is no text to learn from."""
        if self.kind == "text" and not any(text.strip() for text in self.inputs):
            raise DataError(f"{self.name}: every text is empty: name the column of the texts with --text-col")

    def digest(self) -> str:
        """A fingerprint of inputs and labels."""
        found = hashlib.sha256()
        for one, labels in zip(self.inputs, self.labels, strict=True):
            if isinstance(one, str):
                found.update(one.encode("utf-8", "replace"))
            else:
                array, kind = _values(one)
                found.update(f"{kind}{array.shape}".encode() + array.tobytes())
            found.update(repr(labels).encode("utf-8", "replace"))
        return found.hexdigest()


def _values(one: Any) -> tuple[np.ndarray, str]:
    """What is in an example that is no text, and how to tell it from another that has the same."""
    if isinstance(one, AudioClip):
        return one.samples, f"{one.rate} "
    return (one.frames, f"{one.rate:.4f} ") if isinstance(one, VideoClip) else (one, "")


def read_labeled_examples(data: object, columns: Columns) -> LabeledExamples:
    """A file or frame with a text column, columns of numbers, or paths of recordings; recordings as such; or lists.

    What is read as what is a rule: a folder, a zip, a file that ends as sounds or videos do, a :class:`AudioClip`, a
    :class:`VideoClip`, a list of these or of :class:`Path`, and ``(arrays, labels, rate)`` are recordings. Of a table
    ``values`` are numbers; else a text column is texts; else a column of paths is recordings. Of other ``(inputs,
    labels)``, or inputs alone, strings are texts, arrays ``(T, F)`` numbers, and ``(T, H, W)`` or ``(T, H, W, 3)``
    clips. Of a folder or zip with files of both kinds those are read that there are more of.

    A label is text without the blanks around it; a number is written out. A cell that is empty is a label that is not
    known, or, where there may be several, that none holds.

    Raises:
        DataError: What cannot be read, with place and remedy.

    >>> read_labeled_examples((["good", "bad"], [1, 0]), Columns()).labels
    [('1',), ('0',)]
    """
    if isinstance(data, LabeledExamples):
        return data
    given = opened(data, columns)
    if isinstance(given, Takes):
        found = _recordings(given, columns.separator)
    elif isinstance(given, Table):
        found = _from_table(given, columns)
    else:
        found = _from_lists(data, columns)
    if not len(found):
        raise DataError(f"{found.name} has no examples")
    return found


def opened(data: object, columns: Columns) -> Takes | Table | None:
    """By the rule of :func:`read_labeled_examples` recordings, not read yet; a table of something else; or ``None``: lists."""
    if isinstance(data, (str, os.PathLike)) and is_media_path(Path(data), columns.kinds):
        return from_file(Path(data), columns.naming, columns.kinds)
    if not isinstance(data, (str, os.PathLike, pd.DataFrame)):
        return media_from_objects(data, columns.kinds)
    is_frame = isinstance(data, pd.DataFrame)
    table = Table(data.set_axis(data.columns.map(str), axis=1), "the frame") if is_frame else read_file(Path(data))
    if columns.values or columns.text in table.frame or columns.recording not in table.frame:
        return table
    return media_from_table(table, columns.naming, Path() if is_frame else Path(data).parent, columns.kinds)


def _recordings(takes: Takes, separator: str) -> LabeledExamples:
    inputs, labels, ids = [], [], []
    for take in takes.each():
        inputs.append(take.read())
        labels.append(None if take.label is None else _labels(take.label, separator))
        ids.append(take.id)
    return LabeledExamples(inputs, labels, ids, takes.name, takes.notes)


# ---- tables --------------------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> LabeledExamples:
    for name in (columns.id, *columns.values) if columns.values else (columns.text,):
        if name not in table.frame:
            other = "--text-col NAME, of sound or video files --sound-col NAME"
            option = other if name == columns.text else "--value-cols A,B and --id-col NAME"
            known = listing(table.frame.columns)
            raise DataError(f"no column {name!r} in {table.name} (columns: {known}): give {option}")
    with_labels = columns.label in table.frame
    cells = table.column(columns.label).tolist() if with_labels else [None] * len(table.frame)
    labels = [_labels(cell, columns.separator if with_labels else "") for cell in cells]
    if columns.values:
        return _sequences(table, columns, labels)
    texts = ["" if pd.isna(cell) else str(cell) for cell in table.column(columns.text)]
    ids = [str(i) for i in range(1, len(texts) + 1)]
    if columns.id in table.frame:
        ids = [str(cell) for cell in table.column(columns.id)]
    return LabeledExamples(texts, labels, ids, table.name, tuple(table.notes))


def _sequences(table: Table, columns: Columns, labels: Sequence[Labels | None]) -> LabeledExamples:
    """Rows with the same id are one sequence, in their order in the table."""
    names, rows = group_rows(table, columns.id)
    table.decimal_comma = table.decimal_comma and has_decimal_commas(table, columns.values)
    steps = [read_numbers(table, name) for name in columns.values]
    for name, values in zip(columns.values, steps, strict=True):
        table.raise_if_any(name, np.isnan(values), "is a missing value: fill it in, or leave the sequence out")
    every = np.stack(steps, 1).astype(np.float32)
    differs = np.zeros(len(labels), dtype=bool)
    for of_one in rows:
        differs[of_one] = [labels[row] != labels[of_one[0]] for row in of_one]
    table.raise_if_any(columns.label, differs, f"is not the label of the rows of {columns.id} before: give one label")
    found = [labels[of_one[0]] for of_one in rows]
    return LabeledExamples([every[of_one] for of_one in rows], found, names, table.name, tuple(table.notes))


def _labels(cell: Any, separator: str) -> Labels | None:
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        if not separator:
            raise DataError(f"an example has several labels ({listing(cell)}): say so with --label-sep '|'")
        return tuple(sorted({_plain(one) for one in cell}))
    text = "" if cell is None or pd.isna(cell) else _plain(cell)
    if not separator:
        return (text,) if text else None
    return tuple(sorted({part.strip() for part in text.split(separator)} - {""}))


def _plain(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


# ---- lists ---------------------------------------------------------------------------------------------------------


def _from_lists(data: Any, columns: Columns) -> LabeledExamples:
    inputs: Any
    labels: Any
    pair = isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str)
    inputs, labels = data if pair else (data, None)
    for given in (inputs, () if labels is None else labels):
        if not isinstance(given, (Sequence, np.ndarray, pd.Series)):
            raise DataError(f"give a path, a frame, or (inputs, labels), not {type(given).__name__}")
    found = [_checked(one, number, columns.shape) for number, one in enumerate(inputs, 1)]
    if len({type(one) for one in found}) > 1:
        raise DataError("the inputs are of several kinds, as texts and numbers: give one kind")
    of_each: list[Labels | None] = [None] * len(found)
    if labels is not None:
        of_each = [_labels(label, columns.separator) for label in labels]
    if len(of_each) != len(found):
        raise DataError(f"there are {len(found)} inputs and {len(of_each)} labels: give one of each")
    return LabeledExamples(found, of_each, [str(i) for i in range(1, len(found) + 1)], "the data")


def _checked(one: Any, number: int, shape: ClipFormat) -> str | np.ndarray | VideoClip:
    if isinstance(one, str):
        return one
    try:
        steps = np.asarray(one, dtype=np.float32)
    except (ValueError, TypeError):
        raise DataError(f"input {number} is neither text nor an array of numbers (T, F)") from None
    if steps.ndim in (3, 4):
        return video_from_array(np.asarray(one), shape, f"input {number}")
    steps = steps[:, None] if steps.ndim == 1 else steps
    if steps.ndim != 2 or not steps.size:
        raise DataError(f"input {number} has the shape {np.shape(one)}: give text, or numbers (T, F) with T, F above 0")
    if not np.isfinite(steps).all():
        step = int(np.flatnonzero(~np.isfinite(steps).all(axis=1))[0])
        raise DataError(f"input {number}, step {step + 1}: a value is missing or infinite: fill it in")
    return steps
