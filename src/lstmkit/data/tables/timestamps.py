"""Read a column of timestamps: dates as text or numbers, Unix times, ISO weeks, or whole numbers.

The century, the order of day and month, and the time zone are never guessed. An error names the first row that is not
written like most others, and shows one that is.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from lstmkit.data.tables.table import Table
from lstmkit.data.tables.unix_times import UNIX_UNITS, unix_unit

#: Dates that pandas parses without guessing: year first, with the name of a month, or month-year.
_UNAMBIGUOUS_DATE = r"(?i)\s*\d{4}|.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|\s*\d{1,2}[-/]\d{4}\s*$"
_DAY_AND_MONTH = r"\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{4}"  # in either order
_ISO_WEEK = r"\s*(\d{4})-?W(\d{1,2})(?:-?(\d))?\s*"
_NUMBER = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*"
_DATE_RANGE = "from the years 1678 to 2261"

_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

Reject = Callable[[Any, str], None]  #: Raises DataError for the first unique value where a mask is True.


def read_timestamps(table: Table, column: str, *, whole_numbers: bool = False) -> Any:
    """Timestamps ``(N,)`` as a pandas index: int64, or datetime64[ns] with their time zone if they have one.

    Whole numbers are read as dates if all are Unix times (seconds, milliseconds, microseconds or nanoseconds since
    1970), or dates such as 20200131, 202001 or 202005 (the month, or the week if one is above 12); a note says so.

    Args:
        table: The table.
        column: Its column of timestamps.
        whole_numbers: Whether whole numbers stay numbers.

    Raises:
        DataError: A cell is missing, not a whole number and not a date, or ambiguous.
    """
    table.raise_if_any(column, table.missing(column), "is not a timestamp: every row needs one")
    codes, unique = pd.factorize(table.column(column))
    unique: Any = pd.Index(unique, dtype=unique.dtype)

    def reject(invalid: Any, problem: str) -> None:
        table.raise_if_any(column, np.asarray(invalid, dtype=bool)[codes], problem)

    kind = pd.api.types.infer_dtype(unique)
    if kind == "string":
        numbers = unique.str.fullmatch(_NUMBER)
        if numbers.mean() > 0.5:
            problem = "is not a whole number, but most timestamps of the column are"
            reject(~numbers, f"{problem}: {_like(unique, numbers)}")
            kind, unique = "floating", _to_numbers(unique)
    if kind in ("integer", "floating", "mixed-integer-float"):
        values = unique.to_numpy(dtype=np.int64 if unique.dtype.kind in "iu" else np.float64)
        timestamps = _numeric_timestamps(values, whole_numbers, table, reject)
    elif kind == "string":
        timestamps = _date_timestamps(unique, table, reject)
    elif kind in ("datetime64", "datetime", "date"):
        zones = [str(getattr(value, "tzinfo", None)) for value in unique]
        has_zone = np.array(zones) != "None"
        if has_zone.mean() >= 0.5:
            reject(~has_zone, "has no time zone, but other timestamps have one: give all one, or none")
        reject(
            has_zone & (has_zone.mean() < 0.5), "has a time zone, but most timestamps have none: give all one, or none"
        )
        timestamps = _to_dates(unique, _has_mixed_time_zones(zones, table))
        reject(timestamps.isna(), f"is not a date {_DATE_RANGE}: correct it")
    elif kind == "period":
        timestamps = pd.PeriodIndex(unique).to_timestamp()
    else:
        timestamps = unique
        reject(np.ones(len(unique)), "is neither a whole number nor a date")
    return timestamps.take(codes)


def dates_of_numbers(numbers: np.ndarray) -> tuple[Any, str]:
    """Dates of numbers ``(N,)``: Unix times, 20200131, 202001 or weeks as 202005; and how they were read.

    Returns:
        A DatetimeIndex and for instance ``"seconds since 1970"``; ``None`` and ``""`` if they are no dates.

    >>> dates_of_numbers(np.array([202052, 202053, 202101]))
    (DatetimeIndex(['2020-12-21', '2020-12-28', '2021-01-04'], dtype='datetime64[ns]', freq=None), 'weeks of a year')
    """
    unit = unix_unit(numbers)
    if unit is not None:
        factor = 10**9 // UNIX_UNITS[unit]
        if numbers.dtype.kind == "f" and (numbers != np.floor(numbers)).any():
            ticks = np.round(numbers * (factor / 1000)).astype(np.int64) * 1000  # to the microsecond
        else:
            ticks = numbers.astype(np.int64) * factor
        return pd.DatetimeIndex(ticks), f"{_UNIT_NAMES[unit]} since 1970"
    if not len(numbers) or not (np.abs(numbers) < 2**53).all() or (numbers != np.floor(numbers)).any():
        return None, ""
    integers = pd.Index(numbers.astype(np.int64))
    for low, high, form in ((19000101, 21001231, "%Y%m%d"), (190001, 210012, "%Y%m")):
        if low <= numbers.min() and numbers.max() <= high:
            dates: Any = pd.to_datetime(integers.astype(str), format=form, errors="coerce")
            if not dates.isna().any():
                return dates.as_unit("ns"), "dates" if form == "%Y%m%d" else "months"
    if numbers.min() >= 190001 and numbers.max() <= 210053:
        weeks = _iso_weeks(integers.to_numpy() // 100, integers.to_numpy() % 100, np.ones(len(integers), np.int64))
        if not weeks.isna().any():
            return weeks, "weeks of a year"
    return None, ""


def _to_numbers(texts: Any) -> Any:
    """Texts as int64, exact to the last digit, or as float64 if one has a decimal point or is too large."""
    with contextlib.suppress(ValueError, OverflowError):
        return texts.astype(np.int64)
    return texts.astype(np.float64)


def _numeric_timestamps(numbers: np.ndarray, whole_numbers: bool, table: Table, reject: Reject) -> Any:
    """Whole-number timestamps, or the dates that they stand for, with a note."""
    dates, form = dates_of_numbers(numbers)
    if dates is not None and not (whole_numbers and form.endswith("1970")):
        table.notes.append(f"timestamps such as {numbers[0]:.17g} read as {form} ({_text(dates[0])})")
        return dates
    if numbers.dtype.kind == "f":
        reject((numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53), "is neither a whole number nor a date")
    return pd.Index(numbers.astype(np.int64))


def _text(date: pd.Timestamp) -> str:
    return str(date.date() if date == date.normalize() else date)


def _iso_weeks(years: np.ndarray, weeks: np.ndarray, days: np.ndarray) -> Any:
    """Dates of ISO weeks ``(N,)`` int64, day 1 is Monday; NaT where a year has no such week."""

    def first_monday(year: np.ndarray) -> np.ndarray:
        january_4 = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64) + 3
        return january_4 - (january_4 + 3) % 7  # day 0 of 1970 was a Thursday

    start = first_monday(years)
    dates = start + 7 * (weeks - 1) + days - 1
    is_valid = (weeks >= 1) & (days >= 1) & (days <= 7) & (start + 7 * (weeks - 1) < first_monday(years + 1))
    return pd.DatetimeIndex(pd.DatetimeIndex(dates.astype("datetime64[D]").astype("datetime64[ns]")).where(is_valid))


# ---- dates as text ---------------------------------------------------------------------------------------------------


def _like(texts: Any, good: Any, default: str = "2024-01-31") -> str:
    """Advice that shows the first good one of the column's own timestamps."""
    good = np.asarray(good, dtype=bool)
    if good.any():
        return f"write it like the other timestamps, such as {texts[int(good.argmax())].strip()!r}"
    return f"write timestamps as {default}"


def _date_timestamps(texts: Any, table: Table, reject: Reject) -> Any:
    """Dates from text."""
    has_year = np.asarray(texts.str.contains(r"\d{4}"), dtype=bool)
    forms = {
        "week": np.asarray(texts.str.fullmatch(_ISO_WEEK), dtype=bool),
        "slashed": np.asarray(texts.str.match(_DAY_AND_MONTH), dtype=bool),
    }
    forms["plain"] = np.asarray(texts.str.match(_UNAMBIGUOUS_DATE), dtype=bool) & has_year
    forms["plain"] &= ~(forms["week"] | forms["slashed"])
    is_date = np.logical_or.reduce(list(forms.values()))
    # Most timestamps have the usual form; of several equally frequent ones, that of the first timestamp.
    usual = max(forms, key=lambda form: (forms[form].sum(), forms[form][is_date][:1].any()))
    reject(~has_year, f"is not a date with a four-digit year: {_like(texts, forms[usual])}")
    reject(is_date & ~forms[usual], f"has another format than the other timestamps: {_like(texts, forms[usual])}")
    reject(~is_date, f"is not a date: {_like(texts, forms[usual])}")
    zones = texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)\s*$", expand=False)
    has_zone = np.asarray(zones.notna(), dtype=bool)
    if has_zone.mean() >= 0.5:
        problem = "has no UTC offset, but other timestamps have one: give all of them an offset, or none"
        reject(~has_zone, f"{problem}; {_like(texts, has_zone)}")
    else:
        reject(has_zone, f"has a UTC offset, but most timestamps have none: {_like(texts, ~has_zone)}")
    utc = _has_mixed_time_zones(zones.dropna(), table)
    if usual == "slashed":
        return _day_or_month_first(texts, utc, table, reject)
    if usual == "week":
        parts = texts.str.extract(_ISO_WEEK).fillna("1").astype(np.int64).to_numpy()
        dates = _iso_weeks(*parts.T)
        reject(dates.isna(), f"is not a week of its year: {_like(texts, ~dates.isna())}")
        return dates
    dates = _to_dates(texts, utc)
    reject(dates.isna(), f"is not a date {_DATE_RANGE}: {_like(texts, ~dates.isna())}")
    return dates


def _has_mixed_time_zones(zones: Sequence[str], table: Table) -> bool:
    """Whether the timestamps have several time zones; they are then read as UTC, with a note."""
    if len(set(zones)) < 2:
        return False
    table.notes.append("timestamps with several UTC offsets, read as UTC")
    return True


def _day_or_month_first(texts: Any, utc: bool, table: Table, reject: Reject) -> Any:
    """Dates like 31/01/2020, read in the only order in which all are valid. 31.01.2020 is always day first."""
    orders = {"day first": r"\3-\2-\1", "month first": r"\3-\1-\2"}
    if texts.str.match(r"\s*\d+\.\d+\.").all():
        del orders["month first"]
    day_month_year = r"^\s*(\d+)[/.-](\d+)[/.-](\d{4})"
    parsed = {
        order: _to_dates(texts.str.replace(day_month_year, form, regex=True), utc) for order, form in orders.items()
    }
    order = min(parsed, key=lambda order: int(parsed[order].isna().sum()))
    dates = parsed[order]
    problem = f"is not a date, read {order} as the other timestamps: {_like(texts, ~dates.isna())}"
    reject(dates.isna(), problem if not dates.isna().all() else f"is not a date: {_like(texts, ~dates.isna())}")
    for other in (parsed[name] for name in parsed if name != order):
        if not other.isna().any() and (dates != other).any():
            row = int((dates != other).argmax())
            meanings = f"{_text(dates[row])} or {_text(other[row])}"
            reject(dates != other, f"is ambiguous (day first or month first): write it as {meanings}")
    table.notes.append(f"timestamps such as {texts[0]!r} read {order}")
    return dates


def _to_dates(values: Any, utc: bool = False) -> Any:
    """Parse dates with pandas; NaT where a value is not a date."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pandas warns when it guesses a format; count that as a failure
        for form in ("ISO8601", "mixed"):
            with contextlib.suppress(ValueError, TypeError, OverflowError, FutureWarning):
                return cast(Any, pd.to_datetime(values, utc=utc, format=form)).as_unit("ns")
        warnings.simplefilter("ignore")
        dates: Any = pd.to_datetime(values.astype(object), format="mixed", errors="coerce", utc=True)
        return dates.where(
            (dates > pd.Timestamp.min.tz_localize("UTC")) & (dates < pd.Timestamp.max.tz_localize("UTC"))
        )
