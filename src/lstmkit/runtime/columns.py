"""Columns of values that were given, without a library for tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from lstmkit.data.statistics import is_missing
from lstmkit.data.tables.missing_text import MISSING
from lstmkit.errors import DataError, listing, one_line

_DATE = re.compile(r"(\d{4}-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?)(Z|[+-]\d\d(?::?\d\d)?)?")
_EARLIEST, _LATEST = np.datetime64("1678-01-01", "D"), np.datetime64("2262-01-01", "D")


class Columns:
    """Columns of the same length by name.

    Args:
        data: A mapping of names to lists or arrays.
        name: Name of the data in messages.

    Raises:
        DataError: They are something else, or have different lengths, or no rows.
    """

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, Mapping):
            raise DataError(f"{name} is {type(data).__name__}: give a mapping of column names to lists")
        self.name = name
        self._columns = {str(key): values for key, values in data.items()}
        for key, values in self._columns.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
                raise DataError(f"{name}: column {key!r} is {type(values).__name__}: give a list of values")
        lengths = {key: len(values) for key, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"{name} has columns of different lengths ({listing(f'{k}: {n}' for k, n in lengths.items())})"
            )
        self.rows = next(iter(lengths.values()), 0)
        if not self.rows:
            raise DataError(f"{name} has no rows")

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def __contains__(self, key: str) -> bool:
        return key in self._columns

    def values(self, key: str) -> Any:
        """The values of a column as they were given.

        Raises:
            DataError: There is no such column.
        """
        if key not in self._columns:
            raise DataError(f"no column {key!r} in {self.name} (columns: {listing(self._columns)})")
        return self._columns[key]

    def error(self, key: str, row: int, problem: str) -> DataError:
        """An error about a cell: ``problem`` comes after its value."""
        return DataError(
            f"{self.name}: column {key!r}, row {row + 1}: {one_line(repr(self.values(key)[row]))} {problem}"
        )

    def numbers(self, key: str) -> np.ndarray:
        """A column of numbers ``(N,)`` float64; ``None`` and NaN become NaN.

        Raises:
            DataError: A value is not a number, or is infinite.
        """
        values = self.values(key)
        if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
            numbers = values.astype(np.float64)
        else:
            numbers = np.full(self.rows, np.nan)
            for row, value in enumerate(values):
                if value is not None and not isinstance(value, (int, float, np.number, np.bool_)):
                    raise self.error(key, row, "is not a number: give numbers, and None where a value is missing")
                numbers[row] = np.nan if value is None else value
        infinite = np.isinf(numbers)
        if infinite.any():
            raise self.error(key, int(infinite.argmax()), "is infinite: give None where a value is missing")
        return numbers

    def categories(self, key: str) -> np.ndarray:
        """A column of texts as objects ``(N,)``, ``None`` where missing; of numbers as :meth:`numbers`."""
        values = list(self.values(key))
        if not any(isinstance(value, str) and value not in MISSING for value in values):
            values = [None if isinstance(value, str) else value for value in values]
            return Columns({key: values}, self.name).numbers(key)
        missing = is_missing(_objects(values)) | np.array([isinstance(v, str) and v in MISSING for v in values])
        return _objects([None if gone else str(value) for value, gone in zip(values, missing, strict=True)])

    def ids(self, key: str) -> list[str]:
        """A column of ids as texts; 1, 1.0 and "1" are the same id.

        Raises:
            DataError: A row has no id.
        """
        ids = []
        for row, value in enumerate(self.values(key)):
            if value is None or value == "" or value != value:
                raise self.error(key, row, "is not a valid series id: every row needs one")
            ids.append(
                str(int(value)) if isinstance(value, (float, np.floating)) and value == int(value) else str(value)
            )
        return ids

    def whole_numbers(self, key: str) -> np.ndarray:
        """A column of whole numbers ``(N,)`` int64.

        Raises:
            DataError: A value is not a whole number.
        """
        values = self.values(key)
        for row, value in enumerate(values):
            if not isinstance(value, (int, float, np.integer, np.floating)) or value % 1 or isinstance(value, bool):
                raise self.error(key, row, "is not a whole number, as the timestamps of the training data are")
        return np.array([int(value) for value in values], dtype=np.int64)

    def dates(self, key: str) -> tuple[np.ndarray, str]:
        """A column of dates ``(N,)`` datetime64[ns] in local time, and their UTC offset; empty if they have none.

        Dates are ISO 8601 texts, datetime64, or dates of Python. Those with several offsets are converted to UTC.

        Raises:
            DataError: A value is no date, or only some dates have a UTC offset.
        """
        values = self.values(key)
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            values = np.datetime_as_string(values)
        found, zones = np.empty(self.rows, dtype="datetime64[ns]"), []
        for row, value in enumerate(values):
            text = value.isoformat() if isinstance(value, date) else str(value) if _is_date_or_text(value) else ""
            match = _DATE.fullmatch(text.strip())
            try:
                parsed = np.datetime64(match[1].replace(" ", "T")) if match else None
            except ValueError:  # a month of 31 days
                parsed = None
            if match is None or parsed is None or not _EARLIEST <= parsed < _LATEST:
                raise self.error(key, row, "is not a date from the years 1678 to 2261: write timestamps as 2024-01-31")
            found[row] = parsed
            zones.append(match[2] or "")
        for row, zone in enumerate(zones):
            if bool(zone) != bool(zones[0]):
                raise self.error(key, row, "has a UTC offset and others have none: give all of them an offset, or none")
        if len(set(zones)) > 1:
            return found - np.array([offset_minutes(zone) for zone in zones], dtype="timedelta64[m]"), "+00:00"
        minutes = offset_minutes(zones[0])
        offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        return found, offset if zones[0] else ""


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _is_date_or_text(value: Any) -> bool:
    return isinstance(value, (str, np.datetime64))


def offset_minutes(zone: str) -> int:
    """The minutes of a UTC offset: ``+02:00``, ``+0200``, ``+02`` or ``Z``."""
    digits = zone.strip("Z+-").replace(":", "").ljust(4, "0")
    return (-1 if zone.startswith("-") else 1) * (int(digits[:2]) * 60 + int(digits[2:]))


def date_texts(dates: np.ndarray, offset: str) -> list[str]:
    """Dates ``(N,)`` datetime64[ns] as pandas writes a column of them.

    >>> date_texts(np.array(["2024-01-31", "2024-02-01"], dtype="datetime64[ns]"), "")
    ['2024-01-31', '2024-02-01']
    """
    ticks = dates.astype(np.int64)
    if offset:
        return [date_text(day, offset) for day in dates]
    if not (ticks % (86_400 * 10**9)).any():
        return np.datetime_as_string(dates, unit="D").tolist()
    unit: Any = next(
        unit for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)) if not (ticks % size).any()
    )
    return [text.replace("T", " ") for text in np.datetime_as_string(dates, unit=unit).tolist()]


def date_text(date: np.datetime64, offset: str = "") -> str:
    """One date as pandas writes it, with the time of day.

    >>> date_text(np.datetime64("2024-01-31", "ns"), "+02:00")
    '2024-01-31 00:00:00+02:00'
    """
    ticks = int(date.astype(np.int64))
    unit: Any = next(unit for unit, size in (("s", 10**9), ("us", 10**3), ("ns", 1)) if not ticks % size)
    return str(np.datetime_as_string(date, unit=unit)).replace("T", " ") + offset
