"""Sensor series: one or several channels over time, optionally with anomaly labels for each step."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lstmkit.data.arrays import as_array
from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences
from lstmkit.data.series.sensor_values import MAX_VALUE, array_of_channels, check_channels
from lstmkit.data.tables.column_kinds import NotASignal, described, direction, first_time, non_signals
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import parse_numbers, read_ids, read_numbers
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.errors import DataError, format_timestamp, listing

_SECONDS_PER_DAY = 86_400


class Columns(NamedTuple):
    """Column roles of a table of sensor series.

    Attributes:
        time: Timestamps. If there is no such column, the first one that is recognized as times, else rows are steps.
        id: Series id. If there is no such column, the table is one series.
        label: Anomaly label of each step, 0 or 1; optional.
        channels: Columns of numbers; empty for all other columns but times, row numbers and labels.
        covariates: Channels that are inputs but not scored.
    """

    time: str = "time"
    id: str = "id"
    label: str = "label"
    channels: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()


@dataclass(frozen=True)
class SensorSeries:
    """One sensor series.

    Attributes:
        name: Its id.
        values: ``(T, C)`` float64, NaN where missing.
        times: ``(T,)`` timestamps, or step numbers from 1.
        labels: ``(T,)`` bool, True for an anomaly; ``None`` without labels.

    >>> len(SensorSeries("pump", np.zeros((5, 2)), np.arange(1, 6)).slice(1, 3))
    2
    """

    name: str
    values: np.ndarray
    times: Any
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def step_days(self) -> float:
        """Median days between two steps; NaN without timestamps, or if they do not advance."""
        if not isinstance(self.times, pd.DatetimeIndex):
            return math.nan
        seconds = pd.Series(self.times).diff().dt.total_seconds()
        return float(seconds.median()) / _SECONDS_PER_DAY or math.nan

    def slice(self, start: int, stop: int) -> SensorSeries:
        """Steps ``start .. stop - 1``."""
        labels = None if self.labels is None else self.labels[start:stop]
        return SensorSeries(self.name, self.values[start:stop], self.times[start:stop], labels)


@dataclass(frozen=True)
class SensorSeriesSet:
    """Sensor series with the same channels.

    Attributes:
        items: The series.
        channels: ``C`` names.
        name: Name of the data in messages.
        notes: What was done to read them.
    """

    items: tuple[SensorSeries, ...]
    channels: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def has_labels(self) -> bool:
        """Whether every series has labels."""
        return all(series.labels is not None for series in self.items)

    def slice(self, bounds: Sequence[tuple[int, int]], labels: bool) -> SensorSeriesSet:
        """Slice each series to its ``(start, stop)``; empty slices are dropped. ``labels``: whether to keep labels."""
        slices = [series.slice(*bound) for series, bound in zip(self.items, bounds, strict=True)]
        kept = [series if labels else replace(series, labels=None) for series in slices if len(series)]
        return replace(self, items=tuple(kept))

    def with_channels_of(self, other: SensorSeriesSet) -> SensorSeriesSet:
        """Reorder the channels to those of another set.

        Raises:
            DataError: The channels differ.
        """
        if {*self.channels} != {*other.channels}:
            unmatched = sorted({*self.channels} ^ {*other.channels})
            raise DataError(
                f"{self.name} and {other.name} have different channels (only one of them has {listing(unmatched)}): "
                "give both the same channels"
            )
        order = [self.channels.index(name) for name in other.channels]
        items = tuple(replace(series, values=series.values[:, order]) for series in self.items)
        return replace(self, items=items, channels=other.channels)

    def check_values(self) -> None:
        """Raise DataError if a channel of a series has no value at all."""
        for series in self.items:
            where = self.name if series.name == self.name else f"{self.name}, series {series.name}"
            check_channels(series.values, self.channels, where)

    def digest(self) -> str:
        """SHA-256 of names and values."""
        digest = hashlib.sha256(repr(self.channels).encode())
        for series in self.items:
            digest.update(repr((series.name, series.values.shape)).encode("utf-8", "replace"))
            digest.update(np.ascontiguousarray(series.values).tobytes())
        return digest.hexdigest()


def read_sensor_series(data: object, columns: Columns) -> SensorSeriesSet:
    """Read sensor series from a file or frame with one row per step, or from an array ``(T,)`` or ``(T, C)``.

    Rows of a series are sorted by timestamp; rows with the same timestamp keep their order. Missing values stay NaN.

    Raises:
        DataError: The data cannot be read.

    >>> read_sensor_series(np.zeros((5, 2)), Columns()).channels
    ('1', '2')
    """
    data = as_pandas(data)
    if isinstance(data, SensorSeriesSet):
        return data
    if isinstance(data, SensorSeries):
        return SensorSeriesSet((data,), tuple(str(i + 1) for i in range(data.values.shape[1])), data.name)
    if isinstance(data, (str, os.PathLike)):
        return _from_table(read_file(Path(data)), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    return _from_array(data)


def _from_array(data: Any) -> SensorSeriesSet:
    try:
        values = as_array(data).astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(f"give a path, a frame, or numbers (T, C), not {type(data).__name__}") from None
    values = array_of_channels(values)
    channels = tuple(str(i + 1) for i in range(values.shape[1]))
    return SensorSeriesSet((SensorSeries("the array", values, np.arange(1, len(values) + 1)),), channels, "the array")


def _from_table(table: Table, columns: Columns) -> SensorSeriesSet:
    frame = table.frame
    if frame.empty:
        raise DataError(f"{table.name} has no rows")
    has_time, has_id, has_label = (bool(name) and name in frame for name in (columns.time, columns.id, columns.label))
    for role in ("time", "id"):
        name, default = getattr(columns, role), Columns._field_defaults[role]
        if name not in (default, "") and name not in frame:
            raise DataError(
                f"no column {name!r} in {table.name} (columns: {listing(frame.columns)}): correct --{role}-col"
            )
    codes, ids = read_ids(table, columns.id) if has_id else (np.zeros(len(frame), np.int64), [table.name])
    groups = {name: np.flatnonzero(codes == i) for i, name in enumerate(ids)}
    kinds = _non_signals(table, columns, list(groups.values()))
    channels = _channels(table, columns, kinds)
    values = np.stack([read_numbers(table, name) for name in channels], axis=1)
    for name, column in zip(channels, values.T, strict=True):
        if name not in columns.channels and (way := direction(column, list(groups.values()))):
            table.notes.append(
                f"column {name!r} only {way}: values beyond those of training are unlike them (to leave it out, give "
                "value_cols=OTHERS)"
            )
        table.raise_if_any(
            name, np.abs(column) > MAX_VALUE, f"is above {MAX_VALUE:g}: leave the cell empty if it is missing"
        )
    time, times = (None, None) if has_time or not columns.time else first_time(table, kinds)
    if has_time:
        times = read_timestamps(table, columns.time)
    elif time is not None:
        table.notes.append(
            f"{described(time)} {kinds[time].reason}: used as timestamps (to choose, give time_col=NAME)"
        )
    labels = _labels(table, columns.label) if has_label else None
    series, repeated = [], []
    for name, rows in groups.items():
        if times is not None:
            rows = rows[np.argsort(times[rows], kind="stable")]
            repeated += times[rows][1:][times[rows][1:] == times[rows][:-1]].tolist()
        series_times = np.arange(1, len(rows) + 1) if times is None else times[rows]
        series.append(SensorSeries(name, values[rows], series_times, None if labels is None else labels[rows]))
    if repeated:
        hint = "" if has_id else "; if the table has several series, give id_col=NAME"
        table.notes.append(
            f"{len(repeated):,} rows have the timestamp of another row of their series, such as "
            f"{format_timestamp(repeated[0])}: each row is a step, rows with the same timestamp keep their order{hint}"
        )
    return SensorSeriesSet(tuple(series), channels, table.name, tuple(table.notes))


def _non_signals(table: Table, columns: Columns, groups: list[np.ndarray]) -> dict[str, NotASignal]:
    """Columns without a role that are times, row numbers or labels."""
    with_role = {columns.time, columns.id, columns.label, *columns.channels, *columns.covariates}
    counts = table.frame.columns.value_counts()
    return non_signals(table, [name for name in table.frame if name not in with_role and counts[name] == 1], groups)


def _channels(table: Table, columns: Columns, kinds: dict[str, NotASignal]) -> tuple[str, ...]:
    """The named channels; by default all numeric columns except time, id, label and those of ``kinds``, with notes."""
    absent = [name for name in (*columns.channels, *columns.covariates) if name not in table.frame]
    if absent:
        known = listing(table.frame.columns)
        raise DataError(f"no column {absent[0]!r} in {table.name} (columns: {known}): correct value_cols or covariates")
    others = {columns.time, columns.id, columns.label}
    requested = (*columns.channels, *columns.covariates)
    invalid = [name for name in requested if requested.count(name) > 1 or name in others]
    if invalid:
        raise DataError(
            f"column {invalid[0]!r} is named twice, or has two roles: give each channel once; "
            "it cannot be time, id or label"
        )
    named = columns.channels
    if not named:
        named = _numeric_columns(table, [name for name in table.frame if name not in {*others, *kinds}])
        for name, (kind, reason) in kinds.items():
            advice = (
                f"value_cols={name!r}, or label_col={name!r} if it marks the anomalies"
                if kind == "label"
                else f"value_cols={name!r}"
            )
            table.notes.append(f"{described(name)} {reason}: not used as a channel (to use it, give {advice})")
    channels = (*named, *(name for name in columns.covariates if name not in named))
    if not set(channels) - set(columns.covariates):
        raise DataError(
            f"{table.name} has no numeric column to score (columns: {listing(table.frame.columns)}): "
            "give one with value_cols=NAME"
        )
    return channels


def _numeric_columns(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """The numeric columns. A column is text if most of its cells are not numbers."""
    text = {name for name in names if parse_numbers(table, name)[1].mean() > 0.5}
    if text:
        table.notes.append(f"text columns, not used as channels: {listing(sorted(text))}")
    return tuple(name for name in names if name not in text)


def _labels(table: Table, column: str) -> np.ndarray:
    numbers = read_numbers(table, column)
    table.raise_if_any(
        column, ~np.isin(numbers, (0.0, 1.0)), "is not a label: write 1 for an anomaly and 0 for a normal step"
    )
    return numbers == 1


# ---- dataset ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Dataset of windows of sequences: inputs ``(B, W, F)`` and targets ``(B, W, K)``.

    Attributes:
        inputs: Sequences ``(T, F)``.
        targets: Targets ``(T, K)`` of each sequence.
        bounds: ``(N, 3)`` windows: index of the sequence, start, stop (exclusive).
    """

    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    bounds: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.bounds[:, 2] - self.bounds[:, 1]

    def __len__(self) -> int:
        return len(self.bounds)

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the windows ``rows``, padded with 0; the targets of padding are NaN."""
        bounds = self.bounds[rows]
        inputs, targets = (
            torch.from_numpy(pad_sequences([sequences[k][start:stop] for k, start, stop in bounds], fill))
            for sequences, fill in ((self.inputs, 0.0), (self.targets, np.nan))
        )
        return Batch(inputs, torch.from_numpy(self.lengths[rows]), targets, rows=rows)
