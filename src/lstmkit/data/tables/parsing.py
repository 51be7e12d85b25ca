"""The columns of a table: which is what, and their cells as stamps, numbers or categories. Nothing is made up."""

from __future__ import annotations

import collections
import contextlib
import re
import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from lstmkit.data.tables.table import SeriesColumns, Table
from lstmkit.errors import DataError, listing

#: Dates that pandas reads without making up a part of them: the year first, a month's name, or month-year.
_UNAMBIGUOUS_DATE = r"(?i)\s*\d{4}|.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|\s*\d{1,2}[-/]\d{4}\s*$"
_DATE_HINT = "write stamps as 1949-01 or 1949-01-31"
_RANGE = "(of the years 1678 to 2261)"


def resolve_roles(table: Table, roles: SeriesColumns) -> SeriesColumns:
    """The roles as this table has them.

    Raises:
        DataError: A column is missing (with the options to give, where they can be guessed) or has two roles.
    """
    columns = list(table.frame.columns)
    if len(columns) == 1:  # one plain series
        roles = replace(roles, id="unique_id", time=None, target=columns[0])
    if roles.id == "unique_id" and roles.id not in columns:
        roles = replace(roles, id=None)
    covariates = (*roles.past, *roles.future, *roles.static)
    absent = [name for name in (roles.time, roles.target) if name and name not in columns]
    if absent:
        raise DataError(f"no column {absent[0]!r} in {table.name} (columns: {listing(columns)}){_guess(table, roles)}")
    used = [name for name in (roles.id, roles.time, roles.target, *covariates) if name]
    for name in used:
        table.column(name)
        if used.count(name) > 1:
            raise DataError(
                f"column {name!r} is given two roles: give it one (id, time, target, past, future or static)"
            )
    for name in {"unique_id", "ds", "y"} & {*covariates}:
        raise DataError(f"a covariate cannot be called {name!r}: give the column another name")
    return roles


def _guess(table: Table, roles: SeriesColumns) -> str:
    """The options that name the columns of stamps and target, as far as the first rows show them."""
    top = replace(table, frame=table.frame.head(100), notes=[])
    once = [c for c, n in collections.Counter(top.frame.columns).items() if n == 1][:50]
    columns = [c for c in once if c not in (roles.id, roles.time)]
    dated = [c for c in columns if _is_dated(top, c)]
    numeric = [c for c in columns if c not in dated and not parse_numbers(top, c)[1].any()]
    options = []
    if roles.time not in (None, *table.frame.columns):
        none = '--time-col NAME (or --time-col "" where the rows are the steps, in order)'
        options.append(f"--time-col {shlex.quote(dated[0])}" if dated else none)
    if roles.target not in table.frame and numeric:
        one = f"--target-col {shlex.quote(numeric[0])}"
        options.append(one if len(numeric) == 1 else f"--target-col NAME (one of {listing(numeric)})")
    return f": give {' '.join(options)}" if options else ""


def _is_dated(table: Table, column: str) -> bool:
    try:
        return isinstance(read_timestamps(table, column), pd.DatetimeIndex)
    except DataError:
        return False


def read_timestamps(table: Table, column: str) -> Any:
    """``(N,)`` stamps, a pandas index: int64, or datetime64[ns] with the time zone they carry."""
    table.refuse(column, table.missing(column), "is not a stamp: every row needs one")
    codes, unique = pd.factorize(table.column(column))
    unique: Any = pd.Index(unique, dtype=unique.dtype)

    def refuse(wrong: Any, what: str) -> None:
        table.refuse(column, np.asarray(wrong, dtype=bool)[codes], what)

    kind = pd.api.types.infer_dtype(unique)
    if kind == "string":
        numbers = unique.str.fullmatch(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*")
        if numbers.mean() > 0.5:
            refuse(~numbers, "is neither a whole number nor a date, as the others are numbers")
            kind, unique = "floating", unique.astype(np.float64)
    if kind in ("integer", "floating", "mixed-integer-float"):
        timestamps = _integer_timestamps(unique.to_numpy(dtype=np.float64), table, refuse)
    elif kind == "string":
        timestamps = _date_timestamps(unique, table, refuse)
    elif kind in ("datetime64", "datetime", "date"):
        zones = [str(getattr(value, "tzinfo", None)) for value in unique]
        refuse([(zone == "None") != (zones[0] == "None") for zone in zones], "differs in having a time zone or none")
        timestamps = _to_dates(unique, _several(zones, table))
        refuse(timestamps.isna(), f"is not a date {_RANGE}")
    elif kind == "period":
        timestamps = pd.PeriodIndex(unique).to_timestamp()
    else:
        timestamps = unique
        refuse(np.ones(len(unique)), "is neither a whole number nor a date")
    return timestamps.take(codes)


def _integer_timestamps(numbers: np.ndarray, table: Table, refuse: Callable[[Any, str], None]) -> Any:
    """Whole-number stamps; those written as 20200131 or 202001 are dates."""
    refuse((numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53), "is neither a whole number nor a date")
    whole = pd.Index(numbers.astype(np.int64))
    for low, high, form in ((19000101, 21001231, "%Y%m%d"), (190001, 210012, "%Y%m")):
        if low <= numbers.min() and numbers.max() <= high:
            dates: Any = pd.to_datetime(whole.astype(str), format=form, errors="coerce")
            if not dates.isna().any():
                table.notes.append(f"stamps such as {whole[0]} read as dates ({dates[0].date()})")
                return dates
    return whole


def _date_timestamps(texts: Any, table: Table, refuse: Callable[[Any, str], None]) -> Any:
    """Dates from text, of which nothing is made up: no century, no order of day and month, no time zone."""
    refuse(~texts.str.contains(r"\d{4}"), f"is not a date with a four-digit year: {_DATE_HINT}")
    zones = texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)\s*$", expand=False)
    if zones.notna().any():
        refuse(zones.isna(), "has no UTC offset where other stamps have one")
    utc = _several(zones.dropna(), table)
    slashed = texts.str.match(r"\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{4}")
    if slashed.any():
        refuse(~slashed, f"is written otherwise than the other stamps: {_DATE_HINT}")
        return _day_or_month_first(texts, utc, table, refuse)
    refuse(~texts.str.match(_UNAMBIGUOUS_DATE), f"is not a date: {_DATE_HINT}")
    dates = _to_dates(texts, utc)
    refuse(dates.isna(), f"is not a date {_RANGE}: {_DATE_HINT}")
    return dates


def _several(zones: Sequence[str], table: Table) -> bool:
    """Whether there are several time zones, so that stamps are read as UTC."""
    if len(set(zones)) < 2:
        return False
    table.notes.append("stamps with several UTC offsets, read as UTC")
    return True


def _day_or_month_first(texts: Any, utc: bool, table: Table, refuse: Callable[[Any, str], None]) -> Any:
    """Dates like 31/01/2020: in the one order in which all of them are dates. 31.01.2020 is always day first."""
    orders = {"day first": r"\3-\2-\1", "month first": r"\3-\1-\2"}
    if texts.str.match(r"\s*\d+\.\d+\.").all():
        del orders["month first"]
    parts = r"^\s*(\d+)[/.-](\d+)[/.-](\d{4})"
    read = {order: _to_dates(texts.str.replace(parts, form, regex=True), utc) for order, form in orders.items()}
    able = {order: dates for order, dates in read.items() if not dates.isna().any()}
    if not able:
        refuse(np.logical_or.reduce([dates.isna() for dates in read.values()]), f"is not a date: {_DATE_HINT}")
    order, dates = able.popitem()
    for other in able.values():
        refuse(dates != other, f"may be day first or month first, nothing tells which: {_DATE_HINT}")
    table.notes.append(f"stamps such as {texts[0]!r} read {order}")
    return dates


def _to_dates(values: Any, utc: bool = False) -> Any:
    """Dates by pandas, NaT where it finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that pandas has to guess is no warning but a failure
        for form in ("ISO8601", "mixed"):
            with contextlib.suppress(ValueError, TypeError, OverflowError, FutureWarning):
                return cast(Any, pd.to_datetime(values, utc=utc, format=form)).as_unit("ns")
        warnings.simplefilter("ignore")
        dates: Any = pd.to_datetime(values.astype(object), format="mixed", errors="coerce", utc=True)
        return dates.where(
            (dates > pd.Timestamp.min.tz_localize("UTC")) & (dates < pd.Timestamp.max.tz_localize("UTC"))
        )


def parse_numbers(table: Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` float64 values of a column, NaN where missing, and ``(N,)`` bool where they are no numbers."""
    raw, missing = table.column(column), table.missing(column)
    if pd.api.types.is_numeric_dtype(raw.dtype) and raw.dtype.kind != "c":
        return raw.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(raw), dtype=bool)
    if raw.dtype != object:  # dates, complex numbers and the like
        return np.full(len(raw), np.nan), ~missing
    text = raw.mask(missing, None)
    if table.comma and not missing.all():
        plain = text.str.fullmatch(r"\s*[+-]?(?:\d+(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?\s*", na=False)
        text = text.where(plain, None).str.replace(",", ".", regex=False)
    values: Any = pd.to_numeric(text, errors="coerce")
    if values.dtype.kind == "c":
        return np.full(len(raw), np.nan), ~missing
    values = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    good = ~np.isnan(values)
    values[good] = text[good].astype(np.float64)  # to the last bit, which to_numeric is not
    return values, ~good & ~missing


def has_decimal_commas(table: Table, columns: Sequence[str]) -> bool:
    """Whether numbers are written as 3,14; decided once for a file, so that no column is read by another rule.

    Raises:
        DataError: The numbers are all like 1,234, which may be a thousand or one and a bit.
    """
    number = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
    thousands = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
    commas = {name: table.column(name).str.fullmatch(number).to_numpy(dtype=bool) for name in columns}
    found = [name for name in columns if commas[name].any()]
    if not found:
        return False
    if all(table.column(name)[commas[name]].str.fullmatch(thousands).all() for name in found):
        what = "may have a decimal comma or a comma for thousands: write numbers with a decimal point"
        table.refuse(found[0], commas[found[0]], what)
    table.notes.append(f"{table.name}: numbers read with a decimal comma")
    return True


def read_numbers(table: Table, column: str) -> np.ndarray:
    """``(N,)`` float64, NaN where missing.

    Raises:
        DataError: Something is no number, or infinite.
    """
    values, bad = parse_numbers(table, column)
    form = "decimal comma and no points" if table.comma else "decimal point and no commas"
    table.refuse(column, bad, f"is not a number (write numbers with a {form}, leave missing ones empty)")
    table.refuse(column, np.isinf(values), "is infinite: leave the cell empty where the value is missing")
    return values


def rows_of(table: Table, column: str) -> tuple[list[str], list[np.ndarray]]:
    """The different cells of a column that names sequences, as they come first, and the rows of each in their order.

    Raises:
        DataError: A row says of no sequence which it is.
    """
    table.refuse(column, table.missing(column), "says of no sequence which it is: fill it in")
    codes, names = pd.factorize(table.column(column))
    ends = np.cumsum(np.bincount(codes))
    return [str(name) for name in names], np.split(np.argsort(codes, kind="stable"), ends[:-1])


def read_covariate(table: Table, column: str) -> np.ndarray:
    """``(N,)`` values of a covariate: float64 where numeric, object (str or None) where categorical."""
    bad, missing = parse_numbers(table, column)[1], table.missing(column)
    if 2 * bad.sum() < (~missing).sum() or not bad.any():  # if any are bad: numbers with slips, not categories
        return read_numbers(table, column)
    text = table.column(column).map(str).astype(object)
    words = text.str.casefold()
    if words[~missing].isin(["true", "false"]).all():
        return np.where(missing, np.nan, (words == "true").to_numpy(dtype=np.float64))
    return text.mask(missing, None).to_numpy(dtype=object)
