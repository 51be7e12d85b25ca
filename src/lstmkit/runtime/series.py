"""Regular series from columns in long format, one row per step: what the job reads from a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lstmkit.data.series.date_steps import DateSteps, date_steps
from lstmkit.data.series.placement import check_number_of_steps, join_covariate, place_rows
from lstmkit.data.statistics import is_missing
from lstmkit.errors import DataError, format_timestamp
from lstmkit.runtime.columns import Columns, date_text, date_texts

_TIMES = np.dtype("datetime64[ns]")


@dataclass(frozen=True)
class SeriesFormat:
    """What the columns of a forecaster's data are.

    Attributes:
        id, time, target: Names of columns; ``time`` is empty if rows are steps.
        past, future, static: Names of covariates.
        texts: Those of them that are categories.
        freq: Pandas offset alias, or the step of whole-number timestamps.
    """

    id: str
    time: str
    target: str
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: tuple[str, ...]
    texts: tuple[str, ...]
    freq: str | int


@dataclass(frozen=True, eq=False)
class Series:
    """Regular series; attributes as those of :class:`~lstmkit.data.series.regular_series.RegularSeries`.

    Attributes:
        starts: ``(N,)`` timestamps of step 0: datetime64[ns] in local time, or int64.
        offset: UTC offset of the timestamps, as ``+02:00``; empty if they have none.
        id_name, time_name: What the data call series id and timestamp.
    """

    ids: list[str]
    freq: str | int
    starts: np.ndarray
    y: list[np.ndarray]
    covariates: dict[str, list[np.ndarray]]
    static: dict[str, list[float | str | None]]
    future: tuple[str, ...]
    offset: str
    id_name: str
    time_name: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(y) for y in self.y], dtype=np.int64)

    def timestamps(self, i: int, start: int, stop: int) -> np.ndarray:
        steps = np.arange(start, stop)
        if isinstance(self.freq, int):
            return self.starts[i] + steps * self.freq
        return date_steps(self.freq).after(self.starts[i], steps)

    def wall_clock(self, i: int, start: int, stop: int) -> np.ndarray:
        return self.timestamps(i, start, stop)

    def time_text(self, i: int, step: int) -> str:
        return self._text(self.timestamps(i, step, step + 1)[0])

    def _text(self, timestamp: Any) -> str:
        return _time_text(timestamp, self.offset)

    def texts_after(self, horizon: int) -> list[str]:
        """The timestamps of the ``horizon`` steps after each series, one after the other, as texts."""
        ends = self.lengths.tolist()
        times = np.concatenate([self.timestamps(i, end, end + horizon) for i, end in enumerate(ends)])
        return date_texts(times, self.offset) if times.dtype == _TIMES else [str(time) for time in times.tolist()]


@dataclass(frozen=True)
class _Rows:
    """Rows of all series; ``times`` as :attr:`Series.starts`."""

    ids: list[str]
    series: np.ndarray
    times: np.ndarray
    y: np.ndarray
    covariates: dict[str, np.ndarray]
    static: dict[str, list[float | str | None]]
    offset: str

    def take(self, rows: np.ndarray) -> _Rows:
        covariates = {name: values[rows] for name, values in self.covariates.items()}
        return _Rows(self.ids, self.series[rows], self.times[rows], self.y[rows], covariates, self.static, self.offset)


def read_series(data: Any, form: SeriesFormat, future_data: Any | None = None) -> Series:
    """Read series, and the future covariates that a second table has.

    Args:
        data: A mapping of column names to lists; or the values of one series, if its steps have no timestamps.
        form: What the columns are.
        future_data: A mapping with the future covariates over the horizon.

    Raises:
        DataError: A column is missing, a value has another type, or timestamps are repeated or not regular.
    """
    if isinstance(data, (list, tuple, np.ndarray)):
        data = {form.target: data}
    columns = Columns(data, "the data")
    alone = len(columns.names) == 1
    time = "" if alone else form.time
    target = columns.names[0] if alone else form.target
    has_id = form.id in columns and not alone
    if not has_id and form.id != "unique_id":
        columns.values(form.id)
    rows = _read_rows(columns, form, time, target, form.id if has_id else "")
    _check_not_repeated(columns, rows, has_id)
    if future_data is not None:
        if not form.future or not time:
            raise DataError(
                "a table of future covariates (future_data) needs covariates known in advance (future_covariates) "
                "and timestamps (time_col): the model was fitted without them"
            )
        ahead = Columns(future_data, "future_data")
        future = _read_rows(ahead, form, time, "", form.id if has_id else "", form.future, ())
        _check_not_repeated(ahead, future, has_id)
        rows = _with_future_rows(rows, future, has_id)
    rows = rows.take(np.lexsort((rows.times, rows.series)))
    return _placed(rows, form, target, form.id if has_id else "unique_id", time or "ds")


def _read_rows(
    columns: Columns,
    form: SeriesFormat,
    time: str,
    target: str,
    id_column: str,
    names: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
) -> _Rows:
    """The rows of columns, in their order; ``target`` is empty if there are no values."""
    ids = columns.ids(id_column) if id_column else ["series"] * columns.rows
    unique = list(dict.fromkeys(ids))
    index = {name: i for i, name in enumerate(unique)}
    series = np.array([index[name] for name in ids], dtype=np.int64)
    times, offset = _times(columns, form, time, series)
    y = columns.numbers(target) if target else np.full(columns.rows, np.nan)

    def values(name: str) -> np.ndarray:
        return columns.categories(name) if name in form.texts else columns.numbers(name)

    covariates = {name: values(name) for name in ((*form.past, *form.future) if names is None else names)}
    constants = {
        name: _constants(name, values(name), series, unique) for name in (form.static if static is None else static)
    }
    return _Rows(unique, series, times, y, covariates, constants, offset)


def _times(columns: Columns, form: SeriesFormat, time: str, series: np.ndarray) -> tuple[np.ndarray, str]:
    """Timestamps ``(N,)`` and their UTC offset."""
    if not time and not isinstance(form.freq, int):
        raise DataError(f"the training data have dates of frequency {form.freq!r}: give the column {form.time!r}")
    if not time:
        counts = [np.arange(n) for n in np.bincount(series)]
        numbers = np.empty(len(series), dtype=np.int64)
        numbers[np.argsort(series, kind="stable")] = np.concatenate(counts)
        return numbers, ""
    return (columns.whole_numbers(time), "") if isinstance(form.freq, int) else columns.dates(time)


def _constants(name: str, values: np.ndarray, series: np.ndarray, ids: list[str]) -> list[float | str | None]:
    """The value of a static covariate for each series, ``None`` where missing."""
    found: list[float | str | None] = [None] * len(ids)
    for i, value, missing in zip(series.tolist(), values.tolist(), is_missing(values).tolist(), strict=True):
        if missing:
            continue
        if found[i] is not None and found[i] != value:
            raise DataError(f"static column {name!r} changes within series {ids[i]!r} (from {found[i]!r} to {value!r})")
        found[i] = value
    return found


def _check_not_repeated(columns: Columns, rows: _Rows, has_id: bool) -> None:
    order = np.lexsort((rows.times, rows.series))
    same = (np.diff(rows.series[order]) == 0) & (rows.times[order][1:] == rows.times[order][:-1])
    if same.any():
        row = int(order[1:][same][0])
        advice = "" if has_id else ", or give the column of series ids"
        raise DataError(
            f"{columns.name}: series {rows.ids[rows.series[row]]!r} has several rows with the timestamp "
            f"{_time_text(rows.times[row], rows.offset)}: keep one row per timestamp{advice}"
        )


def _with_future_rows(rows: _Rows, future: _Rows, has_id: bool) -> _Rows:
    """Rows, and those of a future table after the last value of their series, which replace rows of the data."""
    if future.offset != rows.offset:
        raise DataError("future_data and the data have different UTC offsets: use one")
    index = {name: i for i, name in enumerate(rows.ids)} if has_id else dict.fromkeys(future.ids, 0)
    unknown = [name for name in future.ids if name not in index]
    if unknown:
        raise DataError(f"series {unknown[0]!r} of future_data is not in the data: remove its rows")
    series = np.array([index[name] for name in future.ids])[future.series]
    known = ~np.isnan(rows.y)
    last = np.full(len(rows.ids), np.iinfo(np.int64).min)
    np.maximum.at(last, rows.series[known], rows.times[known].astype(np.int64))
    later = np.flatnonzero(future.times.astype(np.int64) > last[series])
    series, future = series[later], future.take(later)
    places = set(zip(series.tolist(), future.times.tolist(), strict=True))
    kept = np.array([place not in places for place in zip(rows.series.tolist(), rows.times.tolist(), strict=True)])
    rows = rows.take(np.flatnonzero(kept))
    covariates = {}
    for name, values in rows.covariates.items():
        covariates[name] = join_covariate(name, values, future.covariates.get(name, np.full(len(series), np.nan)))
    return _Rows(
        rows.ids,
        np.concatenate([rows.series, series]),
        np.concatenate([rows.times, future.times]),
        np.concatenate([rows.y, future.y]),
        covariates,
        rows.static,
        rows.offset,
    )


def _placed(rows: _Rows, form: SeriesFormat, target: str, id_name: str, time_name: str) -> Series:
    """Sorted rows on the grid of their frequency."""
    edges = np.searchsorted(rows.series, np.arange(len(rows.ids) + 1))
    grid = None if isinstance(form.freq, int) else date_steps(form.freq)
    positions = [_positions(rows, slice(low, high), form.freq, grid) for low, high in pairwise(edges.tolist())]
    check_number_of_steps(form.freq, len(rows.y), sum(int(steps[-1]) + 1 for steps in positions))
    starts, targets = [], []
    covariates: dict[str, list[np.ndarray]] = {name: [] for name in rows.covariates}
    for name, steps, (low, high) in zip(rows.ids, positions, pairwise(edges.tolist()), strict=True):
        own = {column: values[low:high] for column, values in rows.covariates.items()}
        placed = place_rows(rows.y[low:high], own, steps, form.future)
        if placed is None:
            raise DataError(f"series {name!r} has no value: {target!r} is missing in all its rows")
        starts.append(rows.times[low + int(np.searchsorted(steps, placed.begin))])
        targets.append(placed.y)
        for column, values in placed.covariates.items():
            covariates[column].append(values)
    return Series(
        rows.ids,
        form.freq,
        np.array(starts),
        targets,
        covariates,
        rows.static,
        form.future,
        rows.offset,
        id_name,
        time_name,
    )


def _positions(rows: _Rows, part: slice, freq: str | int, grid: DateSteps | None) -> np.ndarray:
    """The step of each row of one series on its grid, from 0."""
    times = rows.times[part]
    if grid is None:
        positions, rest = np.divmod(times - times[0], int(freq))
        on_grid = rest == 0
    else:
        positions, on_grid = grid.between(times[0], times)
    if not on_grid.all():
        raise DataError(
            f"irregular timestamps: {_time_text(times[int((~on_grid).argmax())], rows.offset)} of series "
            f"{rows.ids[rows.series[part][0]]!r} is not on the grid of frequency {freq!r} that starts at "
            f"{_time_text(times[0], rows.offset)}: resample the data to a regular grid"
        )
    return positions


def _time_text(timestamp: Any, offset: str) -> str:
    return format_timestamp(date_text(timestamp, offset)) if isinstance(timestamp, np.datetime64) else str(timestamp)
