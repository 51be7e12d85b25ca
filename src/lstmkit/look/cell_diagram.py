"""The textbook diagram of a cell, annotated with the values of one unit at one step, above its equations."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from lstmkit.look.cell_step import CellStep, Equation
from lstmkit.plots.style import BLACK, BLUE, DIM, SMALL, new_figure, truncated

Point = tuple[float, float]

_BOX_COLOR, _BODY_COLOR = "#dceaf3", "#f6f6f6"
_WIDTH, _HEIGHT = 100.0, 58.0  # size of the diagram in data coordinates


def cell_figure(step: CellStep, *, read: str = "") -> Figure:
    """Draw the cell's diagram above its equations.

    Args:
        step: One step of one unit, from :func:`lstmkit.look.cell_step.cell_step`.
        read: Label of the input at this step: a word, a timestamp.
    """
    diagram_height, line_height = 3.9, 0.3  # inches
    figure = new_figure(diagram_height + 0.4 + line_height * len(step.equations))
    figure.suptitle(truncated(step.where, 90), x=0.01, ha="left", fontsize=SMALL + 2, fontweight="bold")
    top, below = figure.subplots(2, 1, height_ratios=[diagram_height, line_height * len(step.equations)])
    for ax in (top, below):
        ax.set_axis_off()
    top.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT), aspect="equal")
    diagram = _Diagram(top, step.values)
    {"lstm": _draw_lstm, "gru": _draw_gru}.get(step.kind, _draw_rnn)(diagram, step)
    diagram.text((_LEFT + 6, 1.5), rf"$x_t$  {truncated(read, 24)}".rstrip() if "$" not in read else "$x_t$", ha="left")
    _write_equations(below, step.equations)
    return figure


class _Diagram:
    """Drawing primitives of a cell diagram."""

    def __init__(self, ax: Axes, values: dict[str, float]) -> None:
        self.ax, self.values = ax, values

    def number(self, symbol: str) -> str:
        value = self.values.get(symbol)
        return "" if value is None else f"{value:.2f}".replace("-", "−")

    def body(self, low: Point, high: Point) -> None:
        size = (high[0] - low[0], high[1] - low[1])
        self.ax.add_patch(
            FancyBboxPatch(low, *size, boxstyle="round,pad=0,rounding_size=4", fc=_BODY_COLOR, ec="#8a8a8a")
        )

    def box(self, at: Point, text: str) -> None:
        """A layer of the network: a gate or the candidate."""
        low = (at[0] - 5, at[1] - 3)
        style = "round,pad=0,rounding_size=0.8"
        self.ax.add_patch(FancyBboxPatch(low, 10, 6, boxstyle=style, fc=_BOX_COLOR, ec=BLUE, lw=1.3, zorder=3))
        self.text(at, text, zorder=4)

    def unary(self, at: Point, text: str) -> None:
        """An operation on one value."""
        low = (at[0] - 4.5, at[1] - 2.6)
        style = "round,pad=0,rounding_size=0.8"
        self.ax.add_patch(FancyBboxPatch(low, 9, 5.2, boxstyle=style, fc="white", ec=BLACK, zorder=3))
        self.text(at, text, zorder=4)

    def binary(self, at: Point, text: str) -> None:
        """An operation on two values."""
        self.ax.add_patch(Circle(at, 2.4, fc="white", ec=BLACK, lw=1.2, zorder=3))
        self.text(at, text, zorder=4)

    def wire(self, *points: Point, width: float = 1.3, arrow: bool = True) -> None:
        xs, ys = zip(*points, strict=True)
        self.ax.plot(xs, ys, color=BLACK, linewidth=width, solid_joinstyle="round", zorder=2)
        if arrow:
            head = FancyArrowPatch(
                points[-2], points[-1], arrowstyle="-|>", mutation_scale=11, color=BLACK, lw=width, zorder=2,
                shrinkA=0, shrinkB=0,
            )  # fmt: skip
            self.ax.add_patch(head)

    def text(self, at: Point, text: str, *, ha: str = "center", zorder: float = 5, bold: bool = False) -> None:
        weight = "bold" if bold else "normal"
        self.ax.text(*at, text, ha=ha, va="center", fontsize=SMALL, fontweight=weight, zorder=zorder)

    def value(self, at: Point, symbol: str, name: str, *, ha: str = "left") -> None:
        """A value next to a wire; its background hides the wire behind it."""
        number = self.number(symbol)
        if number:
            self.ax.text(
                *at, f"${name}$ = {number}", ha=ha, va="center", fontsize=SMALL, zorder=5,
                bbox={"fc": _BODY_COLOR, "ec": "none", "pad": 0.8},
            )  # fmt: skip


_LEFT, _RIGHT, _BUS, _MEMORY_LINE = 11.0, 89.0, 11.0, 49.0


def _frame(s: _Diagram, last: float) -> None:
    """The body of the cell, its inputs below, and the bus that the gates read."""
    s.body((_LEFT, 6), (_RIGHT, 55))
    s.wire((0, _BUS), (last, _BUS), arrow=False)
    s.wire((_LEFT + 5, 0), (_LEFT + 5, _BUS))
    s.text((4, _BUS + 3), "$h_{t-1}$")
    s.text((4, _BUS - 3), s.number("h_before"))


def _read(s: _Diagram, x: float) -> None:
    s.wire((x, _BUS), (x, 17))


def _draw_lstm(s: _Diagram, step: CellStep) -> None:
    f, i, g, o, out = 24.0, 37.0, 51.0, 66.0, 79.0
    _frame(s, o)
    s.wire((0, _MEMORY_LINE), (100, _MEMORY_LINE), width=3.2)
    s.text((5, _MEMORY_LINE + 3.4), "$c_{t-1}$")
    s.text((5, _MEMORY_LINE - 3.6), s.number("c_before"))
    s.text((95, _MEMORY_LINE + 3.4), "$c_t$")
    s.text((95, _MEMORY_LINE - 3.6), s.number("c"), bold=True)
    coupled = any(line.unicode.startswith("i = 1") for line in step.equations)
    for x, sign in ((f, "σ"), (i, "σ"), (g, "tanh"), (o, "σ")):
        if x != i or not coupled:
            _read(s, x)
            s.box((x, 20), sign)
    if coupled:
        s.wire((f + 5, 20), (i - 4.5, 20))
        s.unary((i, 20), "1 − f")
    s.wire((f, 23), (f, _MEMORY_LINE - 2.4))
    s.wire((i, 23), (i, 35), (g - 2.4, 35))
    s.wire((g, 23), (g, 35 - 2.4))
    s.wire((g, 35 + 2.4), (g, _MEMORY_LINE - 2.4))
    s.binary((f, _MEMORY_LINE), "×")
    s.binary((g, 35), "×")
    s.binary((g, _MEMORY_LINE), "+")
    s.wire((out, _MEMORY_LINE), (out, 44))
    s.box((out, 41), "tanh")
    s.wire((out, 38), (out, 28 + 2.4))
    s.wire((o, 23), (o, 28), (out - 2.4, 28))
    s.binary((out, 28), "×")
    s.wire((out, 28 - 2.4), (out, _BUS), (100, _BUS))
    for x, symbol, name in ((f, "f", "f_t"), (i, "i", "i_t"), (g, "g", r"\hat{c}_t")):
        s.value((x + 1, 26), symbol, name)
    s.value((o + 1, 31), "o", "o_t", ha="center")
    s.text((f, _MEMORY_LINE + 4), "forget", bold=True)
    s.text((g, _MEMORY_LINE + 4), "write", bold=True)
    s.text((out, _MEMORY_LINE + 4), "output", bold=True)
    _label_output(s, step)


def _draw_gru(s: _Diagram, step: CellStep) -> None:
    r, z, n = 25.0, 42.0, 70.0
    _frame(s, n)
    s.wire((_LEFT - 2, _BUS), (_LEFT - 2, _MEMORY_LINE), (96, _MEMORY_LINE), (96, _BUS + 9), width=3.2)
    for x, sign in ((r, "σ"), (z, "σ"), (n, "tanh")):
        _read(s, x)
        s.box((x, 20), sign)
    s.wire((r, 23), (r, 29), (57, 29), (57, _BUS + 2.4))
    s.binary((57, _BUS), "×")
    s.wire((z, 23), (z, _MEMORY_LINE - 2.4))
    s.binary((z, _MEMORY_LINE), "×")
    s.wire((z, 38), (n - 2.4, 38))
    s.unary((55.5, 38), "1 − z")
    s.wire((n, 23), (n, 38 - 2.4))
    s.binary((n, 38), "×")
    s.wire((n, 38 + 2.4), (n, _MEMORY_LINE - 2.4))
    s.binary((n, _MEMORY_LINE), "+")
    for x, symbol, name in ((r, "r", "r_t"), (z, "z", "z_t"), (n, "n", "n_t")):
        s.value((x + 1, 26), symbol, name)
    s.text((z, _MEMORY_LINE + 4), "keep", bold=True)
    s.text((n, _MEMORY_LINE + 4), "write", bold=True)
    s.text((96, _BUS + 3), "$h_t$")
    s.text((96, _BUS - 1.5), s.number("h"), bold=True)


def _draw_rnn(s: _Diagram, step: CellStep) -> None:
    middle = 50.0
    _frame(s, middle)
    s.wire((middle, _BUS), (middle, 27))
    s.box((middle, 30), "tanh" if step.kind == "rnn_tanh" else "relu")
    s.wire((middle, 33), (middle, 42), (75, 42), (75, _BUS), (100, _BUS))
    s.value((middle + 1, 38), "h", "h_t")
    _label_output(s, step)


def _label_output(s: _Diagram, step: CellStep) -> None:
    s.text((95, _BUS + 3), "$h_t$" if not any(line.unicode.startswith("m") for line in step.equations) else "$m_t$")
    s.text((95, _BUS - 3), s.number("h"), bold=True)


def _write_equations(ax: Axes, equations: Sequence[Equation]) -> None:
    """Write one line per equation: the formula, the formula with its numbers, the result."""
    ax.set(xlim=(0, 1), ylim=(len(equations), 0))
    for row, line in enumerate(equations):
        y = row + 0.5
        ax.text(0.01, y, f"${line.formula}$", va="center", fontsize=SMALL + 1)
        ax.text(0.50, y, f"= {line.numbers}", va="center", fontsize=SMALL, color=DIM)
        value = f"{line.value:.3f}".replace("-", "−")
        ax.text(0.99, y, f"= {value}", va="center", ha="right", fontsize=SMALL, fontweight="bold")
