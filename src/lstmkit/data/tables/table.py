"""Read a table from a file, a frame or a list; cells are not parsed yet."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.errors import DataError, listing, one_line

#: Text that marks a missing value: the defaults of pandas.
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
_MISSING |= {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
#: A number or a date: a first row with only such cells is not a header.
_NOT_A_HEADER = re.compile(
    r"\s*([+-]?[\d.,]+(e[+-]?\d+)?|\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4}([ T][\d:.]+\S*)?)?)\s*", re.I
)


@dataclass(frozen=True)
class SeriesColumns:
    """Column roles of a table of time series.

    Attributes:
        id: Series id; ``None`` if the table holds one series.
        time: Timestamps; ``None`` if the rows are the time steps.
        target: Values to forecast; ``None`` for a table of future covariates.
        past: Covariates known up to the present.
        future: Covariates known in advance.
        static: Columns with one value per series.
    """

    id: str | None
    time: str | None
    target: str | None
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: tuple[str, ...]


@dataclass
class Table:
    """A table with unparsed cells. Every column of a CSV file is text.

    Attributes:
        frame: The cells.
        name: Its name in messages.
        series_name: Id of its only series, if there is no id column.
        decimal_comma: Whether numbers may have a decimal comma.
        has_header: Whether the file has a header row.
        notes: What was done to read it.
    """

    frame: pd.DataFrame
    name: str
    series_name: str = "series"
    decimal_comma: bool = False
    has_header: bool = False
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> Any:
        """Column ``name`` as a pandas series ``(N,)``; text and categories have dtype object.

        Raises:
            DataError: No column has that name, or several have it.
        """
        if name not in self.frame:
            raise DataError(f"no column {name!r} in {self.name} (columns: {listing(self.frame.columns)})")
        matches = self.frame.loc[:, self.frame.columns == name]
        if matches.shape[1] > 1:
            raise DataError(
                f"{self.name}: {matches.shape[1]} columns have the name {name!r}: give each column its own name"
            )
        column = matches.iloc[:, 0]
        keep_dtype = isinstance(column.dtype, np.dtype | pd.DatetimeTZDtype | pd.PeriodDtype)
        return column if keep_dtype or pd.api.types.is_numeric_dtype(column.dtype) else column.astype(object)

    def missing(self, name: str) -> np.ndarray:
        """``(N,)`` bool: True where column ``name`` has no value."""
        column = self.column(name)
        return (column.isna() | (column.isin(_MISSING) if column.dtype == object else False)).to_numpy(dtype=bool)

    def raise_if_any(self, name: str, invalid: np.ndarray, problem: str) -> None:
        """Raise DataError for the first row of column ``name`` where ``invalid (N,)`` is True.

        Args:
            name: The column.
            invalid: ``(N,)`` bool.
            problem: Continues the message after the cell: ``is not a number: …``.
        """
        if invalid.any():
            row = int(invalid.argmax())
            value = self.column(name).iloc[row]
            cell = repr(value if len(value) <= 60 else value[:57] + "…") if isinstance(value, str) else one_line(value)
            below = " below the header" if self.has_header else ""
            raise DataError(f"{self.name}: column {name!r}, row {row + 1}{below}: {cell} {problem}")


def open_table(data: object, roles: SeriesColumns) -> Table:
    """Open a path, a frame, or one series of values as a table. An index of timestamps or ids becomes a column.

    Raises:
        DataError: The data have another type, cannot be read, or have no rows.
    """
    data = as_pandas(data)
    values = roles.target or ""
    if isinstance(data, str | os.PathLike):
        table = read_file(Path(data))
    elif isinstance(data, pd.DataFrame):
        table = Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
    elif isinstance(data, pd.Series):
        name = "series" if data.name is None else str(data.name)
        table = Table(data.to_frame(values), "the series", series_name=name)
    elif isinstance(data, list | tuple | np.ndarray):
        try:
            array = np.asarray(data)
        except ValueError:  # ragged
            array = np.empty((0, 0))
        if array.ndim != 1:
            raise DataError("a list or array must be one series of shape (T,): give several series as a frame")
        table = Table(pd.DataFrame({values: array}), "the list")
    else:
        raise DataError(
            f"cannot read series from {type(data).__name__}: give a path, a frame, or one list or array of values"
        )
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


def read_file(path: Path, *, strict: bool = False) -> Table:
    """Read a table from a CSV, TSV or JSON lines file, gzipped or not, or from a Parquet file.

    Args:
        path: The file.
        strict: Raise an error for text that is not UTF-8. By default it is read as Latin-1, with a note.

    Raises:
        DataError: The file does not exist, has another format, or is damaged.
    """
    zipped = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if zipped else path).suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file")
    if suffix not in (".csv", ".tsv", ".txt", ".inter", ".jsonl", ".parquet") or (zipped and suffix == ".parquet"):
        raise DataError(
            f"{path}: unsupported file format: give .csv, .tsv, .txt, .inter or .jsonl (gzipped or not), or .parquet"
        )
    try:
        if suffix == ".parquet":
            frame: Any = pyarrow.parquet.read_table(path).to_pandas()
            return Table(frame.set_axis(frame.columns.map(str), axis=1), path.name)
        raw = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in raw and not utf16:
        raise DataError(f"{path} is not a text file: give a CSV file (save a spreadsheet as CSV)")
    parse = _parse_json if suffix == ".jsonl" else _parse_csv
    try:
        return parse(raw.decode("utf-16" if utf16 else "utf-8-sig"), path)
    except UnicodeDecodeError as error:
        if utf16:
            raise DataError(f"{path} is not a text file: {one_line(error)}") from error
        if strict:
            raise DataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
        table = parse(raw.decode("latin-1"), path)
        table.notes.append(f"{path.name}: not UTF-8, read as Latin-1")
        return table


def _parse_json(text: str, path: Path) -> Table:
    """A table of JSON objects, one per line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not JSON: {one_line(error)}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not a JSON object: write each row as {{...}} on one line")
            rows.append(row)
    if not rows:
        raise DataError(f"{path} is empty")
    return Table(pd.DataFrame(rows), path.name)


def _parse_csv(text: str, path: Path) -> Table:
    """A table of text from CSV. Every row must have as many fields as the first."""
    if not text.strip():
        raise DataError(f"{path} is empty")
    blank = len(text) - len(text.lstrip("\r\n"))
    n_blank_lines, text = len(text[:blank].splitlines()), text.strip("\r\n")
    if text.count('"') % 2:
        raise DataError(f'{path}: a quotation mark (") is never closed: close it, or remove it')
    try:
        separator, names = _sniff_csv(text)
    except (csv.Error, IndexError) as error:
        raise DataError(f"{path} cannot be read as CSV: {one_line(error)}") from error
    has_header = not all(_NOT_A_HEADER.fullmatch(name) for name in names)
    if has_header and len(text.splitlines()) == 1:
        raise DataError(f"{path} has no rows below the header")
    keys = [str(k + 1) for k in range(len(names))]
    ragged: list[Any] = []
    try:
        parsed = pyarrow.csv.read_csv(
            pa.BufferReader(text.encode()),
            # Arrow numbers invalid rows only when it reads with one thread.
            pyarrow.csv.ReadOptions(use_threads=False, column_names=keys, skip_rows_after_names=int(has_header)),
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
            raise DataError(f"{path} cannot be read as CSV: {one_line(error)}") from error
        lines = [number for number, line in enumerate(text.splitlines(), 1 + n_blank_lines) if line or len(keys) == 1]
        bad = ragged[0]
        raise DataError(
            f"{path}: line {lines[bad.number - 1]} has {bad.actual_columns} fields, expected {bad.expected_columns}: "
            f"{bad.text[:60]!r} (fields are separated by {separator!r})"
        ) from error
    frame = cast(pd.DataFrame, parsed.to_pandas())
    table = Table(frame, path.name, decimal_comma=separator != ",", has_header=has_header)
    if has_header:
        table.frame.columns = [name.strip() for name in names]
    else:
        table.notes.append(f"{path.name}: no header row, columns are named {', '.join(keys)}")
    return table


def _sniff_csv(text: str) -> tuple[str, list[str]]:
    """Separator and first row. The separator is the one that splits the first lines into equal numbers of fields."""
    head = text if len(text) < 200_000 else text[:200_000].rpartition("\n")[0]
    rows = {sep: list(filter(None, csv.reader(io.StringIO(head, newline=None), delimiter=sep))) for sep in "\t;|,"}
    candidates = [sep for sep in rows if len(rows[sep][0]) > 1]
    consistent = [sep for sep in candidates if len({len(row) for row in rows[sep]}) == 1]
    separator = consistent[0] if consistent else max(candidates, key=lambda sep: len(rows[sep][0]), default=",")
    return separator, rows[separator][0]
