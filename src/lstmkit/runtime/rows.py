"""Tables of rows by entity, from columns: what :mod:`lstmkit.data.tables.row_sequences` reads from a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmkit.errors import DataError
from lstmkit.runtime.columns import Columns, date_text, offset_minutes

_MAX_VALUE = 1e150


class EntityRows(NamedTuple):
    """Rows by entity, each in the order of time.

    Attributes:
        names: ``E`` ids.
        starts: ``(E + 1,)`` first row of each entity, and ``R``.
        numbers: ``(R, N)`` float64, NaN where missing.
        categories: ``(R, C)`` texts, ``None`` where missing.
        seconds: ``(R,)`` times; ``None`` without them.
        clock: ``(R,)`` seconds since 1970 by the clock on the wall; ``None`` if times are not dates.
        times: ``R`` times as answers have them: texts of dates, or numbers; ``None`` without them.
        rows: ``(R,)`` position of each row in the data.
        has_ids: Whether the data have a column of ids.
    """

    names: list[str]
    starts: np.ndarray
    numbers: np.ndarray
    categories: np.ndarray
    seconds: np.ndarray | None
    clock: np.ndarray | None
    times: list[Any] | None
    rows: np.ndarray
    has_ids: bool


def read_rows(
    data: Any,
    number_names: Sequence[str],
    category_names: Sequence[str],
    *,
    id_col: str,
    time_col: str,
    has_dates: bool | None,
) -> EntityRows:
    """Read rows.

    Args:
        data: A mapping of column names to lists.
        number_names: Columns of numbers.
        category_names: Columns of categories.
        id_col: Column of ids; without it all rows are one entity.
        time_col: Column of times; without it rows are in order.
        has_dates: Whether times are dates; ``None`` if none are read.

    Raises:
        DataError: A column is missing, or a value is of another kind.
    """
    columns = Columns(data, "the frame")
    numbers = np.stack([_numbers(columns, name) for name in number_names], axis=1) if number_names else None
    categories = [_categories(columns, name) for name in category_names]
    ids = columns.ids(id_col) if id_col in columns else ["the frame"] * columns.rows
    names = list(dict.fromkeys(ids))
    index = {name: code for code, name in enumerate(names)}
    codes = np.array([index[name] for name in ids])
    seconds, clock, times = _times(columns, time_col, has_dates)
    order = np.argsort(codes, kind="stable") if seconds is None else np.lexsort((seconds, codes))
    return EntityRows(
        names,
        np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))]),
        np.empty((columns.rows, 0)) if numbers is None else numbers[order],
        np.stack(categories, axis=1)[order] if categories else np.empty((columns.rows, 0), dtype=object),
        None if seconds is None else seconds[order],
        None if clock is None else clock[order],
        None if times is None else [times[row] for row in order],
        order,
        id_col in columns,
    )


def _numbers(columns: Columns, name: str) -> np.ndarray:
    numbers = columns.numbers(name)
    large = np.abs(numbers) > _MAX_VALUE
    if large.any():
        raise columns.error(name, int(large.argmax()), f"is above {_MAX_VALUE:g}: give None if it is missing")
    return numbers


def _categories(columns: Columns, name: str) -> np.ndarray:
    """Texts ``(N,)``, ``None`` where missing; 1 and 1.0 are the text ``1``."""
    values = columns.categories(name)
    if values.dtype == object:
        return values
    texts = np.empty(len(values), dtype=object)
    texts[:] = [None if v != v else str(int(v)) if v == int(v) else str(v) for v in values.tolist()]
    return texts


def _times(
    columns: Columns, name: str, has_dates: bool | None
) -> tuple[np.ndarray | None, np.ndarray | None, list[Any] | None]:
    """Times in seconds, by the clock on the wall, and as answers have them."""
    if name not in columns or has_dates is None:
        return None, None, None
    if has_dates:
        dates, offset = columns.dates(name)
        clock = dates.astype(np.int64) / 1e9
        return clock - 60 * offset_minutes(offset or "Z"), clock, [date_text(date, offset) for date in dates]
    numbers = columns.numbers(name)
    if np.isnan(numbers).any():
        raise columns.error(name, int(np.isnan(numbers).argmax()), "is not a time: every row needs one")
    whole = bool((numbers == np.floor(numbers)).all())
    return numbers, None, numbers.astype(np.int64).tolist() if whole else numbers.tolist()


def require_times(rows: EntityRows, time_col: str) -> None:
    """Raise DataError if the rows have no times."""
    if rows.seconds is None:
        raise DataError(f"the frame has no column of times, which the model reads: give {time_col!r}")
