"""Read a table from a file, a frame or a list; cells are not parsed yet."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.arrays import as_array
from lstmkit.data.files import check_decoded_size, read_bytes, reading
from lstmkit.data.formats import UTF_OR_LATIN, DataFormat, check_format
from lstmkit.data.tables.delimited import check_column_count, parse_delimited
from lstmkit.data.tables.missing_text import MISSING
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parquet import read_parquet
from lstmkit.data.text_files import decode_text, encoding_of, text_suffix
from lstmkit.errors import DataError, listing, one_line

DELIMITED = DataFormat(
    "delimited text",
    (".csv", ".tsv", ".txt", ".inter"),
    gzip=True,
    encoding=UTF_OR_LATIN,
    notes=(
        "Fields are separated by commas, semicolons, tabs or vertical bars, as the first rows show. The first row is "
        "the header, unless it has only numbers and dates. Fields may be quoted as in RFC 4180. No comments."
    ),
)
JSON_LINES = DataFormat(
    "JSON lines", (".jsonl",), gzip=True, encoding=UTF_OR_LATIN, notes="One object per line; blank lines are skipped."
)
PARQUET = DataFormat("Parquet", (".parquet",), notes="Compressed inside, not gzipped.")
TABLES = (DELIMITED, JSON_LINES, PARQUET)  #: Formats of tables.


_MEMORY_PER_BYTE = 5  # bytes that a table takes in memory per byte of its text


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

    def unused(self, frame: pd.DataFrame) -> list[str]:
        """The columns of a frame that have no role."""
        used = {self.id, self.time, self.target, *self.past, *self.future, *self.static}
        return [name for name in dict.fromkeys(frame.columns) if name not in used]


@dataclass
class Table:
    """A table with unparsed cells. Every column of a CSV file is text.

    Attributes:
        frame: The cells.
        name: Its name in messages.
        series_name: Id of its only series, if there is no id column.
        separator: What separates fields in its file. Only a comma rules out numbers with a decimal comma.
        has_header: Whether the file has a header row.
        decimal_comma: Whether numbers in its file have a decimal comma; ``None`` until a number is read.
        notes: What was done to read it.
    """

    frame: pd.DataFrame
    name: str
    series_name: str = "series"
    separator: str = ","
    has_header: bool = False
    decimal_comma: bool | None = None
    notes: list[str] = field(default_factory=list)

    def absence(self, name: str) -> str:
        """Says that no column has a name, for messages; empty if one has it."""
        return (
            "" if name in self.frame else f"no column {name!r} in {self.name} (columns: {listing(self.frame.columns)})"
        )

    def column(self, name: str) -> Any:
        """Column ``name`` as a pandas series ``(N,)``; text and categories have dtype object.

        Raises:
            DataError: No column has that name, or several have it.
        """
        if absence := self.absence(name):
            raise DataError(absence)
        column: Any = self.frame[name]
        if isinstance(column, pd.DataFrame):
            raise DataError(
                f"{self.name}: {column.shape[1]} columns have the name {name!r}: give each column its own name"
            )
        keep_dtype = isinstance(column.dtype, np.dtype | pd.DatetimeTZDtype | pd.PeriodDtype)
        return column if keep_dtype or pd.api.types.is_numeric_dtype(column.dtype) else column.astype(object)

    def empty(self, name: str) -> np.ndarray:
        """``(N,)`` bool: True where a cell of text, such as an id, is empty. ``NA`` is text."""
        column = self.column(name)
        return (column.isna() | (column == "" if column.dtype == object else False)).to_numpy(dtype=bool)

    def missing(self, name: str) -> np.ndarray:
        """``(N,)`` bool: True where column ``name``, of numbers, dates or categories, has no value."""
        column = self.column(name)
        absent = column.isna().to_numpy(dtype=bool)
        return absent | column.isin(MISSING).to_numpy(dtype=bool) if column.dtype == object else absent

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
            array = as_array(data)
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


def read_file(path: Path, *, strict: bool = False, name: str = "") -> Table:
    """Read a table from a CSV, TSV or JSON lines file, gzipped or not, or from a Parquet file.

    Args:
        path: The file.
        strict: Raise an error for text that is not UTF-8. By default it is read as Latin-1, with a note.
        name: Its path in messages, if it is another.

    Raises:
        DataError: The file does not exist, has another format, or is damaged.
    """
    with reading(name or path, advice="correct it, or export it again"):
        return _read_file(path, strict, name or str(path))


def _read_file(path: Path, strict: bool, name: str) -> Table:
    check_format(path, TABLES)
    if PARQUET.matches(path):
        return Table(read_parquet(path), path.name)
    content = read_bytes(path, gzipped=path.suffix.lower() == ".gz", copies=_MEMORY_PER_BYTE)
    return parse_table(content, name, strict=strict)


def parse_table(content: bytes, path: str, *, strict: bool = False, has_header: bool | None = None) -> Table:
    """Parse the content of a CSV, TSV or JSON lines file.

    Args:
        content: Its bytes, not compressed.
        path: Its path; the suffix is the format.
        strict: Raise an error for text that is not UTF-8. By default it is read as Latin-1, with a note.
        has_header: Whether the first row is a header; by default it is, unless it has only numbers and dates.

    Raises:
        DataError: The content is not a table.
    """
    name = PurePath(path).name
    notes: list[str] = []
    if b"\0" in content and encoding_of(content) != "utf-16":
        raise DataError(f"{path} is not a text file: give a CSV file (save a spreadsheet as CSV)")
    try:
        text = decode_text(content, path)
    except DataError:
        if strict or encoding_of(content) == "utf-16":
            raise
        text = content.decode("latin-1")
        notes.append(f"{name}: not UTF-8, read as Latin-1")
    suffix = text_suffix(path)
    if suffix == ".jsonl":
        return Table(_parse_json(text, path), name, notes=notes)
    is_tsv = suffix == ".tsv" and "\t" in text.lstrip().partition("\n")[0]
    frame, separator, has_header = parse_delimited(text, path, "\t" if is_tsv else "", has_header)
    if not has_header:
        notes.append(f"{name}: no header row, columns are named {', '.join(frame.columns)}")
    return Table(frame, name, separator=separator, has_header=has_header, notes=notes)


def _parse_json(text: str, path: str) -> pd.DataFrame:
    """A table of JSON objects, one per line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number} is not JSON: {one_line(error)}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not a JSON object: write each row as {{...}} on one line")
            rows.append(row)
    if not rows:
        raise DataError(f"{path} is empty")
    return frame_of_rows(rows, path)


def frame_of_rows(rows: list[dict[str, Any]], name: str) -> pd.DataFrame:
    """A frame of JSON objects, which may lack some of its columns.

    Raises:
        DataError: It would have too many columns or cells.
    """
    names: set[str] = set()
    for row in rows:
        names.update(row)
        check_column_count(len(names), name)
    check_decoded_size(8 * len(names) * len(rows), name)  # a row may lack columns in the file, but not in memory
    return pd.DataFrame(rows)
