"""Explanations: how much each covariate, the calendar and the history move a forecast, as Shapley values.

A coalition is a set of inputs that the forecaster sees. The inputs are:

- each past covariate, and each static covariate;
- each future covariate over the horizon: its past values belong to the history, whose values they explain;
- the calendar features, together;
- the history: the values of the series, with what exponential smoothing makes of them.

An input outside the coalition has typical values:

- A covariate has the mean of its encoded columns over the training data: a number its mean, a category all categories
  by their frequency.
- The calendar features are points on circles, and have the center of each circle.
- The history stands still at the base that each window has anyway: the last value, the last season or the mean. So the
  base belongs to the baseline, as the scale of the window does. Exponential smoothing then forecasts the base.

Steps before the start of a series, and missing values of the series, stay missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.forecast_frames import forecast_frame
from lstmkit.data.series.forecast_windows import Windows
from lstmkit.data.series.placement import check_future_covariates
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.data.series.window_arrays import Origins, past_values
from lstmkit.data.series.window_scaling import WindowScaler
from lstmkit.decoding.window_forecast import WindowForecast
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.look.shapley import Coalitions

HISTORY, CALENDAR = "history", "calendar"  #: Names of the inputs that are not covariates.

_ROWS_AT_ONCE = 8192  # windows × coalitions whose forecasts are in memory together


class ForecastExplanation(NamedTuple):
    """Contributions of ``G`` inputs to the median forecasts of ``N`` windows, in the unit of the series.

    Attributes:
        inputs: Names of the inputs: :data:`HISTORY`, the covariates, and :data:`CALENDAR` if the model reads it.
        contributions: ``(G, N, H)``; their sum over the inputs is ``forecast - baseline``.
        baseline: ``(N, H)`` the forecast if all inputs are typical.
        forecast: ``(N, H)`` the median forecast.
    """

    inputs: tuple[str, ...]
    contributions: np.ndarray
    baseline: np.ndarray
    forecast: np.ndarray


def explain_next_steps(predictor: ForecasterPredictor, series: SeriesSet, series_id: str | None) -> pd.DataFrame:
    """Explain the forecasts of the steps after the end of each series, or of one: see :func:`explanation_frame`.

    Raises:
        DataError: A future covariate does not reach the end of the horizon, or there is no series of that id.
    """
    check_future_covariates(series, predictor.settings.future_covariates, predictor.settings.horizon)
    chosen = np.arange(len(series)) if series_id is None else np.array([series.index(series_id)])
    origins = np.stack([chosen, series.lengths[chosen]], axis=1)
    return explanation_frame(series, origins, explain_windows(predictor, series, origins))


def explanation_frame(series: SeriesSet, origins: Origins, explanation: ForecastExplanation) -> pd.DataFrame:
    """A row per window, step and input: ``unique_id, ds, input, contribution, baseline, forecast``."""
    steps = forecast_frame(series, origins, explanation.forecast[..., None], (), "forecast")
    steps["baseline"] = explanation.baseline.ravel()
    inputs = explanation.inputs
    rows = steps.loc[steps.index.repeat(len(inputs))].reset_index(drop=True)
    rows["input"] = np.tile(np.array(inputs, dtype=object), len(steps))
    rows["contribution"] = np.moveaxis(explanation.contributions, 0, -1).ravel()
    return rows[["unique_id", "ds", "input", "contribution", "baseline", "forecast"]]


def explain_windows(predictor: ForecasterPredictor, series: SeriesSet, origins: Origins) -> ForecastExplanation:
    """Explain the median forecasts of the windows at ``origins (N, 2)``.

    The network runs on each window once per coalition: ``2 ** G`` times with up to 8 inputs, else on those of 64 orders
    in which inputs are added. With ``method="recursive"`` all coalitions of a window sample with the same random
    numbers.
    """
    inputs, fills = _inputs(predictor.covariates)
    coalitions = _coalitions(predictor)
    windows = predictor.windows(ForecastExamples(series, origins))
    size = max(1, _ROWS_AT_ONCE // len(coalitions.members))
    blocks = [
        _forecasts(predictor, series, CoalitionWindows(predictor, series, windows, rows, coalitions, fills))
        for rows in np.split(np.arange(len(origins)), range(size, len(origins), size))
    ]
    forecasts = np.concatenate(blocks, axis=1)
    return ForecastExplanation(inputs, coalitions.shapley_values(forecasts), forecasts[0], forecasts[-1])


def count_coalitions(predictor: ForecasterPredictor) -> int:
    """How often :func:`explain_windows` runs the network on each window."""
    return len(_coalitions(predictor).members)


class CoalitionWindows:
    """Dataset of ``N`` windows under ``C`` coalitions: row ``n * C + c`` is window ``n`` under coalition ``c``.

    Args:
        predictor: The fitted forecaster.
        series: The data.
        windows: Encoded windows of the data.
        rows: ``(N,)`` which of them.
        coalitions: Coalitions of ``G`` inputs, the history first.
        fills: ``(G, 2, F)`` the columns of the network's inputs that each of them fills, in the past and the horizon.
    """

    lengths: np.ndarray | None = None  # all windows have the same length

    def __init__(
        self,
        predictor: ForecasterPredictor,
        series: SeriesSet,
        windows: Windows,
        rows: np.ndarray,
        coalitions: Coalitions,
        fills: np.ndarray,
    ) -> None:
        self.windows, self.rows = windows, rows
        self.origins: Origins = windows.origins[rows]
        self.has_history = coalitions.members[:, 0]
        self._absent = np.tensordot(~coalitions.members, fills, axes=1) > 0  # (C, 2, F)
        self._means = predictor.covariates.means
        self._levels = np.zeros((len(rows), 1))
        if predictor.scaler.level == "none":  # without a base, a typical history stands at its mean
            past = predictor.scaler.transform(past_values(series, self.origins, windows.past))
            self._levels = WindowScaler(level="mean", scale="none").fit(past, 1)[0][:, :1]

    def __len__(self) -> int:
        return len(self.rows) * len(self._absent)

    def typical_value(self, window: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The scaled value ``(B, 1)`` of the windows at which a typical history stands; ``scale (B, 1)``."""
        return self._levels[window] / scale

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the rows, whose absent inputs are typical."""
        window, coalition = np.divmod(rows, len(self._absent))
        batch = self.windows.batch(self.rows[window])
        value = self.typical_value(window, batch.extras["scale"].numpy())
        inputs = batch.inputs.numpy()
        typical = self._typical_inputs(inputs, self.origins[window, 1], value)
        in_horizon = (np.arange(inputs.shape[1]) >= self.windows.past).astype(int)
        replaced = np.where(self._absent[coalition][:, in_horizon], typical, inputs)
        return replace(batch, inputs=torch.from_numpy(replaced), rows=rows)

    def _typical_inputs(self, inputs: np.ndarray, first: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Inputs ``(B, T, F)`` of typical windows with horizons from ``first (B,)``; missing steps stay missing."""
        past, n_values, step = self.windows.past, Windows.N_VALUE_FEATURES, np.arange(inputs.shape[1])
        typical = inputs.copy()
        typical[..., 0] = value * inputs[..., 1]
        is_in_series = step >= past - first[:, None]
        typical[..., n_values:] = is_in_series[..., None] * self._means
        typical[:, past:, n_values : n_values + self.windows.n_past_features] = 0.0  # unknown over the horizon
        return typical


def _coalitions(predictor: ForecasterPredictor) -> Coalitions:
    inputs, _ = _inputs(predictor.covariates)
    return Coalitions.of(len(inputs), predictor.settings.seed)


def _inputs(covariates: CovariateEncoder) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the ``G`` inputs, the history first, and what they fill: see :class:`CoalitionWindows`."""
    n_values = Windows.N_VALUE_FEATURES
    n_columns = n_values + covariates.width
    history = np.zeros((2, n_columns), dtype=bool)
    history[:, 0] = True
    fills: dict[str, np.ndarray] = {HISTORY: history}
    future = {column.name for column in covariates.future}
    for name, columns in covariates.columns.items():
        filled = np.zeros_like(history)
        filled[:, n_values + columns.start : n_values + columns.stop] = True
        if name in future:
            history[0] |= filled[0]
            filled[0] = False
        fills[f"{name} (covariate)" if name in (HISTORY, CALENDAR) else name] = filled
    if covariates.calendar:
        fills[CALENDAR] = np.zeros_like(history)
        fills[CALENDAR][:, n_values + covariates.n_covariates :] = True
    return tuple(fills), np.stack([*fills.values()])


def _forecasts(predictor: ForecasterPredictor, series: SeriesSet, windows: CoalitionWindows) -> np.ndarray:
    """Median forecasts ``(C, N, H)`` in the unit of the series."""
    n_coalitions, weight = len(windows.has_history), predictor.smoothing_weight
    forecast = predictor.network_forecast(windows)
    by_window = WindowForecast(*(part[::n_coalitions] for part in forecast))  # base and scale are those of the window
    median = forecast.median.reshape(len(windows.rows), n_coalitions, -1)
    if weight:
        smoothed = predictor.smoothed(ForecastExamples(series, windows.origins), by_window)
        typical = windows.typical_value(np.arange(len(windows.rows)), by_window.scale)
        has_history = windows.has_history[:, None]
        median = (1 - weight) * median + weight * np.where(has_history, smoothed[:, None], typical[:, None])
    values = predictor.scaler.inverse(median, by_window.base[:, None], by_window.scale[:, None])
    return np.moveaxis(np.maximum(values, 0.0) if predictor.is_count_data else values, 1, 0)
