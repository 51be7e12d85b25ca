"""Forecast windows: ``past`` known steps and ``horizon`` steps to forecast, as one sequence.

The recurrent layers read both parts. Over the horizon the value is masked (0 with an indicator), but calendar features
and future covariates are known. The layout serves direct forecasts of the whole horizon and autoregressive models.

A missing value is 0 with a "not observed" indicator as input. It never counts for the level or scale and is never a
target. A window whose whole past is missing has no level, and therefore no targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lstmkit.data.arrays import root_mean_square
from lstmkit.data.batch import Batch
from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.series_set import SeriesSet

SeriesSteps = Sequence[int] | np.ndarray  #: One step per series.
Origins = np.ndarray  #: ``(N, 2)`` integers: index of the series, first step of the horizon.

_MIN_SPREAD = 1e-4  # relative to the usual scale of the series; a window that varies less counts as constant
_ROUNDING = 1e-13  # relative to the largest value: differences below it are rounding errors of float64


@dataclass(frozen=True)
class WindowScaler:
    """Normalization of each window by a level, a seasonal profile and a scale, computed from its past only.

    The scaled value is ``z = (f(y) - base) / scale``. ``base`` is level plus profile, extended over the horizon.

    Attributes:
        log: Whether ``f`` is the natural logarithm (all values must be above 0) instead of the identity.
        level: ``"last"`` value, ``"mean"`` of the past, ``"none"``, or ``"season"``: the values of the last season,
            repeated, so that the model corrects the seasonal naive forecast.
        scale: ``"std"`` of the past around the base; ``"difference"``: mean absolute seasonal difference, as in MASE;
            ``"mean"`` absolute value, for counts; or ``"none"``.
        season: Steps per season.

    >>> base, scale = WindowScaler().fit(np.array([[1.0, 3.0]]), horizon=1)
    >>> base.tolist(), scale.tolist()
    ([[2.0, 2.0, 2.0]], [[1.0]])
    """

    log: bool = False
    level: str = "mean"
    scale: str = "std"
    season: int = 1

    def transform(self, y: np.ndarray) -> np.ndarray:
        """Apply ``f``, before :meth:`fit`."""
        return np.log(y) if self.log else y

    def inverse(self, z: np.ndarray, base: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Undo the scaling: ``z (B, H, …)`` to the unit of the series; ``base (B, H, …)``, ``scale (B, 1, …)``."""
        y = z * scale + base
        return np.exp(y) if self.log else y

    def fit(
        self, past: np.ndarray, horizon: int, usual_scale: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``base (B, L + horizon)`` and ``scale (B, 1)``.

        Args:
            past: Transformed values ``(B, L)``, NaN where missing.
            horizon: Steps over which the base is extended.
            usual_scale: ``(B, 1)`` the scale of a window that has none of its own, because it is constant or too short,
                see :func:`usual_scales`; 0 if unknown. ``None``, as in models of version 0.1: 0.0001 of the level.
        """
        n_past = past.shape[1]
        phase = (np.arange(n_past + horizon) - n_past) % self.season  # 0 at the first step of the horizon
        base = self._level(past)[:, phase if self.level == "season" else np.zeros_like(phase)]
        return base, self._scale(past, base[:, :n_past], usual_scale)

    def _level(self, past: np.ndarray) -> np.ndarray:
        """Level ``(B, 1)``, or ``(B, season)`` for each step of the season."""
        if self.level == "none":
            return np.zeros((len(past), 1))
        if self.level == "last":
            return last_known(past)[:, None]
        if self.level == "mean":
            return _nan_mean(past)
        cycles = split_into_seasons(past, self.season)
        latest = np.moveaxis(cycles, 1, 2)
        return np.where(np.isnan(latest).all(-1), _nan_mean(past), last_known(latest))

    def _scale(self, past: np.ndarray, base: np.ndarray, usual_scale: np.ndarray | None) -> np.ndarray:
        if self.scale == "none":
            return np.ones((len(past), 1))
        scale, fraction_of_level = self._own_scale(past, base), 1e-4 * np.abs(base).max(axis=1, keepdims=True)
        if usual_scale is None:
            return np.where(scale > fraction_of_level, scale, _first_positive(fraction_of_level))
        rounding = _rounding(past)
        deviation = 1e-4 * root_mean_square(past - _nan_mean(past), axis=1)
        instead = _first_positive(usual_scale, np.where(deviation > rounding, deviation, 0.0), fraction_of_level)
        has_spread = scale > np.maximum(_MIN_SPREAD * usual_scale, rounding)
        return np.where(has_spread, scale, np.maximum(instead, rounding))

    def _own_scale(self, past: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Scale ``(B, 1)`` of the values alone; 0 for constant or periodic values, up to rounding."""
        if self.scale == "mean":
            return _nan_mean(np.abs(past))
        if self.scale == "std":
            return root_mean_square(past - base, axis=1)
        return _nan_mean(np.abs(past[:, self.season :] - past[:, : -self.season]))


def usual_scales(series: SeriesSet, scaling: WindowScaler, past: int) -> np.ndarray:
    """The median scale ``(N,)`` of 20 windows of each series, for windows without a scale of their own.

    A constant series has the median of the other series, but at most 0.0001 of its level, unless that is 0; 0 if no
    series varies.

    Args:
        series: The training data.
        scaling: Normalization of each window.
        past: Steps per window.
    """
    medians, levels = np.zeros(len(series)), np.zeros(len(series))
    for i, values in enumerate(series.y):
        y = np.concatenate([np.full(past, np.nan), scaling.transform(values)])
        ends = np.unique(np.linspace(min(past, len(values)), len(values), 20).astype(int))
        windows = y[ends[:, None] + np.arange(past)]
        base, _ = scaling.fit(windows, 0, np.zeros((len(windows), 1)))
        scales = scaling._own_scale(windows, base)
        scales = scales[scales > _rounding(windows)]
        medians[i] = np.median(scales) if scales.size else 0.0
        levels[i] = 1e-4 * np.abs(base).max()
    if not medians.any():
        return medians
    of_others = np.median(medians[medians > 0])
    return np.where(medians > 0, medians, np.where(levels > 0, np.minimum(levels, of_others), of_others))


def _first_positive(*candidates: np.ndarray) -> np.ndarray:
    """Element by element the first candidate above 0, else 1."""
    result = np.ones_like(candidates[0])
    for values in reversed(candidates):
        result = np.where(values > 0, values, result)
    return result


def _rounding(past: np.ndarray) -> np.ndarray:
    """``(B, 1)`` size of the rounding errors of ``past (B, L)``."""
    return _ROUNDING * np.nan_to_num(np.abs(past)).max(axis=1, keepdims=True)


def _nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the known values of each row, 0 if there are none: ``(B, L) -> (B, 1)``."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)


def last_known(values: np.ndarray) -> np.ndarray:
    """Last known value along the last axis, 0 if there is none: ``(..., L) -> (...)``."""
    from_the_end = np.argmax(~np.isnan(values[..., ::-1]), axis=-1)
    last = np.take_along_axis(values, values.shape[-1] - 1 - from_the_end[..., None], axis=-1)[..., 0]
    return np.nan_to_num(last)


def split_into_seasons(past: np.ndarray, season: int) -> np.ndarray:
    """Split the past into seasons, aligned at the end and padded with NaN: ``(B, L) -> (B, seasons, season)``."""
    missing = np.full((len(past), -past.shape[1] % season), np.nan)
    return np.concatenate([missing, past], axis=1).reshape(len(past), -1, season)


def past_values(series: SeriesSet, origins: Origins, steps: int) -> np.ndarray:
    """The ``steps`` values before each of ``origins (N, 2)``: ``(N, steps)``, NaN where missing or before the start."""
    past = np.full((len(origins), steps), np.nan)
    for row, (i, first) in zip(past, origins, strict=True):
        known = series.y[i][max(0, first - steps) : first]
        row[steps - len(known) :] = known
    return past


class Windows:
    """Dataset of the forecast windows at given origins.

    A batch has ``inputs (B, L + A, N_VALUE_FEATURES + features.width)``, ``extras["base"] (B, H)`` and
    ``extras["scale"] (B, 1)``. Its ``targets`` are ``(B, H)``, or ``(B, L + H)`` if ``autoregressive``; NaN marks
    missing values.

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

    lengths: np.ndarray | None = None  # all windows have the same length

    def __init__(
        self,
        series: SeriesSet,
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

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the windows ``rows``."""
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
        return Batch(
            inputs=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets.astype(np.float32)),
            rows=rows,
            extras={
                "base": torch.from_numpy(base[:, self.past : self.past + self.horizon]),
                "scale": torch.from_numpy(scale),
            },
        )

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


def rolling_origins(series: SeriesSet, first: SeriesSteps, last: SeriesSteps, stride: int = 1) -> Origins:
    """Origins ``(N, 2)`` from ``first[i]`` to ``last[i]`` (inclusive), every ``stride`` steps back from the last."""
    blocks = [
        np.stack([np.full(len(steps), i), steps], axis=1)
        for i in range(len(series))
        if len(steps := np.arange(last[i], first[i] - 1, -stride)[::-1])
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), dtype=int)


def without_overlap(origins: Origins, horizon: int) -> Origins:
    """Those of ``origins (N, 2)`` whose horizons do not overlap, from the last of each series backwards; sorted.

    >>> without_overlap(np.array([[0, 3], [0, 4], [0, 5], [1, 5]]), horizon=2)
    array([[0, 3],
           [0, 5],
           [1, 5]])
    """
    kept: list[tuple[int, int]] = []
    for i, step in sorted(map(tuple, origins.tolist()), key=lambda origin: (origin[0], -origin[1])):
        if not kept or kept[-1][0] != i or step + horizon <= kept[-1][1]:
            kept.append((i, step))
    return np.array(sorted(kept), dtype=int).reshape(-1, 2)
