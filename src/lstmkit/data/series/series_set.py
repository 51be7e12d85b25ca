"""Time series: from a file or a frame to many regular series, each on one grid.

The story in order: a table is opened (``table``), its columns get their roles and their cells are read (``columns``),
rows are put in order (``rows``), the frequency is found and every row gets its place on the grid (``grid``). Missing
values are never filled in here: NaN passes on as "missing".
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from lstmkit.data.series.frequency import check_freq, infer_freq, places
from lstmkit.data.series.long_format import Rows, in_order, join, read_rows
from lstmkit.data.tables.parsing import resolve_roles
from lstmkit.data.tables.table import SeriesColumns, open_table
from lstmkit.errors import DataError, format_timestamp, listing


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """Many regular series. Index i runs over series; series i has T_i observed steps and E_i >= 0 further steps for
    which only future-known covariates are given. The first and the last observed ``y`` of a series are not missing.

    Attributes:
        ids: One name a series.
        freq: Pandas offset alias (``"h"``, ``"D"``, ``"MS"``, ``"W-SUN"``), or the step of whole-number stamps.
        starts: The stamp of step 0 of each series.
        y: ``(T_i,)`` float64 each; NaN is missing.
        covariates: By name, one array a series: ``(T_i,)`` where known for the past only, ``(T_i + E_i,)`` where known
            ahead; float64 with NaN, or object (str, ``None`` is missing) where categorical.
        static: By name, one value a series; ``None`` is missing.
        notes: What reading did, in plain words.
        future: Names of the covariates known ahead.

    >>> series = read_series([3.0, 4.0, None, 6.0])
    >>> len(series), series.lengths, series.freq
    (1, array([4]), 1)
    >>> series.notes
    ("series 'series': 1 of 4 steps missing, marked as missing: the model is told so, they are never targets",)
    """

    ids: tuple[str, ...]
    freq: str | int
    starts: tuple[pd.Timestamp | int, ...]
    y: tuple[np.ndarray, ...]
    covariates: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    static: dict[str, tuple[float | str | None, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    future: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """``(N,)`` int64: T_i, the observed steps of each series."""
        return np.array([len(y) for y in self.y], dtype=np.int64)

    def timestamps(self, i: int, start: int, stop: int) -> pd.DatetimeIndex | pd.Index:
        """The stamps of steps ``start .. stop - 1`` of series ``i``; ``stop`` may run past the end.

        >>> read_series(pd.Series([1.0, 2.0], index=pd.to_datetime(["2020-01", "2020-02"]))).timestamps(0, 1, 3)
        DatetimeIndex(['2020-02-01', '2020-03-01'], dtype='datetime64[ns]', freq='MS')
        """
        first, freq = self.starts[i], self.freq
        if isinstance(freq, int):
            return pd.RangeIndex(int(cast(int, first)) + start * freq, int(cast(int, first)) + stop * freq, freq)
        return pd.date_range(cast(pd.Timestamp, first), periods=stop, freq=freq)[start:]

    def index(self, uid: str) -> int:
        """The place of the series of that name.

        Raises:
            DataError: There is none.
        """
        if uid not in self.ids:
            raise DataError(f"no series {uid!r} in the data; there are {listing(self.ids)}")
        return self.ids.index(uid)

    def until(self, ends: Sequence[int] | np.ndarray) -> SeriesSet:
        """Series ``i`` cut to its first ``ends[i]`` observed steps; covariates known ahead keep their full reach.

        Raises:
            ValueError: Not one end a series, or an end outside ``1 .. T_i``.
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
        """Long form: ``unique_id``, ``ds``, ``y``, covariates, static; the observed steps only."""
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
    """Read many series in long form (one row a step), or one plain series.

    Args:
        data: A file (csv, tsv, txt, each also .gz; parquet), a frame, or one series of values. One column is one
            plain series with the stamps 0, 1, 2, …
        id_col: The column that tells the series apart; without one, all rows are one series.
        time_col: Stamps: whole numbers or dates. ``None`` or ``""``: the rows of a series are its steps, in order.
        target_col: The values to forecast.
        freq: Pandas offset alias or whole-number step; found from the stamps of all series where not given.
        past: Covariates known up to the present. A covariate is categorical where it is not numeric.
        future: Covariates known ahead. Rows after the last target give them past the end of the series.
        static: Columns with one value a series.
        ahead: A second table with ``future`` past the end of the series: the same id and time columns; a target in
            it is not looked at.

    Raises:
        DataError: The data cannot be read as regular series; the message says what, where, and what to do.

    >>> frame = pd.DataFrame({"unique_id": "a", "ds": ["2020-01-01", "2020-01-02", "2020-01-04"], "y": [1, 2, 4]})
    >>> read_series(frame).y[0]
    array([ 1.,  2., nan,  4.])
    """
    past, future, static = ((names,) if isinstance(names, str) else tuple(names) for names in (past, future, static))
    roles = SeriesColumns(id_col, time_col or None, target_col, past, future, static)
    table = open_table(data, roles)
    roles = resolve_roles(table, roles)
    rows = read_rows(table, roles)
    if ahead is not None:
        if not future or roles.time is None:
            raise DataError("looking ahead needs covariates known ahead (--future) and a column of stamps (--time-col)")
        known = replace(roles, target=None, past=(), static=())
        rows = join(rows, read_rows(open_table(ahead, known), known), roles)
    rows = in_order(rows)
    step = infer_freq(rows, plain=roles.time is None) if freq is None else check_freq(freq, rows.dated)
    place = places(rows, step, "found in the data" if freq is None else "given")
    return _to_series(rows, place, step, roles)


def check_future_covariates(series: SeriesSet, names: Sequence[str], horizon: int) -> None:
    """Check that future-known covariates are given for the next ``horizon`` steps of every series.

    Raises:
        DataError: One is not, or has missing values there; the message names the missing span.

    >>> frame = pd.DataFrame({"ds": [0, 1, 2, 3], "y": [5, 6, 7, None], "price": [1, 1, 1, 2]})
    >>> check_future_covariates(read_series(frame, future=["price"]), ["price"], horizon=1)
    """
    for name in names:
        if name not in series.future:
            known = ", ".join(series.future) or "none"
            raise DataError(
                f"{name!r} is not a future covariate of the data (they are: {known}): name it with --future"
            )
        for i, values in enumerate(series.covariates[name]):
            end = len(series.y[i])
            given = values[end : end + horizon]
            missing = np.ones(horizon, dtype=bool)
            missing[: len(given)] = pd.isna(given)
            if missing.any():
                steps = np.flatnonzero(missing)
                span = series.timestamps(i, end + int(steps[0]), end + int(steps[-1]) + 1)
                raise DataError(
                    f"future covariate {name!r} of series {series.ids[i]!r} is missing from {format_timestamp(span[0])} to "
                    f"{format_timestamp(span[-1])} ({len(steps)} of {horizon} steps of the horizon): "
                    "give it in the data or with --ahead FILE"
                )


def _to_series(rows: Rows, place: np.ndarray, freq: str | int, roles: SeriesColumns) -> SeriesSet:
    """Rows on the grid as series: gaps become missing, missing ends are cut off."""
    edges = np.searchsorted(rows.code, np.arange(len(rows.ids) + 1))
    total = int((place[edges[1:] - 1] + 1).sum())
    if total > max(10**7, 100 * len(place)):
        raise DataError(f"frequency {freq!r} makes {total} steps of {len(place)} rows: give a longer one with --freq")
    starts, targets, missing, led, trailed, reach = [], [], [], 0, 0, 0
    covariates: dict[str, list[np.ndarray]] = {name: [] for name in rows.covariates}
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        at = place[low:high]
        y = _to_grid(rows.y[low:high], at)
        seen = np.flatnonzero(~np.isnan(y))
        if not seen.size:
            raise DataError(f"series {rows.ids[i]!r} has no target: {roles.target!r} is missing in all its rows")
        begin, end = int(seen[0]), int(seen[-1]) + 1
        grids = {name: _to_grid(values[low:high], at) for name, values in rows.covariates.items()}
        known = [np.flatnonzero(~pd.isna(grids[name][end:])) for name in roles.future]
        ahead = max((int(k[-1]) + 1 for k in known if k.size), default=0)
        for name, grid in grids.items():
            covariates[name].append(grid[begin : end + (ahead if name in roles.future else 0)])
        targets.append(y[begin:end])
        missing.append(int(np.isnan(y[begin:end]).sum()))
        starts.append(rows.timestamps[low + int(np.searchsorted(at, begin))])
        led, trailed, reach = led + int((at < begin).sum()), trailed + int((at >= end + ahead).sum()), max(reach, ahead)
    notes = [f"rows before the first target of their series, left out: {led}"] if led else []
    notes += [f"rows after the last target of their series, left out: {trailed}"] if trailed else []
    notes += [f"covariates known ahead reach up to {reach} steps past the last target"] if reach else []
    return SeriesSet(
        ids=tuple(rows.ids),
        freq=freq,
        starts=tuple(starts if rows.dated else map(int, starts)),
        y=tuple(targets),
        covariates={name: tuple(arrays) for name, arrays in covariates.items()},
        static=rows.static,
        notes=(*rows.notes, *notes, *_missing_note(rows.ids, missing, [len(y) for y in targets])),
        future=roles.future,
    )


def _to_grid(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``(at[-1] + 1,)`` with ``values`` at the places ``at`` and missing elsewhere."""
    grid = np.full(int(at[-1]) + 1, None if values.dtype == object else np.nan, dtype=values.dtype)
    grid[at] = values
    return grid


def _missing_note(ids: list[str], missing: list[int], lengths: list[int]) -> list[str]:
    """One line on all missing steps, none where there are none."""
    found = [i for i, count in enumerate(missing) if count]
    if not found:
        return []
    most = max(found, key=lambda i: missing[i])
    one = f"series {ids[most]!r}: {missing[most]} of {lengths[most]} steps missing"
    many = (
        f"{len(found)} of {len(ids)} series have missing steps, {sum(missing)} of {sum(lengths)} in all (most in {one})"
    )
    return [f"{one if len(found) == 1 else many}, marked as missing: the model is told so, they are never targets"]
