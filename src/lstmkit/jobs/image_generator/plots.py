"""Generated images: glimpse by glimpse with the write window, and as a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstmkit.plots.style import PALETTE, SMALL, WIDTH, new_figure, truncated

_MAX_STEPS = 9  # glimpses that are drawn per image
_WINDOW_COLOR = PALETTE[1]
_MIN_LINE_WIDTH, _MAX_LINE_WIDTH = 0.6, 3.0  # points, of a window's frame


def drawing_steps_figure(
    names: Sequence[str],
    canvases: Sequence[np.ndarray],
    windows: Sequence[np.ndarray],
    originals: Sequence[np.ndarray | None],
    size: int,
) -> Figure:
    """One row per image, one column per glimpse: the canvas, with a frame around the write window.

    The wider the filters, the thicker the frame (as in Gregor et al. 2015).

    Args:
        names: One per image.
        canvases: ``(T, height, width)`` per image: the probability of ink.
        windows: ``(T, 5)`` per image: center x and y, stride and variance of the filters, intensity.
        originals: ``(height, width)`` per image, drawn first; ``None`` for a new image.
        size: Filters along a side of the window; 0 = no window.
    """
    count = len(canvases[0])
    chosen = np.unique(np.linspace(0, count - 1, min(_MAX_STEPS, count)).round().astype(int))
    has_original = any(original is not None for original in originals)
    columns = len(chosen) + has_original
    height, width = canvases[0].shape[1:]
    side = WIDTH / (columns + 0.6)
    figure = new_figure(0.45 + len(names) * (side * height / width + 0.05))
    axes = figure.subplots(len(names), columns, squeeze=False)
    for row, (name, canvas, window, original) in enumerate(zip(names, canvases, windows, originals, strict=True)):
        if has_original:
            _draw_image(axes[row, 0], np.zeros((height, width)) if original is None else original)
        for ax, step in zip(axes[row, has_original:], chosen, strict=True):
            _draw_image(ax, canvas[step])
            if size:
                _draw_window(ax, window[step], size)
        axes[row, 0].set_ylabel(
            truncated(name, 14), fontsize=SMALL, parse_math=False, rotation=0, ha="right", va="center"
        )
    numbered = [f"glimpse {chosen[0] + 1}", *(str(step + 1) for step in chosen[1:])]  # longer ones would overlap
    titles = [*(["original"] * has_original), *numbered]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=SMALL)
    return figure


def image_grid_figure(images: Sequence[np.ndarray], names: Sequence[str], columns: int = 10) -> Figure:
    """Images ``(height, width)`` side by side, each below its name; ``""`` for no name."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape
    has_names = any(names)
    side = WIDTH / max(columns, 4)
    figure = new_figure(rows * (side * height / width + 0.2 * has_names) + 0.1, width=side * columns + 0.1)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(images) :]:
        ax.set_axis_off()
    for ax, image, name in zip(axes.flat, images, names, strict=False):
        _draw_image(ax, image)
        if name:
            ax.set_title(truncated(name, 12), fontsize=SMALL, parse_math=False, pad=2)
    return figure


def _draw_image(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    for spine in ax.spines.values():
        spine.set(color="#c8c8c8", linewidth=0.6)


def _draw_window(ax: Axes, window: np.ndarray, size: int) -> None:
    center_x, center_y, stride, variance, _ = window
    side = max(stride * (size - 1), 1.0)
    corner = (center_x - 1 - side / 2, center_y - 1 - side / 2)  # the axes count pixels from 0
    line_width = float(np.clip(np.sqrt(variance), _MIN_LINE_WIDTH, _MAX_LINE_WIDTH))
    ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=_WINDOW_COLOR, linewidth=line_width))
