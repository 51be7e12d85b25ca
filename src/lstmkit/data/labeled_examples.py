"""Labeled examples: texts, numeric sequences, audio or video clips, from files, frames and lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AUDIO, AudioClip
from lstmkit.data.formats import DataFormat, check_format
from lstmkit.data.media_files import (
    AUDIO_TYPE,
    MediaColumns,
    MediaItems,
    MediaType,
    from_file,
    is_media_path,
    media_from_objects,
    media_from_table,
    video_type,
)
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import dated_and_numeric_columns, group_rows, read_numbers
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.data.vision.video_io import ANIMATION, VIDEO, ClipFormat, VideoClip, video_from_array
from lstmkit.errors import DataError, listing

_MAX_SUGGESTED = 8  # numeric columns that a message names

Labels = tuple[str, ...]  #: Labels of one example: one label, or any number in multi-label data.


#: Formats of labeled examples.
FORMATS = (
    *TABLES,
    AUDIO,
    VIDEO,
    ANIMATION,
    DataFormat("zip archive of audio or video", (".zip",), notes="May hold one table of paths and labels."),
    DataFormat("folder of audio or video", folder=True, notes="The label of a file is the name of its folder."),
)


class Columns(NamedTuple):
    """Columns of a table of labeled examples.

    Attributes:
        text: Texts, one example per row; ignored if ``values`` are given.
        label: Labels; optional.
        id: Example id. For numeric sequences, rows with the same id are one sequence.
        values: Numeric columns, one time step per row.
        separator: Separator of several labels; empty if an example has one label.
        path: Paths of audio or video files; ignored if there are ``values`` or texts.
        label_pattern: Label in file names, see :attr:`MediaColumns.pattern`.
        clip_format: Format to which video clips are converted.
    """

    text: str = "text"
    label: str = "label"
    id: str = "id"
    values: tuple[str, ...] = ()
    separator: str = ""
    path: str = "path"
    label_pattern: str = ""
    clip_format: ClipFormat = ClipFormat()

    @property
    def media_columns(self) -> MediaColumns:
        """Columns for media files."""
        return MediaColumns(self.path, self.label, self.id, self.label_pattern)

    @property
    def media_types(self) -> tuple[MediaType, MediaType]:
        """Media types that are read."""
        return AUDIO_TYPE, video_type(self.clip_format)


@dataclass(frozen=True)
class LabeledExamples:
    """Inputs with labels.

    Attributes:
        inputs: Texts, sequences ``(T, F)`` of numbers, audio clips or video clips.
        labels: Labels of each input; ``None`` if unknown.
        ids: Id of each input; by default its number, from 1.
        name: Name of the data in messages.
        notes: What was done to read them.
        absence: Says which column is missing, if the data are a table without labels.
    """

    inputs: Sequence[Any]
    labels: Sequence[Labels | None]
    ids: Sequence[str]
    name: str
    notes: tuple[str, ...] = ()
    absence: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def kind(self) -> str:
        """``"text"``, ``"numbers"``, ``"audio"`` or ``"video"``."""
        named = {str: "text", AudioClip: "audio", VideoClip: "video"}
        return next((name for cls, name in named.items() if isinstance(self.inputs[0], cls)), "numbers")

    def subset(self, rows: Sequence[int] | np.ndarray) -> LabeledExamples:
        """The examples ``rows``."""
        picked = ([values[i] for i in rows] for values in (self.inputs, self.labels, self.ids))
        return replace(self, **dict(zip(("inputs", "labels", "ids"), picked, strict=True)))

    def require_labels(self) -> list[Labels]:
        """The labels of all examples.

        Raises:
            DataError: An example has no label.
        """
        for i, labels in enumerate(self.labels):
            if labels is None and self.absence:
                raise DataError(f"{self.absence}: name the column of the labels with label_col=NAME")
            if labels is None:
                raise DataError(f"{self.name}: example {self.ids[i]} has no label: give it one, or leave it out")
        return [labels for labels in self.labels if labels is not None]

    def check_not_empty(self) -> None:
        """Raise DataError if every text is empty."""
        if self.kind == "text" and not any(text.strip() for text in self.inputs):
            raise DataError(f"{self.name}: every text is empty: name the column of the texts with text_col=NAME")

    def digest(self) -> str:
        """SHA-256 of inputs and labels."""
        digest = hashlib.sha256()
        for example, labels in zip(self.inputs, self.labels, strict=True):
            if isinstance(example, str):
                digest.update(example.encode("utf-8", "replace"))
            else:
                array, kind = _values(example)
                digest.update(f"{kind}{array.shape}".encode() + array.tobytes())
            digest.update(repr(labels).encode("utf-8", "replace"))
        return digest.hexdigest()


def _values(example: Any) -> tuple[np.ndarray, str]:
    """Array of an example that is not text, and its rate, which distinguishes clips with equal samples."""
    if isinstance(example, AudioClip):
        return example.samples, f"{example.sample_rate} "
    return (example.frames, f"{example.frame_rate:.4f} ") if isinstance(example, VideoClip) else (example, "")


def read_labeled_examples(data: object, columns: Columns) -> LabeledExamples:
    """Read labeled examples from a file, a frame, media files, or lists.

    - Media: a folder, a zip, an audio or video file, an :class:`AudioClip`, a :class:`VideoClip`, a list of these or of
      :class:`Path`, and ``(arrays, labels, rate)``. In a folder or zip only the more common media type is read.
    - Tables: numeric sequences if ``columns.values`` are given; else texts if there is a text column; else media files
      if there is a column of paths.
    - Lists, as ``(inputs, labels)`` or inputs alone: strings are texts, arrays ``(T, F)`` numeric sequences, and arrays
      ``(T, H, W)`` or ``(T, H, W, 3)`` video clips.

    Labels are stripped text; numbers are converted to text. An empty cell is an unknown label or, in multi-label data,
    an example without labels.

    Raises:
        DataError: The data cannot be read.

    >>> read_labeled_examples((["good", "bad"], [1, 0]), Columns()).labels
    [('1',), ('0',)]
    """
    data = as_pandas(data)
    if isinstance(data, LabeledExamples):
        return data
    source = open_media(data, columns)
    if isinstance(source, MediaItems):
        examples = _from_media(source, columns.separator)
    elif isinstance(source, Table):
        examples = _from_table(source, columns)
    else:
        examples = _from_lists(data, columns)
    if not len(examples):
        raise DataError(f"{examples.name} has no examples: give at least one")
    return examples


def open_media(data: object, columns: Columns) -> MediaItems | Table | None:
    """Unread media items, a table without media, or ``None`` for lists; see :func:`read_labeled_examples`."""
    data = as_pandas(data)
    if isinstance(data, (str, os.PathLike)):
        check_format(Path(data), FORMATS)
    if isinstance(data, (str, os.PathLike)) and is_media_path(Path(data), columns.media_types):
        return from_file(Path(data), columns.media_columns, columns.media_types)
    if not isinstance(data, (str, os.PathLike, pd.DataFrame)):
        return media_from_objects(data, columns.media_types)
    is_frame = isinstance(data, pd.DataFrame)
    table = Table(data.set_axis(data.columns.map(str), axis=1), "the frame") if is_frame else read_file(Path(data))
    if columns.values or columns.text in table.frame or columns.path not in table.frame:
        return table
    return media_from_table(
        table, columns.media_columns, Path() if is_frame else Path(data).parent, columns.media_types
    )


def _from_media(items: MediaItems, separator: str) -> LabeledExamples:
    inputs, labels, ids = [], [], []
    for item in items.iterate():
        inputs.append(item.read())
        labels.append(None if item.label is None else _labels(item.label, separator))
        ids.append(item.id)
    return LabeledExamples(inputs, labels, ids, items.name, items.notes, items.absence)


# ---- tables --------------------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> LabeledExamples:
    for name in (columns.id, *columns.values) if columns.values else (columns.text,):
        if absence := table.absence(name):
            advice = "value_cols=['A', 'B'] and id_col=NAME" if columns.values else _other_columns(table, columns)
            raise DataError(f"{absence}: give {advice}")
    with_labels = columns.label in table.frame
    cells = table.column(columns.label).tolist() if with_labels else [None] * len(table.frame)
    labels = [_labels(cell, columns.separator if with_labels else "") for cell in cells]
    if columns.values:
        return _sequences(table, columns, labels)
    texts = ["" if pd.isna(cell) else str(cell) for cell in table.column(columns.text)]
    ids = [str(i) for i in range(1, len(texts) + 1)]
    if columns.id in table.frame:
        ids = [str(cell) for cell in table.column(columns.id)]
    return LabeledExamples(texts, labels, ids, table.name, tuple(table.notes), table.absence(columns.label))


def _other_columns(table: Table, columns: Columns) -> str:
    """The options for a table without the column of texts; for numeric sequences if it has numeric columns."""
    options = ["text_col=NAME", "path_col=NAME for audio or video files"]
    has_id = columns.id in table.frame
    numeric = dated_and_numeric_columns(table, (columns.id, columns.label))[1]
    if numeric and not has_id:
        options.insert(1, "value_cols=['A', 'B'] and id_col=NAME for numeric sequences")
    elif numeric and table.column(columns.id).duplicated().any():
        named = str(numeric) if len(numeric) <= _MAX_SUGGESTED else "['A', 'B']"
        options.insert(0, f"value_cols={named} for numeric sequences (rows with the same {columns.id} are one)")
    return f"{', '.join(options[:-1])}, or {options[-1]}"


def _sequences(table: Table, columns: Columns, labels: Sequence[Labels | None]) -> LabeledExamples:
    """Rows with the same id are one sequence, in table order."""
    names, rows = group_rows(table, columns.id)
    steps = [read_numbers(table, name) for name in columns.values]
    for name, values in zip(columns.values, steps, strict=True):
        table.raise_if_any(name, np.isnan(values), "is a missing value: fill it in, or remove the sequence")
    values_of_rows = np.stack(steps, 1)
    differs = np.zeros(len(labels), dtype=bool)
    for sequence_rows in rows:
        differs[sequence_rows] = [labels[row] != labels[sequence_rows[0]] for row in sequence_rows]
    table.raise_if_any(
        columns.label, differs, f"differs from earlier rows with the same {columns.id}: give one label per {columns.id}"
    )
    sequence_labels = [labels[sequence_rows[0]] for sequence_rows in rows]
    return LabeledExamples(
        [values_of_rows[sequence_rows] for sequence_rows in rows],
        sequence_labels,
        names,
        table.name,
        tuple(table.notes),
        table.absence(columns.label),
    )


def _labels(cell: Any, separator: str) -> Labels | None:
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        if not separator:
            raise DataError(f"an example has several labels ({listing(cell)}): give label_sep='|' for multi-label data")
        return tuple(sorted({_label_text(label) for label in cell}))
    text = "" if cell is None or pd.isna(cell) else _label_text(cell)
    if not separator:
        return (text,) if text else None
    return tuple(sorted({label.strip() for label in text.split(separator)} - {""}))


def _label_text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


# ---- lists ---------------------------------------------------------------------------------------------------------


def _from_lists(data: Any, columns: Columns) -> LabeledExamples:
    inputs: Any
    labels: Any
    pair = isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str)
    inputs, labels = data if pair else (data, None)
    for values in (inputs, () if labels is None else labels):
        if not isinstance(values, (Sequence, np.ndarray, pd.Series)):
            raise DataError(f"give a path, a frame, or (inputs, labels), not {type(values).__name__}")
    examples = [_check_input(entry, number, columns.clip_format) for number, entry in enumerate(inputs, 1)]
    if len({type(entry) for entry in examples}) > 1:
        raise DataError("the inputs are of several types, such as texts and numbers: give one type")
    example_labels: list[Labels | None] = [None] * len(examples)
    if labels is not None:
        example_labels = [_labels(label, columns.separator) for label in labels]
    if len(example_labels) != len(examples):
        raise DataError(f"{len(examples)} inputs and {len(example_labels)} labels: give one label per input")
    return LabeledExamples(examples, example_labels, [str(i) for i in range(1, len(examples) + 1)], "the data")


def _check_input(entry: Any, number: int, clip_format: ClipFormat) -> str | np.ndarray | VideoClip:
    if isinstance(entry, str):
        return entry
    try:
        steps = np.asarray(entry)
        steps = steps if steps.dtype == np.float32 else steps.astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(
            f"input {number} is neither text nor an array of numbers: give text, or numbers (T, F)"
        ) from None
    if steps.ndim in (3, 4):
        return video_from_array(np.asarray(entry), clip_format, f"input {number}")
    steps = steps[:, None] if steps.ndim == 1 else steps
    if steps.ndim != 2 or not steps.size:
        raise DataError(
            f"input {number} has shape {np.shape(entry)}: give text, or numbers (T, F) with T and F above 0"
        )
    if not np.isfinite(steps).all():
        step = int(np.flatnonzero(~np.isfinite(steps).all(axis=1))[0])
        raise DataError(f"input {number}, step {step + 1}: a value is NaN or infinite: fill it in")
    return steps
