"""What a forecaster leaves after ``fit``: windows, network, quantiles and calibrated intervals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader, Source
from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.forecast_frames import forecast_frame
from lstmkit.data.series.forecast_windows import Windows, without_overlap
from lstmkit.data.series.history import History
from lstmkit.data.series.placement import check_future_covariates
from lstmkit.data.series.series_set import SeriesSet, join_series
from lstmkit.data.series.time_split import (
    REGULAR_SEASON_THRESHOLD,
    ForecastExamples,
    Plan,
    last_timestamps,
    plan_windows,
    seasonal_change,
)
from lstmkit.data.series.window_arrays import ForecastWindows, Origins
from lstmkit.data.series.window_scaling import WindowScaler, usual_scales
from lstmkit.decoding.window_forecast import WindowForecast
from lstmkit.decoding.window_forecasts import WindowForecasts
from lstmkit.evaluation.calibration import combination_weight
from lstmkit.evaluation.forecast_metrics import quantile_columns
from lstmkit.jobs.forecaster.generation import sample_paths
from lstmkit.jobs.forecaster.intervals import IntervalCalibration
from lstmkit.jobs.forecaster.path_correlation import PathCorrelation
from lstmkit.jobs.forecaster.reading import read_forecast_series
from lstmkit.jobs.forecaster.series_histories import SeriesHistories
from lstmkit.jobs.forecaster.settings import ForecasterSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import DistributionHead, QuantileHead
from lstmkit.modules.linear_experts import LinearExperts
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

MAX_CALIBRATION_WINDOWS = 300  #: The recursive method samples many paths per window, so it calibrates on fewer.

#: The names of :class:`WindowScaler` for values of the settings ``centering`` and ``scaling``.
_SCALER_NAMES = {"seasonal_naive": "season", "seasonal_difference": "difference"}


class ForecasterPredictor(SeriesHistories, WindowForecasts, Predictor[ForecasterSettings]):
    """Forecasts quantiles for windows of time series.

    Args:
        settings: The settings that it was fitted with.
        window_plan: Frequency, season length, window and patch, chosen from the training split.
        covariates: Encodes covariates and the calendar as numbers.
        last_trained_timestamps: By series id the last timestamp of training and validation, as text.
        intervals: Calibration of the intervals; ``None`` without a validation split: then they are the network's own
            quantiles.
        usual_scales: By series id the scale of windows without a scale of their own, see
            :func:`~lstmkit.data.series.forecast_windows.usual_scales`; ``None`` in models of version 0.1.
        histories: By series id the last steps of all data that ``fit`` got, for the evaluation of data that continue
            them; empty in models of version 0.1.
        smoothing_weight: Weight of exponential smoothing in the forecast, from 0 to 1; 0 in models of version 0.1.
        path_correlation: Dependence of steps and series, for sampled paths (method direct); ``None`` without a
            validation split and in models of version 0.1.
    """

    settings: ForecasterSettings
    window_plan: Plan

    def __init__(
        self,
        settings: ForecasterSettings,
        window_plan: Plan,
        covariates: CovariateEncoder,
        last_trained_timestamps: Mapping[str, str],
        intervals: IntervalCalibration | None = None,
        usual_scales: Mapping[str, float] | None = None,
        histories: Mapping[str, History] | None = None,
        smoothing_weight: float = 0.0,
        path_correlation: PathCorrelation | None = None,
    ) -> None:
        super().__init__(settings)
        self.window_plan = window_plan
        self.covariates = covariates
        self.last_trained_timestamps = dict(last_trained_timestamps)
        self.intervals = intervals
        self.usual_scales = None if usual_scales is None else dict(usual_scales)
        self.histories = dict(histories or {})
        self.smoothing_weight = smoothing_weight
        self.path_correlation = path_correlation

    # ---- the front end -------------------------------------------------------------------------------------------

    @classmethod
    def fitted(cls, settings: ForecasterSettings, train: ForecastExamples) -> Self:
        """A predictor whose window plan and covariates are fitted to the training windows."""
        series = train.series
        plan = plan_for(settings, series, series.lengths)
        modeled = replace(series, y=tuple(map(np.log, series.y))) if settings.log_transform else series
        change = seasonal_change(modeled, series.lengths, plan.season, plan.past)
        covariates = CovariateEncoder.fit(
            series,
            past=settings.past_covariates,
            future=settings.future_covariates,
            static=settings.static_covariates,
            calendar=settings.calendar_features,
        )
        regular = replace(plan, regular=change < REGULAR_SEASON_THRESHOLD)
        predictor = cls(settings, regular, covariates, last_timestamps(series, series.lengths))
        scales = usual_scales(series.y, predictor.scaler, regular.past)
        predictor.usual_scales = dict(zip(series.ids, scales.tolist(), strict=True))
        predictor.keep_history(series)
        predictor.smoothing_weight = max(settings.smoothing_weight, 0.0)
        return predictor

    def read(self, data: Any, future_data: Any | None = None) -> SeriesSet:
        """A file or object as series of the frequency that was fitted. Raises DataError."""
        return read_forecast_series(self.settings, data, self.window_plan.freq, future_data)

    def read_histories(self, data: Any, future_data: Any | None = None) -> SeriesSet:
        """:meth:`read` of data to forecast; it warns of a short history."""
        series = self.read(data, future_data)
        if warning := self.short_history(series):
            warnings.warn(warning, stacklevel=3)
        return series

    def windows(self, examples: ForecastWindows) -> Windows:
        """Encoded windows with targets, ready to be batched."""
        settings, plan = self.settings, self.window_plan
        patches = -(-settings.horizon // plan.patch)
        return Windows(
            examples.series,
            self.covariates,
            self.scaler,
            examples.origins,
            past=plan.past,
            horizon=settings.horizon,
            ahead=patches * plan.patch if self.reads_horizon_states else 0,
            autoregressive=settings.method == "recursive",
            counts=self.is_count_data,
            usual_scales=self.usual_scales_of(examples.series),
        )

    @property
    def quantile_levels(self) -> list[float]:
        """The ``Q`` quantiles of the intervals and the median, ascending, in (0, 1)."""
        return list(quantile_columns(self.settings.levels))

    @property
    def is_count_data(self) -> bool:
        """Whether the values are modeled as counts."""
        return self.settings.method == "recursive" and self.settings.distribution == "negative_binomial"

    @property
    def reads_horizon_states(self) -> bool:
        """Whether the recurrent layers run over the horizon, where they read future covariates."""
        if self.settings.method == "recursive" or self.settings.readout == "horizon_states":
            return True
        return self.settings.readout == "auto" and bool(self.settings.future_covariates)

    @property
    def scaler(self) -> WindowScaler:
        """What is subtracted from each window, and what it is divided by."""
        # Forecasts of a regular series correct its last season, forecasts of others start at the last value.
        centering, scaling = ("season", "difference") if self.window_plan.regular else ("last", "std")
        if self.is_count_data:  # the network reads counts in units of their mean
            centering, scaling = "none", "mean"
        elif self.settings.method == "recursive":
            centering, scaling = "mean", "std"
        if self.settings.centering != "auto":
            centering = _SCALER_NAMES.get(self.settings.centering, self.settings.centering)
        if self.settings.scaling != "auto":
            scaling = _SCALER_NAMES.get(self.settings.scaling, self.settings.scaling)
        return WindowScaler(self.settings.log_transform, centering, scaling, self.window_plan.season)

    # ---- the network and its outputs -----------------------------------------------------------------------------

    def build(self) -> Model:
        s, plan = self.settings, self.window_plan
        width = s.hidden_size
        encoder = PatchEncoder(Windows.N_VALUE_FEATURES + self.covariates.width, plan.patch, width, s.dropout)
        trunk = build_trunk(s.cell, width, width, num_layers=s.num_layers, dropout=s.dropout, residual=s.residual)
        if s.method == "recursive":
            return SequenceModel(encoder, trunk, DistributionHead(trunk.output_size, s.distribution))
        # The last state forecasts the whole horizon; states over the horizon forecast one patch each.
        steps_per_state = plan.patch if self.reads_horizon_states else s.horizon
        head = QuantileHead(trunk.output_size, self.quantile_levels, s.horizon, steps_per_state, s.dropout)
        experts = LinearExperts(plan.past, s.horizon, trunk.output_size, s.linear_experts) if s.linear_experts else None
        return SequenceModel(encoder, trunk, head, experts)

    def network_windows(self, examples: ForecastWindows, progress: Progress | None = None) -> WindowForecast:
        return self.network_forecast(self.windows(examples), progress)

    def network_forecast(self, windows: Source, progress: Progress | None = None) -> WindowForecast:
        """Stacked forecasts of encoded windows by the network alone."""
        # Paths are sampled for one window at a time: a forecast must not depend on the other windows of a batch.
        loader = Loader(windows, 256 if self.settings.method == "direct" else 1)
        forecasts = predict(
            self.model, loader, self._decode, device=self.device, progress=progress, title="forecasting"
        )
        return WindowForecast(*(np.stack(parts) for parts in zip(*forecasts, strict=True)))

    def _decode(self, model: Model, batch: Batch) -> list[WindowForecast]:
        assert batch.targets is not None
        if self.settings.method == "direct":
            quantiles = model(batch.inputs)[0].sort(dim=-1).values  # quantiles that cross are put in order
            targets = batch.targets[:, -self.settings.horizon :]
        else:
            levels = torch.tensor(self.quantile_levels, device=batch.inputs.device)
            quantiles = torch.quantile(self.sample_paths(model, batch), levels, dim=1).movedim(0, -1)
            targets = batch.targets[:, self.window_plan.past :]
        if self.is_count_data:
            targets = targets / batch.extras["scale"]
        parts = (quantiles, batch.extras["base"], batch.extras["scale"], targets)
        return [WindowForecast(*row) for row in zip(*(p.double().cpu().numpy() for p in parts), strict=True)]

    def sample_paths(self, model: Model, batch: Batch) -> Tensor:
        """Sampled futures in scaled units, ``(B, num_samples, H)``."""
        settings = self.settings
        return sample_paths(
            model,
            batch,
            past=self.window_plan.past,
            horizon=settings.horizon,
            num_samples=settings.num_samples,
            seed=settings.seed,
            counts=self.is_count_data,
        )

    # ---- calibrated forecasts in the unit of the series ----------------------------------------------------------

    def calibrate(self, valid: ForecastExamples) -> None:
        """Fit to validation windows the combination with smoothing, interval widths and the correlation of paths.

        Their series then count as seen.
        """
        for series_id, end in last_timestamps(valid.series, valid.series.lengths).items():
            known = self.last_trained_timestamps.get(series_id, end)
            self.last_trained_timestamps[series_id] = max(end, known, key=self.parse_timestamp)
        self.keep_history(valid.series)
        if self.settings.method == "recursive":
            stride = -(-len(valid.origins) // MAX_CALIBRATION_WINDOWS)
            valid = ForecastExamples(valid.series, valid.origins[::stride])
        self.smoothing_weight = max(self.settings.smoothing_weight, 0.0)  # without that of an earlier calibration
        forecast, levels = self.predict_windows(valid), self.settings.levels
        if self.settings.method == "recursive":
            self.intervals = IntervalCalibration.fit(forecast, levels)
            return
        kept = set(map(tuple, without_overlap(valid.origins, self.settings.horizon).tolist()))
        apart = np.array([tuple(origin) in kept for origin in valid.origins.tolist()])
        unit = self.seasonal_differences(valid, forecast)
        if self.settings.smoothing_weight < 0:
            smoothed = self.smoothed(valid, forecast)
            y, network = forecast.target / unit, forecast.median / unit
            self.smoothing_weight = combination_weight(y, network, smoothed / unit, apart)
            forecast = forecast.moved_toward(smoothed, self.smoothing_weight)
        weight = self.settings.usual_width_weight
        if weight:
            self.intervals = IntervalCalibration.fit_with_usual_widths(forecast, levels, unit, apart, weight)
        else:
            self.intervals = IntervalCalibration.fit(forecast, levels)
        calibrated = self.intervals.apply(forecast, unit)
        self.path_correlation = PathCorrelation.of_windows(valid, calibrated, self.quantile_levels, apart)

    def forecast(self, series: SeriesSet) -> pd.DataFrame:
        """The ``horizon`` steps after the end of each series: ``unique_id, ds, forecast, forecast-lo-80, …``.

        Raises:
            DataError: A future covariate does not reach the end of the horizon.
        """
        (frame,) = self.forecast_each([series])
        return frame

    def forecast_each(self, sets: Sequence[SeriesSet]) -> list[pd.DataFrame]:
        """:meth:`forecast` of several sets of series; the network runs once for all of them."""
        for series in sets:
            check_future_covariates(series, self.settings.future_covariates, self.settings.horizon)
        ends = [np.stack([np.arange(len(series)), series.lengths], axis=1) for series in sets]
        joined = join_series(sets)
        quantiles = self.quantiles(joined, np.stack([np.arange(len(joined)), joined.lengths], axis=1))
        parts = np.split(quantiles, np.cumsum([len(series) for series in sets])[:-1])
        frames = (
            forecast_frame(series, origins, part, self.settings.levels, "forecast")
            for series, origins, part in zip(sets, ends, parts, strict=True)
        )
        return [frame.drop(columns=["cutoff", "y"]) for frame in frames]

    def forecast_from(self, series: SeriesSet, origins: Origins) -> pd.DataFrame:
        """Forecasts from ``origins (N, 2)``, beside actual values: ``unique_id, cutoff, ds, y, forecast, …``."""
        return forecast_frame(series, origins, self.quantiles(series, origins), self.settings.levels, "forecast")

    # ---- the saved state -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.window_plan),
            "features": self.covariates.to_json(),
            "trained_until": self.last_trained_timestamps,
            **({"widths": None} if self.intervals is None else self.intervals.state()),
            "usual_scales": self.usual_scales,
            "smoothing_weight": self.smoothing_weight,
            "path_correlation": None if self.path_correlation is None else self.path_correlation.state(),
            "histories": {name: history.to_json() for name, history in self.histories.items()},
        }

    @classmethod
    def from_state(cls, settings: ForecasterSettings, state: Mapping[str, Any]) -> Self:
        plan = Plan(**state["plan"])
        if not all(isinstance(n, int) and 0 < n < 2**31 for n in (plan.season, plan.past, plan.patch)):
            raise ValueError("season, window and patch must be whole numbers above 0")
        intervals = None
        if state["widths"] is not None:
            intervals = IntervalCalibration.from_state(state, settings.horizon, len(settings.levels))
        scales = state.get("usual_scales")  # models of version 0.1 have none
        if scales is not None:
            scales = {name: float(scale) for name, scale in scales.items()}
            if not all(0 <= scale < np.inf for scale in scales.values()):
                raise ValueError("usual scales must be finite numbers from 0 up")
        covariates = CovariateEncoder.from_json(state["features"])
        weight = float(state.get("smoothing_weight", 0.0))
        if not 0 <= weight <= 1:
            raise ValueError("smoothing_weight must be from 0 to 1")
        predictor = cls(settings, plan, covariates, state["trained_until"], intervals, scales, smoothing_weight=weight)
        predictor.histories = {
            name: History.from_json(history, predictor.parse_timestamp(history["start"]))
            for name, history in state.get("histories", {}).items()
        }
        names = {*settings.past_covariates, *settings.future_covariates}
        if state.get("path_correlation") is not None:
            predictor.path_correlation = PathCorrelation.from_state(state["path_correlation"], settings.horizon)
        if any(history.covariates.keys() != names for history in predictor.histories.values()):
            raise ValueError("the history of a series does not have the model's covariates")
        return predictor


def plan_for(settings: ForecasterSettings, series: SeriesSet, ends: np.ndarray) -> Plan:
    """Window, patch and season length for series whose training split ends at steps ``ends (N,)``."""
    return plan_windows(
        series.freq,
        int(ends.max()),
        settings.horizon,
        season=settings.season_length,
        window=settings.window,
        patch=settings.patch_length,
        autoregressive=settings.method == "recursive",
    )
