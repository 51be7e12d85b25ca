"""What pictures share: colours, dashes, legends, ticks.

Every picture is a matplotlib Figure of its own, drawn without pyplot or any global state: it works in threads and
without a display. Colours are Okabe and Ito's (2008), which colour-blind readers can tell apart; lines differ in dash
or marker too, for print without colour. Names from the data are drawn as they stand, never read as mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLUE, BLACK, GREY, DIM = "#0072B2", "#000000", "#767676", "#595959"
PALETTE = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (10, 3)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 6.6  #: Inches; the report draws 100 dots an inch, so that its column is filled and text stays readable.
SMALL = 9.5  #: Points.


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, on white, its parts laid out so that they do not overlap."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")


def line_style(i: int) -> dict[str, Any]:
    """Colour and dash of line ``i``; both change from line to line."""
    return {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}


def shown(text: object, longest: int = 70) -> str:
    """A name on one line, cut where it is too long.

    >>> shown("shop 1\\nback room", longest=10)
    'shop 1 ba…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def shortened_in_the_middle(text: object, longest: int) -> str:
    """A name cut in its middle: of names that differ at their ends, the ends are what tells them apart.

    >>> shortened_in_the_middle("a sensor with a long name 13", 12)
    'a sen…ame 13'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: (longest - 1) // 2]}…{line[-(longest // 2) :]}"


def legend(figure: Figure, handles: Mapping[str, Artist], title: str = "") -> None:
    """One legend above all panels, under the picture's title."""
    labels = [shown(label, 40) for label in handles]
    rows = math.ceil(len(labels) / max(1, 86 // (max(map(len, labels)) + 7)))
    # Labels come after: matplotlib refuses those that begin with "_" and would read "$" as mathematics.
    layout: Any = {"loc": "outside upper left", "ncols": math.ceil(len(labels) / rows), "alignment": "left"}
    look: Any = {"frameon": False, "fontsize": SMALL, "handlelength": 2.6, "columnspacing": 1.4}
    box = figure.legend(list(handles.values()), [" "] * len(labels), **layout, **look)
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False)
    if title:
        box.set_title(shown(title))
        box.get_title().set(fontsize=SMALL + 2, fontweight="bold", parse_math=False)


def style_axes(ax: Axes) -> None:
    """Light grid behind, no box, tick numbers written out."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e2e2e2", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def integer_ticks(ax: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only, be it one."""
    ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))


def draw_message(ax: Axes, text: str) -> None:
    """A panel with nothing in it but the reason."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=DIM, transform=ax.transAxes)
