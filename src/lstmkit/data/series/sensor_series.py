"""Recordings of one or several channels over time, in which some steps may be labelled as anomalies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch, beside
from lstmkit.data.tables.parsing import has_decimal_commas, parse_numbers, read_numbers, read_timestamps
from lstmkit.data.tables.table import Table, read_file
from lstmkit.errors import DataError, listing

MAX_VALUE = 1e100  #: Of a value: what is beyond is a fault of whoever wrote it.


class Columns(NamedTuple):
    """Which column is what.

    Attributes:
        time: The stamps; where there is no such column, rows are steps.
        id: Which recording a row belongs to; where there is no such column, there is one.
        label: Whether a step is an anomaly, 0 or 1; need not be there.
        channels: The columns of numbers; empty for all that are left.
        context: Those among them that are read and not watched.
    """

    time: str = "time"
    id: str = "id"
    label: str = "label"
    channels: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """One of them.

    Attributes:
        name: What it is called.
        values: ``(T, C)`` float64, NaN where missing.
        times: ``(T,)`` stamps, or step numbers from 1.
        labels: ``(T,)`` bool; ``None`` where it is not known.
    """

    name: str
    values: np.ndarray
    times: Any
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> Recording:
        """The steps from ``start`` until before ``stop``."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Recording(self.name, self.values[start:stop], self.times[start:stop], labels)


@dataclass(frozen=True)
class SensorSeriesSet:
    """Recordings of the same channels.

    Attributes:
        items: Each one.
        channels: ``C`` names.
        name: What messages call them all.
        notes: What was done to read them.
    """

    items: tuple[Recording, ...]
    channels: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labelled(self) -> bool:
        """Whether it is known of every step if it is an anomaly."""
        return all(one.labels is not None for one in self.items)

    def cut(self, bounds: Sequence[tuple[int, int]], labels: bool) -> SensorSeriesSet:
        """Of each the steps within its bounds, those without any left out; ``labels``: whether they keep theirs."""
        parts = [one.part(*bound) for one, bound in zip(self.items, bounds, strict=True)]
        kept = [one if labels else replace(one, labels=None) for one in parts if len(one)]
        return replace(self, items=tuple(kept))

    def like(self, others: SensorSeriesSet) -> SensorSeriesSet:
        """The same with the channels in the order of another's.

        Raises:
            DataError: They are not the same channels.
        """
        if {*self.channels} != {*others.channels}:
            odd = sorted({*self.channels} ^ {*others.channels})
            raise DataError(
                f"{self.name} and {others.name} have not the same channels (only one has {listing(odd)}): "
                "give both the same"
            )
        order = [self.channels.index(name) for name in others.channels]
        items = tuple(replace(one, values=one.values[:, order]) for one in self.items)
        return replace(self, items=items, channels=others.channels)

    def check_values(self) -> None:
        """Raise DataError where a channel of a recording has no value at all: of a dead sensor nothing can be told."""
        for one in self.items:
            missing = np.isnan(one.values).all(axis=0)
            if missing.any():
                where = self.name if one.name == self.name else f"{self.name}, recording {one.name}"
                raise DataError(f"{where}: channel {self.channels[int(missing.argmax())]!r} has no value: leave it out")

    def digest(self) -> str:
        """A fingerprint of names and values."""
        found = hashlib.sha256(repr(self.channels).encode())
        for one in self.items:
            found.update(repr((one.name, one.values.shape)).encode("utf-8", "replace"))
            found.update(np.ascontiguousarray(one.values).tobytes())
        return found.hexdigest()


def read_sensor_series(data: object, columns: Columns) -> SensorSeriesSet:
    """A file or frame with a row a step; an array ``(T,)`` or ``(T, C)``; or recordings.

    Rows of a recording are put in the order of their stamps. A missing value stays missing.

    Raises:
        DataError: What cannot be read, with place and remedy.

    >>> read_sensor_series(np.zeros((5, 2)), Columns()).channels
    ('1', '2')
    """
    if isinstance(data, SensorSeriesSet):
        return data
    if isinstance(data, Recording):
        return SensorSeriesSet((data,), tuple(str(i + 1) for i in range(data.values.shape[1])), data.name)
    if isinstance(data, (str, os.PathLike)):
        return _from_table(read_file(Path(data)), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    return _from_array(data)


def _from_array(data: Any) -> SensorSeriesSet:
    try:
        values = np.asarray(data, dtype=np.float64)
    except (ValueError, TypeError):
        raise DataError(f"give a path, a frame, or numbers (T, C), not {type(data).__name__}") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"the array has the shape {np.shape(data)}: give numbers (T,) or (T, C), both above 0")
    odd = (np.abs(values) > MAX_VALUE).any(axis=1)
    if odd.any():
        raise DataError(
            f"step {int(odd.argmax()) + 1}: a value is infinite, or over {MAX_VALUE:g}: write NaN where it is missing"
        )
    channels = tuple(str(i + 1) for i in range(values.shape[1]))
    return SensorSeriesSet((Recording("the array", values, np.arange(1, len(values) + 1)),), channels, "the array")


def _from_table(table: Table, columns: Columns) -> SensorSeriesSet:
    frame = table.frame
    if frame.empty:
        raise DataError(f"{table.name} has no rows")
    timed, several, labelled = (name in frame for name in (columns.time, columns.id, columns.label))
    for role in ("time", "id"):
        name, usual = getattr(columns, role), Columns._field_defaults[role]
        if name not in (usual, "") and name not in frame:
            raise DataError(
                f"no column {name!r} in {table.name} (columns: {listing(frame.columns)}): mend --{role}-col"
            )
    channels = _channels(table, columns)
    table.comma = table.comma and has_decimal_commas(table, channels)
    values = np.stack([read_numbers(table, name) for name in channels], axis=1)
    for name, column in zip(channels, values.T, strict=True):
        table.refuse(
            name, np.abs(column) > MAX_VALUE, f"is over {MAX_VALUE:g}: leave the cell empty where it is missing"
        )
    times: Any = read_timestamps(table, columns.time) if timed else np.arange(1, len(frame) + 1)
    labels = _labels(table, columns.label) if labelled else None
    names = table.column(columns.id).map(str) if several else pd.Series([table.name] * len(frame))
    found = []
    for name, rows in names.groupby(names, sort=False).indices.items():
        rows = np.sort(rows)
        if timed:
            rows = rows[np.argsort(times[rows], kind="stable")]
            again = np.asarray(times[rows])[1:] == np.asarray(times[rows])[:-1]
            if again.any():
                timestamp, hint = (
                    times[rows][1:][again][0],
                    "" if several else " (several recordings? give --id-col NAME)",
                )
                where = table.name if name == table.name else f"{table.name}: {name}"
                raise DataError(f"{where} has the stamp {timestamp} twice: give each step one{hint}")
        of_steps = times[rows] if timed else np.arange(1, len(rows) + 1)
        found.append(Recording(str(name), values[rows], of_steps, None if labels is None else labels[rows]))
    return SensorSeriesSet(tuple(found), channels, table.name, tuple(table.notes))


def _channels(table: Table, columns: Columns) -> tuple[str, ...]:
    """Those that are named; else all columns of numbers but time, id and label; one of words is left out, and noted."""
    absent = [name for name in (*columns.channels, *columns.context) if name not in table.frame]
    if absent:
        known = listing(table.frame.columns)
        raise DataError(f"no column {absent[0]!r} in {table.name} (columns: {known}): it is one of the channels")
    others = {columns.time, columns.id, columns.label}
    given = (*columns.channels, *columns.context)
    twice = [name for name in given if given.count(name) > 1 or name in others]
    if twice:
        raise DataError(f"column {twice[0]!r} is given two roles, or twice: a channel is neither time, id nor label")
    named = columns.channels or _of_numbers(table, [name for name in table.frame if name not in others])
    found = (*named, *(name for name in columns.context if name not in named))
    if not set(found) - set(columns.context):
        raise DataError(f"{table.name} has no column of numbers to watch (columns: {listing(table.frame.columns)})")
    return found


def _of_numbers(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """Without the columns of words: those whose cells are for the most part no numbers."""
    words = {name for name in names if parse_numbers(table, name)[1].mean() > 0.5}
    if words:
        table.notes.append(f"no numbers, and not watched: {listing(sorted(words))}")
    return tuple(name for name in names if name not in words)


def _labels(table: Table, column: str) -> np.ndarray:
    numbers = read_numbers(table, column)
    table.refuse(column, ~np.isin(numbers, (0.0, 1.0)), "is no label: write 1 where a step is an anomaly, else 0")
    return numbers == 1


def filled(values: np.ndarray) -> np.ndarray:
    """``(T, C)``, what is missing as the value before; 0 where there is none yet."""
    return pd.DataFrame(values).ffill().fillna(0.0).to_numpy(dtype=values.dtype)


# ---- as examples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Stretches of sequences as a source of batches: inputs ``(B, W, F)`` and what is to be told of each step.

    Attributes:
        inputs: Sequences ``(T, F)``.
        targets: Of each ``(T, K)``.
        places: ``(N, 3)``: of which sequence, from where, until before where.
    """

    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    places: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.places[:, 2] - self.places[:, 1]

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, rows: np.ndarray) -> Batch:
        """NaN as the target of what is past the end."""
        places = self.places[rows]
        inputs, targets = (
            torch.from_numpy(beside([of[k][start:stop] for k, start, stop in places], fill))
            for of, fill in ((self.inputs, 0.0), (self.targets, np.nan))
        )
        return Batch(inputs, torch.from_numpy(self.lengths[rows]), targets, rows=rows)


def places(lengths: Sequence[int], window: int, stride: int) -> np.ndarray:
    """``(N, 3)``: windows that begin every ``stride`` steps, and one that ends with the sequence; short ones whole.

    >>> places([5, 2], window=3, stride=3).tolist()
    [[0, 0, 3], [0, 2, 5], [1, 0, 2]]
    """
    found = []
    for k, length in enumerate(lengths):
        last = max(0, length - window)
        starts = sorted({*range(0, last + 1, stride), last})
        found += [(k, start, min(start + window, length)) for start in starts]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def trailing_windows(lengths: Sequence[int], window: int) -> np.ndarray:
    """``(N, 3)``: for every step of each sequence the window that ends with it, shorter at the beginning."""
    found = [np.stack([np.full(n, k), np.maximum(0, np.arange(1, n + 1) - window), np.arange(1, n + 1)], 1)
             for k, n in enumerate(lengths)]  # fmt: skip
    return np.concatenate(found)
