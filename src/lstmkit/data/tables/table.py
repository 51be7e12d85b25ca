"""A table as it was given: from a file, a frame or a list, not yet understood."""

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

from lstmkit.errors import DataError, listing, one_line

#: Text that stands for a missing value: the words pandas takes by default.
_MISSING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
_MISSING |= {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
#: A cell that no header has: a number or a date.
_NOT_A_HEADER = re.compile(
    r"\s*([+-]?[\d.,]+(e[+-]?\d+)?|\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4}([ T][\d:.]+\S*)?)?)\s*", re.I
)


@dataclass(frozen=True)
class SeriesColumns:
    """Which column is what. Without ``time``, rows are steps; without ``target``, the table only looks ahead."""

    id: str | None
    time: str | None
    target: str | None
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: tuple[str, ...]


@dataclass
class Table:
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
            raise DataError(f"no column {name!r} in {self.name} (columns: {listing(self.frame.columns)})")
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
            cell = repr(value if len(value) <= 60 else value[:57] + "…") if isinstance(value, str) else one_line(value)
            below = " below the header" if self.header else ""
            raise DataError(f"{self.name}: column {name!r}, row {row + 1}{below}: {cell} {what}")


def open_table(data: object, roles: SeriesColumns) -> Table:
    """The table that ``data`` is; an index that holds stamps or ids becomes a column."""
    values = roles.target or ""
    if isinstance(data, str | os.PathLike):
        table = read_file(Path(data))
    elif isinstance(data, pd.DataFrame):
        table = Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
    elif isinstance(data, pd.Series):
        name = "series" if data.name is None else str(data.name)
        table = Table(data.to_frame(values), "the series", plain=name)
    elif isinstance(data, list | tuple | np.ndarray):
        try:
            array = np.asarray(data)
        except ValueError:  # ragged
            array = np.empty((0, 0))
        if array.ndim != 1:
            raise DataError("a list or array must be one plain series (T,): give many series as a frame")
        table = Table(pd.DataFrame({values: array}), "the list")
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


def read_file(path: Path, *, strict: bool = False) -> Table:
    """The table in a file: separated values or lines of JSON, as they are or gzipped, or parquet.

    Args:
        path: The file.
        strict: Whether text that is not UTF-8 is refused, rather than read as Latin-1 with a note.

    Raises:
        DataError: There is no such file, or it is no such table.
    """
    zipped = path.suffix.lower() == ".gz"
    ending = (path.with_suffix("") if zipped else path).suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder: give one file")
    if ending not in (".csv", ".tsv", ".txt", ".inter", ".jsonl", ".parquet") or (zipped and ending == ".parquet"):
        raise DataError(
            f"{path}: files of this kind are not read: give .csv, .tsv, .txt, .inter or .jsonl (also with .gz), or "
            ".parquet"
        )
    try:
        if ending == ".parquet":
            frame: Any = pyarrow.parquet.read_table(path).to_pandas()
            return Table(frame.set_axis(frame.columns.map(str), axis=1), path.name)
        raw = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in raw and not wide:
        raise DataError(f"{path} is not a text file: give a csv file (from a spreadsheet: save as csv)")
    parse = _parse_json if ending == ".jsonl" else _parse_csv
    try:
        return parse(raw.decode("utf-16" if wide else "utf-8-sig"), path)
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(f"{path} is not a text file: {one_line(error)}") from error
        if strict:
            raise DataError(f"{path} is not UTF-8 ({error.reason}): save the file as UTF-8") from error
        table = parse(raw.decode("latin-1"), path)
        table.notes.append(f"{path.name}: not in UTF-8, read as Latin-1")
        return table


def _parse_json(text: str, path: Path) -> Table:
    """A table of JSON objects, one a line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is no JSON: {one_line(error)}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is no JSON object: write each row as {{...}} on a line")
            rows.append(row)
    if not rows:
        raise DataError(f"{path} is empty")
    return Table(pd.DataFrame(rows), path.name)


def _parse_csv(text: str, path: Path) -> Table:
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
        raise DataError(f"{path} cannot be read as csv: {one_line(error)}") from error
    header = not all(_NOT_A_HEADER.fullmatch(name) for name in names)
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
            raise DataError(f"{path} cannot be read as csv: {one_line(error)}") from error
        lines = [number for number, line in enumerate(text.splitlines(), 1 + before) if line or len(keys) == 1]
        bad = ragged[0]
        raise DataError(
            f"{path}: line {lines[bad.number - 1]} has {bad.actual_columns} fields where {bad.expected_columns} are "
            f"expected: {bad.text[:60]!r} (fields are separated by {separator!r})"
        ) from error
    table = Table(cast(pd.DataFrame, parsed.to_pandas()), path.name, comma=separator != ",", header=header)
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
