"""The run's page: what was learnt, how well, against what. One HTML file that needs nothing else, on any screen."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
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

from lstmkit.training.checkpoint import write_bytes

_MOST_ROWS = 50  # of a table on the page; all of them are in its CSV
_NUMBERS = ("integer", "integer-na", "floating", "mixed-integer-float")  # as pandas names what a column holds
_MISSING_GLYPH = "▯"
_RULE = re.compile(r"low|high|near:(-?\d+(\.\d+)?)")


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Paragraphs, an empty line between them.
        table: Its first column names the rows. Below a figure it is folded away: then it should be the figure's
            numbers. All of it can be downloaded as CSV.
        figure: Drawn at twice the screen's dots.
        caption: Of the figure, else of the table. Readers who cannot see the figure get it in the figure's place.
        best: For a column, which of its rows to mark: ``"low"``, ``"high"`` or ``"near:80"`` (closest to 80).

    Raises:
        ValueError: ``best`` names a column that the table lacks, or an unknown rule.
    """

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    figure: Figure | None = None
    caption: str = ""
    best: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_best(self.table if self.table is not None else pd.DataFrame(), self.best)


def write_report(
    path: Path, title: str, lead: Sequence[str], sections: Sequence[Section], facts: Mapping[str, str]
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The file, in a folder that is there.
        title: The page's.
        lead: What a reader should know who reads no further, a sentence or two each.
        sections: In order.
        facts: For the foot: seed, versions, settings, …
    """
    template = files("lstmkit").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = [_shown(section) for section in sections]
    page = environment.from_string(template).render(title=title, lead=lead, sections=shown, facts=facts)
    write_bytes(path, page.encode("utf-8", errors="replace"))


def format_table(table: pd.DataFrame, best: Mapping[str, str] | None = None) -> str:
    """The table for a terminal, aligned, the best of a column marked with ``*``.

    >>> print(format_table(pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.81234, 1.2]}), {"MASE": "low"}))
    model    MASE
    LSTM   *0.812
    naive   1.200
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, show_edge=False)
    cells = _cells(table, best or {})
    for name, numeric in cells.columns:
        grid.add_column(Text(_one_line(name)), justify="right" if numeric else "left", no_wrap=True)
    for row in cells.rows:
        grid.add_row(*(Text("*" * cell.best + _one_line(cell.text)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=100_000, color_system=None, force_terminal=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def table_html(table: pd.DataFrame, directions: Mapping[str, str] | None = None) -> str:
    """The table as HTML for a notebook, the best of each column in bold.

    >>> table_html(pd.DataFrame({"model": ["LSTM", "naive"], "MASE": [0.8, 1.2]}), {"MASE": "low"})[:48]
    '<table><thead><tr><th>model</th><th>MASE</th></t'
    """
    cells = _cells(table, directions or {})
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in cells.columns)
    rows = (
        "".join(f"<td>{'<b>' * cell.best}{escape(cell.text)}{'</b>' * cell.best}</td>" for cell in row)
        for row in cells.rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _one_line(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


# ---- numbers -------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number to four significant digits, whole ones in full; ``–`` where there is none.

    >>> [number(v) for v in (0.081234, 12.0, 1234567, 1234567.8, 1.5e-7, float("nan"))]
    ['0.08123', '12', '1,234,567', '1,234,568', '1.5e-07', '–']
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Numbers below each other: as many decimals as give the smallest of them three significant digits.

    Where they differ more than a hundredfold each stands for itself, as :func:`number` has it.

    >>> numbers([0.81234, 1.2, float("nan")]), numbers([3, 1000]), numbers([0.00012, 53.2])
    (['0.812', '1.200', '–'], ['3', '1,000'], ['0.00012', '53.2'])
    """
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    alone = not sizes or max(sizes) > 100 * min(sizes) or min(sizes) < 1e-4
    if alone or all(float(size).is_integer() for size in sizes):
        return [number(v) for v in values]
    decimals = max(0, 2 - math.floor(math.log10(min(sizes))))
    return [f"{v:,.{decimals}f}" if math.isfinite(v) else number(v) for v in values]


# ---- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool


@dataclass(frozen=True)
class _Cells:
    """A table as text: each column's name and whether it holds numbers, then the rows."""

    columns: list[tuple[str, bool]]
    rows: list[tuple[_Cell, ...]]


def _cells(table: pd.DataFrame, best: Mapping[str, str]) -> _Cells:
    _check_best(table, best)
    columns, filled = [], []
    for name, column in table.items():
        numeric = pd.api.types.infer_dtype(column) in _NUMBERS
        values = [float("nan") if pd.isna(v) else v for v in column] if numeric else list(column)
        texts = numbers(values) if numeric else _texts(values)
        marked = _best_rows(values, best[str(name)]) if str(name) in best and numeric else set()
        columns.append((str(name), numeric))
        filled.append([_Cell(text, i in marked) for i, text in enumerate(texts)])
    return _Cells(columns, list(zip(*filled, strict=True)))


def _texts(values: Sequence[Any]) -> list[str]:
    """What is no column of numbers: stamps without a time of day that none of them has, the rest as it is."""
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
    """Rows to mark; those that look the same as the best in print are as good."""
    target = float(rule[5:]) if rule.startswith("near:") else 0.0
    sign = -1 if rule == "high" else 1
    scores = [abs(v - target) if rule.startswith("near:") else sign * v for v in values]
    known = [score for score in scores if not math.isnan(score)]
    if len(known) < 2:
        return set()  # the best of one says nothing
    texts = numbers(scores)
    return {i for i, score in enumerate(scores) if score == min(known) or texts[i] == texts[scores.index(min(known))]}


def _check_best(table: pd.DataFrame, best: Mapping[str, str]) -> None:
    for column, rule in best.items():
        if column not in table.columns.map(str):
            raise ValueError(f"best names the column {column!r}, the table has {', '.join(map(str, table.columns))}")
        if not _RULE.fullmatch(rule):
            raise ValueError(f"unknown rule {rule!r} for the best of {column!r}: 'low', 'high' or 'near:80'")


# ---- the page ------------------------------------------------------------------------------------------------------


def _shown(section: Section) -> dict[str, Any]:
    """A section as the template has it: text, and what is no text as data in the page itself."""
    shown: dict[str, Any] = {"title": section.title, "caption": section.caption, "figure": None, "table": None}
    shown["paragraphs"] = [p for p in re.split(r"\n\s*\n", section.text.strip()) if p]
    if section.figure is not None:
        width, height = (round(100 * side) for side in section.figure.get_size_inches())
        shown["figure"] = {"src": _png(section.figure), "width": width, "height": height}
    if section.table is not None:
        shown["table"] = _cells(section.table, section.best)
        shown["marked"] = any(cell.best for row in shown["table"].rows for cell in row)
        shown["rows"] = shown["table"].rows[:_MOST_ROWS]
        shown["csv"] = _data_uri("text/csv;charset=utf-8", section.table.to_csv(index=False).encode("utf-8", "replace"))
        shown["file"] = (re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "table") + ".csv"
    return shown


def save_figure(figure: Figure, to: Any, **options: Any) -> None:
    """As ``figure.savefig``; a character that the font has no sign for is drawn as ``▯``, and nobody is warned.

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
    save_figure(figure, out, format="png", dpi=200, metadata={"Software": None})
    return _data_uri("image/png", out.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
