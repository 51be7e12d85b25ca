"""Pictures as they are painted: step by step, with the window that each step painted through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstmkit.plots.style import PALETTE, SMALL, WIDTH, new_figure, shown

_COLUMNS = 9  # steps that are drawn of each picture
_FRAME = PALETTE[1]
_LEAST, _MOST = 0.6, 3.0  # points, of a window's frame


def drawing_steps_figure(
    names: Sequence[str],
    canvases: Sequence[np.ndarray],
    windows: Sequence[np.ndarray],
    given: Sequence[np.ndarray | None],
    size: int,
) -> Figure:
    """A row a picture, a column a step: the canvas, and in a frame the window that was painted through.

    The frame's line is the thicker, the wider the filters are (as Gregor et al. 2015 draw it).

    Args:
        names: Of each.
        canvases: ``(T, height, width)`` of each: the probability of ink.
        windows: ``(T, 5)`` of each: middle across and down, distance and variance of filters, strength.
        given: ``(height, width)`` of each, drawn first; ``None`` where nothing was given.
        size: Filters along a side of the window; 0 where there is none.
    """
    count = len(canvases[0])
    chosen = np.unique(np.linspace(0, count - 1, min(_COLUMNS, count)).round().astype(int))
    before = any(one is not None for one in given)
    columns = len(chosen) + before
    height, width = canvases[0].shape[1:]
    side = WIDTH / (columns + 0.6)
    figure = new_figure(0.45 + len(names) * (side * height / width + 0.05))
    axes = figure.subplots(len(names), columns, squeeze=False)
    for row, (name, canvas, window, target) in enumerate(zip(names, canvases, windows, given, strict=True)):
        if before:
            _draw(axes[row, 0], np.zeros((height, width)) if target is None else target)
        for ax, step in zip(axes[row, before:], chosen, strict=True):
            _draw(ax, canvas[step])
            if size:
                _frame(ax, window[step], size)
        axes[row, 0].set_ylabel(shown(name, 14), fontsize=SMALL, parse_math=False)
    for ax, title in zip(axes[0], [*(["given"] * before), *(f"step {step + 1}" for step in chosen)], strict=True):
        ax.set_title(title, fontsize=SMALL)
    return figure


def image_grid_figure(pictures: Sequence[np.ndarray], names: Sequence[str], columns: int = 10) -> Figure:
    """Pictures ``(height, width)`` side by side, each under its name; ``""`` for none."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape
    named = any(names)
    side = WIDTH / max(columns, 4)
    figure = new_figure(rows * (side * height / width + 0.2 * named) + 0.1, width=side * columns + 0.1)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(pictures) :]:
        ax.set_axis_off()
    for ax, picture, name in zip(axes.flat, pictures, names, strict=False):
        _draw(ax, picture)
        if name:
            ax.set_title(shown(name, 12), fontsize=SMALL, parse_math=False, pad=2)
    return figure


def _draw(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
    for side in ax.spines.values():
        side.set(color="#c8c8c8", linewidth=0.6)


def _frame(ax: Axes, window: np.ndarray, size: int) -> None:
    across, down, stride, variance, _ = window
    reach = max(stride * (size - 1), 1.0)
    corner = (across - 1 - reach / 2, down - 1 - reach / 2)  # the first dot is drawn at 0
    thick = float(np.clip(np.sqrt(variance), _LEAST, _MOST))
    ax.add_patch(Rectangle(corner, reach, reach, fill=False, edgecolor=_FRAME, linewidth=thick))
