"""Figures of detected anomalies: the series, its scores and thresholds, alarms, and the channels that caused them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lstmkit.evaluation.anomaly_thresholds import true_runs
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.plots.style import (
    BLACK,
    GRAY,
    PALETTE,
    SMALL,
    legend,
    line_style,
    new_figure,
    style_axes,
    truncated,
    truncated_in_the_middle,
)

_ALARM, _LABEL = PALETTE[1], "#bdbdbd"
_MAX_LINES = 5  # channels drawn as lines: those with the highest scores
_MAX_ROWS = 12  # channels in the heat map
_ROW_INCHES = 0.17  # height of a channel in the heat map
_MAX_POINTS = 3000  # across the figure


def anomaly_figure(result: AnomalyResult) -> Figure:
    """The channels with the highest scores, the score with its threshold, and the score of each channel."""
    several = len(result.channels) > 1
    rows = _ROW_INCHES * min(len(result.channels), _MAX_ROWS) + 0.5 if several else 0.0  # inches
    figure = new_figure(4.1 + rows)
    axes: Any = figure.subplots(3 if several else 2, 1, sharex=True, height_ratios=[1.9, 1.3, rows][: 2 + several])
    steps = np.arange(len(result.scores))
    by = np.argsort(-result.channel_scores.max(axis=0, initial=0), kind="stable")
    handles = _values(axes[0], result, np.sort(by[:_MAX_LINES]), steps)
    handles |= _scores(axes[1], result, steps)
    if several:
        _channel_heat_map(axes[2], result, np.sort(by[:_MAX_ROWS]))
    handles |= _mark_alarms(axes, result)
    axes[-1].set_xlim(0, max(1, len(steps) - 1))
    _time_ticks(axes[-1], result)
    legend(figure, handles, title=result.series.name)
    return figure


def _values(ax: Any, result: AnomalyResult, which: np.ndarray, steps: np.ndarray) -> dict[str, Artist]:
    columns = result.values[:, which]
    handles: dict[str, Artist] = {}
    is_single = len(which) == 1
    for i, column in enumerate(columns.T):
        mean, deviation = np.nanmean(column), np.nanstd(column)
        drawn = column if is_single else (column - mean) / (deviation or 1.0) + 4.0 * (len(which) - 1 - i)
        (line,) = ax.plot(*_decimated(steps, drawn), linewidth=0.9, **line_style(i))
        handles[result.channels[which[i]]] = line
    if not is_single:
        few = f"the {len(which)} of {len(result.channels)} channels with the highest scores"
        what = few if len(which) < len(result.channels) else "channels"
        ax.set_title(f"{what}, standardized", fontsize=SMALL, loc="left")
    ax.set_ylabel("value" if is_single else "", fontsize=SMALL)
    ax.margins(y=0.12)  # the bar of labels is above the highest peak
    style_axes(ax)
    if not is_single:
        ax.set_yticks([])
    return handles


def _scores(ax: Any, result: AnomalyResult, steps: np.ndarray) -> dict[str, Artist]:
    ax.plot(*_decimated(steps, result.scores), color=BLACK, linewidth=0.9)
    ax.plot(*_decimated(steps, result.thresholds), color=GRAY, linewidth=1.1, linestyle=(0, (4, 2)))
    highest = max(float(result.scores.max(initial=1.0)), float(np.median(result.thresholds)) if len(steps) else 1.0)
    ax.set_ylim(0, 1.08 * highest)
    ax.set_ylabel("score", fontsize=SMALL)
    style_axes(ax)
    return {
        "score": Line2D([], [], color=BLACK, linewidth=0.9),
        "threshold": Line2D([], [], color=GRAY, linewidth=1.1, linestyle=(0, (4, 2))),
    }


def _channel_heat_map(ax: Any, result: AnomalyResult, which: np.ndarray) -> None:
    """One row per channel, darker for higher scores."""
    rows = result.channel_scores[:, which].T
    top = max(float(np.quantile(rows, 0.999)) if rows.size else 1.0, 1.0)
    extent = (-0.5, rows.shape[1] - 0.5, len(which) - 0.5, -0.5)
    ax.imshow(_coarse(rows), aspect="auto", cmap="Oranges", vmin=0, vmax=top, extent=extent, interpolation="nearest")
    names = [truncated_in_the_middle(result.channels[i], 18) for i in which]
    ax.set_yticks(range(len(names)), names, fontsize=SMALL - 1.5, parse_math=False)
    ax.spines[["top", "right"]].set_visible(False)
    which_ones = f", {len(which)} highest of {len(result.channels)}" if len(which) < len(result.channels) else ""
    ax.set_title(f"score of each channel{which_ones}", fontsize=SMALL, loc="left")


def _mark_alarms(axes: Any, result: AnomalyResult) -> dict[str, Artist]:
    """Alarms as shaded spans, labels as a bar at the top."""
    handles: dict[str, Artist] = {}
    min_width = len(result.scores) / 400  # so that a short one is visible
    for start, stop in true_runs(result.alarms):
        for ax in axes[:2]:
            ax.axvspan(start - 0.5, max(stop - 0.5, start + min_width), color=_ALARM, alpha=0.28, linewidth=0)
        handles["alarm"] = Patch(facecolor=_ALARM, alpha=0.28)
    if result.series.labels is not None:
        for start, stop in true_runs(result.series.labels):
            span = {"ymin": 0.96, "ymax": 1.0, "color": BLACK, "linewidth": 0}
            axes[0].axvspan(start - 0.5, max(stop - 0.5, start + min_width), **span)
            handles["labeled as an anomaly"] = Patch(facecolor=BLACK)
    return handles


def _time_ticks(ax: Any, result: AnomalyResult) -> None:
    """Timestamps at whole steps; for long series the date."""
    at = np.unique(np.linspace(0, len(result.scores) - 1, 5).astype(int))
    times = result.series.times
    if isinstance(times, pd.DatetimeIndex):
        days = (times[-1] - times[0]).days
        times = times.strftime("%Y-%m-%d" if days > 5 else "%m-%d %H:%M")
    labels = [truncated(times[i], 16) for i in at]
    ax.set_xticks(at, labels, fontsize=SMALL - 1, parse_math=False)
    for label, place in zip(ax.get_xticklabels(), ("left", *["center"] * (len(at) - 2), "right"), strict=False):
        label.set_horizontalalignment(place)


def _decimated(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of every few steps, so that no peak is lost."""
    few = -(-len(steps) // (_MAX_POINTS // 2))
    if few <= 2:
        return steps, values
    edges = np.arange(0, len(steps), few)
    low, high = np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)
    return np.repeat(steps[edges], 2), np.stack([low, high], axis=1).reshape(-1)


def _coarse(rows: np.ndarray) -> np.ndarray:
    """The maximum of every few columns."""
    few = -(-rows.shape[1] // _MAX_POINTS)
    return rows if few == 1 else np.maximum.reduceat(rows, np.arange(0, rows.shape[1], few), axis=1)
