"""Clips as strips of frames."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmkit.plots.classification import attribution_legend, draw_attribution
from lstmkit.plots.style import BLUE, SMALL, WIDTH, legend, new_figure

_FRAMES = 8  # side by side


def video_attribution_figure(frames: np.ndarray, times: np.ndarray, changes: np.ndarray, title: str) -> Figure:
    """Frames of a clip, and below them which of all spoke for the answer and which against.

    In each stretch of time the frame is drawn that changes most; that which changes most of all has a frame around.

    Args:
        frames: ``(T, H, W, C)`` uint8.
        times: ``(T,)`` seconds.
        changes: ``(T,)``: by how much the answer's probability falls without each.
        title: Over it.
    """
    stretches = np.array_split(np.arange(len(frames)), min(_FRAMES, len(frames)))
    drawn = [int(some[np.abs(changes[some]).argmax()]) for some in stretches]
    strongest = max(drawn, key=lambda i: abs(changes[i]))
    high = WIDTH / len(stretches) * frames.shape[1] / frames.shape[2]
    figure = new_figure(min(high, 2.4) + 2.0)
    grid = figure.add_gridspec(2, len(drawn), height_ratios=[min(high, 2.4), 1.3])
    for column, i in enumerate(drawn):
        ax = figure.add_subplot(grid[0, column])
        draw_frame(ax, frames[i], BLUE if i == strongest else "")
        ax.set_title(f"{times[i]:.2f} s", fontsize=SMALL)
    below = figure.add_subplot(grid[1, :])
    draw_attribution(below, changes, times)
    below.set_xlabel("seconds", fontsize=SMALL)
    legend(figure, attribution_legend(changes.tolist()), title)
    return figure


def draw_frame(ax: Axes, dots: np.ndarray, edge: str = "") -> None:
    """``(H, W, C)`` uint8, with a line of a colour around it."""
    grey = dots.shape[2] == 1
    ax.imshow(dots[..., 0] if grey else dots, cmap="gray" if grey else None, vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(color=edge or "#c8c8c8", linewidth=2.4 if edge else 0.6)
