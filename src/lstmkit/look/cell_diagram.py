"""The cell as textbooks draw it, with the numbers of one step of one unit in it and its equations below."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from lstmkit.look.cell_step import CellStep, Equation
from lstmkit.plots.style import BLACK, BLUE, DIM, SMALL, new_figure, shown

Point = tuple[float, float]

_FILL, _BODY = "#dceaf3", "#f6f6f6"
_WIDE, _HIGH = 100.0, 58.0  # of the drawing, in its own units


def cell_figure(step: CellStep, *, read: str = "") -> Figure:
    """The cell's drawing over its equations.

    Args:
        step: What :func:`lstmkit.look.cell_step.cell_step` found.
        read: What the unit's layer read at this step, as far as it has a name: a word, a stamp.
    """
    drawing, line = 3.9, 0.3
    figure = new_figure(drawing + 0.4 + line * len(step.equations))
    figure.suptitle(shown(step.where, 90), x=0.01, ha="left", fontsize=SMALL + 2, fontweight="bold")
    top, below = figure.subplots(2, 1, height_ratios=[drawing, line * len(step.equations)])
    for ax in (top, below):
        ax.set_axis_off()
    top.set(xlim=(0, _WIDE), ylim=(0, _HIGH), aspect="equal")
    sketch = _Diagram(top, step.values)
    {"lstm": _draw_lstm, "gru": _draw_gru}.get(step.kind, _draw_rnn)(sketch, step)
    sketch.say((_LEFT + 6, 1.5), rf"$x_t$  {shown(read, 24)}".rstrip() if "$" not in read else "$x_t$", ha="left")
    _write_equations(below, step.equations)
    return figure


class _Diagram:
    """The few strokes that the drawings are made of."""

    def __init__(self, ax: Axes, values: dict[str, float]) -> None:
        self.ax, self.values = ax, values

    def number(self, symbol: str) -> str:
        value = self.values.get(symbol)
        return "" if value is None else f"{value:.2f}".replace("-", "−")

    def body(self, low: Point, high: Point) -> None:
        size = (high[0] - low[0], high[1] - low[1])
        self.ax.add_patch(FancyBboxPatch(low, *size, boxstyle="round,pad=0,rounding_size=4", fc=_BODY, ec="#8a8a8a"))

    def box(self, at: Point, text: str) -> None:
        """A layer of the network: a gate or the candidate."""
        low = (at[0] - 5, at[1] - 3)
        style = "round,pad=0,rounding_size=0.8"
        self.ax.add_patch(FancyBboxPatch(low, 10, 6, boxstyle=style, fc=_FILL, ec=BLUE, lw=1.3, zorder=3))
        self.say(at, text, zorder=4)

    def note(self, at: Point, text: str) -> None:
        """An operation on one number."""
        low = (at[0] - 4.5, at[1] - 2.6)
        style = "round,pad=0,rounding_size=0.8"
        self.ax.add_patch(FancyBboxPatch(low, 9, 5.2, boxstyle=style, fc="white", ec=BLACK, zorder=3))
        self.say(at, text, zorder=4)

    def dot(self, at: Point, text: str) -> None:
        """An operation on two numbers."""
        self.ax.add_patch(Circle(at, 2.4, fc="white", ec=BLACK, lw=1.2, zorder=3))
        self.say(at, text, zorder=4)

    def wire(self, *points: Point, width: float = 1.3, arrow: bool = True) -> None:
        xs, ys = zip(*points, strict=True)
        self.ax.plot(xs, ys, color=BLACK, linewidth=width, solid_joinstyle="round", zorder=2)
        if arrow:
            head = FancyArrowPatch(
                points[-2], points[-1], arrowstyle="-|>", mutation_scale=11, color=BLACK, lw=width, zorder=2,
                shrinkA=0, shrinkB=0,
            )  # fmt: skip
            self.ax.add_patch(head)

    def say(self, at: Point, text: str, *, ha: str = "center", zorder: float = 5, strong: bool = False) -> None:
        weight = "bold" if strong else "normal"
        self.ax.text(*at, text, ha=ha, va="center", fontsize=SMALL, fontweight=weight, zorder=zorder)

    def value(self, at: Point, symbol: str, name: str, *, ha: str = "left") -> None:
        """A number beside a wire; on the body's colour, so that a wire behind does not cross it."""
        number = self.number(symbol)
        if number:
            self.ax.text(
                *at, f"${name}$ = {number}", ha=ha, va="center", fontsize=SMALL, zorder=5,
                bbox={"fc": _BODY, "ec": "none", "pad": 0.8},
            )  # fmt: skip


_LEFT, _RIGHT, _BUS, _BELT = 11.0, 89.0, 11.0, 49.0


def _frame(s: _Diagram, last: float) -> None:
    """The body, what comes in below, and the bus from which the gates read."""
    s.body((_LEFT, 6), (_RIGHT, 55))
    s.wire((0, _BUS), (last, _BUS), arrow=False)
    s.wire((_LEFT + 5, 0), (_LEFT + 5, _BUS))
    s.say((4, _BUS + 3), "$h_{t-1}$")
    s.say((4, _BUS - 3), s.number("h_before"))


def _read(s: _Diagram, x: float) -> None:
    s.wire((x, _BUS), (x, 17))


def _draw_lstm(s: _Diagram, step: CellStep) -> None:
    f, i, g, o, out = 24.0, 37.0, 51.0, 66.0, 79.0
    _frame(s, o)
    s.wire((0, _BELT), (100, _BELT), width=3.2)
    s.say((5, _BELT + 3.4), "$c_{t-1}$")
    s.say((5, _BELT - 3.6), s.number("c_before"))
    s.say((95, _BELT + 3.4), "$c_t$")
    s.say((95, _BELT - 3.6), s.number("c"), strong=True)
    coupled = any(line.plain.startswith("i = 1") for line in step.equations)
    for x, sign in ((f, "σ"), (i, "σ"), (g, "tanh"), (o, "σ")):
        if x != i or not coupled:
            _read(s, x)
            s.box((x, 20), sign)
    if coupled:
        s.wire((f + 5, 20), (i - 4.5, 20))
        s.note((i, 20), "1 − f")
    s.wire((f, 23), (f, _BELT - 2.4))
    s.wire((i, 23), (i, 35), (g - 2.4, 35))
    s.wire((g, 23), (g, 35 - 2.4))
    s.wire((g, 35 + 2.4), (g, _BELT - 2.4))
    s.dot((f, _BELT), "×")
    s.dot((g, 35), "×")
    s.dot((g, _BELT), "+")
    s.wire((out, _BELT), (out, 44))
    s.box((out, 41), "tanh")
    s.wire((out, 38), (out, 28 + 2.4))
    s.wire((o, 23), (o, 28), (out - 2.4, 28))
    s.dot((out, 28), "×")
    s.wire((out, 28 - 2.4), (out, _BUS), (100, _BUS))
    for x, symbol, name in ((f, "f", "f_t"), (i, "i", "i_t"), (g, "g", r"\hat{c}_t")):
        s.value((x + 1, 26), symbol, name)
    s.value((o + 1, 31), "o", "o_t", ha="center")
    s.say((f, _BELT + 4), "forget", strong=True)
    s.say((g, _BELT + 4), "write", strong=True)
    s.say((out, _BELT + 4), "let out", strong=True)
    _out(s, step)


def _draw_gru(s: _Diagram, step: CellStep) -> None:
    r, z, n = 25.0, 42.0, 70.0
    _frame(s, n)
    s.wire((_LEFT - 2, _BUS), (_LEFT - 2, _BELT), (96, _BELT), (96, _BUS + 9), width=3.2)
    for x, sign in ((r, "σ"), (z, "σ"), (n, "tanh")):
        _read(s, x)
        s.box((x, 20), sign)
    s.wire((r, 23), (r, 29), (57, 29), (57, _BUS + 2.4))
    s.dot((57, _BUS), "×")
    s.wire((z, 23), (z, _BELT - 2.4))
    s.dot((z, _BELT), "×")
    s.wire((z, 38), (n - 2.4, 38))
    s.note((55.5, 38), "1 − z")
    s.wire((n, 23), (n, 38 - 2.4))
    s.dot((n, 38), "×")
    s.wire((n, 38 + 2.4), (n, _BELT - 2.4))
    s.dot((n, _BELT), "+")
    for x, symbol, name in ((r, "r", "r_t"), (z, "z", "z_t"), (n, "n", "n_t")):
        s.value((x + 1, 26), symbol, name)
    s.say((z, _BELT + 4), "keep", strong=True)
    s.say((n, _BELT + 4), "write", strong=True)
    s.say((96, _BUS + 3), "$h_t$")
    s.say((96, _BUS - 1.5), s.number("h"), strong=True)


def _draw_rnn(s: _Diagram, step: CellStep) -> None:
    middle = 50.0
    _frame(s, middle)
    s.wire((middle, _BUS), (middle, 27))
    s.box((middle, 30), "tanh" if step.kind == "rnn_tanh" else "relu")
    s.wire((middle, 33), (middle, 42), (75, 42), (75, _BUS), (100, _BUS))
    s.value((middle + 1, 38), "h", "h_t")
    _out(s, step)


def _out(s: _Diagram, step: CellStep) -> None:
    s.say((95, _BUS + 3), "$h_t$" if not any(line.plain.startswith("m") for line in step.equations) else "$m_t$")
    s.say((95, _BUS - 3), s.number("h"), strong=True)


def _write_equations(ax: Axes, equations: Sequence[Equation]) -> None:
    """A line each: the equation, the numbers in it, what came out."""
    ax.set(xlim=(0, 1), ylim=(len(equations), 0))
    for row, line in enumerate(equations):
        y = row + 0.5
        ax.text(0.01, y, f"${line.formula}$", va="center", fontsize=SMALL + 1)
        ax.text(0.50, y, f"= {line.numbers}", va="center", fontsize=SMALL, color=DIM)
        value = f"{line.value:.3f}".replace("-", "−")
        ax.text(0.99, y, f"= {value}", va="center", ha="right", fontsize=SMALL, fontweight="bold")
