"""Forecast windows as arrays: ``past`` known steps and ``horizon`` steps to forecast, as one sequence.

The recurrent layers read both parts. Over the horizon the value is masked (0 with an indicator), but calendar features
and future covariates are known. The layout serves direct forecasts of the whole horizon and autoregressive models.

A missing value is 0 with a "not observed" indicator as input. It never counts for the level or scale and is never a
target. A window whose whole past is missing has no level, and therefore no targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.regular_series import RegularSeries
from lstmkit.data.series.window_scaling import WindowScaler

Origins = np.ndarray  #: ``(N, 2)`` integers: index of the series, first step of the horizon.


@dataclass(frozen=True)
class ForecastWindows:
    """Series, and the origins of their forecast windows."""

    series: RegularSeries
    origins: Origins


class WindowArrays(NamedTuple):
    """A batch of windows.

    Attributes:
        inputs: ``(B, L + A, 3 + F)`` float32.
        targets: ``(B, H)``, or ``(B, L + H)`` if ``autoregressive``, float32; NaN marks missing values.
        base: ``(B, H)`` float64, what was subtracted from the values over the horizon.
        scale: ``(B, 1)`` float64, what they were divided by.
    """

    inputs: np.ndarray
    targets: np.ndarray
    base: np.ndarray
    scale: np.ndarray


def past_values(series: RegularSeries, origins: Origins, steps: int) -> np.ndarray:
    """The ``steps`` values before each of ``origins (N, 2)``: ``(N, steps)``, NaN where missing or before the start."""
    past = np.full((len(origins), steps), np.nan)
    for row, (i, first) in zip(past, origins, strict=True):
        known = series.y[i][max(0, first - steps) : first]
        row[steps - len(known) :] = known
    return past


class WindowEncoder:
    """Encodes the forecast windows at given origins.

    Args:
        series: The data.
        features: Encoder of the covariates.
        scaling: Normalization of each window.
        origins: ``(N, 2)`` series and first step of the horizon.
        past: Steps before the horizon, ``L``. If a series has fewer, the others are missing.
        horizon: Steps to forecast, ``H``.
        ahead: Steps of the horizon in the inputs, ``A``: 0, or ``H`` rounded up to whole patches.
        autoregressive: Inputs for an autoregressive model: step ``t`` has the value of ``t - 1``.
        counts: Whether targets are unscaled values.
        usual_scales: ``(N,)`` see :func:`usual_scales`; ``None`` as in :meth:`WindowScaler.fit`.

    Raises:
        ValueError: An origin is outside its series, ``0 .. T_i``.
    """

    N_VALUE_FEATURES = 3  #: Value, observed, in the horizon; the columns of the covariates follow.

    def __init__(
        self,
        series: RegularSeries,
        features: CovariateEncoder,
        scaling: WindowScaler,
        origins: Origins,
        *,
        past: int,
        horizon: int,
        ahead: int,
        autoregressive: bool = False,
        counts: bool = False,
        usual_scales: np.ndarray | None = None,
    ) -> None:
        self.usual_scales = usual_scales
        self.scaling, self.origins, self.past, self.horizon = scaling, origins, past, horizon
        self.autoregressive, self.counts, self.n_past_features = autoregressive, counts, features.n_past
        self.ahead = ahead
        if len(origins) and ((origins[:, 1] < 0) | (origins[:, 1] > series.lengths[origins[:, 0]])).any():
            raise ValueError("an origin is outside its series")
        self._reach = reach = max(horizon, ahead)
        # One flat array, padded by a window before each series and a horizon after it, so no bounds are checked.
        steps = [past + n + reach for n in series.lengths]
        self._starts = np.concatenate([[0], np.cumsum(steps)])[: len(series)]
        self._y = np.full(sum(steps), np.nan)
        self._features = np.zeros((sum(steps), features.width), np.float32)
        for i, (start, n) in enumerate(zip(self._starts, series.lengths, strict=True)):
            self._y[start + past : start + past + n] = scaling.transform(series.y[i])
            self._features[start + past : start + past + n + reach] = features.transform(series, i, n + reach)

    def __len__(self) -> int:
        return len(self.origins)

    def arrays(self, rows: np.ndarray) -> WindowArrays:
        """The windows ``rows``."""
        series, first = self.origins[rows].T
        steps = (self._starts[series] + first)[:, None] + np.arange(self.past + self._reach)
        y = self._y[steps]
        usual_scale = None if self.usual_scales is None else self.usual_scales[series][:, None]
        base, scale = self.scaling.fit(y[:, : self.past], self._reach, usual_scale)
        z = ((y - base) / scale).astype(np.float32)
        input_steps = slice(0, self.past + self.ahead)
        inputs = np.concatenate(
            [self._value_features(z[:, input_steps]), self._features[steps[:, input_steps]]], axis=2
        )
        inputs[:, self.past :, self.N_VALUE_FEATURES : self.N_VALUE_FEATURES + self.n_past_features] = 0.0
        target_steps = slice(0 if self.autoregressive else self.past, self.past + self.horizon)
        past_missing = np.isnan(y[:, : self.past]).all(axis=1, keepdims=True)
        targets = np.where(past_missing, np.nan, y if self.counts else z)[:, target_steps]
        horizon = slice(self.past, self.past + self.horizon)
        return WindowArrays(inputs, targets.astype(np.float32), base[:, horizon], scale)

    def _value_features(self, z: np.ndarray) -> np.ndarray:
        """The features ``(B, L + A, 3)`` value, observed, in the horizon."""
        values = np.full_like(z, np.nan)
        if self.autoregressive:
            values[:, 1:] = z[:, :-1]
        else:
            values[:, : self.past] = z[:, : self.past]
        observed = ~np.isnan(values)
        in_horizon = np.broadcast_to(np.arange(z.shape[1]) >= self.past, z.shape)
        return np.stack([np.where(observed, values, 0.0), observed, in_horizon], axis=-1).astype(np.float32)
