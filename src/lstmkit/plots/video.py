"""Figures of video clips: frames and their attribution."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmkit.plots.classification import attribution_legend, draw_attribution
from lstmkit.plots.style import BLUE, SMALL, WIDTH, legend, new_figure

_N_FRAMES = 8  # drawn side by side


def video_attribution_figure(frames: np.ndarray, times: np.ndarray, changes: np.ndarray, title: str) -> Figure:
    """Draw frames of a clip, and below them which frames support or oppose the prediction.

    The clip is split into up to 8 segments; the frame with the largest attribution of each is drawn. The largest of all
    is outlined.

    Args:
        frames: ``(T, H, W, C)`` uint8.
        times: ``(T,)`` in seconds.
        changes: ``(T,)`` decrease of the predicted probability if the frame is removed.
        title: Title of the figure.
    """
    segments = np.array_split(np.arange(len(frames)), min(_N_FRAMES, len(frames)))
    drawn = [int(segment[np.abs(changes[segment]).argmax()]) for segment in segments]
    strongest = max(drawn, key=lambda i: abs(changes[i]))
    height = WIDTH / len(segments) * frames.shape[1] / frames.shape[2]
    figure = new_figure(min(height, 2.4) + 2.0)
    grid = figure.add_gridspec(2, len(drawn), height_ratios=[min(height, 2.4), 1.3])
    for column, i in enumerate(drawn):
        ax = figure.add_subplot(grid[0, column])
        draw_frame(ax, frames[i], BLUE if i == strongest else "")
        ax.set_title(f"{times[i]:.2f} s", fontsize=SMALL)
    below = figure.add_subplot(grid[1, :])
    draw_attribution(below, changes, times)
    below.set_xlabel("time, s", fontsize=SMALL)
    legend(figure, attribution_legend(changes.tolist()), title)
    return figure


def draw_frame(ax: Axes, pixels: np.ndarray, edge: str = "") -> None:
    """Draw an image ``(H, W, C)`` uint8, outlined in the color ``edge`` if one is given."""
    grayscale = pixels.shape[2] == 1
    ax.imshow(pixels[..., 0] if grayscale else pixels, cmap="gray" if grayscale else None, vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(color=edge or "#c8c8c8", linewidth=2.4 if edge else 0.6)
