"""Normalization of forecast windows by a level, a seasonal profile and a scale.

A missing value never counts for the level or scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmkit.data.statistics import root_mean_square

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


def usual_scales(targets: Sequence[np.ndarray], scaling: WindowScaler, past: int) -> np.ndarray:
    """The median scale ``(N,)`` of 20 windows of each series, for windows without a scale of their own.

    A constant series has the median of the other series, but at most 0.0001 of its level, unless that is 0; 0 if no
    series varies.

    Args:
        targets: The values of each series of the training data.
        scaling: Normalization of each window.
        past: Steps per window.
    """
    medians, levels = np.zeros(len(targets)), np.zeros(len(targets))
    for i, values in enumerate(targets):
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
    padded = np.concatenate([missing, past], axis=1)
    return padded.reshape(len(past), padded.shape[1] // season, season)
