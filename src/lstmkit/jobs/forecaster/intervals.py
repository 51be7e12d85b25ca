"""Calibration of the forecaster's prediction intervals on validation windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import Self

from lstmkit.decoding.interval_widths import IntervalWidths
from lstmkit.decoding.window_forecast import WindowForecast
from lstmkit.evaluation.calibration import combination_weight, conformal_widths
from lstmkit.evaluation.forecast_metrics import quantile_columns


class IntervalCalibration(IntervalWidths):
    """Interval widths that are fitted to validation windows."""

    @classmethod
    def fit(cls, forecast: WindowForecast, levels: Sequence[int]) -> Self:
        """Split conformal prediction on the network's own intervals of ``N`` validation windows."""
        return cls(_conformal_widths(forecast, levels))

    @classmethod
    def fit_with_usual_widths(
        cls,
        forecast: WindowForecast,
        levels: Sequence[int],
        differences: np.ndarray,
        independent: np.ndarray,
        weight: float = -1.0,
    ) -> Self:
        """Combine the network's widths with usual ones, then apply split conformal prediction.

        Args:
            forecast: Forecasts of ``N`` validation windows.
            levels: Nominal coverage of the intervals in percent.
            differences: ``(N, 1)`` mean absolute seasonal difference of each window, in scaled units.
            independent: ``(N,)`` true for windows that do not overlap.
            weight: Weight of the usual widths; below 0 it is chosen by :func:`combination_weight`.
        """
        forecast = forecast.in_unit(differences)
        usual_offsets = np.median(forecast.offsets, axis=0)
        if weight < 0:
            usual = forecast.with_offsets_toward(usual_offsets, 1.0)
            weight = combination_weight(
                forecast.target, forecast.quantiles, usual.quantiles, independent, list(quantile_columns(levels))
            )
        combined = forecast.with_offsets_toward(usual_offsets, weight)
        return cls(_conformal_widths(combined, levels), usual_offsets, weight)


def _conformal_widths(forecast: WindowForecast, levels: Sequence[int]) -> np.ndarray:
    lower, upper = forecast.bounds
    return conformal_widths(forecast.target, lower, upper, np.sort(levels) / 100)
