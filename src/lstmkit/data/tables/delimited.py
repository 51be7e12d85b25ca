"""Delimited text, such as CSV and TSV: separator, quotation marks, header and rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from lstmkit.errors import DataError, one_line

#: A number or a date: a first row with only such cells is not a header.
_NOT_A_HEADER = re.compile(
    r"\s*([+-]?[\d.,]+(e[+-]?\d+)?|\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4}([ T][\d:.]+\S*)?)?)\s*", re.I
)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_LITERAL_QUOTES = "\t|"  # separators of formats in which a quotation mark is a character as any other
MAX_COLUMNS = 20_000  #: Maximum columns of a table: each takes memory, however few rows there are.
_SAMPLE_LENGTH = 200_000  # characters that the separator is found in


class DelimitedRows(NamedTuple):
    """Cells of a delimited text.

    Attributes:
        frame: The cells, text; the columns have the names of the header, or ``"1"``, ``"2"``, … without one.
        separator: What separates fields: a comma, semicolon, tab or ``|``.
        has_header: Whether the first row is a header.
    """

    frame: pd.DataFrame
    separator: str
    has_header: bool


def check_column_count(count: int, name: object) -> None:
    """Raise DataError if a table has more than :data:`MAX_COLUMNS` columns."""
    if count > MAX_COLUMNS:
        raise DataError(
            f"{name} has {count:,} columns, and a table may have {MAX_COLUMNS:,}: leave out columns, or give one row "
            "per value (a long table)"
        )


def parse_delimited(text: str, name: str, separator: str = "", has_header: bool | None = None) -> DelimitedRows:
    """Parse delimited text. Every row must have as many fields as the first.

    Commas and semicolons: fields are quoted as in RFC 4180, and a quoted field may have line breaks. Tabs and ``|``:
    every line is a row, and a quotation mark is a character as any other, unless all cells of a column are quoted, or
    a quoted cell has doubled quotation marks. Only if lines are too short and quoted fields with line breaks explain
    it, the text is read as in RFC 4180.

    Args:
        text: The text.
        name: Its name in messages.
        separator: What separates fields; by default the one that splits the first rows into equal numbers of fields.
        has_header: Whether the first row is a header; by default it is, unless it has only numbers and dates.

    Raises:
        DataError: The text is empty, has too many columns or no rows below its header, a quoted field is not closed,
            or a row has too many or too few fields. The message names the line.

    >>> parse_delimited('size;name\\n5;"a;b"\\n', "sizes").frame.values.tolist()
    [['5', 'a;b']]
    >>> parse_delimited('name\\tsize\\n5" screen\\t12\\n', "sizes").frame.values.tolist()
    [['5" screen', '12']]
    """
    if not text.strip():
        raise DataError(f"{name} is empty")
    blank = len(text) - len(text.lstrip("\r\n"))
    n_blank_lines, text = len(_LINE_BREAK.findall(text[:blank])), text.strip("\r\n")
    separator = separator or _find_separator(text)
    is_quoted = '"' in text and (separator not in _LITERAL_QUOTES or _has_quoted_line_breaks(text, separator))
    if is_quoted:
        _check_quotes(text, separator, name, n_blank_lines)
    _, first = next(_rows(text, separator, is_quoted))
    check_column_count(len(first), name)
    if has_header is None:
        has_header = not all(_NOT_A_HEADER.fullmatch(cell) for cell in first)
    if has_header and not _LINE_BREAK.search(text):
        raise DataError(f"{name} has no rows below the header")
    keys = [str(k + 1) for k in range(len(first))]
    ragged: list[pyarrow.csv.InvalidRow] = []
    content = text.encode()
    try:
        parsed = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # Arrow numbers invalid rows only when it reads with one thread. A block must hold the longest row.
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=min(len(content) + 1, 2**31 - 1),
                column_names=keys,
                skip_rows_after_names=int(has_header),
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if is_quoted else False,
                newlines_in_values=is_quoted,
                ignore_empty_lines=len(keys) > 1,  # in a single column an empty line is a missing value
                invalid_row_handler=lambda row: ragged.append(row) or "error",
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        if not ragged:
            raise DataError(f"{name} cannot be read as CSV: {one_line(error)}") from error
        bad = ragged[0]
        rows = _rows(text, separator, is_quoted, with_blank=len(keys) == 1)
        line, _ = next(itertools.islice(rows, bad.number - 1, None))
        raise DataError(
            f"{name}: line {line + n_blank_lines} has {bad.actual_columns} fields, expected {bad.expected_columns}: "
            f"{bad.text[:60]!r} (fields are separated by {separator!r})"
        ) from error
    frame = parsed.to_pandas()
    if not is_quoted and '"' in text:
        frame = frame.apply(_unquote)
    if has_header:
        frame = frame.set_axis([_unquoted(cell).strip() for cell in first], axis=1)
    return DelimitedRows(frame, separator, has_header)


def _find_separator(text: str) -> str:
    """The separator that splits the first rows into equal numbers of fields."""
    head = text if len(text) < _SAMPLE_LENGTH else text[:_SAMPLE_LENGTH].rpartition("\n")[0] or text.partition("\n")[0]
    counts = {
        separator: [len(cells) for _, cells in _rows(head, separator, separator not in _LITERAL_QUOTES)]
        for separator in "\t;|,"
    }
    candidates = [separator for separator in counts if counts[separator][0] > 1]
    consistent = [separator for separator in candidates if len(set(counts[separator])) == 1]
    return consistent[0] if consistent else max(candidates, key=lambda separator: counts[separator][0], default=",")


def _rows(text: str, separator: str, is_quoted: bool, *, with_blank: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Line, from 1, and fields of each row, quotation marks included; rows without text only if ``with_blank``."""
    if not is_quoted or '"' not in text:
        lines = enumerate(_LINE_BREAK.split(text), 1)
        yield from ((number, line.split(separator)) for number, line in lines if line or with_blank)
        return
    end = rf"[{separator}\r\n]|\Z"
    field = re.compile(rf"({_QUOTED.pattern}(?={end})|[^{separator}\r\n]*)(\r\n|{end})")
    line, position, cells = 1, 0, []
    while True:
        match = field.match(text, position)
        assert match is not None  # the second form of a field takes any text
        cells.append(match[1])
        position = match.end()
        if match[2] != separator:
            if with_blank or cells != [""]:
                yield line, cells
            if not match[2]:
                return
            line += sum(len(_LINE_BREAK.findall(cell)) for cell in cells) + 1
            cells = []


def _has_quoted_line_breaks(text: str, separator: str) -> bool:
    """Whether lines are too short because quoted fields have line breaks, not because quotation marks are stray.

    A field between two stray marks of different rows has separators.
    """
    counts = {len(cells) for _, cells in _rows(text, separator, False)}
    if len(counts) == 1:
        return False
    fields = [field for _, field in _quoted_fields(text, separator)]
    broken = [field for field in fields if field is not None and _LINE_BREAK.search(field)]
    return bool(broken) and None not in fields and not any(separator in field for field in broken)


def _check_quotes(text: str, separator: str, name: str, n_blank_lines: int) -> None:
    """Raise DataError if a field begins with a quotation mark, but does not end with one."""
    for start, field in _quoted_fields(text, separator):
        if field is None:
            line = len(_LINE_BREAK.findall(text, 0, start)) + 1 + n_blank_lines
            raise DataError(
                f'{name}: line {line}: a quotation mark (") begins a field and is never closed at the end of one: '
                'write the field as "…", with each " in it doubled'
            )


def _quoted_fields(text: str, separator: str) -> Iterator[tuple[int, str | None]]:
    """Start and text of each field that begins with a quotation mark; ends with ``None`` if one is not closed."""
    mark = re.compile(rf'(?:\A|(?<=[{separator}\r\n]))"')
    position = 0
    while match := mark.search(text, position):
        start = match.start()
        quoted = _QUOTED.match(text, start)
        if quoted is None or text[quoted.end() : quoted.end() + 1] not in ("", separator, "\r", "\n"):
            yield start, None
            return
        yield start, quoted[0]
        position = quoted.end()


def _unquote(column: pd.Series) -> pd.Series:
    """Remove the quotation marks of a column if all its cells are quoted, else of cells with doubled marks."""
    quoted = column.str.fullmatch(_QUOTED)
    if not quoted.any():
        return column
    if not (quoted | (column == "")).all():
        quoted &= column.str.slice(1, -1).str.contains('"', regex=False) | (column == '""')
    return column.where(~quoted, column.map(_unquoted))


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell
