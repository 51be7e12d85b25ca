"""Time series: from a file or a frame to many regular series, each on one grid.

The story in order: a table is opened, its columns get their roles, stamps and values are read, rows are put in order,
the frequency is found, and every row gets its place on the grid. Missing values are never filled in here: NaN passes
on as "missing".
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import gzip
import io
import itertools
import os
import re
import shlex
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lstmkit.errors import DataError

#: Text that stands for a missing value: the words pandas takes by default.
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
_MISSING |= {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
_DAY = 86_400 * 10**9  # nanoseconds
#: A cell that no header has: a number or a date.
_VALUE = re.compile(r"\s*([+-]?[\d.,]+(e[+-]?\d+)?|\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4}([ T][\d:.]+\S*)?)?)\s*", re.I)
#: Dates that pandas reads without making up a part of them: the year first, a month's name, or month-year.
_SAFE_DATE = r"(?i)\s*\d{4}|.*(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|\s*\d{1,2}[-/]\d{4}\s*$"
_WRITE = "write stamps as 1949-01 or 1949-01-31"
_RANGE = "(of the years 1678 to 2261)"


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

    def index(self, uid: str) -> int:
        """The number of the series called ``uid``.

        Raises:
            DataError: There is none.
        """
        if uid not in self.ids:
            raise DataError(f"no series {uid!r} in the data (it has: {_list(self.ids)})")
        return self.ids.index(uid)

    def stamps(self, i: int, start: int, stop: int) -> pd.DatetimeIndex | pd.Index:
        """The stamps of steps ``start .. stop - 1`` of series ``i``; ``stop`` may run past the end.

        >>> read_series(pd.Series([1.0, 2.0], index=pd.to_datetime(["2020-01", "2020-02"]))).stamps(0, 1, 3)
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
            raise DataError(f"no series {uid!r} in the data; there are {_list(self.ids)}")
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
        stamps = [self.stamps(i, 0, n) for i, n in enumerate(lengths)]
        columns: dict[str, Any] = {"unique_id": np.repeat(np.array(self.ids, dtype=object), lengths)}
        columns["ds"] = stamps[0].append(stamps[1:])
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
    roles = _Roles(id_col, time_col or None, target_col, past, future, static)
    table = _open(data, roles)
    roles = _settle(table, roles)
    rows = _read_rows(table, roles)
    if ahead is not None:
        if not future or roles.time is None:
            raise DataError("looking ahead needs covariates known ahead (--future) and a column of stamps (--time-col)")
        known = replace(roles, target=None, past=(), static=())
        rows = _join(rows, _read_rows(_open(ahead, known), known), roles)
    rows = _in_order(rows)
    step = _find_freq(rows, plain=roles.time is None) if freq is None else _check_freq(freq, rows.dated)
    place = _places(rows, step, "found in the data" if freq is None else "given")
    return _to_series(rows, place, step, roles)


def check_reach(series: SeriesSet, names: Sequence[str], horizon: int) -> None:
    """Check that future-known covariates are given for the next ``horizon`` steps of every series.

    Raises:
        DataError: One is not, or has missing values there; the message names the missing span.

    >>> frame = pd.DataFrame({"ds": [0, 1, 2, 3], "y": [5, 6, 7, None], "price": [1, 1, 1, 2]})
    >>> check_reach(read_series(frame, future=["price"]), ["price"], horizon=1)
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
                span = series.stamps(i, end + int(steps[0]), end + int(steps[-1]) + 1)
                raise DataError(
                    f"future covariate {name!r} of series {series.ids[i]!r} is missing from {_show(span[0])} to "
                    f"{_show(span[-1])} ({len(steps)} of {horizon} steps of the horizon): "
                    "give it in the data or with --ahead FILE"
                )


# ---- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Roles:
    """Which column is what. Without ``time``, rows are steps; without ``target``, the table only looks ahead."""

    id: str | None
    time: str | None
    target: str | None
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: tuple[str, ...]


@dataclass
class _Table:
    """A table as it was given: text in every column where it comes from a csv file."""

    frame: pd.DataFrame
    name: str  # what messages call it
    plain: str = "series"  # the id of its one series, where no column tells series apart
    comma: bool = False  # numbers may have a decimal comma
    header: bool = False
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> Any:
        """Column ``name``, ``(N,)``, text and categories as plain objects."""
        if name not in self.frame:
            raise DataError(f"no column {name!r} in {self.name} (columns: {_list(self.frame.columns)})")
        found = self.frame.loc[:, self.frame.columns == name]
        if found.shape[1] > 1:
            raise DataError(f"{self.name}: {found.shape[1]} columns are called {name!r}: give each a name of its own")
        column = found.iloc[:, 0]
        plain = isinstance(column.dtype, np.dtype | pd.DatetimeTZDtype | pd.PeriodDtype)
        return column if plain or pd.api.types.is_numeric_dtype(column.dtype) else column.astype(object)

    def missing(self, name: str) -> np.ndarray:
        """``(N,)`` bool: where column ``name`` has no value."""
        column = self.column(name)
        return (column.isna() | (column.isin(_MISSING) if column.dtype == object else False)).to_numpy(dtype=bool)

    def refuse(self, name: str, wrong: np.ndarray, what: str) -> None:
        """Raise DataError about the first row of column ``name`` that is ``wrong``, if one is."""
        if wrong.any():
            row = int(wrong.argmax())
            value = self.column(name).iloc[row]
            cell = repr(value if len(value) <= 60 else value[:57] + "…") if isinstance(value, str) else _line(value)
            below = " below the header" if self.header else ""
            raise DataError(f"{self.name}: column {name!r}, row {row + 1}{below}: {cell} {what}")


def _open(data: object, roles: _Roles) -> _Table:
    """The table that ``data`` is; an index that holds stamps or ids becomes a column."""
    values = roles.target or ""
    if isinstance(data, str | os.PathLike):
        table = _read_file(Path(data))
    elif isinstance(data, pd.DataFrame):
        table = _Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
    elif isinstance(data, pd.Series):
        name = "series" if data.name is None else str(data.name)
        table = _Table(data.to_frame(values), "the series", plain=name)
    elif isinstance(data, list | tuple | np.ndarray):
        try:
            array = np.asarray(data)
        except ValueError:  # ragged
            array = np.empty((0, 0))
        if array.ndim != 1:
            raise DataError("a list or array must be one plain series (T,): give many series as a frame")
        table = _Table(pd.DataFrame({values: array}), "the list")
    else:
        raise DataError(f"cannot read series from {type(data).__name__}: give a path, a frame, or one series of values")
    frame: Any = table.frame
    if frame.empty:
        raise DataError(f"{table.name} has no rows")
    if isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex) and roles.time and roles.time not in frame:
        frame = frame.set_axis([values], axis=1) if frame.shape[1] == 1 and values else frame
        table.frame = frame.assign(**{roles.time: frame.index})
    else:
        levels = [n for n in frame.index.names if n and n in (roles.id, roles.time) and n not in frame]
        table.frame = frame.reset_index(level=levels) if levels else frame
    return table


def _read_file(path: Path) -> _Table:
    zipped = path.suffix.lower() == ".gz"
    ending = (path.with_suffix("") if zipped else path).suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder: give one file")
    if ending not in (".csv", ".tsv", ".txt", ".parquet") or (zipped and ending == ".parquet"):
        raise DataError(f"{path}: files of this kind are not read: give .csv, .tsv, .txt (also with .gz) or .parquet")
    try:
        if ending == ".parquet":
            frame: Any = pyarrow.parquet.read_table(path).to_pandas()
            return _Table(frame.set_axis(frame.columns.map(str), axis=1), path.name)
        raw = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {_line(error)}") from error
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in raw and not wide:
        raise DataError(f"{path} is not a text file: give a csv file (from a spreadsheet: save as csv)")
    try:
        return _parse_csv(raw.decode("utf-16" if wide else "utf-8-sig"), path)
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(f"{path} is not a text file: {_line(error)}") from error
        table = _parse_csv(raw.decode("latin-1"), path)
        table.notes.append(f"{path.name}: not in UTF-8, read as Latin-1")
        return table


def _parse_csv(text: str, path: Path) -> _Table:
    """A table of text. Every row must have as many fields as the first."""
    if not text.strip():
        raise DataError(f"{path} is empty")
    blank = len(text) - len(text.lstrip("\r\n"))
    before, text = len(text[:blank].splitlines()), text.strip("\r\n")
    if text.count('"') % 2:
        raise DataError(f'{path}: a quotation mark (") is opened and never closed')
    try:
        separator, names = _layout(text)
    except (csv.Error, IndexError) as error:
        raise DataError(f"{path} cannot be read as csv: {_line(error)}") from error
    header = not all(_VALUE.fullmatch(name) for name in names)
    if header and len(text.splitlines()) == 1:
        raise DataError(f"{path} has no rows below its header")
    keys = [str(k + 1) for k in range(len(names))]
    ragged: list[Any] = []
    try:
        parsed = pyarrow.csv.read_csv(
            pa.BufferReader(text.encode()),
            # One thread: only then are the rows that do not fit numbered.
            pyarrow.csv.ReadOptions(use_threads=False, column_names=keys, skip_rows_after_names=int(header)),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                newlines_in_values='"' in text,
                ignore_empty_lines=len(keys) > 1,  # in a single column an empty line is a missing value
                invalid_row_handler=lambda row: ragged.append(row) or "error",
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        if not ragged:
            raise DataError(f"{path} cannot be read as csv: {_line(error)}") from error
        lines = [number for number, line in enumerate(text.splitlines(), 1 + before) if line or len(keys) == 1]
        bad = ragged[0]
        raise DataError(
            f"{path}: line {lines[bad.number - 1]} has {bad.actual_columns} fields where {bad.expected_columns} are "
            f"expected: {bad.text[:60]!r} (fields are separated by {separator!r})"
        ) from error
    table = _Table(cast(pd.DataFrame, parsed.to_pandas()), path.name, comma=separator != ",", header=header)
    if header:
        table.frame.columns = [name.strip() for name in names]
    else:
        table.notes.append(f"{path.name}: no header row, its columns are called {', '.join(keys)}")
    return table


def _layout(text: str) -> tuple[str, list[str]]:
    """The separator and the first row: the separator that splits the first lines into equally many fields."""
    head = text if len(text) < 200_000 else text[:200_000].rpartition("\n")[0]
    rows = {s: list(filter(None, csv.reader(io.StringIO(head, newline=None), delimiter=s))) for s in "\t;|,"}
    able = [s for s in rows if len(rows[s][0]) > 1]
    even = [s for s in able if len({len(row) for row in rows[s]}) == 1]
    separator = even[0] if even else max(able, key=lambda s: len(rows[s][0]), default=",")
    return separator, rows[separator][0]


def _settle(table: _Table, roles: _Roles) -> _Roles:
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
        raise DataError(f"no column {absent[0]!r} in {table.name} (columns: {_list(columns)}){_guess(table, roles)}")
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


def _guess(table: _Table, roles: _Roles) -> str:
    """The options that name the columns of stamps and target, as far as the first rows show them."""
    top = replace(table, frame=table.frame.head(100), notes=[])
    once = [c for c, n in collections.Counter(top.frame.columns).items() if n == 1][:50]
    columns = [c for c in once if c not in (roles.id, roles.time)]
    dated = [c for c in columns if _is_dated(top, c)]
    numeric = [c for c in columns if c not in dated and not _to_numbers(top, c)[1].any()]
    options = []
    if roles.time not in (None, *table.frame.columns):
        none = '--time-col NAME (or --time-col "" where the rows are the steps, in order)'
        options.append(f"--time-col {shlex.quote(dated[0])}" if dated else none)
    if roles.target not in table.frame and numeric:
        one = f"--target-col {shlex.quote(numeric[0])}"
        options.append(one if len(numeric) == 1 else f"--target-col NAME (one of {_list(numeric)})")
    return f": give {' '.join(options)}" if options else ""


def _is_dated(table: _Table, column: str) -> bool:
    try:
        return isinstance(_read_stamps(table, column), pd.DatetimeIndex)
    except DataError:
        return False


# ---- stamps and values --------------------------------------------------------------------------------------------


def _read_stamps(table: _Table, column: str) -> Any:
    """``(N,)`` stamps, a pandas index: int64, or datetime64[ns] with the time zone they carry."""
    table.refuse(column, table.missing(column), "is not a stamp: every row needs one")
    codes, unique = pd.factorize(table.column(column))
    unique: Any = pd.Index(unique, dtype=unique.dtype)

    def refuse(wrong: Any, what: str) -> None:
        table.refuse(column, np.asarray(wrong, dtype=bool)[codes], what)

    kind = pd.api.types.infer_dtype(unique)
    if kind == "string" and unique.str.fullmatch(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*").all():
        kind, unique = "floating", unique.astype(np.float64)
    if kind in ("integer", "floating", "mixed-integer-float"):
        stamps = _whole_stamps(unique.to_numpy(dtype=np.float64), table, refuse)
    elif kind == "string":
        stamps = _date_stamps(unique, table, refuse)
    elif kind in ("datetime64", "datetime", "date"):
        zones = [str(getattr(value, "tzinfo", None)) for value in unique]
        refuse([(zone == "None") != (zones[0] == "None") for zone in zones], "differs in having a time zone or none")
        stamps = _to_dates(unique, _several(zones, table))
        refuse(stamps.isna(), f"is not a date {_RANGE}")
    elif kind == "period":
        stamps = pd.PeriodIndex(unique).to_timestamp()
    else:
        stamps = unique
        refuse(np.ones(len(unique)), "is neither a whole number nor a date")
    return stamps.take(codes)


def _whole_stamps(numbers: np.ndarray, table: _Table, refuse: Callable[[Any, str], None]) -> Any:
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


def _date_stamps(texts: Any, table: _Table, refuse: Callable[[Any, str], None]) -> Any:
    """Dates from text, of which nothing is made up: no century, no order of day and month, no time zone."""
    refuse(~texts.str.contains(r"\d{4}"), f"is not a date with a four-digit year: {_WRITE}")
    zones = texts.str.extract(r":\d\d(?:\.\d+)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)\s*$", expand=False)
    if zones.notna().any():
        refuse(zones.isna(), "has no UTC offset where other stamps have one")
    utc = _several(zones.dropna(), table)
    slashed = texts.str.match(r"\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{4}")
    if slashed.any():
        refuse(~slashed, f"is written otherwise than the other stamps: {_WRITE}")
        return _day_or_month_first(texts, utc, table, refuse)
    refuse(~texts.str.match(_SAFE_DATE), f"is not a date: {_WRITE}")
    dates = _to_dates(texts, utc)
    refuse(dates.isna(), f"is not a date {_RANGE}: {_WRITE}")
    return dates


def _several(zones: Sequence[str], table: _Table) -> bool:
    """Whether there are several time zones, so that stamps are read as UTC."""
    if len(set(zones)) < 2:
        return False
    table.notes.append("stamps with several UTC offsets, read as UTC")
    return True


def _day_or_month_first(texts: Any, utc: bool, table: _Table, refuse: Callable[[Any, str], None]) -> Any:
    """Dates like 31/01/2020: in the one order in which all of them are dates. 31.01.2020 is always day first."""
    orders = {"day first": r"\3-\2-\1", "month first": r"\3-\1-\2"}
    if texts.str.match(r"\s*\d+\.\d+\.").all():
        del orders["month first"]
    parts = r"^\s*(\d+)[/.-](\d+)[/.-](\d{4})"
    read = {order: _to_dates(texts.str.replace(parts, form, regex=True), utc) for order, form in orders.items()}
    able = {order: dates for order, dates in read.items() if not dates.isna().any()}
    if not able:
        refuse(np.logical_or.reduce([dates.isna() for dates in read.values()]), f"is not a date: {_WRITE}")
    order, dates = able.popitem()
    for other in able.values():
        refuse(dates != other, f"may be day first or month first, nothing tells which: {_WRITE}")
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


def _to_numbers(table: _Table, column: str) -> tuple[np.ndarray, np.ndarray]:
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
    values = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return values, np.isnan(values) & ~missing


def _has_decimal_commas(table: _Table, columns: Sequence[str]) -> bool:
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


def _read_numbers(table: _Table, column: str) -> np.ndarray:
    """``(N,)`` float64, NaN where missing.

    Raises:
        DataError: Something is no number, or infinite.
    """
    values, bad = _to_numbers(table, column)
    form = "decimal comma and no points" if table.comma else "decimal point and no commas"
    table.refuse(column, bad, f"is not a number (write numbers with a {form}, leave missing ones empty)")
    table.refuse(column, np.isinf(values), "is infinite: leave the cell empty where the value is missing")
    return values


def _read_values(table: _Table, column: str) -> np.ndarray:
    """``(N,)`` values of a covariate: float64 where numeric, object (str or None) where categorical."""
    bad, missing = _to_numbers(table, column)[1], table.missing(column)
    if 2 * bad.sum() < (~missing).sum() or not bad.any():  # if any are bad: numbers with slips, not categories
        return _read_numbers(table, column)
    text = table.column(column).map(str).astype(object)
    words = text.str.casefold()
    if words[~missing].isin(["true", "false"]).all():
        return np.where(missing, np.nan, (words == "true").to_numpy(dtype=np.float64))
    return text.mask(missing, None).to_numpy(dtype=object)


# ---- rows in order ------------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """All rows of all series: ``code`` (N,) says whose, ``stamps`` (N,) when, ``y`` (N,) and ``covariates`` what."""

    ids: list[str]
    code: np.ndarray
    stamps: Any
    y: np.ndarray
    covariates: dict[str, np.ndarray]
    static: dict[str, tuple[float | str | None, ...]]
    notes: list[str]

    @property
    def dated(self) -> bool:
        return isinstance(self.stamps, pd.DatetimeIndex)

    @property
    def ticks(self) -> np.ndarray:
        """``(N,)`` int64: whole numbers, or nanoseconds of UTC."""
        return self.stamps.asi8 if self.dated else self.stamps.to_numpy(dtype=np.int64)

    @property
    def wall(self) -> Any:
        """Stamps as the clock on the wall shows them, without a time zone."""
        return self.stamps.tz_localize(None) if self.dated else self.stamps

    def pairs(self) -> np.ndarray:
        """``(N - 1,)`` bool: rows k and k + 1 are of the same series."""
        return self.code[1:] == self.code[:-1]

    def shared(self, keep: Any) -> np.ndarray:
        """``(N,)`` bool: rows of the same series and stamp as another, but for the one to ``keep``."""
        return pd.DataFrame({"code": self.code, "tick": self.ticks}).duplicated(keep=keep).to_numpy()

    def take(self, rows: np.ndarray) -> _Rows:
        covariates = {name: values[rows] for name, values in self.covariates.items()}
        return replace(self, code=self.code[rows], stamps=self.stamps[rows], y=self.y[rows], covariates=covariates)


def _read_rows(table: _Table, roles: _Roles) -> _Rows:
    """The rows of a table as they stand.

    Raises:
        DataError: A cell cannot be read, or two rows of a series have the same stamp.
    """
    code, ids = _read_ids(table, roles.id)
    names = (*roles.past, *roles.future, *roles.static)
    table.comma = table.comma and _has_decimal_commas(table, (*([roles.target] if roles.target else []), *names))
    stamps = _read_stamps(table, roles.time) if roles.time else pd.Index(pd.Series(code).groupby(code).cumcount())
    y = _read_numbers(table, roles.target) if roles.target else np.full(len(code), np.nan)
    values = {name: _read_values(table, name) for name in names}
    static = {name: _constants(name, values.pop(name), code, ids) for name in roles.static}
    rows = _Rows(ids, code, stamps, y, values, static, table.notes)
    shared = rows.shared(keep=False)
    if shared.any():
        k = int(shared.argmax())
        count = int(((code == code[k]) & (rows.ticks == rows.ticks[k])).sum())
        other = "" if roles.id else ", or name the column that tells series apart with --id-col"
        raise DataError(
            f"{table.name}: series {ids[code[k]]!r} has {count} rows with the stamp {_show(stamps[k])} "
            f"({int(shared.sum())} rows in all share their stamp with another): keep one row a stamp{other}"
        )
    return rows


def _read_ids(table: _Table, column: str | None) -> tuple[np.ndarray, list[str]]:
    """``(N,)`` int64: the number of each row's series; and the ids, in the order they appear."""
    if column is None:
        return np.zeros(len(table.frame), dtype=np.int64), [table.plain]
    raw = table.column(column)
    table.refuse(column, (raw.isna() | (raw == "")).to_numpy(dtype=bool), "is no series id: every row needs one")
    code, unique = pd.factorize(raw)
    names = [str(int(u)) if isinstance(u, float) and u.is_integer() else str(u) for u in unique]
    merged, ids = pd.factorize(np.array(names, dtype=object))  # 1 and "1" are one id
    return merged[code].astype(np.int64), list(ids)


def _constants(name: str, values: np.ndarray, code: np.ndarray, ids: list[str]) -> tuple[float | str | None, ...]:
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


def _join(rows: _Rows, more: _Rows, roles: _Roles) -> _Rows:
    """``rows`` and, past the last target of each series, the rows of ``more``, which only look ahead."""
    if more.stamps.dtype != rows.stamps.dtype:
        kinds = f"{more.stamps.dtype}, those of the data {rows.stamps.dtype}"
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
        stamps=rows.stamps.append(more.stamps),
        y=np.concatenate([rows.y, more.y]),
        covariates=covariates,
        notes=rows.notes + more.notes,
    )
    return joined.take(np.flatnonzero(~joined.shared(keep="last")))  # a row of the data gives way to the one ahead


def _in_order(rows: _Rows) -> _Rows:
    """Rows by series, then by stamp."""
    grouped = rows.take(np.argsort(rows.code, kind="stable"))
    if not (grouped.pairs() & (np.diff(grouped.ticks) < 0)).any():
        return grouped
    rows.notes.append("rows sorted by stamp within each series")
    return rows.take(np.lexsort((rows.ticks, rows.code)))


# ---- frequency and grid -------------------------------------------------------------------------------------------


def _check_freq(freq: str | int, dated: bool) -> str | int:
    """``freq`` in the form pandas gives it, or as a whole number.

    Raises:
        DataError: It is no frequency, or does not go with the stamps.
    """
    offset: Any = int(freq) if isinstance(freq, str) and freq.strip().isdecimal() else freq
    if not isinstance(offset, int):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError):
            warnings.simplefilter("ignore", FutureWarning)  # "H" for "h" and the like
            offset = pd.tseries.frequencies.to_offset(offset)
    size = offset if isinstance(offset, int) else getattr(offset, "n", 0)
    if size < 1:
        raise DataError(
            f"freq {freq!r} is not a frequency: give one such as h, 15min, D, B, W-SUN, MS, ME, QS, YS, or 1"
        )
    if isinstance(offset, int) == dated:
        need = "a date frequency such as h, D, MS" if dated else "a whole-number step such as 1"
        raise DataError(
            f"freq {freq!r} does not go with stamps that are {'dates' if dated else 'numbers'}: give {need}"
        )
    return offset if isinstance(offset, int) else offset.freqstr


def _find_freq(rows: _Rows, plain: bool) -> str | int:
    """The most common difference of neighbouring stamps over all series, as a frequency."""
    if plain:
        return 1
    differences = np.diff(rows.wall.asi8 if rows.dated else rows.ticks)[rows.pairs()]
    if not differences.size:
        raise DataError(f"series {rows.ids[0]!r} has one row: the frequency cannot be found, give it with --freq")
    steps, counts = np.unique(differences[differences > 0], return_counts=True)
    step = int(steps[counts.argmax()])
    freq = _alias(rows, step) if rows.dated else step
    rows.notes.append(f"frequency {freq!r} found from the stamps")
    return freq


def _alias(rows: _Rows, step: int) -> str:
    """The pandas alias for steps of ``step`` nanoseconds between the stamps of ``rows``."""
    days: Any = rows.wall.normalize()
    weekday = days.dayofweek.to_numpy()
    alias = None
    if step == _DAY and (weekday < 5).all():
        passed = rows.pairs() & ((np.diff(weekday) < 0) | (np.diff(days.asi8) >= 7 * _DAY))
        alias = "B" if passed.any() else None  # without a weekend in between nothing tells B from D
    elif step == 7 * _DAY and len(set(weekday)) == 1:
        alias = f"W-{('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')[weekday[0]]}"
    elif step >= 28 * _DAY:
        alias = _month_alias(days.unique(), round(step / _DAY / 30.4375))
    tick: Any = pd.tseries.frequencies.to_offset(cast(pd.Timedelta, pd.Timedelta(step)))
    return alias or tick.freqstr


def _month_alias(days: Any, months: int) -> str | None:
    """The alias for steps of ``months`` months, where most days are a month's first or last (business) day."""
    day = days.to_numpy().astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    first, last = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]") - 1
    anchors = {"MS": first, "ME": last, "BMS": np.busday_offset(first, 0, "forward")}
    anchors["BME"] = np.busday_offset(last, 0, "backward")
    share = {kind: float((day == anchor).mean()) for kind, anchor in anchors.items()}
    kind = max(share, key=lambda k: share[k])
    if share[kind] < 0.5:
        return None
    if months not in (3, 12):
        return kind if months == 1 else f"{months}{kind}"
    phase = int(np.bincount((days.month.to_numpy() - 1) % months).argmax())
    phase += 9 if months == 3 and kind.endswith("E") else 0  # quarters that end in December are QE-DEC
    names = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    return f"{kind.replace('M', 'Q' if months == 3 else 'Y')}-{names[phase]}"


def _places(rows: _Rows, freq: str | int, how: str) -> np.ndarray:
    """``(N,)`` int64: each row's step on the grid of its series, which begins at its first row.

    Raises:
        DataError: A stamp is not on the grid.
    """
    offset: Any = freq if isinstance(freq, int) else pd.tseries.frequencies.to_offset(freq)
    head = np.searchsorted(rows.code, np.arange(len(rows.ids)))[rows.code]  # each row's first row
    if isinstance(offset, int | pd.offsets.Tick):
        size = offset if isinstance(offset, int) else offset.nanos
        # Days are counted on the wall clock, hours are not: so the clocks' change in spring is no gap.
        ticks = rows.wall.asi8 if rows.dated and size % _DAY == 0 else rows.ticks
        place, rest = np.divmod(ticks - ticks[head], size)
        off = rest != 0
    else:
        days = rows.wall.normalize()
        k = pd.date_range(days.min(), days.max(), freq=offset.base).get_indexer(days)
        time = rows.wall.asi8 - days.asi8
        place, rest = np.divmod(k - k[head], offset.n)
        off = (k < 0) | (rest != 0) | (time != time[head])
    if off.any():
        k = int(off.argmax())
        monthly = " (write a month as its first day)" if re.fullmatch(r"(28|29|30|31)D|\d*B?M[SE]", str(freq)) else ""
        raise DataError(
            f"irregular steps: the stamp {_show(rows.stamps[k])} of series {rows.ids[rows.code[k]]!r} is off the grid "
            f"of frequency {freq!r} ({how}) from {_show(rows.stamps[head[k]])}: all stamps must lie on one grid"
            f"{monthly}; give the frequency with --freq, or resample the data"
        )
    return place


def _to_series(rows: _Rows, place: np.ndarray, freq: str | int, roles: _Roles) -> SeriesSet:
    """Rows on the grid as series: gaps become missing, missing ends are cut off."""
    edges = np.searchsorted(rows.code, np.arange(len(rows.ids) + 1))
    total = int((place[edges[1:] - 1] + 1).sum())
    if total > max(10**7, 100 * len(place)):
        raise DataError(f"frequency {freq!r} makes {total} steps of {len(place)} rows: give a longer one with --freq")
    starts, targets, missing, led, trailed, reach = [], [], [], 0, 0, 0
    covariates: dict[str, list[np.ndarray]] = {name: [] for name in rows.covariates}
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        at = place[low:high]
        y = _spread(rows.y[low:high], at)
        seen = np.flatnonzero(~np.isnan(y))
        if not seen.size:
            raise DataError(f"series {rows.ids[i]!r} has no target: {roles.target!r} is missing in all its rows")
        begin, end = int(seen[0]), int(seen[-1]) + 1
        grids = {name: _spread(values[low:high], at) for name, values in rows.covariates.items()}
        known = [np.flatnonzero(~pd.isna(grids[name][end:])) for name in roles.future]
        ahead = max((int(k[-1]) + 1 for k in known if k.size), default=0)
        for name, grid in grids.items():
            covariates[name].append(grid[begin : end + (ahead if name in roles.future else 0)])
        targets.append(y[begin:end])
        missing.append(int(np.isnan(y[begin:end]).sum()))
        starts.append(rows.stamps[low + int(np.searchsorted(at, begin))])
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


def _spread(values: np.ndarray, at: np.ndarray) -> np.ndarray:
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


def _show(stamp: object) -> str:
    return str(stamp).removesuffix(" 00:00:00")


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200]


def _list(names: Iterable[object]) -> str:
    shown = [_line(name) for name in names]
    return ", ".join(shown[:12]) + (f", … ({len(shown)} in all)" if len(shown) > 12 else "")
