"""Parse the columns of a table: column roles, numbers and categories. Ambiguous cells raise an error."""

from __future__ import annotations

import collections
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.tables.missing_text import MISSING
from lstmkit.data.tables.table import SeriesColumns, Table
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.errors import DataError, listing

#: Numbers: with a comma; with a comma that may separate thousands; with a decimal point; of any form.
_HUGE_EXPONENT = re.compile(r"[eE][+-]?\d{6,}\s*$")  # pandas ends the process on one of more than 32 bits
_COMMA_NUMBER = r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*"
_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*"
_DECIMAL_POINT = r"\s*[+-]?(?:\d*\.(?:\d{1,2}|\d{4,})|0?\.\d+|\d{4,}\.\d+)(?:[eE][+-]?\d+)?\s*"
_NUMBER = r"\s*[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?\s*"


def resolve_roles(table: Table, roles: SeriesColumns) -> SeriesColumns:
    """Check the column roles against a table and resolve the defaults.

    Raises:
        DataError: A column is missing or has two roles. If possible, the message names the options to give.
    """
    columns = list(table.frame.columns)
    if len(columns) == 1:  # a single series without ids or timestamps
        roles = replace(roles, id="unique_id", time=None, target=columns[0])
    if roles.id == "unique_id" and roles.id not in columns:
        roles = replace(roles, id=None)
    covariates = (*roles.past, *roles.future, *roles.static)
    absent = [name for name in (roles.time, roles.target) if name and name not in columns]
    if absent:
        raise DataError(
            f"no column {absent[0]!r} in {table.name} (columns: {listing(columns)}){_suggest_options(table, roles)}"
        )
    used = [name for name in (roles.id, roles.time, roles.target, *covariates) if name]
    for name in used:
        table.column(name)
        if used.count(name) > 1:
            raise DataError(
                f"column {name!r} has two roles: give it one role (id, time, target, past, future or static)"
            )
    for name in {"unique_id", "ds", "y"} & {*covariates}:
        raise DataError(f"a covariate cannot be named {name!r}: rename the column")
    return roles


def _suggest_options(table: Table, roles: SeriesColumns) -> str:
    """Suggest ``time_col`` and ``target_col`` from the types of the first 100 rows."""
    dated, numeric = dated_and_numeric_columns(table, (roles.id, roles.time))
    options = []
    if roles.time not in (None, *table.frame.columns):
        time_option = "time_col=NAME (or time_col='' if the rows are the time steps, in order)"
        options.append(f"time_col={dated[0]!r}" if dated else time_option)
    if roles.target not in table.frame and numeric:
        target_option = f"target_col={numeric[0]!r}"
        options.append(target_option if len(numeric) == 1 else f"target_col=NAME (one of {listing(numeric)})")
    return f": give {', '.join(options)}" if options else ""


def dated_and_numeric_columns(table: Table, others: Collection[str | None] = ()) -> tuple[list[str], list[str]]:
    """Names of the columns of dates and of those of numbers, besides ``others``, for a suggestion in a message.

    The first 100 rows of the first 50 columns decide.

    >>> frame = pd.DataFrame({"day": ["2024-01-01", "2024-01-02"], "price": ["1", "2.5"], "note": ["a", "b"]})
    >>> dated_and_numeric_columns(Table(frame, "the frame"))
    (['day'], ['price'])
    """
    sample = replace(table, frame=table.frame.head(100), notes=[])
    unique_columns = [c for c, n in collections.Counter(sample.frame.columns).items() if n == 1][:50]
    columns = [c for c in unique_columns if c not in others]
    dated = [c for c in columns if _is_dated(sample, c)]
    return dated, [c for c in columns if c not in dated and _is_numeric(sample, c)]


def _is_dated(table: Table, column: str) -> bool:
    try:
        return isinstance(read_timestamps(table, column), pd.DatetimeIndex)
    except DataError:
        return False


def _is_numeric(table: Table, column: str) -> bool:
    try:
        return not parse_numbers(table, column)[1].any()
    except DataError:  # with a comma that may be a decimal comma
        return True


def parse_numbers(table: Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column ``(N,)`` float64, NaN where missing, and ``(N,)`` bool: True where a cell is not a number."""
    raw = table.column(column)
    if pd.api.types.is_numeric_dtype(raw.dtype) and raw.dtype.kind != "c":
        return raw.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(raw), dtype=bool)
    missing = table.missing(column)
    if raw.dtype != object:  # dates, complex numbers and the like
        return np.full(len(raw), np.nan), ~missing
    text = raw.mask(missing, None)
    if not missing.all() and has_decimal_comma(table, column):
        plain = text.str.fullmatch(r"\s*[+-]?(?:\d+(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?\s*", na=False)
        text = text.where(plain, None).str.replace(",", ".", regex=False)
    text = text.mask(text.map(_has_huge_exponent).astype(bool), None)
    values: Any = pd.to_numeric(text, errors="coerce")
    if values.dtype.kind == "c":
        return np.full(len(raw), np.nan), ~missing
    values = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    good = ~np.isnan(values)
    values[good] = text[good].astype(np.float64)  # exact to the last bit; to_numeric is not
    return values, ~good & ~missing


def _has_huge_exponent(cell: Any) -> bool:
    return isinstance(cell, str) and len(cell) > 7 and _HUGE_EXPONENT.search(cell) is not None


def has_decimal_comma(table: Table, column: str) -> bool:
    """Whether the numbers of a column are written as 3,14.

    All columns of a file follow one rule, decided when the first number is read. Only a column that has decimal points
    and no commas is an exception.

    Raises:
        DataError: The numbers look like 1,234, and no column shows whether the comma is a decimal or a thousands
            separator.
    """
    if table.separator == "," or table.column(column).dtype != object:
        return False
    if table.decimal_comma is None:
        indices = [i for i, dtype in enumerate(table.frame.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
        table.decimal_comma = any(_shows_decimal_comma(table.frame.iloc[:, i].astype(object)) for i in indices)
    cells = table.column(column)
    commas = _cells_with_comma(cells)
    if table.decimal_comma:
        note = f"{table.name}: numbers read with a decimal comma"
        if commas.any() and note not in table.notes:
            table.notes.append(note)
        return bool(commas.any()) or not _matches(cells, _DECIMAL_POINT).any()
    problem = "may have a decimal comma or a comma for thousands: write numbers with a decimal point"
    table.raise_if_any(column, commas, problem)
    return False


def _shows_decimal_comma(cells: Any) -> bool:
    """Whether a column has numbers with a comma that does not separate thousands."""
    commas = _cells_with_comma(cells)
    return bool(commas.any()) and not _matches(cells[commas], _THOUSANDS).all()


def _cells_with_comma(cells: Any) -> np.ndarray:
    """``(N,)`` bool: numbers with a comma. A column is text if most of its cells are not numbers."""
    commas = _matches(cells, _COMMA_NUMBER)
    if commas.any() and 2 * _matches(cells, _NUMBER).sum() < (~cells.isna() & ~cells.isin(MISSING)).sum():
        commas[:] = False
    return commas


def _matches(cells: Any, pattern: str) -> np.ndarray:
    """``(N,)`` bool: True where a cell is text that matches a pattern."""
    return cells.str.fullmatch(pattern, na=False).to_numpy(dtype=bool)


def read_numbers(table: Table, column: str) -> np.ndarray:
    """Values of a numeric column, ``(N,)`` float64, NaN where missing.

    Raises:
        DataError: A cell is not a number, or is infinite.
    """
    values, bad = parse_numbers(table, column)
    with_comma = bool(bad.any()) and has_decimal_comma(table, column)
    form = "decimal comma and no points" if with_comma else "decimal point and no commas"
    table.raise_if_any(column, bad, f"is not a number: write numbers with a {form}, leave missing values empty")
    table.raise_if_any(column, np.isinf(values), "is infinite: leave the cell empty if the value is missing")
    return values


def read_ids(table: Table, column: str | None, what: str = "id") -> tuple[np.ndarray, list[str]]:
    """Index of each row's id ``(N,)`` int64, and the ids in order of appearance.

    Ids are text: ``NA`` is an id, and 1 and "1" are the same id.

    Args:
        table: The table.
        column: The id column; ``None`` if all rows have the same id.
        what: Name of the id in messages.

    Raises:
        DataError: A row has no id.
    """
    if column is None:
        return np.zeros(len(table.frame), dtype=np.int64), [table.series_name]
    table.raise_if_any(column, table.empty(column), f"is not a valid {what}: every row needs one")
    codes, unique = pd.factorize(table.column(column))
    names = [str(int(u)) if isinstance(u, float) and u.is_integer() else str(u) for u in unique]
    merged, ids = pd.factorize(np.array(names, dtype=object))
    return merged[codes].astype(np.int64), list(ids)


def group_rows(table: Table, column: str) -> tuple[list[str], list[np.ndarray]]:
    """Group rows by an id column: the ids in order of appearance, and the row numbers of each in table order.

    Raises:
        DataError: A row has no id.
    """
    codes, ids = read_ids(table, column)
    ends = np.cumsum(np.bincount(codes))
    return ids, np.split(np.argsort(codes, kind="stable"), ends[:-1])


def read_covariate(table: Table, column: str) -> np.ndarray:
    """Values of a covariate ``(N,)``: float64 if numeric, object (str or None) if categorical.

    Text ``true`` and ``false`` become 1 and 0.

    Raises:
        DataError: Most cells are numbers, but not all.
    """
    bad, missing = parse_numbers(table, column)[1], table.missing(column)
    if 2 * bad.sum() < (~missing).sum() or not bad.any():  # a few bad cells: numbers with typos, not categories
        return read_numbers(table, column)
    text = table.column(column).map(str).astype(object)
    words = text.str.casefold()
    if words[~missing].isin(["true", "false"]).all():
        return np.where(missing, np.nan, (words == "true").to_numpy(dtype=np.float64))
    return text.mask(missing, None).to_numpy(dtype=object)
