"""Figures of audio clips: the attribution of a short one, and keyword detections in a long recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lstmkit.plots.classification import attribution_legend, draw_attribution
from lstmkit.plots.style import BLUE, PALETTE, SMALL, draw_message, legend, new_figure, style_axes, truncated

_DYNAMIC_RANGE_DB = 60.0  # of the shades, below the loudest frame
_TICKS_HZ = (250, 1000, 4000, 16_000)
_ROW_SECONDS = 12.0
_DETECTION_COLOR, _KEYWORD_COLOR = PALETTE[1], PALETTE[4]


def audio_attribution_figure(
    samples: np.ndarray, decibels: np.ndarray, pitches: np.ndarray, seconds: float, changes: Sequence[float], title: str
) -> Figure:
    """Waveform, mel spectrogram and attribution of an audio clip.

    Args:
        samples: ``(N,)``, full scale -1…1.
        decibels: ``(T, F)``.
        pitches: ``(F,)`` center of each mel band in Hz.
        seconds: Duration of the clip.
        changes: ``(T,)`` decrease of the label's probability without each frame.
        title: Title of the figure.
    """
    figure = new_figure(4.6)
    waveform, spectrogram, attribution = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2, 1.2])
    waveform.plot(*_envelope(samples, seconds), color=BLUE, linewidth=0.7)
    waveform.set_ylabel("amplitude", fontsize=SMALL)
    style_axes(waveform)
    _draw_spectrogram(spectrogram, decibels, pitches, (0.0, seconds))
    draw_attribution(attribution, np.asarray(changes), (np.arange(len(changes)) + 0.5) * seconds / len(changes))
    attribution.set_xlim(0, seconds)
    attribution.set_xlabel("seconds", fontsize=SMALL)
    legend(figure, attribution_legend(changes), title)
    return figure


def keyword_detections_figure(
    decibels: np.ndarray,
    pitches: np.ndarray,
    span: tuple[float, float],
    detections: Sequence[tuple[float, float, str]],
    keywords: Sequence[tuple[float, float, str]] = (),
    title: str = "",
) -> Figure:
    """The mel spectrogram of a long recording, 12 s a row: detections above it, and keywords below it if known.

    Args:
        decibels: ``(T, F)``.
        pitches: ``(F,)`` center of each mel band in Hz.
        span: Start and end of these frames in seconds.
        detections: Start, end and label of each detection.
        keywords: The same of the keywords that were spoken.
        title: Title of the figure.
    """
    begin, end = span
    rows = max(1, int(np.ceil((end - begin) / _ROW_SECONDS - 0.1)))
    figure = new_figure(0.7 + 1.35 * rows)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    width = (end - begin) if rows == 1 else _ROW_SECONDS
    for row, ax in enumerate(axes):
        if not len(decibels):
            draw_message(ax, "no audio")
            continue
        left = begin + row * width
        _draw_spectrogram(ax, decibels, pitches, span)
        ax.set_xlim(left, left + width)
        _draw_spans(ax, [d for d in detections if left <= d[0] < left + width], above=True)
        _draw_spans(ax, [k for k in keywords if left <= k[0] < left + width], above=False)
    axes[-1].set_xlabel("seconds", fontsize=SMALL)
    handles: dict[str, Artist] = {"detected": Patch(facecolor=_DETECTION_COLOR, alpha=0.8)}
    if keywords:
        handles["keyword (below)"] = Patch(facecolor=_KEYWORD_COLOR, alpha=0.8)
    legend(figure, handles, title)
    return figure


def _draw_spans(ax: Axes, spans: Sequence[tuple[float, float, str]], *, above: bool) -> None:
    """Bars with labels at the top of the spectrogram or at its bottom."""
    color = _DETECTION_COLOR if above else _KEYWORD_COLOR
    for start, end, label in spans:
        ax.axvspan(start, end, ymin=0.93 if above else 0.0, ymax=1.0 if above else 0.07, color=color)
        if above:
            ax.axvspan(start, end, color=color, alpha=0.15, linewidth=0)
        ax.annotate(
            truncated(label, 10), ((start + end) / 2, 1.0 if above else 0.07), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=SMALL - 2, parse_math=False, annotation_clip=False,
            color="black" if above else "white",
        )  # fmt: skip


def _draw_spectrogram(ax: Axes, decibels: np.ndarray, pitches: np.ndarray, span: tuple[float, float]) -> None:
    top = float(decibels.max(initial=-200.0))
    ax.imshow(
        decibels.T, aspect="auto", origin="lower", cmap="Greys", vmin=top - _DYNAMIC_RANGE_DB, vmax=top,
        interpolation="nearest", extent=(*span, -0.5, len(pitches) - 0.5),
    )  # fmt: skip
    ticks = [hertz for hertz in _TICKS_HZ if pitches[0] <= hertz <= pitches[-1]]
    ax.set_yticks(np.interp(ticks, pitches, np.arange(len(pitches))), [f"{hertz:,}" for hertz in ticks])
    ax.set_ylabel("Hz", fontsize=SMALL)
    ax.tick_params(labelsize=SMALL - 1)


def _envelope(samples: np.ndarray, seconds: float, points: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of consecutive samples, so that no peak is lost."""
    width = max(1, len(samples) // points)
    edges = np.arange(0, len(samples), width)
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    return np.repeat(edges, 2) * seconds / len(samples), np.stack([low, high], axis=1).reshape(-1)
