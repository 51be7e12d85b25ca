"""HTML reports: sections of text, tables and figures in one self-contained file; and tables for the terminal."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image, ImageChops

from lstmkit.training.checkpoint import write_bytes

_MAX_TABLE_ROWS = 50  # rows of a table shown on the page; the CSV download has all of them
_MIXED = "mixed-integer-float"  # of pandas' infer_dtype: different quantities, which share no decimals
_NUMERIC_KINDS = ("integer", "integer-na", "floating", _MIXED)
_MISSING_GLYPH = "▯"
_MIN_WITHOUT_EXPONENT, _MAX_WITHOUT_EXPONENT = 1e-7, 1e15  # in a column of numbers
_DPI = 200  # of a figure in the file
_DISPLAY_DPI = 120  # of a figure on the page
_MAX_PALETTE_ERROR = 24  # of 255: colors farther from the palette than this are seen
_MAX_VISIBLE = 1e-4  # fraction of such pixels
_BEST_RULE = re.compile(r"low|high|near:(-?\d+(\.\d+)?)")


@dataclass(frozen=True, eq=False)
class Section:
    """One section of a report: a heading, text, a table and a figure.

    Attributes:
        title: The heading.
        text: Paragraphs separated by empty lines.
        table: The first column names the rows. If the section also has a figure, the table is collapsed and should
            hold the figure's data. The whole table can be downloaded as CSV.
        figure: Rendered at 200 dots per inch and displayed at 120.
        caption: Caption of the figure if there is one, else of the table. It is also the figure's alternative text.
        best: By column name, which row to highlight: ``"low"``, ``"high"`` or ``"near:80"`` (closest to 80). If all
            values are equal, none is.
        best_in_rows: The columns of ``best`` are models: highlight the best of them in each row.

    Raises:
        ValueError: ``best`` names a column that the table lacks, or an unknown rule.

    >>> scores = pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.81, 1.2]})
    >>> Section("Accuracy", table=scores, best={"MASE": "low"}).title
    'Accuracy'
    """

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    figure: Figure | None = None
    caption: str = ""
    best: Mapping[str, str] = field(default_factory=dict)
    best_in_rows: bool = False

    def __post_init__(self) -> None:
        _check_best(self.table if self.table is not None else pd.DataFrame(), self.best)


def write_report(
    path: Path, title: str, lead: Sequence[str], sections: Sequence[Section], facts: Mapping[str, str]
) -> None:
    """Write the report as one self-contained HTML file, atomically.

    Args:
        path: The HTML file; its folder must exist.
        title: Title of the page.
        lead: Key findings listed at the top, one or two sentences each.
        sections: Sections in display order.
        facts: Names and values for the footer: seed, versions, settings and so on.
    """
    template = files("lstmkit").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    contexts = [_template_context(section) for section in sections]
    page = environment.from_string(template).render(title=title, lead=lead, sections=contexts, facts=facts)
    write_bytes(path, page.encode("utf-8", errors="replace"))


def format_table(table: pd.DataFrame, best: Mapping[str, str] | None = None) -> str:
    """Format a table as aligned text for a terminal; ``*`` marks the best value of a column.

    Args:
        table: Any data frame.
        best: By column name ``"low"``, ``"high"`` or ``"near:80"``, as in :class:`Section`.

    Raises:
        ValueError: ``best`` names a column that the table lacks, or an unknown rule.

    >>> print(format_table(pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.81234, 1.2]}), {"MASE": "low"}))
    model    MASE
    LSTM   *0.812
    naive   1.200
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, show_edge=False)
    formatted = _format_cells(table, best or {})
    for name, numeric in formatted.columns:
        grid.add_column(Text(_one_line(name)), justify="right" if numeric else "left", no_wrap=True)
    for row in formatted.rows:
        grid.add_row(*(Text("*" * cell.best + _one_line(cell.text)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=100_000, color_system=None, force_terminal=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def table_html(table: pd.DataFrame, directions: Mapping[str, str] | None = None) -> str:
    """The table as HTML for a notebook, the best of each column in bold.

    >>> table_html(pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.8, 1.2]}), {"MASE": "low"})[:48]
    '<table><thead><tr><th>model</th><th>MASE</th></t'
    """
    formatted = _format_cells(table, directions or {})
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in formatted.columns)
    rows = (
        "".join(f"<td>{'<b>' * cell.best}{escape(cell.text)}{'</b>' * cell.best}</td>" for cell in row)
        for row in formatted.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def table_markdown(table: pd.DataFrame, directions: Mapping[str, str] | None = None) -> str:
    """The table as Markdown, the best of each column in bold.

    >>> print(table_markdown(pd.DataFrame({"model": ["LSTM", "a|b"], "MASE": [0.8, 1.2]}), {"MASE": "low"}))
    | model | MASE |
    |---|---:|
    | LSTM | **0.800** |
    | a\\|b | 1.200 |
    """
    formatted = _format_cells(table, directions or {})

    def row(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(text: str) -> str:
        return re.sub(r"([\\|*_`<\[])", r"\\\1", _one_line(text))

    rows = [row("**" * c.best + cell(c.text) + "**" * c.best for c in cells) for cells in formatted.rows]
    rule = f"|{'|'.join('---:' if numeric else '---' for _, numeric in formatted.columns)}|"
    return "\n".join([row(cell(name) for name, _ in formatted.columns), rule, *rows])


def _one_line(text: str) -> str:
    """The text on one line, without control characters that a terminal would interpret."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def quantities(title: str, values: Mapping[str, float]) -> pd.DataFrame:
    """A table of different quantities, one a row: whole numbers stay whole beside fractions.

    >>> print(format_table(quantities("all data", {"recordings": 12, "minutes": 0.25})))
    all data    count
    recordings     12
    minutes      0.25
    """
    return pd.DataFrame({title: list(values), "count": pd.Series([*values.values()], dtype=object)})


# ---- numbers -------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Format a number with four significant digits, integers in full; NaN as ``–``.

    >>> [number(v) for v in (0.081234, 12.0, 1234567, 1234567.8, 1.5e-7, float("nan"))]
    ['0.08123', '12', '1,234,567', '1,234,568', '1.5e-07', '–']
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < _MAX_WITHOUT_EXPONENT else f"{value:.4g}"
    return f"{value:.4g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Format a column of numbers with the same decimals: three significant digits for the smallest of them.

    If the largest is more than 100 times the smallest, each has its own decimals. A column has exponents in all of its
    numbers or in none: only a value below 1e-7 or of 1e15 and more needs them.

    >>> numbers([0.81234, 1.2, float("nan")]), numbers([3, 1000]), numbers([0.00012, 53.2])
    (['0.812', '1.200', '–'], ['3', '1,000'], ['0.00012', '53.2'])
    >>> numbers([0.00006222, 0.02058]), numbers([6.222e-12, 0.02058, 0])
    (['0.00006222', '0.02058'], ['6.222e-12', '2.058e-02', '0'])
    """
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not sizes or all(float(size).is_integer() for size in sizes):
        return [number(v) for v in values]
    if min(sizes) < _MIN_WITHOUT_EXPONENT or max(sizes) >= _MAX_WITHOUT_EXPONENT:
        return [f"{v:.3e}" if math.isfinite(v) and v != 0 else number(v) for v in values]
    if max(sizes) > 100 * min(sizes):
        return [_without_exponent(v) for v in values]
    decimals = max(0, 2 - math.floor(math.log10(min(sizes))))
    return [f"{v:,.{decimals}f}" if math.isfinite(v) else number(v) for v in values]


def _without_exponent(value: float) -> str:
    """A number as :func:`number` formats it; a small one with zeros in place of an exponent."""
    if not 0 < abs(value) < 1e-4:
        return number(value)
    decimals = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}".rstrip("0")


# ---- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool


@dataclass(frozen=True)
class _FormattedTable:
    """A table as text: each column's name and whether it is numeric, and the rows."""

    columns: list[tuple[str, bool]]
    rows: list[tuple[_Cell, ...]]


def _format_cells(table: pd.DataFrame, best: Mapping[str, str], in_rows: bool = False) -> _FormattedTable:
    _check_best(table, best)
    best_of_rows = _best_columns(table, best) if in_rows else {}
    columns, column_cells = [], []
    for name, column in table.items():
        kind = pd.api.types.infer_dtype(column)
        numeric = kind in _NUMERIC_KINDS
        values = [float("nan") if pd.isna(v) else v for v in column] if numeric else list(column)
        texts = numbers(values) if numeric and kind != _MIXED else _format_values(values)
        best_rows = best_of_rows.get(str(name), set())
        if str(name) in best and numeric and not in_rows:
            best_rows = _best_rows(values, best[str(name)])
        columns.append((str(name), numeric))
        column_cells.append([_Cell(text, i in best_rows) for i, text in enumerate(texts)])
    return _FormattedTable(columns, list(zip(*column_cells, strict=True)))


def _format_values(values: Sequence[Any]) -> list[str]:
    """Format a column that is not numeric. Timestamps lose the time of day if it is midnight in all of them."""
    timestamps = [v for v in values if isinstance(v, pd.Timestamp) and not pd.isna(v)]
    days = all(timestamp == timestamp.normalize() for timestamp in timestamps)

    def text(value: Any) -> str:
        if value is None or value is pd.NaT or value is pd.NA:
            return "–"
        if isinstance(value, pd.Timestamp):
            return f"{value:%Y-%m-%d}" if days else f"{value:%Y-%m-%d %H:%M:%S}".removesuffix(":00")
        if isinstance(value, bool):
            return "yes" if value else "no"
        return number(float(value)) if isinstance(value, Real) else str(value)

    return [text(value) for value in values]


def _best_rows(values: Sequence[float], rule: str) -> set[int]:
    """Indices of the best rows; values that print like the best one count as equal."""
    target = float(rule[5:]) if rule.startswith("near:") else 0.0
    sign = -1 if rule == "high" else 1
    scores = [abs(v - target) if rule.startswith("near:") else sign * v for v in values]
    known = [score for score in scores if not math.isnan(score)]
    if len(known) < 2:
        return set()  # with one value there is nothing to compare
    texts = numbers(scores)
    rows = {i for i, score in enumerate(scores) if score == min(known) or texts[i] == texts[scores.index(min(known))]}
    return rows if len(rows) < len(known) else set()  # equal values: none is better


def _best_columns(table: pd.DataFrame, best: Mapping[str, str]) -> dict[str, set[int]]:
    """For each column of ``best``, the rows in which it is the best of them."""
    names = list(best)
    rows_of: dict[str, set[int]] = {name: set() for name in names}
    for row, values in enumerate(table.set_axis(table.columns.map(str), axis=1)[names].itertuples(index=False)):
        for column in _best_rows([float("nan") if pd.isna(v) else float(v) for v in values], best[names[0]]):
            rows_of[names[column]].add(row)
    return rows_of


def _check_best(table: pd.DataFrame, best: Mapping[str, str]) -> None:
    for column, rule in best.items():
        if column not in table.columns.map(str):
            raise ValueError(
                f"best names the column {column!r}, which the table lacks: "
                f"its columns are {', '.join(map(str, table.columns)) or 'none'}"
            )
        if not _BEST_RULE.fullmatch(rule):
            raise ValueError(f"unknown rule {rule!r} for the best of {column!r}: use 'low', 'high' or 'near:80'")


# ---- the page ------------------------------------------------------------------------------------------------------


def _template_context(section: Section) -> dict[str, Any]:
    """A section's variables in the template; figures and CSV files become data URIs."""
    context: dict[str, Any] = {"title": section.title, "caption": section.caption, "figure": None, "table": None}
    context["best_in_rows"] = section.best_in_rows
    context["paragraphs"] = [p for p in re.split(r"\n\s*\n", section.text.strip()) if p]
    if section.figure is not None:
        width, height = (round(_DISPLAY_DPI * side) for side in section.figure.get_size_inches())
        context["figure"] = {"src": _png(section.figure), "width": width, "height": height}
    if section.table is not None:
        csv = section.table.to_csv(index=False).encode("utf-8", "replace")
        context["table"] = _format_cells(section.table, section.best, section.best_in_rows)
        context["has_best"] = any(cell.best for row in context["table"].rows for cell in row)
        context["rows"] = context["table"].rows[:_MAX_TABLE_ROWS]
        context["csv"] = _data_uri("text/csv;charset=utf-8", csv)
        context["file"] = (re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "table") + ".csv"
    return context


def save_figure(figure: Figure, to: Any, **options: Any) -> None:
    """Call ``figure.savefig(to, **options)``; characters missing from the font become ``▯`` without a warning.

    >>> import io
    >>> figure = Figure()
    >>> text = figure.text(0.5, 0.5, "a中")
    >>> save_figure(figure, io.BytesIO(), format="png")
    >>> text.get_text()
    'a▯'
    """
    for text in figure.findobj(Text):
        font = get_font(findfont(text.get_fontproperties()))
        text.set_text(
            "".join(c if c == "\n" or font.get_char_index(ord(c)) else _MISSING_GLYPH for c in text.get_text())
        )
    figure.savefig(to, **options)


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    save_figure(figure, out, format="png", dpi=_DPI, metadata={"Software": None})
    image, small = Image.open(out).convert("RGB"), io.BytesIO()
    _with_palette(image).save(small, format="png", optimize=True)
    return _data_uri("image/png", small.getvalue())


def _with_palette(image: Image.Image) -> Image.Image:
    """The image with 256 colors, a third of the size, if one sees no difference; else, a photograph, as it is."""
    reduced = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    errors = ImageChops.difference(image, reduced.convert("RGB")).histogram()
    visible = sum(sum(errors[first + _MAX_PALETTE_ERROR : first + 256]) for first in (0, 256, 512))
    return reduced if visible <= _MAX_VISIBLE * image.width * image.height else image


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
