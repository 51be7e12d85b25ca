"""Frames with boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstmkit.data.vision.box_drawing import color_of
from lstmkit.data.vision.boxed_clips import Boxes
from lstmkit.jobs.object_detector.detections import ClipDetections
from lstmkit.plots.style import SMALL, WIDTH, legend, new_figure, truncated
from lstmkit.plots.video import draw_frame

_COLUMNS = 4  # frames per row
_NUM_FRAMES = 8  # of a strip
_TRUE_STYLE: dict[str, Any] = {"edgecolor": "#ffffff", "linestyle": (0, (2, 2)), "linewidth": 1.2}


def strip_figure(found: ClipDetections, truth: Boxes | None = None) -> Figure:
    """Frames of a clip, evenly spaced, with the boxes that were found, and dashed the true ones.

    Args:
        found: A clip with detections.
        truth: The true boxes, if they are known.
    """
    count = min(_NUM_FRAMES, len(found.clip))
    frames = np.unique(np.linspace(0, len(found.clip) - 1, count).round().astype(int))
    rows = -(-len(frames) // _COLUMNS)
    height, width = found.clip.clip.frames.shape[1:3]
    columns = min(_COLUMNS, len(frames))
    figure = new_figure(rows * (WIDTH / columns * height / width + 0.3) + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(frames) :]:
        ax.set_axis_off()
    for ax, frame in zip(axes.flat, frames, strict=False):
        draw_frame(ax, found.clip.clip.frames[frame])
        if truth is not None:
            for box in found.clip.placement.to_model(truth.of_frame(frame).xywh):
                _draw_box(ax, box, **_TRUE_STYLE)
        own = found.boxes.of_frame(frame)
        for box, label, track in zip(found.clip.placement.to_model(own.xywh), own.labels, own.ids, strict=True):
            color = tuple(channel / 255 for channel in color_of(int(track)))
            _draw_box(ax, box, edgecolor=color, linewidth=1.6)
            text = f"{truncated(label, 12)} {track}" if track > 0 else truncated(label, 12)
            ax.text(box[0], box[1], text, color=color, fontsize=SMALL - 2, va="bottom", clip_on=True, parse_math=False)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_title(f"{found.clip.clip.times[frame]:.1f} s", fontsize=SMALL, pad=3)
    handles: dict[str, Any] = {"found": Rectangle((0, 0), 1, 1, fill=False, edgecolor="#555555", linewidth=1.6)}
    if truth is not None:
        handles["true"] = Rectangle((0, 0), 1, 1, fill=False, **{**_TRUE_STYLE, "edgecolor": "#555555"})
    legend(figure, handles, found.name)
    return figure


def _draw_box(ax: Axes, xywh: np.ndarray, **style: Any) -> None:
    ax.add_patch(Rectangle((xywh[0], xywh[1]), xywh[2], xywh[3], fill=False, **style))
