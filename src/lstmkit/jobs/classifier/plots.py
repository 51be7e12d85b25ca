"""Pictures of sounds: what decided a short one, and what was heard in a long one, over their mel bands in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lstmkit.plots.classification import attribution_legend, draw_attribution
from lstmkit.plots.style import BLUE, PALETTE, SMALL, draw_message, legend, new_figure, shown, style_axes

_DEPTH = 60.0  # decibels from the loudest that are told apart by shade
_TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)  # hertz
_ROW = 12.0  # seconds side by side
_SAID = PALETTE[4]


def audio_attribution_figure(
    samples: np.ndarray, decibels: np.ndarray, pitches: np.ndarray, seconds: float, changes: Sequence[float], title: str
) -> Figure:
    """The wave, the bands, and below them which moments spoke for the answer and which against.

    Args:
        samples: ``(N,)``, full scale -1…1.
        decibels: ``(T, F)``.
        pitches: ``(F,)`` hertz: the middle of each band.
        seconds: That all of it lasts.
        changes: ``(T,)``, by how much the answer's probability falls without each frame.
        title: Over it.
    """
    figure = new_figure(4.6)
    wave, bands, below = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2, 1.2])
    wave.plot(*_outline(samples, seconds), color=BLUE, linewidth=0.7)
    wave.set_ylabel("wave", fontsize=SMALL)
    style_axes(wave)
    _draw_bands(bands, decibels, pitches, (0.0, seconds))
    draw_attribution(below, np.asarray(changes), (np.arange(len(changes)) + 0.5) * seconds / len(changes))
    below.set_xlim(0, seconds)
    below.set_xlabel("seconds", fontsize=SMALL)
    legend(figure, attribution_legend(changes), title)
    return figure


def keyword_detections_figure(
    decibels: np.ndarray,
    pitches: np.ndarray,
    span: tuple[float, float],
    found: Sequence[tuple[float, float, str]],
    said: Sequence[tuple[float, float, str]] = (),
    title: str = "",
) -> Figure:
    """The bands of a long recording, 12 seconds a row, and over them what was heard; below what was said, if known.

    Args:
        decibels: ``(T, F)``.
        pitches: ``(F,)`` hertz.
        span: Of these frames, in seconds.
        found: Beginning, end and label of each command that was heard.
        said: The same of what was said.
        title: Over it.
    """
    begin, end = span
    rows = max(1, int(np.ceil((end - begin) / _ROW - 0.1)))
    figure = new_figure(0.7 + 1.35 * rows)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    width = (end - begin) if rows == 1 else _ROW
    for row, ax in enumerate(axes):
        if not len(decibels):
            draw_message(ax, "nothing to hear")
            continue
        since = begin + row * width
        _draw_bands(ax, decibels, pitches, span)
        ax.set_xlim(since, since + width)
        _mark(ax, [one for one in found if since <= one[0] < since + width], 1.0, PALETTE[1])
        _mark(ax, [one for one in said if since <= one[0] < since + width], -0.28, _SAID)
    axes[-1].set_xlabel("seconds", fontsize=SMALL)
    handles: dict[str, Artist] = {"heard": Patch(facecolor=PALETTE[1], alpha=0.8)}
    if said:
        handles["said, below"] = Patch(facecolor=_SAID, alpha=0.8)
    legend(figure, handles, title)
    return figure


def _mark(ax: Axes, stretches: Sequence[tuple[float, float, str]], height: float, colour: str) -> None:
    """Bars with their labels, above the bands or below."""
    for start, end, label in stretches:
        ax.axvspan(start, end, ymin=0.93 if height > 0 else 0.0, ymax=1.0 if height > 0 else 0.07, color=colour)
        if height > 0:
            ax.axvspan(start, end, color=colour, alpha=0.15, linewidth=0)
        ax.annotate(
            shown(label, 10), ((start + end) / 2, 1.0 if height > 0 else 0.07), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=SMALL - 2, parse_math=False, annotation_clip=False,
            color="black" if height > 0 else "white",
        )  # fmt: skip


def _draw_bands(ax: Axes, decibels: np.ndarray, pitches: np.ndarray, span: tuple[float, float]) -> None:
    top = float(decibels.max(initial=-200.0))
    ax.imshow(
        decibels.T, aspect="auto", origin="lower", cmap="Greys", vmin=top - _DEPTH, vmax=top, interpolation="nearest",
        extent=(*span, -0.5, len(pitches) - 0.5),
    )  # fmt: skip
    inside = [hertz for hertz in _TICKS[1::2] if pitches[0] <= hertz <= pitches[-1]]
    ax.set_yticks(np.interp(inside, pitches, np.arange(len(pitches))), [f"{hertz:,}" for hertz in inside])
    ax.set_ylabel("hertz", fontsize=SMALL)
    ax.tick_params(labelsize=SMALL - 1)


def _outline(samples: np.ndarray, seconds: float, points: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest of every few samples, so that no peak is lost."""
    few = max(1, len(samples) // points)
    edges = np.arange(0, len(samples), few)
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    return np.repeat(edges, 2) * seconds / len(samples), np.stack([low, high], axis=1).reshape(-1)
