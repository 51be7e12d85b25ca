"""Style shared by all figures: colors, line styles, legends, ticks.

Every figure is a separate matplotlib ``Figure``, drawn without pyplot or global state. It works in threads and without
a display. The colors are those of Okabe and Ito (2008), which color-blind readers can distinguish. Lines also differ in
line style or marker, for print without color. Names from the data are drawn literally, never parsed as math text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLUE, BLACK, GRAY, DIM = "#0072B2", "#000000", "#767676", "#595959"
PALETTE = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (10, 3)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 6.6  #: Figure width in inches; at the report's 100 dots per inch a figure fills the text column.
SMALL = 9.5  #: Font size of labels, in points.


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure on white with constrained layout; ``height`` and ``width`` in inches."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")


def line_style(i: int) -> dict[str, Any]:
    """Color and line style of line ``i``; both differ between neighbors."""
    return {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}


def truncated(text: object, max_length: int = 70) -> str:
    """The text on one line, truncated to ``max_length`` characters.

    >>> truncated("shop 1\\nback room", max_length=10)
    'shop 1 ba…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= max_length else line[: max_length - 1] + "…"


def truncated_in_the_middle(text: object, max_length: int) -> str:
    """The text on one line, truncated in the middle, so that names that differ only at the end stay distinct.

    >>> truncated_in_the_middle("a sensor with a long name 13", 12)
    'a sen…ame 13'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= max_length else f"{line[: (max_length - 1) // 2]}…{line[-(max_length // 2) :]}"


def legend(figure: Figure, handles: Mapping[str, Artist], title: str = "") -> None:
    """Add one legend above all panels, under the figure's title."""
    labels = [truncated(label, 40) for label in handles]
    rows = math.ceil(len(labels) / max(1, 86 // (max(map(len, labels)) + 7)))
    # Labels are set afterwards: matplotlib drops those that begin with "_" and would parse "$" as math text.
    layout: Any = {"loc": "outside upper left", "ncols": math.ceil(len(labels) / rows), "alignment": "left"}
    style: Any = {"frameon": False, "fontsize": SMALL, "handlelength": 2.6, "columnspacing": 1.4}
    box = figure.legend(list(handles.values()), [" "] * len(labels), **layout, **style)
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False)
    if title:
        box.set_title(truncated(title))
        box.get_title().set(fontsize=SMALL + 2, fontweight="bold", parse_math=False)


def note_selection(figure: Figure, count: int, name: str, *, drawn: int = 1, which: str = "") -> Figure:
    """Write below a figure of some predictions how many there are: "the first of 20 texts".

    Args:
        figure: The figure; it is returned.
        count: Number of predictions; nothing is written if all are drawn.
        name: What they are, in the plural.
        drawn: How many are drawn.
        which: Which of them, if not the first.
    """
    if count > drawn:
        which = which or ("the first" if drawn == 1 else f"the first {drawn}")
        figure.supxlabel(f"{which} of {count:,} {name}", x=0.01, ha="left", fontsize=SMALL, color=DIM)
    return figure


def style_axes(ax: Axes) -> None:
    """Apply the house style: light grid, no top and right spines, tick numbers without offsets or exponents."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e2e2e2", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def integer_ticks(ax: Axes) -> None:
    """Place ticks of the x axis at integers only, at least one."""
    ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))


def draw_message(ax: Axes, text: str) -> None:
    """Replace a panel by a message, for example why there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=DIM, transform=ax.transAxes)
