"""The baseline that reads covariates: linear regression on them, the calendar, and the value of the last season."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.window_arrays import Origins
from lstmkit.jobs.forecaster.baselines import MAX_HISTORY


def regression_quantiles(
    series: SeriesSet, origins: Origins, encoder: CovariateEncoder, *, horizon: int, season: int, levels: Sequence[int]
) -> np.ndarray:
    """Ordinary least squares, fitted to the steps before each origin; normal intervals of the residuals.

    The columns are future covariates and calendar features, both as the network reads them, and the value of as many
    whole seasons before as make a horizon. With fewer steps than two for each column that value is the forecast.

    Args:
        series: The data.
        origins: ``(N, 2)`` series and first step of each horizon.
        encoder: Encoder of covariates and calendar features.
        horizon: Steps to forecast.
        season: Season length in steps.
        levels: Interval levels in percent.

    Returns:
        ``(N, H, Q)`` quantiles: lower bounds, median, upper bounds.
    """
    lag = season * -(-horizon // season)
    tails = [level / 200 for level in sorted(levels)]
    probabilities = [*(0.5 - tail for tail in reversed(tails)), 0.5, *(0.5 + tail for tail in tails)]
    z = np.array([NormalDist().inv_cdf(p) for p in probabilities])
    quantiles = np.empty((len(origins), horizon, len(z)))
    for i in np.unique(origins[:, 0]):
        columns, y = _design(series, int(i), encoder, lag, horizon)
        for k in np.flatnonzero(origins[:, 0] == i):
            forecast, deviation = _fitted(columns, y, int(origins[k, 1]), lag, horizon)
            quantiles[k] = forecast[:, None] + deviation * z
    return quantiles


def _design(
    series: SeriesSet, i: int, encoder: CovariateEncoder, lag: int, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns ``(T + H, F)`` of series ``i``, the value ``lag`` steps before last, and its values ``(T + H,)``."""
    steps = int(series.lengths[i]) + horizon
    y = np.concatenate([series.y[i], np.full(horizon, np.nan)])
    known = pd.Series(y).ffill().bfill().to_numpy()
    before = np.concatenate([np.full(lag, known[0]), known])[:steps]
    features = encoder.transform(series, i, steps)[:, encoder.n_past :].astype(np.float64)
    return np.column_stack([np.ones(steps), features, before]), y


def _fitted(columns: np.ndarray, y: np.ndarray, origin: int, lag: int, horizon: int) -> tuple[np.ndarray, float]:
    """The forecast ``(H,)`` from one origin, and the standard deviation of the residuals."""
    past = np.arange(max(lag, origin - MAX_HISTORY), origin)
    past = past[np.isfinite(y[past])]
    if len(past) < 2 * columns.shape[1]:
        changes = y[past] - columns[past, -1]
        return columns[origin : origin + horizon, -1], float(changes.std()) if len(past) > 1 else 0.0
    level = y[past].mean()  # taken off, as a large one would hide the other columns
    columns = np.column_stack([columns[:, :-1], columns[:, -1] - level])
    weights, *_ = np.linalg.lstsq(columns[past], y[past] - level, rcond=None)
    residuals = y[past] - level - columns[past] @ weights
    deviation = float(np.sqrt(residuals @ residuals / (len(past) - columns.shape[1])))
    return level + columns[origin : origin + horizon] @ weights, deviation
