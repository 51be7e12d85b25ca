"""One row of a table as it arrives, for the jobs that read rows: its values checked and in the form of the encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.tables.row_encoding import RowEncoding, category_text
from lstmkit.data.tables.row_sequences import wall_clock_seconds
from lstmkit.data.tables.timestamps import dates_of_numbers
from lstmkit.errors import DataError, one_line


class RowTime(NamedTuple):
    """The time of a row; NaN and ``None`` without one.

    Attributes:
        seconds: Seconds since 1970, or the number that was given.
        clock: Seconds since 1970 by the clock on the wall; NaN if the time is not a date.
        shown: The time as answers have it.
    """

    seconds: float
    clock: float
    shown: Any


def read_time(row: Mapping[str, Any], column: str, encoding: RowEncoding) -> RowTime:
    """The time of a row.

    Raises:
        DataError: It is not a time, or is missing although the model reads times.
    """
    value = row.get(column) if column else None
    if value is None:
        if encoding.elapsed is not None or encoding.periods:
            raise DataError(f"the row has no {column!r}: the model reads times")
        return RowTime(np.nan, np.nan, None)
    problem = DataError(f"column {column!r}: {one_line(repr(value))} is not a time: give a date, or a number")
    if isinstance(value, (int, float)):
        dates: Any = dates_of_numbers(np.array([value]))[0]
        if dates is None and not encoding.periods and np.isfinite(value):
            return RowTime(float(value), np.nan, value)
    else:
        try:
            dates = pd.DatetimeIndex([value])
        except (ValueError, TypeError, OverflowError) as err:
            raise problem from err
    if dates is None or dates.isna().any():
        raise problem
    clock = wall_clock_seconds(dates)
    assert clock is not None
    return RowTime(dates.as_unit("ns").asi8[0] / 1e9, float(clock[0]), str(dates[0]))


def read_values(row: Mapping[str, Any], encoding: RowEncoding) -> tuple[np.ndarray, np.ndarray]:
    """Numbers ``(N,)`` and categories ``(C,)`` of a row, for :meth:`RowEncoding.encode`.

    Raises:
        DataError: A column is missing, or a number is text or infinite.

    >>> names, none = (["amount"], ["shop"]), np.array([[None]], dtype=object)
    >>> encoding = RowEncoding.fitted(names, np.array([[1.0]]), none)
    >>> read_values({"amount": "2.5", "shop": 3}, encoding)
    (array([2.5]), array(['3'], dtype=object))
    """
    numbers = np.array([_number(row, name) for name in encoding.number_names], dtype=np.float64)
    categories = np.empty(len(encoding.category_names), dtype=object)
    categories[:] = [category_text(_value(row, name)) for name in encoding.category_names]
    return numbers, categories


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise DataError(f"the row has no {name!r}: give all columns, and None where a value is missing")
    return row[name]


def _number(row: Mapping[str, Any], name: str) -> float:
    text = _value(row, name)
    if category_text(text) is None:
        return np.nan
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = np.inf
    if not np.isfinite(number):
        raise DataError(f"column {name!r}: {one_line(repr(text))} is not a finite number: give None if it is missing")
    return number
