"""A recording, how unusual each step is, when there was an alarm and because of which channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lstmkit.evaluation.anomaly_thresholds import stretches
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.plots.style import (
    BLACK,
    GREY,
    PALETTE,
    SMALL,
    legend,
    line_style,
    new_figure,
    shortened_in_the_middle,
    shown,
    style_axes,
)

_ALARM, _LABEL = PALETTE[1], "#bdbdbd"
_MOST_LINES = 5  # channels drawn as lines, those that stand out most
_MOST_ROWS = 12  # channels in the picture of causes
_ROW = 0.17  # inches of a channel there
_MOST_POINTS = 3000  # across the picture


def anomaly_figure(found: AnomalyResult) -> Figure:
    """The channels that stand out most, the score under its level, and with several channels which it was."""
    several = len(found.channels) > 1
    rows = _ROW * min(len(found.channels), _MOST_ROWS) + 0.5 if several else 0.0  # inches
    figure = new_figure(4.1 + rows)
    axes: Any = figure.subplots(3 if several else 2, 1, sharex=True, height_ratios=[1.9, 1.3, rows][: 2 + several])
    steps = np.arange(len(found.scores))
    by = np.argsort(-found.by_channel.max(axis=0, initial=0), kind="stable")
    handles = _values(axes[0], found, np.sort(by[:_MOST_LINES]), steps)
    handles |= _scores(axes[1], found, steps)
    if several:
        _causes(axes[2], found, np.sort(by[:_MOST_ROWS]))
    handles |= _marked(axes, found)
    axes[-1].set_xlim(0, max(1, len(steps) - 1))
    _times(axes[-1], found)
    legend(figure, handles, title=found.recording.name)
    return figure


def _values(ax: Any, found: AnomalyResult, which: np.ndarray, steps: np.ndarray) -> dict[str, Artist]:
    columns = found.values[:, which]
    handles: dict[str, Artist] = {}
    one = len(which) == 1
    for i, column in enumerate(columns.T):
        mean, deviation = np.nanmean(column), np.nanstd(column)
        drawn = column if one else (column - mean) / (deviation or 1.0) + 4.0 * (len(which) - 1 - i)
        (line,) = ax.plot(*_thinned(steps, drawn), linewidth=0.9, **line_style(i))
        handles[found.channels[which[i]]] = line
    if not one:
        few = f"the {len(which)} of {len(found.channels)} channels that stand out most"
        what = few if len(which) < len(found.channels) else "the channels"
        ax.set_title(f"{what}, each in its deviations", fontsize=SMALL, loc="left")
    ax.set_ylabel("value" if one else "", fontsize=SMALL)
    ax.margins(y=0.12)  # the bar of labels is above the highest peak
    style_axes(ax)
    if not one:
        ax.set_yticks([])
    return handles


def _scores(ax: Any, found: AnomalyResult, steps: np.ndarray) -> dict[str, Artist]:
    ax.plot(*_thinned(steps, found.scores), color=BLACK, linewidth=0.9)
    ax.plot(*_thinned(steps, found.levels), color=GREY, linewidth=1.1, linestyle=(0, (4, 2)))
    highest = max(float(found.scores.max(initial=1.0)), float(np.median(found.levels)) if len(steps) else 1.0)
    ax.set_ylim(0, 1.08 * highest)
    ax.set_ylabel("score", fontsize=SMALL)
    style_axes(ax)
    return {
        "score": Line2D([], [], color=BLACK, linewidth=0.9),
        "level of alarm": Line2D([], [], color=GREY, linewidth=1.1, linestyle=(0, (4, 2))),
    }


def _causes(ax: Any, found: AnomalyResult, which: np.ndarray) -> None:
    """A row a channel, darker where it is more unusual."""
    rows = found.by_channel[:, which].T
    top = max(float(np.quantile(rows, 0.999)) if rows.size else 1.0, 1.0)
    extent = (-0.5, rows.shape[1] - 0.5, len(which) - 0.5, -0.5)
    ax.imshow(_coarse(rows), aspect="auto", cmap="Oranges", vmin=0, vmax=top, extent=extent, interpolation="nearest")
    names = [shortened_in_the_middle(found.channels[i], 18) for i in which]
    ax.set_yticks(range(len(names)), names, fontsize=SMALL - 1.5, parse_math=False)
    ax.spines[["top", "right"]].set_visible(False)
    which_ones = f"the {len(which)} highest of {len(found.channels)}" if len(which) < len(found.channels) else "each"
    ax.set_title(f"score of channels, {which_ones}", fontsize=SMALL, loc="left")


def _marked(axes: Any, found: AnomalyResult) -> dict[str, Artist]:
    """Alarms as shades, labels as a bar above."""
    handles: dict[str, Artist] = {}
    least = len(found.scores) / 400  # else a short one would not be seen
    for start, stop in stretches(found.alarms):
        for ax in axes[:2]:
            ax.axvspan(start - 0.5, max(stop - 0.5, start + least), color=_ALARM, alpha=0.28, linewidth=0)
        handles["alarm"] = Patch(facecolor=_ALARM, alpha=0.28)
    if found.recording.labels is not None:
        for start, stop in stretches(found.recording.labels):
            span = {"ymin": 0.96, "ymax": 1.0, "color": BLACK, "linewidth": 0}
            axes[0].axvspan(start - 0.5, max(stop - 0.5, start + least), **span)
            handles["labelled as an anomaly"] = Patch(facecolor=BLACK)
    return handles


def _times(ax: Any, found: AnomalyResult) -> None:
    """Stamps at whole steps: of long recordings the day."""
    at = np.unique(np.linspace(0, len(found.scores) - 1, 5).astype(int))
    times = found.recording.times
    if isinstance(times, pd.DatetimeIndex):
        days = (times[-1] - times[0]).days
        times = times.strftime("%Y-%m-%d" if days > 5 else "%m-%d %H:%M")
    labels = [shown(times[i], 16) for i in at]
    ax.set_xticks(at, labels, fontsize=SMALL - 1, parse_math=False)
    for label, place in zip(ax.get_xticklabels(), ("left", *["center"] * (len(at) - 2), "right"), strict=False):
        label.set_horizontalalignment(place)


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest of every few steps, so that no peak is lost."""
    few = -(-len(steps) // (_MOST_POINTS // 2))
    if few <= 2:
        return steps, values
    edges = np.arange(0, len(steps), few)
    low, high = np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)
    return np.repeat(steps[edges], 2), np.stack([low, high], axis=1).reshape(-1)


def _coarse(rows: np.ndarray) -> np.ndarray:
    """The largest of every few columns."""
    few = -(-rows.shape[1] // _MOST_POINTS)
    return rows if few == 1 else np.maximum.reduceat(rows, np.arange(0, rows.shape[1], few), axis=1)
