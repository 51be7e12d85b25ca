"""Pictures of handwriting: drawings side by side, where in its text a hand was, where a model is surprised."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstmkit.plots.style import (
    BLACK,
    BLUE,
    GREY,
    PALETTE,
    SMALL,
    WIDTH,
    integer_ticks,
    legend,
    new_figure,
    shown,
    style_axes,
)

_WIDE = 4.0  # drawings that are usually so many times as wide as high have a row each
_COLUMNS = 6
_MOST = 24  # drawings in a picture
_MOST_CHARACTERS = 60  # named beside the window


def ink_figure(drawings: Sequence[np.ndarray], names: Sequence[str], given: Sequence[int] | None = None) -> Figure:
    """Drawings side by side, lines of writing one below the other; of many the first 24.

    Args:
        drawings: Of each its points, ``(T, 3)`` offsets and the pen.
        names: Over each; ``""`` for none.
        given: Of each so many points, the first ones, are drawn grey.
    """
    drawings = drawings[:_MOST]
    given = [0] * len(drawings) if given is None else given
    usual = float(np.median([_ratio(points) for points in drawings]))
    wide = usual > _WIDE
    columns = 1 if wide else min(_COLUMNS, len(drawings))
    rows = math.ceil(len(drawings) / columns)
    high = min(2.0, WIDTH / usual) + 0.3 if wide else 1.3
    figure = new_figure(high * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(drawings) :]:
        ax.set_axis_off()
    for ax, points, name, first in zip(axes, drawings, names, given, strict=False):
        _lines(ax, points, [GREY if i < first else BLACK for i in range(len(points))])
        ax.set_title(shown(name, 60), fontsize=SMALL, loc="left", parse_math=False)
    if any(given):
        legend(figure, {"given": Line2D([], [], color=GREY), "written": Line2D([], [], color=BLACK)})
    return figure


def soft_window_figure(points: np.ndarray, window: np.ndarray, text: str, title: str = "") -> Figure:
    """What was written, each point in the colour of its character, above it where in the text the hand was.

    Args:
        points: ``(T, 3)``.
        window: ``(T, U)``: how much of each character was read.
        text: The ``U`` characters.
        title: Over it.
    """
    shown_text = min(len(text), _MOST_CHARACTERS)
    figure = new_figure(2.0 + 0.13 * shown_text)
    above, below = figure.subplots(2, 1, height_ratios=[0.6 + 0.13 * shown_text, 1.0])
    places = window.argmax(1)
    above.imshow(window.T, aspect="auto", cmap="Greys", interpolation="nearest", vmin=0)
    steps = np.arange(len(places))
    colours = [PALETTE[place % len(PALETTE)] for place in places]
    above.scatter(steps, places, c=colours, s=5, linewidths=0)
    every = math.ceil(len(text) / _MOST_CHARACTERS)
    named = range(0, len(text), every)
    above.set_yticks(list(named), ["␣" if text[i] == " " else text[i] for i in named], parse_math=False)
    above.set_xlabel("point", fontsize=SMALL)
    above.tick_params(labelsize=SMALL - 1.5)
    above.spines[["top", "right"]].set_visible(False)
    integer_ticks(above)
    _lines(below, points, colours)
    handles: dict[str, Artist] = {"the character that is read most": Line2D([], [], marker="o", ls="", color=BLUE)}
    legend(figure, handles, title)
    return figure


def surprisal_figure(points: np.ndarray, nats: np.ndarray, title: str) -> Figure:
    """A drawing whose points are the larger and redder, the less likely they were; below, the nats point by point.

    Args:
        points: ``(T, 3)``.
        nats: ``(T,)``.
        title: Over it.
    """
    figure = new_figure(4.4)
    drawn, course = figure.subplots(2, 1, height_ratios=[2.2, 1.0])
    _lines(drawn, points, [GREY] * len(points))
    x, y = np.cumsum(points[:, :2], axis=0).T
    seen = np.clip((nats - np.quantile(nats, 0.1)) / max(1e-9, float(np.ptp(nats))), 0, 1)
    drawn.scatter(x, y, c=seen, s=6 + 50 * seen, cmap="Reds", vmin=-0.3, vmax=1, zorder=3, linewidths=0)
    course.plot(np.arange(len(nats)), nats, color=BLUE, linewidth=1.2)
    lifted = np.flatnonzero(points[:, 2] > 0)
    course.plot(lifted, nats[lifted], ls="", marker="o", markersize=3.5, color=PALETTE[1])
    course.set_xlabel("point", fontsize=SMALL)
    course.set_ylabel("nats", fontsize=SMALL)
    style_axes(course)
    integer_ticks(course)
    handles: dict[str, Artist] = {
        "less likely points are redder": Line2D([], [], marker="o", ls="", color="#cb181d"),
        "pen lifted after it": Line2D([], [], marker="o", ls="", markersize=4, color=PALETTE[1]),
    }
    legend(figure, handles, title)
    return figure


def _ratio(points: np.ndarray) -> float:
    places = np.cumsum(points[:, :2], axis=0)
    wide, high = np.ptp(places, axis=0)
    return float(wide / high) if high else math.inf if wide else 1.0


def _lines(ax: Axes, points: np.ndarray, colours: Sequence[str]) -> None:
    """The drawing, the piece up to each point in that point's colour; y runs down."""
    places = np.concatenate([np.zeros((1, 2)), np.cumsum(points[:, :2].astype(np.float64), axis=0)])
    down = np.concatenate([[True], points[:-1, 2] == 0])
    # A dot is a piece of no length, which round ends make visible.
    pieces = [places[i : i + 2] if drawn else places[[i + 1, i + 1]] for i, drawn in enumerate(down)]
    ax.add_collection(LineCollection(pieces, colors=list(colours), linewidths=1.3, capstyle="round"))
    low, high = places.min(axis=0), places.max(axis=0)
    margin = 0.05 * float(np.max(high - low)) or 1.0
    ax.set_xlim(low[0] - margin, high[0] + margin)
    ax.set_ylim(high[1] + margin, low[1] - margin)
    ax.set_aspect("equal")
    ax.set_axis_off()
