"""Figure of a protein chain: residues, helices, strands and coils, and the confidence of each state."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from lstmkit.plots.style import DIM, GRAY, PALETTE, legend, new_figure, truncated

LINE = 60  #: Residues per line.
_MAX_LINES = 10
_HELIX_STATES, _STRAND_STATES = "HGI", "EB"  # of DSSP's states
_RED, _GREEN = PALETTE[1], PALETTE[2]
_HELIX_TURN = 3.6  # residues
_FONT_SIZE = 6.4  # points


def chain_figure(
    sequence: str, states: Mapping[str, str], confidence: Sequence[float] | np.ndarray, title: str
) -> Figure:
    """Draw a chain in lines of 60 residues: letters, waves for helices, arrows for strands, confidence as bars.

    Args:
        sequence: One letter per residue. Only the first 10 lines are drawn; the title then names the length.
        states: By alphabet, one letter per residue. The first alphabet is drawn; all but ``"ss3"`` are written too.
        confidence: Probability of each residue's state, drawn as a bar.
        title: Title of the figure.
    """
    drawn = sequence[: LINE * _MAX_LINES]
    lines = range(0, len(drawn), LINE)
    written = {name: row for name, row in states.items() if name != "ss3"}
    height = 2.2 + 0.45 * len(written)  # of a line, in data units of the axes
    figure = new_figure(0.9 + 0.33 * height * len(lines))
    ax = figure.subplots()
    symbols = next(iter(states.values()))
    for k, start in enumerate(lines):
        top, stop = k * height, min(start + LINE, len(drawn))
        _write(ax, sequence[start:stop], top + 0.2, str(start + 1), bold=True)
        _draw_states(ax, symbols, start, stop, top + 0.75)
        for i, (name, row) in enumerate(written.items()):
            _write(ax, row[start:stop], top + 1.3 + 0.45 * i, name)
        _draw_bars(ax, np.asarray(confidence)[start:stop], top + height - 0.3)
    ax.set(xlim=(-5, LINE + 0.5), ylim=(len(lines) * height, -0.2))
    ax.set_axis_off()
    rest = f", the first {len(drawn):,} of {len(sequence):,} residues" if len(drawn) < len(sequence) else ""
    legend(figure, _legend_handles(), truncated(title, 50) + rest)
    return figure


def _write(ax: Axes, letters: str, y: float, label: str, bold: bool = False) -> None:
    text_options = {"va": "center", "fontsize": _FONT_SIZE, "parse_math": False}
    for i, letter in enumerate(letters):
        weight = "bold" if bold else "normal"
        ax.text(i + 0.5, y, letter, ha="center", fontfamily="monospace", fontweight=weight, **text_options)
    ax.text(-0.6, y, truncated(label, 10), ha="right", color=DIM, **text_options)


def _draw_states(ax: Axes, states: str, start: int, stop: int, y: float) -> None:
    first = start
    for symbol, run in itertools.groupby(states[start:stop], _symbol):
        end = first + len(list(run))
        left, right = first - start, end - start
        if symbol == "helix":
            x = np.linspace(left, right, 8 * (right - left) + 1)
            ax.plot(x, y - 0.3 * np.sin(2 * np.pi * (x - left) / _HELIX_TURN), color=_RED, linewidth=1.8)
        elif symbol == "strand":
            continues = end == stop and end < len(states) and _symbol(states[end]) == symbol
            ax.add_patch(_arrow(left, right, y, continues))
        else:
            ax.plot([left, right], [y, y], color=GRAY, linewidth=1.2)
        first = end


def _symbol(state: str) -> str:
    return "helix" if state in _HELIX_STATES else "strand" if state in _STRAND_STATES else "coil"


def _arrow(left: float, right: float, y: float, continues: bool) -> Polygon:
    """An arrow; without its head if the strand continues in the next line."""
    neck = right if continues else max(left, right - 1.3)
    head = [] if continues else [(neck, y - 0.33), (right, y), (neck, y + 0.33)]
    corners = [(left, y - 0.15), (neck, y - 0.15), *head, (neck, y + 0.15), (left, y + 0.15)]
    return Polygon(corners, closed=True, facecolor=_GREEN, linewidth=0)


def _draw_bars(ax: Axes, confidence: np.ndarray, y: float) -> None:
    ax.bar(np.arange(len(confidence)) + 0.5, -0.5 * confidence, width=0.8, bottom=y, color=PALETTE[5], linewidth=0)
    for level, width in ((y, 0.6), (y - 0.5, 0.3)):
        ax.plot([0, len(confidence)], [level, level], color=GRAY, linewidth=width)


def _legend_handles() -> dict[str, Artist]:
    return {
        "helix": Line2D([], [], color=_RED, linewidth=1.8),
        "strand": Patch(facecolor=_GREEN),
        "coil": Line2D([], [], color=GRAY, linewidth=1.2),
        "confidence (upper line: 1)": Patch(facecolor=PALETTE[5]),
    }
