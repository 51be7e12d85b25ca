"""Figure of a protein chain: residues, helices, strands and coils, and the confidence of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from lstmkit.plots.style import DIM, GREY, PALETTE, legend, new_figure, shown

LINE = 60  #: Residues.
_MOST_LINES = 10
_HELIX, _STRAND = "HGI", "EB"  # of DSSP's states
_RED, _GREEN = PALETTE[1], PALETTE[2]
_TURN = 3.6  # residues
_TINY = 6.4  # points


def chain_figure(
    sequence: str, states: Mapping[str, str], confidences: Sequence[float] | np.ndarray, title: str
) -> Figure:
    """Lines of 60 residues: letters, a wave for a helix, an arrow for a strand, a line for a coil, bars below.

    Args:
        sequence: A letter a residue; more than fill 10 lines are left out, and the title says so.
        states: By name a letter a residue. The first are drawn; those that are not ``"ss3"`` are written as well.
        confidences: A probability for each residue: the height of its bar.
        title: Over it.
    """
    drawn = sequence[: LINE * _MOST_LINES]
    lines = range(0, len(drawn), LINE)
    written = {name: row for name, row in states.items() if name != "ss3"}
    height = 2.2 + 0.45 * len(written)  # of a line, in the axes' own unit
    figure = new_figure(0.9 + 0.33 * height * len(lines))
    ax = figure.subplots()
    symbols = next(iter(states.values()))
    for k, start in enumerate(lines):
        top, stop = k * height, min(start + LINE, len(drawn))
        _write(ax, sequence[start:stop], top + 0.2, str(start + 1), bold=True)
        _draw_states(ax, symbols, start, stop, top + 0.75)
        for i, (name, row) in enumerate(written.items()):
            _write(ax, row[start:stop], top + 1.3 + 0.45 * i, name)
        _draw_bars(ax, np.asarray(confidences)[start:stop], top + height - 0.3)
    ax.set(xlim=(-5, LINE + 0.5), ylim=(len(lines) * height, -0.2))
    ax.set_axis_off()
    rest = f", the first {len(drawn):,} of {len(sequence):,} residues" if len(drawn) < len(sequence) else ""
    legend(figure, _keys(), shown(title, 50) + rest)
    return figure


def _write(ax: Axes, letters: str, y: float, label: str, bold: bool = False) -> None:
    look = {"va": "center", "fontsize": _TINY, "parse_math": False}
    for i, letter in enumerate(letters):
        weight = "bold" if bold else "normal"
        ax.text(i + 0.5, y, letter, ha="center", fontfamily="monospace", fontweight=weight, **look)
    ax.text(-0.6, y, shown(label, 10), ha="right", color=DIM, **look)


def _draw_states(ax: Axes, states: str, start: int, stop: int, y: float) -> None:
    at = start
    for symbol, run in itertools.groupby(states[start:stop], _symbol):
        end = at + len(list(run))
        left, right = at - start, end - start
        if symbol == "helix":
            x = np.linspace(left, right, 8 * (right - left) + 1)
            ax.plot(x, y - 0.3 * np.sin(2 * np.pi * (x - left) / _TURN), color=_RED, linewidth=1.8)
        elif symbol == "strand":
            goes_on = end == stop and end < len(states) and _symbol(states[end]) == symbol
            ax.add_patch(_arrow(left, right, y, goes_on))
        else:
            ax.plot([left, right], [y, y], color=GREY, linewidth=1.2)
        at = end


def _symbol(state: str) -> str:
    return "helix" if state in _HELIX else "strand" if state in _STRAND else "coil"


def _arrow(left: float, right: float, y: float, goes_on: bool) -> Polygon:
    """Without its head where the strand goes on in the next line."""
    neck = right if goes_on else max(left, right - 1.3)
    head = [] if goes_on else [(neck, y - 0.33), (right, y), (neck, y + 0.33)]
    corners = [(left, y - 0.15), (neck, y - 0.15), *head, (neck, y + 0.15), (left, y + 0.15)]
    return Polygon(corners, closed=True, facecolor=_GREEN, linewidth=0)


def _draw_bars(ax: Axes, confidences: np.ndarray, y: float) -> None:
    ax.bar(np.arange(len(confidences)) + 0.5, -0.5 * confidences, width=0.8, bottom=y, color=PALETTE[5], linewidth=0)
    for level, width in ((y, 0.6), (y - 0.5, 0.3)):
        ax.plot([0, len(confidences)], [level, level], color=GREY, linewidth=width)


def _keys() -> dict[str, Artist]:
    return {
        "helix": Line2D([], [], color=_RED, linewidth=1.8),
        "strand": Patch(facecolor=_GREEN),
        "coil": Line2D([], [], color=GREY, linewidth=1.2),
        "confidence (line: 1)": Patch(facecolor=PALETTE[5]),
    }
