"""Read time series from a file, a frame or an array into a set of regular series.

The steps: open the table (``tables.table``), resolve column roles and parse cells (``tables.parsing``), sort the rows
(``long_format``), infer the frequency and place every row on the grid (``frequency``). Missing values stay NaN.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from lstmkit.data.series.frequency import check_freq, grid_positions, infer_freq
from lstmkit.data.series.long_format import SeriesRows, append_future_rows, read_rows, sort_rows
from lstmkit.data.series.placement import check_number_of_steps, place_rows
from lstmkit.data.tables.parsing import resolve_roles
from lstmkit.data.tables.table import SeriesColumns, open_table
from lstmkit.errors import DataError, format_timestamp, listing


class ColumnNames(NamedTuple):
    """What the data call series id, timestamp and value; the defaults if they have no such column."""

    id: str = "unique_id"
    time: str = "ds"
    target: str = "y"

    def label(self, role: str, plain: str) -> str:
        """The name of a column for an axis; ``plain`` for a default name, which says nothing.

        >>> ColumnNames(target="sold").label("target", "value"), ColumnNames().label("target", "value")
        ('sold', 'value')
        """
        name = getattr(self, role)
        return plain if name in DEFAULT_NAMES else name


DEFAULT_NAMES = ColumnNames()


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """A set of regular time series.

    Series i has T_i observed steps, and E_i >= 0 further steps with future covariates only. Its first and last ``y``
    are not missing.

    Attributes:
        ids: Id of each series.
        freq: Pandas offset alias (``"h"``, ``"D"``, ``"MS"``, ``"W-SUN"``), or the step of whole-number timestamps.
        starts: Timestamp of step 0 of each series.
        y: ``(T_i,)`` float64 each; NaN is missing.
        covariates: By name, one array per series: ``(T_i,)`` for past covariates, ``(T_i + E_i,)`` for future
            covariates; float64 with NaN, or object (str, ``None`` is missing) if categorical.
        static: By name, one value per series; ``None`` is missing.
        notes: What was done to read the data.
        future: Names of the covariates known in advance.
        names: What the data call id, timestamp and value. Frames inside the package have the default names.

    >>> series = read_series([3.0, 4.0, None, 6.0])
    >>> len(series), series.lengths, series.freq
    (1, array([4]), 1)
    >>> series.notes
    ("series 'series': 1 of 4 steps missing; the model receives a mask, missing values are never targets",)
    """

    ids: tuple[str, ...]
    freq: str | int
    starts: tuple[pd.Timestamp | int, ...]
    y: tuple[np.ndarray, ...]
    covariates: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    static: dict[str, tuple[float | str | None, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    names: ColumnNames = DEFAULT_NAMES

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Observed steps of each series, ``(N,)`` int64."""
        return np.array([len(y) for y in self.y], dtype=np.int64)

    def timestamps(self, i: int, start: int, stop: int) -> pd.DatetimeIndex | pd.Index:
        """Timestamps of steps ``start .. stop - 1`` of series ``i``; ``stop`` may lie after the end.

        >>> read_series(pd.Series([1.0, 2.0], index=pd.to_datetime(["2020-01", "2020-02"]))).timestamps(0, 1, 3)
        DatetimeIndex(['2020-02-01', '2020-03-01'], dtype='datetime64[ns]', freq='MS')
        """
        first, freq = self.starts[i], self.freq
        if isinstance(freq, int):
            return pd.RangeIndex(int(cast(int, first)) + start * freq, int(cast(int, first)) + stop * freq, freq)
        return pd.date_range(cast(pd.Timestamp, first), periods=stop, freq=freq)[start:]

    def wall_clock(self, i: int, start: int, stop: int) -> np.ndarray:
        """:meth:`timestamps` in local time, without a time zone: datetime64[ns]. Only for dates."""
        return cast(pd.DatetimeIndex, self.timestamps(i, start, stop)).tz_localize(None).to_numpy("datetime64[ns]")

    def time_text(self, i: int, step: int) -> str:
        """The timestamp of a step of series ``i``, for messages."""
        return format_timestamp(self.timestamps(i, step, step + 1)[0])

    def index(self, uid: str) -> int:
        """Index of the series with id ``uid``.

        Raises:
            DataError: No series has that id.
        """
        if uid not in self.ids:
            raise DataError(f"no series {uid!r} in the data (series: {listing(self.ids)})")
        return self.ids.index(uid)

    def until(self, ends: Sequence[int] | np.ndarray) -> SeriesSet:
        """Truncate series ``i`` to its first ``ends[i]`` observed steps. Future covariates keep their full length.

        Raises:
            ValueError: The number of ends is not the number of series, or an end is outside ``1 .. T_i``.
        """
        if len(ends) != len(self) or any(not 1 <= end <= len(y) for end, y in zip(ends, self.y, strict=True)):
            raise ValueError(f"ends must be {len(self)} numbers between 1 and the length of the series, got {ends}")
        covariates = {
            name: columns if name in self.future else tuple(c[:end] for c, end in zip(columns, ends, strict=True))
            for name, columns in self.covariates.items()
        }
        y = tuple(y[:end] for y, end in zip(self.y, ends, strict=True))
        return replace(self, y=y, covariates=covariates)

    def to_frame(self) -> pd.DataFrame:
        """Long format of the observed steps: columns ``unique_id``, ``ds``, ``y``, covariates, static covariates."""
        lengths = self.lengths
        timestamps = [self.timestamps(i, 0, n) for i, n in enumerate(lengths)]
        columns: dict[str, Any] = {"unique_id": np.repeat(np.array(self.ids, dtype=object), lengths)}
        columns["ds"] = timestamps[0].append(timestamps[1:])
        columns["y"] = np.concatenate(self.y)
        for name, values in self.covariates.items():
            columns[name] = np.concatenate([v[:n] for v, n in zip(values, lengths, strict=True)])
        for name, constants in self.static.items():
            columns[name] = pd.Series(constants).repeat(lengths.tolist()).to_numpy()
        return pd.DataFrame(columns)


def join_series(sets: Sequence[SeriesSet]) -> SeriesSet:
    """Several sets with the same frequency and covariates as one, in their order. Ids may occur twice.

    >>> joined = join_series([read_series([3.0, 4.0]), read_series([5.0])])
    >>> joined.ids, joined.lengths
    (('series', 'series'), array([2, 1]))
    """

    def joined(part: Callable[[SeriesSet], Iterable[Any]]) -> tuple[Any, ...]:
        return tuple(itertools.chain.from_iterable(map(part, sets)))

    first = sets[0]
    return replace(
        first,
        ids=joined(lambda each: each.ids),
        starts=joined(lambda each: each.starts),
        y=joined(lambda each: each.y),
        covariates={name: joined(lambda each, name=name: each.covariates[name]) for name in first.covariates},
        static={name: joined(lambda each, name=name: each.static[name]) for name in first.static},
        notes=joined(lambda each: each.notes),
    )


def read_series(
    data: str | os.PathLike[str] | pd.DataFrame | pd.Series | np.ndarray | Sequence[float | None],
    *,
    id_col: str = "unique_id",
    time_col: str | None = "ds",
    target_col: str = "y",
    freq: str | int | None = None,
    past: Sequence[str] = (),
    future: Sequence[str] = (),
    static: Sequence[str] = (),
    ahead: str | os.PathLike[str] | pd.DataFrame | None = None,
) -> SeriesSet:
    """Read series in long format (one row per step), or one series of values.

    Args:
        data: A file (.csv, .tsv, .txt or .jsonl, each also .gz; .parquet), a frame, or one series of values. A table of
            one column is one series with the timestamps 0, 1, 2, …
        id_col: Column of series ids. If it is missing, all rows are one series.
        time_col: Column of timestamps: dates or whole numbers. ``None`` or ``""``: the rows of a series are its steps.
        target_col: Column to forecast.
        freq: Pandas offset alias or whole-number step; by default inferred from the timestamps of all series.
        past: Covariates known up to the present. A column that is not numeric is categorical.
        future: Covariates known in advance. Rows after the last target give their future values.
        static: Columns with one value per series.
        ahead: Second table with the ``future`` covariates after the end of the series. It has the same id and time
            columns; a target column is ignored.

    Raises:
        DataError: The data cannot be read as regular series. The message names the column and row.

    >>> frame = pd.DataFrame({"unique_id": "a", "ds": ["2020-01-01", "2020-01-02", "2020-01-04"], "y": [1, 2, 4]})
    >>> read_series(frame).y[0]
    array([ 1.,  2., nan,  4.])
    """
    past, future, static = ((names,) if isinstance(names, str) else tuple(names) for names in (past, future, static))
    roles = SeriesColumns(id_col, time_col or None, target_col, past, future, static)
    table = open_table(data, roles)
    roles = resolve_roles(table, roles)
    if unused := roles.unused(table.frame):
        table.notes.append(
            f"columns not used: {listing(unused)} (to use one as a covariate, name it in past_covariates, "
            "future_covariates or static_covariates)"
        )
    # A whole-number frequency counts Unix times, too: they stay numbers then.
    whole_numbers = isinstance(freq, int) or (isinstance(freq, str) and freq.strip().isdecimal())
    rows = read_rows(table, roles, whole_numbers)
    if ahead is not None:
        if not future or roles.time is None:
            raise DataError(
                "a table of future covariates (future_data) needs covariates known in advance (future_covariates) "
                "and timestamps (time_col): give both"
            )
        future_roles = replace(roles, target=None, past=(), static=())
        rows = append_future_rows(rows, read_rows(open_table(ahead, future_roles), future_roles, whole_numbers), roles)
    rows = sort_rows(rows)
    step = infer_freq(rows, is_unindexed=roles.time is None) if freq is None else check_freq(freq, rows.has_dates)
    positions = grid_positions(rows, step, "inferred from the data" if freq is None else "given")
    return _to_series(rows, positions, step, roles)


def _to_series(rows: SeriesRows, positions: np.ndarray, freq: str | int, roles: SeriesColumns) -> SeriesSet:
    """Place rows on the grid. Gaps become missing values; leading and trailing missing targets are dropped."""
    edges = np.searchsorted(rows.series_index, np.arange(len(rows.series_ids) + 1))
    total = int((positions[edges[1:] - 1] + 1).sum())
    check_number_of_steps(freq, len(positions), total)
    starts, targets, missing, n_leading, n_trailing, max_ahead = [], [], [], 0, 0, 0
    covariates: dict[str, list[np.ndarray]] = {name: [] for name in rows.covariates}
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        steps = positions[low:high]
        rows_of_series = {name: values[low:high] for name, values in rows.covariates.items()}
        placed = place_rows(rows.y[low:high], rows_of_series, steps, roles.future)
        if placed is None:
            raise DataError(
                f"series {rows.series_ids[i]!r} has no target: {roles.target!r} is missing in all its rows: "
                "remove the series, or name another column with target_col=NAME"
            )
        for name, grid in placed.covariates.items():
            covariates[name].append(grid)
        targets.append(placed.y)
        missing.append(int(np.isnan(placed.y).sum()))
        starts.append(rows.timestamps[low + int(np.searchsorted(steps, placed.begin))])
        n_leading += int((steps < placed.begin).sum())
        n_trailing += int((steps >= placed.end + placed.ahead).sum())
        max_ahead = max(max_ahead, placed.ahead)
    notes = [f"rows before the first target of their series, dropped: {n_leading}"] if n_leading else []
    notes += [f"rows after the last target of their series, dropped: {n_trailing}"] if n_trailing else []
    notes += [f"future covariates extend up to {max_ahead} steps after the last target"] if max_ahead else []
    return SeriesSet(
        ids=tuple(rows.series_ids),
        freq=freq,
        starts=tuple(starts if rows.has_dates else map(int, starts)),
        y=tuple(targets),
        covariates={name: tuple(arrays) for name, arrays in covariates.items()},
        static=rows.static,
        notes=(*rows.notes, *notes, *_missing_note(rows.series_ids, missing, [len(y) for y in targets])),
        future=roles.future,
        names=_column_names(roles),
    )


def _column_names(roles: SeriesColumns) -> ColumnNames:
    given = {"id": roles.id, "time": roles.time, "target": roles.target}
    return ColumnNames(**{role: name for role, name in given.items() if name})


def _missing_note(ids: list[str], missing: list[int], lengths: list[int]) -> list[str]:
    """One note on missing steps, empty if none are missing."""
    affected = [i for i, count in enumerate(missing) if count]
    if not affected:
        return []
    worst = max(affected, key=lambda i: missing[i])
    example = f"series {ids[worst]!r}: {missing[worst]} of {lengths[worst]} steps missing"
    total = f"{sum(missing)} of {sum(lengths)} in total (most in {example})"
    summary = f"{len(affected)} of {len(ids)} series have missing steps, {total}"
    what = example if len(affected) == 1 else summary
    return [f"{what}; the model receives a mask, missing values are never targets"]
