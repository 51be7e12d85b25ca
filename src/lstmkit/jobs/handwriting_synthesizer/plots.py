"""Figures of handwriting: drawings side by side, the attention window, the likelihood of each point."""

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
    GRAY,
    PALETTE,
    SMALL,
    WIDTH,
    integer_ticks,
    legend,
    new_figure,
    style_axes,
    truncated,
)

_WIDE_RATIO = 4.0  # width to height; wider drawings have a row each
_COLUMNS = 6
_MAX_DRAWINGS = 24  # in a figure
_MAX_CHARACTERS = 60  # tick labels of the attention window


def ink_figure(
    drawings: Sequence[np.ndarray], names: Sequence[str], num_prime_points: Sequence[int] | None = None
) -> Figure:
    """Drawings side by side, wide ones one below the other; at most the first 24.

    Args:
        drawings: Points ``(T, 3)`` of each: offset and pen.
        names: Title of each; ``""`` for none.
        num_prime_points: Number of points at the start of each that are the prime and drawn gray.
    """
    drawings = drawings[:_MAX_DRAWINGS]
    num_prime_points = [0] * len(drawings) if num_prime_points is None else num_prime_points
    ratio = float(np.median([_aspect_ratio(points) for points in drawings]))
    wide = ratio > _WIDE_RATIO
    columns = 1 if wide else min(_COLUMNS, len(drawings))
    rows = math.ceil(len(drawings) / columns)
    row_height = min(2.0, WIDTH / ratio) + 0.3 if wide else 1.3
    figure = new_figure(row_height * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(drawings) :]:
        ax.set_axis_off()
    for ax, points, name, num_prime in zip(axes, drawings, names, num_prime_points, strict=False):
        _draw_strokes(ax, points, [GRAY if i < num_prime else BLACK for i in range(len(points))])
        ax.set_title(truncated(name, 60), fontsize=SMALL, loc="left", parse_math=False)
    if any(num_prime_points):
        legend(figure, {"prime": Line2D([], [], color=GRAY), "generated": Line2D([], [], color=BLACK)})
    return figure


def soft_window_figure(points: np.ndarray, window: np.ndarray, text: str, title: str = "") -> Figure:
    """A drawing with each point in the color of its character, below the attention window over the text.

    Args:
        points: ``(T, 3)``.
        window: ``(T, U)`` attention weight of each character.
        text: The ``U`` characters.
        title: Title of the figure.
    """
    num_shown = min(len(text), _MAX_CHARACTERS)
    figure = new_figure(2.0 + 0.13 * num_shown)
    window_ax, ink_ax = figure.subplots(2, 1, height_ratios=[0.6 + 0.13 * num_shown, 1.0])
    positions = window.argmax(1)
    window_ax.imshow(window.T, aspect="auto", cmap="Greys", interpolation="nearest", vmin=0)
    steps = np.arange(len(positions))
    colors = [PALETTE[position % len(PALETTE)] for position in positions]
    window_ax.scatter(steps, positions, c=colors, s=5, linewidths=0)
    every = math.ceil(len(text) / _MAX_CHARACTERS)
    labeled = range(0, len(text), every)
    window_ax.set_yticks(list(labeled), ["␣" if text[i] == " " else text[i] for i in labeled], parse_math=False)
    window_ax.set_xlabel("point", fontsize=SMALL)
    window_ax.tick_params(labelsize=SMALL - 1.5)
    window_ax.spines[["top", "right"]].set_visible(False)
    integer_ticks(window_ax)
    _draw_strokes(ink_ax, points, colors)
    handles: dict[str, Artist] = {"character with the highest weight": Line2D([], [], marker="o", ls="", color=BLUE)}
    legend(figure, handles, title)
    return figure


def nll_figure(points: np.ndarray, nll: np.ndarray, title: str) -> Figure:
    """A drawing whose less likely points are larger and redder, above the negative log-likelihood by point.

    Args:
        points: ``(T, 3)``.
        nll: ``(T,)`` negative log-likelihood in nats.
        title: Title of the figure.
    """
    figure = new_figure(4.4)
    ink_ax, nll_ax = figure.subplots(2, 1, height_ratios=[2.2, 1.0])
    _draw_strokes(ink_ax, points, [GRAY] * len(points))
    x, y = np.cumsum(points[:, :2], axis=0).T
    relative = np.clip((nll - np.quantile(nll, 0.1)) / max(1e-9, float(np.ptp(nll))), 0, 1)
    ink_ax.scatter(x, y, c=relative, s=6 + 50 * relative, cmap="Reds", vmin=-0.3, vmax=1, zorder=3, linewidths=0)
    nll_ax.plot(np.arange(len(nll)), nll, color=BLUE, linewidth=1.2)
    lifted = np.flatnonzero(points[:, 2] > 0)
    nll_ax.plot(lifted, nll[lifted], ls="", marker="o", markersize=3.5, color=PALETTE[1])
    nll_ax.set_xlabel("point", fontsize=SMALL)
    nll_ax.set_ylabel("nats", fontsize=SMALL)
    style_axes(nll_ax)
    integer_ticks(nll_ax)
    handles: dict[str, Artist] = {
        "less likely points are redder": Line2D([], [], marker="o", ls="", color="#cb181d"),
        "pen lifted after this point": Line2D([], [], marker="o", ls="", markersize=4, color=PALETTE[1]),
    }
    legend(figure, handles, title)
    return figure


def _aspect_ratio(points: np.ndarray) -> float:
    """Width divided by height."""
    positions = np.cumsum(points[:, :2], axis=0)
    width, height = np.ptp(positions, axis=0)
    return float(width / height) if height else math.inf if width else 1.0


def _draw_strokes(ax: Axes, points: np.ndarray, colors: Sequence[str]) -> None:
    """Draw the segment up to each point in that point's color; y points down."""
    positions = np.concatenate([np.zeros((1, 2)), np.cumsum(points[:, :2].astype(np.float64), axis=0)])
    is_drawn = np.concatenate([[True], points[:-1, 2] == 0])
    # A dot is a segment of length 0; round caps make it visible.
    segments = [positions[i : i + 2] if drawn else positions[[i + 1, i + 1]] for i, drawn in enumerate(is_drawn)]
    ax.add_collection(LineCollection(segments, colors=list(colors), linewidths=1.3, capstyle="round"))
    low, high = positions.min(axis=0), positions.max(axis=0)
    margin = 0.05 * float(np.max(high - low)) or 1.0
    ax.set_xlim(low[0] - margin, high[0] + margin)
    ax.set_ylim(high[1] + margin, low[1] - margin)
    ax.set_aspect("equal")
    ax.set_axis_off()
