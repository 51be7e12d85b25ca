"""Long format: the rows of all series in one set of arrays, sorted by series and timestamp."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.placement import join_covariate
from lstmkit.data.tables.parsing import read_covariate, read_ids, read_numbers
from lstmkit.data.tables.table import SeriesColumns, Table
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.errors import DataError, format_timestamp


@dataclass
class SeriesRows:
    """The rows of all series.

    Attributes:
        series_ids: Ids of the series.
        series_index: ``(N,)`` index of each row's series in ``series_ids``.
        timestamps: ``(N,)`` pandas index: dates or whole numbers.
        y: ``(N,)`` float64 target, NaN where missing.
        covariates: ``(N,)`` values of each covariate that changes over time, by name.
        static: One value per series, by name; ``None`` where missing.
        notes: What was done to read them.
    """

    series_ids: list[str]
    series_index: np.ndarray
    timestamps: Any
    y: np.ndarray
    covariates: dict[str, np.ndarray]
    static: dict[str, tuple[float | str | None, ...]]
    notes: list[str]

    @property
    def has_dates(self) -> bool:
        """Whether timestamps are dates rather than whole numbers."""
        return isinstance(self.timestamps, pd.DatetimeIndex)

    @property
    def ticks(self) -> np.ndarray:
        """Timestamps as ``(N,)`` int64: whole numbers, or nanoseconds since 1970 in UTC."""
        return self.timestamps.asi8 if self.has_dates else self.timestamps.to_numpy(dtype=np.int64)

    @property
    def wall_clock(self) -> Any:
        """Timestamps in local time, without a time zone."""
        return self.timestamps.tz_localize(None) if self.has_dates else self.timestamps

    def same_series_as_next(self) -> np.ndarray:
        """``(N - 1,)`` bool: True where rows k and k + 1 belong to the same series."""
        return self.series_index[1:] == self.series_index[:-1]

    def duplicated(self, keep: Any) -> np.ndarray:
        """``(N,)`` bool: rows with the series and timestamp of another row; ``keep`` as in pandas ``duplicated``."""
        return pd.DataFrame({"series": self.series_index, "tick": self.ticks}).duplicated(keep=keep).to_numpy()

    def take(self, rows: np.ndarray) -> SeriesRows:
        """The rows with the given indices."""
        return replace(
            self,
            series_index=self.series_index[rows],
            timestamps=self.timestamps[rows],
            y=self.y[rows],
            covariates={name: values[rows] for name, values in self.covariates.items()},
        )


def read_rows(table: Table, roles: SeriesColumns, whole_numbers: bool = False) -> SeriesRows:
    """Parse the rows of a table, in table order; ``whole_numbers`` as in :func:`read_timestamps`.

    Raises:
        DataError: A cell cannot be parsed, or two rows of a series have the same timestamp.
    """
    series_index, ids = read_ids(table, roles.id, "series id")
    names = (*roles.past, *roles.future, *roles.static)
    timestamps = (
        read_timestamps(table, roles.time, whole_numbers=whole_numbers)
        if roles.time
        else pd.Index(pd.Series(series_index).groupby(series_index).cumcount())
    )
    y = read_numbers(table, roles.target) if roles.target else np.full(len(series_index), np.nan)
    values = {name: read_covariate(table, name) for name in names}
    static = {name: _static_values(name, values.pop(name), series_index, ids) for name in roles.static}
    rows = SeriesRows(ids, series_index, timestamps, y, values, static, table.notes)
    duplicated = rows.duplicated(keep=False)
    if duplicated.any():
        row = int(duplicated.argmax())
        count = int(((series_index == series_index[row]) & (rows.ticks == rows.ticks[row])).sum())
        id_option = "" if roles.id else ", or name the column with the series ids with id_col=NAME"
        raise DataError(
            f"{table.name}: series {ids[series_index[row]]!r} has {count} rows with the timestamp "
            f"{format_timestamp(timestamps[row])} ({int(duplicated.sum())} rows in total have a duplicate timestamp): "
            f"keep one row per timestamp{id_option}"
        )
    return rows


def _static_values(
    name: str, values: np.ndarray, series_index: np.ndarray, ids: list[str]
) -> tuple[float | str | None, ...]:
    """The value of a static covariate for each series, ``None`` where missing.

    Raises:
        DataError: A series has two values.
    """
    pairs = pd.DataFrame({"series": series_index, "value": values}).dropna().drop_duplicates()
    repeated = pairs["series"].duplicated().to_numpy()
    if repeated.any():
        series = int(pairs["series"].to_numpy()[repeated][0])
        first, second, *_ = pairs["value"][pairs["series"] == series]
        raise DataError(
            f"static column {name!r} changes within series {ids[series]!r} (from {first!r} to {second!r}): "
            "make it constant, or name it in past_covariates or future_covariates"
        )
    value_by_series = dict(zip(pairs["series"], pairs["value"], strict=True))
    return tuple(value_by_series.get(i) for i in range(len(ids)))


def append_future_rows(rows: SeriesRows, future: SeriesRows, roles: SeriesColumns) -> SeriesRows:
    """Append the rows of a table of future covariates that come after the last target of their series.

    Raises:
        DataError: The tables have different types of timestamps or values, or ``future`` has an unknown series.
    """
    if future.timestamps.dtype != rows.timestamps.dtype:
        dtypes = f"{future.timestamps.dtype}, those of the data {rows.timestamps.dtype}"
        raise DataError(f"the timestamps of the future table are {dtypes}: use one type and one time zone")
    index = pd.Index(rows.series_ids).get_indexer(pd.Index(future.series_ids)) if roles.id else np.zeros(1, np.int64)
    if (index < 0).any():
        unknown = future.series_ids[int((index < 0).argmax())]
        raise DataError(f"series {unknown!r} of the future table is not in the data: remove its rows")
    future = replace(future, series_index=index[future.series_index])
    last = np.full(len(rows.series_ids), np.iinfo(np.int64).min)
    has_target = ~np.isnan(rows.y)
    np.maximum.at(last, rows.series_index[has_target], rows.ticks[has_target])
    is_later = future.ticks > last[future.series_index]
    if not is_later.all():
        count = int((~is_later).sum())
        future.notes.append(f"rows of the future table dropped, not after the last target of their series: {count}")
    future = future.take(np.flatnonzero(is_later))
    covariates: dict[str, np.ndarray] = {}
    for name, values in rows.covariates.items():
        added = future.covariates.get(name, np.full(len(future.series_index), np.nan))
        covariates[name] = join_covariate(name, values, added)
    joined = replace(
        rows,
        series_index=np.concatenate([rows.series_index, future.series_index]),
        timestamps=rows.timestamps.append(future.timestamps),
        y=np.concatenate([rows.y, future.y]),
        covariates=covariates,
        notes=rows.notes + future.notes,
    )
    return joined.take(np.flatnonzero(~joined.duplicated(keep="last")))  # the future table replaces rows of the data


def sort_rows(rows: SeriesRows) -> SeriesRows:
    """Sort rows by series, then by timestamp."""
    grouped = rows.take(np.argsort(rows.series_index, kind="stable"))
    if not (grouped.same_series_as_next() & (np.diff(grouped.ticks) < 0)).any():
        return grouped
    rows.notes.append("rows sorted by timestamp within each series")
    return rows.take(np.lexsort((rows.ticks, rows.series_index)))
