"""The section of the report on covariates: how much each input moves the forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_windows import rolling_origins
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.window_arrays import Origins
from lstmkit.jobs.forecaster.explanation import count_coalitions, explain_windows
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.plots.contributions import contribution_figure
from lstmkit.report import Section

_MAX_WINDOWS = 32
_MAX_STEPS = 250_000  # of the recurrent layers in all, about a second

#: Where a typical history stands, by the level of the window's scaler.
_BASES = {"last": "its last value", "season": "its last season", "mean": "its mean", "none": "its mean"}


def explanation_sections(predictor: ForecasterPredictor, series: SeriesSet) -> list[Section]:
    """Contributions of the inputs, the mean over some windows; nothing without covariates or with sampled paths."""
    if not predictor.covariates.columns or predictor.settings.method == "recursive":
        return []
    origins = _spread_origins(predictor, series)
    explanation = explain_windows(predictor, series, origins)
    size = np.abs(explanation.contributions)
    total = np.maximum(size.sum(axis=(0, 2)), np.finfo(float).tiny)
    table = pd.DataFrame(
        {
            "input": explanation.inputs,
            "mean absolute contribution": size.mean(axis=(1, 2)),
            "share, %": 100 * (size.sum(axis=2) / total).mean(axis=1),
        }
    ).sort_values("mean absolute contribution", ascending=False, kind="stable", ignore_index=True)
    means = dict(zip(table["input"], table["mean absolute contribution"], strict=True))
    windows = "1 window" if len(origins) == 1 else f"{len(origins)} windows"
    text = (
        f"How much each input moves the forecast: the mean over {windows} of {predictor.settings.horizon} steps, "
        "spread over the data. A contribution is a Shapley value in the unit of the series: the change of the median "
        "forecast if the model reads the input instead of a typical one. The history is what the values of a window "
        f"add to {_BASES[predictor.scaler.level]}. The share is that of all absolute contributions to a window. "
        "Contributions are those of the model, not effects of a cause. Forecaster.explain returns them for each "
        "forecast."
    )
    label = f"mean absolute contribution to {series.names.label('target', 'the forecast')}"
    return [
        Section(
            "Contributions of the inputs",
            text,
            table,
            contribution_figure(means, label=label),
            caption="Mean absolute contribution of each input to the forecast",
        )
    ]


def _spread_origins(predictor: ForecasterPredictor, series: SeriesSet) -> Origins:
    """Origins ``(N, 2)`` of windows whose horizon lies within the data, evenly spread over all series."""
    plan, settings = predictor.window_plan, predictor.settings
    steps = (plan.past + settings.horizon) // plan.patch * settings.ensemble_size
    count = min(max(_MAX_STEPS // (count_coalitions(predictor) * steps), 1), _MAX_WINDOWS)
    last = np.maximum(series.lengths - settings.horizon, 1)
    origins = rolling_origins(series, np.minimum(plan.past, last), last, stride=settings.horizon)
    return origins[np.unique(np.linspace(len(origins) - 1, 0, count).astype(int))]
