"""Sensor series from columns, one row per step, or from an array: what the job reads from a frame or an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.series.sensor_values import MAX_VALUE, array_of_channels, check_channels
from lstmkit.data.tables.unix_times import unix_unit
from lstmkit.errors import DataError
from lstmkit.runtime.columns import Columns, date_text

_UNIX_UNITS = ("s", "ms")  # that are read


class SensorValues(NamedTuple):
    """One sensor series.

    Attributes:
        name: Its id.
        values: ``(T, F)`` float64, NaN where missing.
        times: ``(T,)`` timestamps as texts, or numbers of steps from 1.
    """

    name: str
    values: np.ndarray
    times: list[str]


def read_sensors(data: Any, channels: Sequence[str], time: str, id_column: str) -> list[SensorValues]:
    """Read sensor series.

    Args:
        data: A mapping of column names to lists; or numbers ``(T,)`` or ``(T, F)``.
        channels: Names of the ``F`` channels.
        time: Column of timestamps; without it rows are steps.
        id_column: Column of series ids; without it all rows are one series.

    Raises:
        DataError: The data cannot be read, or a channel of a series has no value.
    """
    series = _of_columns(data, channels, time, id_column) if isinstance(data, Mapping) else [_of_array(data, channels)]
    for one in series:
        check_channels(one.values, channels, f"series {one.name}")
    return series


def _of_array(data: Any, channels: Sequence[str]) -> SensorValues:
    try:
        values = np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"give a mapping of columns, or numbers (T, F), not {type(data).__name__}") from None
    values = array_of_channels(values)
    if tuple(str(i + 1) for i in range(values.shape[1])) != tuple(channels):
        raise DataError(
            f"the array has {values.shape[1]} channels, the model was fitted to {len(channels)} "
            f"({', '.join(channels)}): give a mapping of these names to lists"
        )
    return SensorValues("the array", values, [str(step) for step in range(1, len(values) + 1)])


def _of_columns(data: Any, channels: Sequence[str], time: str, id_column: str) -> list[SensorValues]:
    columns = Columns(data, "the frame")
    for name, default in ((time, "time"), (id_column, "id")):
        if name not in ("", default):
            columns.values(name)  # which must be there
    values = np.stack([columns.numbers(name) for name in channels], axis=1)
    large = (np.abs(values) > MAX_VALUE).any(axis=1)
    if large.any():
        row = int(large.argmax()) + 1
        raise DataError(f"the frame, row {row}: a value is above {MAX_VALUE:g}: give None if missing")
    ids = columns.ids(id_column) if id_column in columns else ["the frame"] * columns.rows
    times, texts = _times(columns, time) if time in columns else (None, [])
    series, names = [], np.array(ids, dtype=object)
    for name in dict.fromkeys(ids):
        rows = np.flatnonzero(names == name)
        if times is None:
            series.append(SensorValues(name, values[rows], [str(step) for step in range(1, len(rows) + 1)]))
        else:
            rows = rows[np.argsort(times[rows], kind="stable")]
            series.append(SensorValues(name, values[rows], [texts[row] for row in rows]))
    return series


def _times(columns: Columns, key: str) -> tuple[np.ndarray, list[str]]:
    """Timestamps ``(N,)`` to sort by, and as texts: dates, Unix times or whole numbers."""
    first = columns.values(key)[0]
    if not isinstance(first, (int, float, np.integer, np.floating)):
        dates, offset = columns.dates(key)
        return dates, [date_text(date, offset) for date in dates]
    numbers = columns.whole_numbers(key)
    unit = unix_unit(numbers, _UNIX_UNITS)
    if unit is None:
        return numbers, [str(number) for number in numbers.tolist()]
    dates = numbers.astype(f"datetime64[{unit}]").astype("datetime64[ns]")
    return dates, [date_text(date) for date in dates]
