"""Figures of music: piano rolls with prompt and composition, key frequencies, likelihood by step."""

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
    GRAY,
    MARKERS,
    PALETTE,
    SMALL,
    integer_ticks,
    legend,
    line_style,
    new_figure,
    style_axes,
)

_MAX_STEPS = 160  # that are drawn
_MIDDLE_C, _OCTAVE = 39, 12  # keys, from 0
_MIN_KEYS = 30  # that are shown
_BLACK_KEYS = (1, 3, 6, 8, 10)  # of an octave from C


def piano_roll_figure(roll: np.ndarray, is_given: np.ndarray, title: str) -> Figure:
    """Draw a piano roll: given notes in gray, composed notes in blue.

    Args:
        roll: ``(T, 88)`` of 0 and 1. At most 160 steps are drawn, around the first composed step.
        is_given: ``(T, 88)`` bool: the entries given by the prompt or melody.
        title: Title of the figure.
    """
    composed_steps = np.flatnonzero(~is_given.all(axis=1))
    first = int(composed_steps[0]) if len(composed_steps) else 0
    start = max(0, min(first - _MAX_STEPS // 2, len(roll) - _MAX_STEPS))
    drawn = slice(start, start + _MAX_STEPS)
    low, high = _key_range(roll[drawn])
    figure = new_figure(1.2 + 0.055 * (high - low))
    ax = figure.subplots()
    _draw_keyboard(ax, low, high)
    layers = {"given": (roll * is_given, GRAY), "composed": (roll * ~is_given, BLUE)}
    for notes, color in layers.values():
        ax.add_collection(
            PatchCollection(_bars(notes[drawn], start), facecolor=color, edgecolor="white", linewidth=0.6)
        )
    if first > 0 and is_given[:first].all():
        ax.axvline(first, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlim=(start, start + max(1, len(roll[drawn]))), ylim=(low, high + 1))
    ax.set_xlabel("step", fontsize=SMALL)
    integer_ticks(ax)
    handles: dict[str, Artist] = {name: Patch(facecolor=c) for name, (notes, c) in layers.items() if notes.any()}
    legend(figure, handles or {"silence": Patch(facecolor="white")}, title)
    return figure


def _key_range(roll: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest key to show."""
    keys = np.flatnonzero(roll.any(axis=0))
    low, high = (int(keys[0]), int(keys[-1])) if len(keys) else (_MIDDLE_C, _MIDDLE_C)
    extra = max(4, _MIN_KEYS - (high - low))
    return max(0, low - extra // 2), min(roll.shape[1] - 1, high + extra - extra // 2)


def _bars(roll: np.ndarray, start: int) -> list[Rectangle]:
    """One bar for each run of consecutive steps at which a key sounds."""
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    return [
        Rectangle((start + begin, key + 0.1), end - begin, 0.8)
        for key in range(roll.shape[1])
        for begin, end in zip(np.flatnonzero(edges[:, key] > 0), np.flatnonzero(edges[:, key] < 0), strict=True)
    ]


def _draw_keyboard(ax: Axes, low: int, high: int) -> None:
    """Shade the rows of the black keys and label the C of each octave."""
    for key in range(low, high + 1):
        if (key - _MIDDLE_C) % _OCTAVE in _BLACK_KEYS:
            ax.axhspan(key, key + 1, color="#f0f0f0", linewidth=0)
    octaves = [key for key in range(low, high + 1) if (key - _MIDDLE_C) % _OCTAVE == 0]
    ax.set_yticks([key + 0.5 for key in octaves], [f"C{4 + (key - _MIDDLE_C) // _OCTAVE}" for key in octaves])
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)


def key_frequency_figure(frequencies: Mapping[str, np.ndarray]) -> Figure:
    """Draw how often each key sounds, one line per source.

    Args:
        frequencies: For each source ``(88,)``: the fraction of the steps at which each key sounds.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    low, high = _key_range(np.stack(list(frequencies.values())) > 0)
    handles: dict[str, Artist] = {}
    for i, (name, frequency) in enumerate(frequencies.items()):
        style = {**line_style(i), "marker": MARKERS[i], "markersize": 3, "linewidth": 1.2}
        (handles[name],) = ax.plot(np.arange(len(frequency)), 100 * frequency, **style)
    octaves = [key for key in range(low, high + 1) if (key - _MIDDLE_C) % _OCTAVE == 0]
    ax.set_xlim(low - 0.5, high + 0.5)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("% of the steps", fontsize=SMALL)
    style_axes(ax)
    ax.set_xticks(octaves, [f"C{4 + (key - _MIDDLE_C) // _OCTAVE}" for key in octaves])
    legend(figure, handles)
    return figure


def likelihood_figure(nats: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the negative log-likelihood of each step of a piece, one line per model.

    Args:
        nats: For each model ``(T,)``.
        title: Title of the figure.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    handles: dict[str, Artist] = {}
    for i, (name, values) in enumerate(nats.items()):
        color = {"color": PALETTE[i] if i == 0 else GRAY}
        (handles[name],) = ax.plot(np.arange(len(values)), values, **{**line_style(i), **color}, linewidth=1.3)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("step", fontsize=SMALL)
    ax.set_ylabel("nats", fontsize=SMALL)
    style_axes(ax)
    integer_ticks(ax)
    legend(figure, handles, title)
    return figure
