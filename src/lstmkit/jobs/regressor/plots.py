"""Figures of a regression: sequences with predictions, predictions against truth, and residuals over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.decoding.regression import Predictions
from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.plots.style import (
    BLACK,
    BLUE,
    GRAY,
    PALETTE,
    SMALL,
    legend,
    new_figure,
    note_selection,
    style_axes,
    truncated,
)

_MAX_DRAWN = 4  # sequences, or targets of one sequence
_MAX_STEPS = 1500  # of a sequence that are drawn: the last
_MAX_POINTS = 5000  # of a scatter
_PANEL = 1.45  # inches
_PER_SEQUENCE = 24  # sequences with one prediction each that are drawn in one panel


def sequences_figure(predictor: RegressorPredictor, rows: RowSequences, predictions: Predictions) -> Figure:
    """The first target of the first sequences: predictions, the widest interval, and true values where known."""
    if predictor.settings.predict_at == "last_step":
        return _last_steps_figure(predictor, rows, predictions)
    drawn = min(len(rows), _MAX_DRAWN)
    figure = new_figure(0.7 + _PANEL * drawn)
    for ax, index in zip(figure.subplots(drawn, 1, squeeze=False)[:, 0], range(drawn), strict=True):
        end = int(rows.starts[index + 1])
        part = slice(max(int(rows.starts[index]), end - _MAX_STEPS), end)
        steps = _times(rows, part)
        if predictor.decoding.levels:
            band = predictions.low[part, 0, -1], predictions.high[part, 0, -1]
            ax.fill_between(steps, *band, color=BLUE, alpha=0.18, linewidth=0)
        if rows.targets is not None:
            truth = rows.targets[part, 0]
            known = ~np.isnan(truth)
            sparse = 2 * known.sum() < len(known)
            ax.plot(steps[known], truth[known], "." if sparse else "-", color=BLACK, linewidth=0.9, markersize=4)
        ax.plot(steps, predictions.values[part, 0], color=BLUE, linewidth=1.2)
        ax.set_title(truncated(rows.names[index], 60), fontsize=SMALL, loc="left", parse_math=False)
        style_axes(ax)
    legend(figure, _handles(predictor, rows), title=predictor.decoding.names[0])
    return note_selection(figure, len(rows), "sequences", drawn=drawn)


def _last_steps_figure(predictor: RegressorPredictor, rows: RowSequences, predictions: Predictions) -> Figure:
    """One prediction with its interval for each of the first sequences."""
    drawn = min(len(rows), _PER_SEQUENCE)
    figure = new_figure(3.0)
    ax: Any = figure.subplots()
    ends, places = rows.starts[1 : drawn + 1] - 1, np.arange(drawn)
    if predictor.decoding.levels:
        ax.vlines(
            places, predictions.low[ends, 0, -1], predictions.high[ends, 0, -1], color=BLUE, alpha=0.3, linewidth=5
        )
    ax.plot(places, predictions.values[ends, 0], "o", color=BLUE, markersize=5)
    if rows.targets is not None:
        ax.plot(places, predictor.targets(rows)[ends, 0], "x", color=BLACK, markersize=5)
    ax.set_xticks(places, [truncated(name, 10) for name in rows.names[:drawn]], rotation=60, fontsize=SMALL - 1)
    style_axes(ax)
    legend(figure, _handles(predictor, rows, points=True), title=predictor.decoding.names[0])
    return note_selection(figure, len(rows), "sequences", drawn=drawn)


def _handles(predictor: RegressorPredictor, rows: RowSequences, *, points: bool = False) -> dict[str, Artist]:
    markers: dict[str, Any] = {"linestyle": "", "marker": "o"} if points else {}
    handles: dict[str, Artist] = {"prediction": Line2D([], [], color=BLUE, **markers)}
    if predictor.decoding.levels:
        handles[f"{predictor.decoding.levels[-1]} % interval"] = Patch(facecolor=BLUE, alpha=0.25)
    if rows.targets is not None:
        crosses: dict[str, Any] = {"linestyle": "", "marker": "x"} if points else {}
        handles["true value"] = Line2D([], [], color=BLACK, **crosses)
    return handles


def residuals_figure(
    predictor: RegressorPredictor, rows: RowSequences, truth: np.ndarray, values: np.ndarray
) -> Figure:
    """Predictions against true values, and residuals over time, of the first target.

    Args:
        predictor: Fitted.
        rows: The rows.
        truth: ``(R, K)`` targets, NaN where a row is not scored.
        values: ``(R, K)`` predictions.
    """
    scored = np.flatnonzero(~np.isnan(truth[:, 0]))
    kept = scored[np.linspace(0, len(scored) - 1, min(len(scored), _MAX_POINTS)).astype(int)]
    actual, predicted = truth[kept, 0], values[kept, 0]
    figure = new_figure(3.0)
    axes: Any = figure.subplots(1, 2)
    size = 14 if len(kept) < 300 else 5
    axes[0].scatter(actual, predicted, s=size, color=BLUE, alpha=0.45, linewidth=0)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    axes[0].plot(ends, ends, color=GRAY, linewidth=1, linestyle=(0, (4, 2)))
    axes[0].set_xlabel("true", fontsize=SMALL)
    axes[0].set_ylabel("predicted", fontsize=SMALL)
    times, name = _residual_times(rows, kept)
    axes[1].scatter(times, predicted - actual, s=size, color=PALETTE[1], alpha=0.45, linewidth=0)
    axes[1].axhline(0, color=GRAY, linewidth=1, linestyle=(0, (4, 2)))
    axes[1].set_xlabel(name, fontsize=SMALL)
    axes[1].set_ylabel("predicted − true", fontsize=SMALL)
    for ax in axes:
        style_axes(ax)
    if isinstance(times, pd.DatetimeIndex):
        axes[1].tick_params(axis="x", rotation=30)
    figure.suptitle(truncated(predictor.decoding.names[0], 60), fontsize=SMALL + 2, x=0.01, ha="left", parse_math=False)
    return figure


def _residual_times(rows: RowSequences, kept: np.ndarray) -> tuple[Any, str]:
    """What residuals are drawn over: times if all rows have dates, else the step within the sequence."""
    if isinstance(rows.times, pd.DatetimeIndex):
        return rows.times[kept], "time"
    return kept - rows.starts[:-1][rows.entities[kept]] + 1, "step of the sequence"


def _times(rows: RowSequences, part: slice) -> Any:
    """Times of the rows of one sequence: as they are, or steps from 1."""
    if rows.times is not None:
        return rows.times[part].to_numpy()
    return np.arange(part.stop - part.start) + 1
