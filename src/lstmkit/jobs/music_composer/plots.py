"""Pictures of music: piano rolls, what was given told from what was composed; keys counted; likelihood step by step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lstmkit.plots.style import (
    BLUE,
    GREY,
    MARKERS,
    PALETTE,
    SMALL,
    integer_ticks,
    legend,
    line_style,
    new_figure,
    style_axes,
)

_MOST_STEPS = 160  # that are drawn
_MIDDLE_C, _OCTAVE = 39, 12  # keys, from 0
_SPAN = 30  # keys shown at least
_BLACK = (1, 3, 6, 8, 10)  # of an octave from C


def piano_roll_figure(roll: np.ndarray, given: np.ndarray, title: str) -> Figure:
    """A piano roll: what was given in grey, what was composed in blue.

    Args:
        roll: ``(T, 88)`` of 0 and 1; of more than 160 steps those around where what was composed begins.
        given: ``(T, 88)`` true where that was given.
        title: Over it.
    """
    composed = np.flatnonzero(~given.all(axis=1))
    begins = int(composed[0]) if len(composed) else 0
    start = max(0, min(begins - _MOST_STEPS // 2, len(roll) - _MOST_STEPS))
    drawn = slice(start, start + _MOST_STEPS)
    low, high = _span(roll[drawn])
    figure = new_figure(1.2 + 0.055 * (high - low))
    ax = figure.subplots()
    _keyboard(ax, low, high)
    both = {"given": (roll * given, GREY), "composed": (roll * ~given, BLUE)}
    for part, colour in both.values():
        ax.add_collection(
            PatchCollection(_bars(part[drawn], start), facecolor=colour, edgecolor="white", linewidth=0.6)
        )
    if begins > 0 and given[:begins].all():
        ax.axvline(begins, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlim=(start, start + max(1, len(roll[drawn]))), ylim=(low, high + 1))
    ax.set_xlabel("step", fontsize=SMALL)
    integer_ticks(ax)
    shown: dict[str, Artist] = {name: Patch(facecolor=colour) for name, (part, colour) in both.items() if part.any()}
    legend(figure, shown or {"silence": Patch(facecolor="white")}, title)
    return figure


def _span(roll: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest key to show."""
    keys = np.flatnonzero(roll.any(axis=0))
    low, high = (int(keys[0]), int(keys[-1])) if len(keys) else (_MIDDLE_C, _MIDDLE_C)
    more = max(4, _SPAN - (high - low))
    return max(0, low - more // 2), min(roll.shape[1] - 1, high + more - more // 2)


def _bars(roll: np.ndarray, start: int) -> list[Rectangle]:
    """A bar for each key and the steps on end at which it sounds."""
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    return [
        Rectangle((start + begin, key + 0.1), end - begin, 0.8)
        for key in range(roll.shape[1])
        for begin, end in zip(np.flatnonzero(edges[:, key] > 0), np.flatnonzero(edges[:, key] < 0), strict=True)
    ]


def _keyboard(ax: Axes, low: int, high: int) -> None:
    """The black keys' rows shaded, the C of each octave named."""
    for key in range(low, high + 1):
        if (key - _MIDDLE_C) % _OCTAVE in _BLACK:
            ax.axhspan(key, key + 1, color="#f0f0f0", linewidth=0)
    octaves = [key for key in range(low, high + 1) if (key - _MIDDLE_C) % _OCTAVE == 0]
    ax.set_yticks([key + 0.5 for key in octaves], [f"C{4 + (key - _MIDDLE_C) // _OCTAVE}" for key in octaves])
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)


def key_frequency_figure(shares: Mapping[str, np.ndarray]) -> Figure:
    """How often each key sounds, of several sources.

    Args:
        shares: For each ``(88,)``: the share of the steps at which each key sounds.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    low, high = _span(np.stack(list(shares.values())) > 0)
    handles: dict[str, Artist] = {}
    for i, (name, share) in enumerate(shares.items()):
        style = {**line_style(i), "marker": MARKERS[i], "markersize": 3, "linewidth": 1.2}
        (handles[name],) = ax.plot(np.arange(len(share)), 100 * share, **style)
    octaves = [key for key in range(low, high + 1) if (key - _MIDDLE_C) % _OCTAVE == 0]
    ax.set_xlim(low - 0.5, high + 0.5)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("% of the steps", fontsize=SMALL)
    style_axes(ax)
    ax.set_xticks(octaves, [f"C{4 + (key - _MIDDLE_C) // _OCTAVE}" for key in octaves])
    legend(figure, handles)
    return figure


def likelihood_figure(nats: Mapping[str, np.ndarray], title: str) -> Figure:
    """How unlikely each model found each step of a piece.

    Args:
        nats: For each model ``(T,)``.
        title: Over it.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    handles: dict[str, Artist] = {}
    for i, (name, values) in enumerate(nats.items()):
        colour = {"color": PALETTE[i] if i == 0 else GREY}
        (handles[name],) = ax.plot(np.arange(len(values)), values, **{**line_style(i), **colour}, linewidth=1.3)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step", fontsize=SMALL)
    ax.set_ylabel("nats", fontsize=SMALL)
    style_axes(ax)
    integer_ticks(ax)
    legend(figure, handles, title)
    return figure
