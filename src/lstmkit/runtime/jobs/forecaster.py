"""Forecasts of time series with prediction intervals."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np

from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.placement import check_future_covariates, check_values
from lstmkit.data.series.window_arrays import ForecastWindows, WindowArrays, WindowEncoder
from lstmkit.data.series.window_scaling import WindowScaler
from lstmkit.decoding.interval_widths import IntervalWidths
from lstmkit.decoding.window_forecast import WindowForecast
from lstmkit.decoding.window_forecasts import WindowForecasts
from lstmkit.progress import Progress
from lstmkit.runtime.base import BATCH, ExportedJob
from lstmkit.runtime.columns import Columns, offset_minutes
from lstmkit.runtime.series import SeriesFormat, read_series


class Forecaster(ExportedJob):
    """Forecasts the steps after the end of each series. It has no sampled paths and no explanations."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        columns = self.settings["columns"]
        lists = {name: tuple(columns[name]) for name in ("past", "future", "static", "texts")}
        self.form = SeriesFormat(**{**columns, **lists}, freq=self.settings["freq"])
        self._forecasts = _Forecasts(self)

    def predict(self, data: Any, *, future_data: Any | None = None) -> list[dict[str, Any]]:
        """Forecast the ``horizon`` steps after the end of each series.

        With ``method="recursive"`` the sampled paths have the same distribution as those of the job, but not the same
        random numbers.

        Args:
            data: A mapping of column names to lists, a row per step, with the columns that the model was fitted to:
                series id, timestamp, value and covariates. Timestamps are ISO 8601 texts, datetime64, or whole numbers
                if those of the training data are. ``None`` is a missing value. A list of numbers is one series whose
                timestamps are 0, 1, 2, …
            future_data: A mapping with the future covariates over the horizon, if ``data`` does not have them.

        Returns:
            For each series and step: series id, timestamp as text, ``forecast``, the median, and for each level the
            bounds ``forecast-lo-80, forecast-hi-80``, in the unit of the series.

        Raises:
            DataError: The data cannot be read, or a future covariate does not reach the end of the horizon.
        """
        settings = self.settings
        series = read_series(data, self.form, future_data)
        check_values(series, counts=settings["counts"], log=settings["log_transform"])
        forecasts = self._forecasts.with_offset(series.offset)
        warning = forecasts.short_history(series)
        if warning:
            warnings.warn(warning, stacklevel=2)
        check_future_covariates(series, self.form.future, settings["horizon"])
        origins = np.stack([np.arange(len(series)), series.lengths], axis=1)
        rows = forecasts.quantiles(series, origins).reshape(-1, 2 * len(settings["levels"]) + 1)
        ids = [name for name in series.ids for _ in range(settings["horizon"])]
        times = series.texts_after(settings["horizon"])
        levels, middle = sorted(settings["levels"]), len(settings["levels"])
        bounds = {f"forecast-{side}-{level}": middle + sign * k for k, level in enumerate(levels, 1)
                  for side, sign in (("lo", -1), ("hi", 1))}  # fmt: skip
        places = {"forecast": middle, **bounds}
        taken = {"unique_id", "ds", *places}
        id_name = "unique_id" if series.id_name in taken else series.id_name
        time_name = "ds" if series.time_name in taken else series.time_name
        return [
            {id_name: name, time_name: time, **{column: float(row[q]) for column, q in places.items()}}
            for name, time, row in zip(ids, times, rows, strict=True)
        ]


class _Forecasts(WindowForecasts):
    """What is around the network: the same as in the job."""

    def __init__(self, job: Forecaster) -> None:
        self.job, self.offset, values = job, "", job.settings
        self.settings = SimpleNamespace(**{k: values[k] for k in ("horizon", "log_transform", "adaptive_rate")})
        self.settings.levels = tuple(values["levels"])
        self.window_plan = SimpleNamespace(**values["window"])
        self.last_trained_timestamps = values["last_trained_timestamps"]
        self.usual_scales = values["usual_scales"]
        self.smoothing_weight = values["smoothing_weight"]
        self.covariates = CovariateEncoder.from_json(values["covariates"])
        self._scaler = WindowScaler(**values["scaler"])
        widths = values["intervals"]
        n_levels = len(values["levels"])
        self.intervals = None if widths is None else IntervalWidths.from_state(widths, values["horizon"], n_levels)

    @property
    def scaler(self) -> WindowScaler:
        return self._scaler

    @property
    def is_count_data(self) -> bool:
        return self.job.settings["counts"]

    def with_offset(self, offset: str) -> _Forecasts:
        """The same for series whose timestamps have a UTC offset; empty if they have none."""
        other = copy.copy(self)
        other.offset = offset
        return other

    def parse_timestamp(self, text: str) -> Any:
        if isinstance(self.job.form.freq, int):
            return int(text)
        dates, offset = Columns({"timestamp": [text]}, "the export").dates("timestamp")
        if bool(offset) != bool(self.offset):
            raise TypeError("only one of two timestamps has a UTC offset")
        return dates[0] + np.timedelta64(offset_minutes(self.offset) - offset_minutes(offset), "m")

    def network_windows(self, examples: ForecastWindows, progress: Progress | None = None) -> WindowForecast:
        values = self.job.settings
        encoder = WindowEncoder(
            examples.series,
            self.covariates,
            self.scaler,
            examples.origins,
            past=self.window_plan.past,
            horizon=self.settings.horizon,
            ahead=values["ahead"],
            autoregressive=values["method"] == "recursive",
            counts=self.is_count_data,
            usual_scales=self.usual_scales_of(examples.series),
        )
        direct = values["method"] == "direct"
        size = BATCH if direct else 1
        batches = [encoder.arrays(np.arange(i, min(i + size, len(encoder)))) for i in range(0, len(encoder), size)]
        quantiles = [self._direct(batch) if direct else self._recursive(batch) for batch in batches]
        _, targets, base, scale = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        targets = targets[:, -self.settings.horizon :] / (scale if self.is_count_data else 1.0)
        return WindowForecast(np.concatenate(quantiles), base, scale, targets.astype(np.float64))

    def _direct(self, batch: WindowArrays) -> np.ndarray:
        """Quantiles ``(B, H, Q)`` in scaled units, ascending."""
        return self.job.network(inputs=batch.inputs)[0].astype(np.float64)

    def _recursive(self, batch: WindowArrays) -> np.ndarray:
        """Quantiles ``(1, H, Q)`` of sampled paths of one window, in scaled units."""
        values, network, past = self.job.settings, self.job.network, self.window_plan.past
        samples, rng = values["num_samples"], np.random.default_rng(values["seed"])
        inputs, scale = batch.inputs, batch.scale[0, 0]
        _, states = network.step(network.zero_states(rows=1), inputs=inputs[:, :past])
        states = [np.repeat(state, samples, axis=1) for state in states]
        path = np.zeros((samples, self.settings.horizon))
        for t in range(self.settings.horizon):
            step = np.repeat(inputs[:, past + t : past + t + 1], samples, axis=0)
            if t:
                step[:, 0, 0], step[:, 0, 1] = path[:, t - 1], 1.0  # a sampled value counts as observed
            (parameters,), states = network.step(states, inputs=step)
            path[:, t] = draw(values["distribution"], parameters.astype(np.float64), scale, rng)
        return np.moveaxis(np.quantile(path, values["quantile_levels"], axis=0), 0, -1)[None]


def draw(family: str, parameters: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Values in scaled units drawn from distributions.

    Args:
        family: As :class:`lstmkit.modules.heads.DistributionHead` names it.
        parameters: ``(N, K)``: location and standard deviation (normal); location, scale and degrees of freedom
            (student_t); or mean, in units of ``scale``, and total count (negative_binomial).
        scale: What the values of the window were divided by; only counts depend on it.
        rng: Source of random numbers.

    Returns:
        ``(N,)``
    """
    first, second = parameters[:, 0], parameters[:, 1]
    if family == "normal":
        return rng.normal(first, second)
    if family == "student_t":
        return first + second * rng.standard_t(parameters[:, 2])
    return rng.poisson(rng.gamma(second, first * scale / second)) / scale
