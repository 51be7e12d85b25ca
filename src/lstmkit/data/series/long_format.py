"""All rows of all series, side by side and in order of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.tables.parsing import has_decimal_commas, read_covariate, read_numbers, read_timestamps
from lstmkit.data.tables.table import SeriesColumns, Table
from lstmkit.errors import DataError, format_timestamp


@dataclass
class Rows:
    """All rows of all series: ``code`` (N,) says whose, ``stamps`` (N,) when, ``y`` (N,) and ``covariates`` what."""

    ids: list[str]
    code: np.ndarray
    timestamps: Any
    y: np.ndarray
    covariates: dict[str, np.ndarray]
    static: dict[str, tuple[float | str | None, ...]]
    notes: list[str]

    @property
    def dated(self) -> bool:
        return isinstance(self.timestamps, pd.DatetimeIndex)

    @property
    def ticks(self) -> np.ndarray:
        """``(N,)`` int64: whole numbers, or nanoseconds of UTC."""
        return self.timestamps.asi8 if self.dated else self.timestamps.to_numpy(dtype=np.int64)

    @property
    def wall_clock(self) -> Any:
        """Stamps as the clock on the wall shows them, without a time zone."""
        return self.timestamps.tz_localize(None) if self.dated else self.timestamps

    def pairs(self) -> np.ndarray:
        """``(N - 1,)`` bool: rows k and k + 1 are of the same series."""
        return self.code[1:] == self.code[:-1]

    def shared(self, keep: Any) -> np.ndarray:
        """``(N,)`` bool: rows of the same series and stamp as another, but for the one to ``keep``."""
        return pd.DataFrame({"code": self.code, "tick": self.ticks}).duplicated(keep=keep).to_numpy()

    def take(self, rows: np.ndarray) -> Rows:
        covariates = {name: values[rows] for name, values in self.covariates.items()}
        return replace(
            self, code=self.code[rows], timestamps=self.timestamps[rows], y=self.y[rows], covariates=covariates
        )


def read_rows(table: Table, roles: SeriesColumns) -> Rows:
    """The rows of a table as they stand.

    Raises:
        DataError: A cell cannot be read, or two rows of a series have the same stamp.
    """
    code, ids = read_ids(table, roles.id, "series id")
    names = (*roles.past, *roles.future, *roles.static)
    table.comma = table.comma and has_decimal_commas(table, (*([roles.target] if roles.target else []), *names))
    timestamps = (
        read_timestamps(table, roles.time) if roles.time else pd.Index(pd.Series(code).groupby(code).cumcount())
    )
    y = read_numbers(table, roles.target) if roles.target else np.full(len(code), np.nan)
    values = {name: read_covariate(table, name) for name in names}
    static = {name: _static_values(name, values.pop(name), code, ids) for name in roles.static}
    rows = Rows(ids, code, timestamps, y, values, static, table.notes)
    shared = rows.shared(keep=False)
    if shared.any():
        k = int(shared.argmax())
        count = int(((code == code[k]) & (rows.ticks == rows.ticks[k])).sum())
        other = "" if roles.id else ", or name the column that tells series apart with --id-col"
        raise DataError(
            f"{table.name}: series {ids[code[k]]!r} has {count} rows with the stamp {format_timestamp(timestamps[k])} "
            f"({int(shared.sum())} rows in all share their stamp with another): keep one row a stamp{other}"
        )
    return rows


def read_ids(table: Table, column: str | None, what: str) -> tuple[np.ndarray, list[str]]:
    """``(N,)`` int64: the number of each row's id; and the ids, in the order they appear. 1 and "1" are one id."""
    if column is None:
        return np.zeros(len(table.frame), dtype=np.int64), [table.plain]
    raw = table.column(column)
    table.refuse(column, (raw.isna() | (raw == "")).to_numpy(dtype=bool), f"is no {what}: every row needs one")
    code, unique = pd.factorize(raw)
    names = [str(int(u)) if isinstance(u, float) and u.is_integer() else str(u) for u in unique]
    merged, ids = pd.factorize(np.array(names, dtype=object))
    return merged[code].astype(np.int64), list(ids)


def _static_values(name: str, values: np.ndarray, code: np.ndarray, ids: list[str]) -> tuple[float | str | None, ...]:
    """The one value of each series, ``None`` where it has none.

    Raises:
        DataError: A series has two.
    """
    pairs = pd.DataFrame({"code": code, "value": values}).dropna().drop_duplicates()
    twice = pairs["code"].duplicated().to_numpy()
    if twice.any():
        owner = int(pairs["code"].to_numpy()[twice][0])
        first, second, *_ = pairs["value"][pairs["code"] == owner]
        raise DataError(
            f"static column {name!r} changes within series {ids[owner]!r} (from {first!r} to {second!r}): "
            "it must be constant; a column that changes is given with --past or --future"
        )
    found = dict(zip(pairs["code"], pairs["value"], strict=True))
    return tuple(found.get(i) for i in range(len(ids)))


def join(rows: Rows, more: Rows, roles: SeriesColumns) -> Rows:
    """``rows`` and, past the last target of each series, the rows of ``more``, which only look ahead."""
    if more.timestamps.dtype != rows.timestamps.dtype:
        kinds = f"{more.timestamps.dtype}, those of the data {rows.timestamps.dtype}"
        raise DataError(f"the stamps of the table given ahead are {kinds}: use one kind and one time zone")
    of = pd.Index(rows.ids).get_indexer(pd.Index(more.ids)) if roles.id else np.zeros(1, dtype=np.int64)
    if (of < 0).any():
        unknown = more.ids[int((of < 0).argmax())]
        raise DataError(f"series {unknown!r} of the table given ahead is not in the data: take its rows out")
    more = replace(more, code=of[more.code])
    last = np.full(len(rows.ids), np.iinfo(np.int64).min)
    seen = ~np.isnan(rows.y)
    np.maximum.at(last, rows.code[seen], rows.ticks[seen])
    late = more.ticks > last[more.code]
    if not late.all():
        count = int((~late).sum())
        more.notes.append(f"rows given ahead that are not past the last target of their series, left out: {count}")
    more = more.take(np.flatnonzero(late))
    covariates: dict[str, np.ndarray] = {}
    for name, values in rows.covariates.items():
        added = more.covariates.get(name, np.full(len(more.code), np.nan))
        kinds = {part.dtype == object for part in (values, added) if not pd.isna(part).all()}
        if len(kinds) > 1:
            raise DataError(f"covariate {name!r} is text in one table and numbers in the other: use one kind")
        kind = object if kinds == {True} else np.float64
        covariates[name] = np.concatenate([values.astype(kind), added.astype(kind)])
        if kind is object:
            covariates[name][pd.isna(covariates[name])] = None
    joined = replace(
        rows,
        code=np.concatenate([rows.code, more.code]),
        timestamps=rows.timestamps.append(more.timestamps),
        y=np.concatenate([rows.y, more.y]),
        covariates=covariates,
        notes=rows.notes + more.notes,
    )
    return joined.take(np.flatnonzero(~joined.shared(keep="last")))  # a row of the data gives way to the one ahead


def in_order(rows: Rows) -> Rows:
    """Rows by series, then by stamp."""
    grouped = rows.take(np.argsort(rows.code, kind="stable"))
    if not (grouped.pairs() & (np.diff(grouped.ticks) < 0)).any():
        return grouped
    rows.notes.append("rows sorted by stamp within each series")
    return rows.take(np.lexsort((rows.ticks, rows.code)))
