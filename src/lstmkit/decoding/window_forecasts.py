"""From a network's forecasts of windows to calibrated quantiles in the unit of the series."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from lstmkit.data.series.regular_series import RegularSeries
from lstmkit.data.series.window_arrays import ForecastWindows, Origins, past_values
from lstmkit.data.series.window_scaling import WindowScaler
from lstmkit.decoding.adaptive_intervals import adapted_widths, answered_origins
from lstmkit.decoding.exponential_smoothing import smoothed_forecasts, steps_to_smooth
from lstmkit.decoding.interval_widths import IntervalWidths
from lstmkit.decoding.known_series import KnownSeries
from lstmkit.decoding.window_forecast import WindowForecast
from lstmkit.progress import Progress


class WindowForecasts(KnownSeries):
    """What a fitted forecaster and its runtime do around the network. It needs no torch.

    Attributes:
        smoothing_weight: Weight of exponential smoothing in the forecast, from 0 to 1.
        intervals: Calibrated widths of the intervals; ``None`` for the network's own quantiles.
    """

    smoothing_weight: float
    intervals: IntervalWidths | None

    @property
    @abstractmethod
    def scaler(self) -> WindowScaler:
        """What is subtracted from each window, and what it is divided by."""

    @property
    @abstractmethod
    def is_count_data(self) -> bool:
        """Whether the values are modeled as counts."""

    @abstractmethod
    def network_windows(self, examples: ForecastWindows, progress: Progress | None = None) -> WindowForecast:
        """Stacked forecasts of ``N`` windows by the network alone."""

    def predict_windows(self, examples: ForecastWindows, progress: Progress | None = None) -> WindowForecast:
        """Forecasts of ``N`` windows before calibration, stacked: ``(N, H, Q)``, ``(N, H)``, ``(N, 1)``, ``(N, H)``.

        They are those of the network, combined with exponential smoothing by :attr:`smoothing_weight`.
        """
        forecast = self.network_windows(examples, progress)
        if not self.smoothing_weight:
            return forecast
        return forecast.moved_toward(self.smoothed(examples, forecast), self.smoothing_weight)

    def smoothed(self, examples: ForecastWindows, forecast: WindowForecast) -> np.ndarray:
        """Forecasts of the windows by exponential smoothing, ``(N, H)``, in the scaled units of ``forecast``."""
        values = smoothed_forecasts(
            self._values_to_smooth(examples),
            self.settings.horizon,
            self.window_plan.season,
            multiplicative=not self.settings.log_transform,
        )
        return (values - forecast.base) / forecast.scale

    def _values_to_smooth(self, examples: ForecastWindows) -> np.ndarray:
        """The values before each window's horizon, ``(N, L)``, of more steps than the network reads."""
        steps = steps_to_smooth(self.window_plan.season)
        return self.scaler.transform(past_values(examples.series, examples.origins, steps))

    def seasonal_differences(self, examples: ForecastWindows, forecast: WindowForecast) -> np.ndarray:
        """Mean absolute seasonal difference before each window's horizon, the unit of MASE: ``(N, 1)``, scaled."""
        differences = WindowScaler(scale="difference", season=self.window_plan.season)
        return differences.fit(self._values_to_smooth(examples), 0, usual_scale=forecast.scale)[1] / forecast.scale

    def calibrated_windows(self, examples: ForecastWindows, progress: Progress | None = None) -> WindowForecast:
        """Calibrated forecasts of ``N`` windows in scaled units, stacked as those of :meth:`predict_windows`."""
        forecast = self.predict_windows(examples, progress)
        if self.intervals is None:
            return forecast
        widths = self._adapted_widths(self.intervals, examples) if self.settings.adaptive_rate else None
        return self.intervals.apply(forecast, self.seasonal_differences(examples, forecast), widths)

    def quantiles(self, series: RegularSeries, origins: Origins, progress: Progress | None = None) -> np.ndarray:
        """Calibrated quantiles ``(N, H, Q)`` of the windows at ``origins (N, 2)``, in the unit of the series.

        ``Q`` holds the lower bounds from the widest interval inwards, the median, and the upper bounds outwards.
        """
        forecast = self.calibrated_windows(ForecastWindows(series, origins), progress)
        values = self.scaler.inverse(forecast.quantiles, forecast.base[..., None], forecast.scale[..., None])
        return np.maximum(values, 0.0) if self.is_count_data else values

    def _adapted_widths(self, intervals: IntervalWidths, examples: ForecastWindows) -> np.ndarray:
        """Interval widths of each window, ``(N, H, K)``: they follow earlier forecasts of values that are known now."""
        series, settings = examples.series, self.settings
        answered = [answered_origins(self.first_unseen_step(series, i), step) for i, step in examples.origins]
        pairs = [(i, step) for (i, _), steps in zip(examples.origins, answered, strict=True) for step in steps]
        if not pairs:
            return np.repeat(intervals.widths[None], len(answered), axis=0)
        origins, places = np.unique(np.array(pairs), axis=0, return_inverse=True)
        earlier = ForecastWindows(series, origins)
        forecast = self.predict_windows(earlier)
        scores = intervals.scores(forecast, self.seasonal_differences(earlier, forecast))[places.reshape(-1)]
        scores_of_windows = np.split(scores, np.cumsum([len(steps) for steps in answered])[:-1])
        levels, rate = sorted(settings.levels), settings.adaptive_rate
        return np.stack([adapted_widths(of_window, intervals.widths, levels, rate) for of_window in scores_of_windows])
