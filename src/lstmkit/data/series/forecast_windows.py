"""Windows over series: ``past`` steps that are known and ``horizon`` steps that are asked, as one sequence.

The trunk runs through both. Over the horizon the value is unknown (0, with a flag that says so) and what is known
ahead, the calendar and covariates, is there; so one layout serves a model that answers the whole horizon at once and
one that is fed its own values step by step.

Missing values follow the same rule wherever they stand: as an input 0 with the flag "not observed", never part of a
level or scale, never a target, never scored. A window whose past is all missing has no level, so no targets either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.series_set import SeriesSet

SeriesSteps = Sequence[int] | np.ndarray  #: One step for each series.
Origins = np.ndarray  #: ``(N, 2)`` whole numbers: series, and the first step of its horizon.


@dataclass(frozen=True)
class WindowScaler:
    """What is taken out of each window, fitted on its past only: a level, a seasonal profile and a scale.

    Scaled value: ``z = (f(y) - base) / scale`` with ``base`` the level plus the profile carried on over the horizon.

    Attributes:
        log: ``f`` is the natural logarithm (all values must be above 0), otherwise nothing.
        level: ``"last"`` value, ``"mean"`` of the past, or ``"none"``; or ``"season"``: the last season's values
            repeated, so that the model corrects the seasonal naive forecast.
        scale: ``"std"`` of the past around the base; ``"difference"``: mean absolute difference of values a season
            apart, the unit of MASE; ``"mean"`` absolute value, for counts; or ``"none"``.
        season: Steps in a season.
    """

    log: bool = False
    level: str = "mean"
    scale: str = "std"
    season: int = 1

    def transform(self, y: np.ndarray) -> np.ndarray:
        return np.log(y) if self.log else y

    def inverse(self, z: np.ndarray, base: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Scaled values ``(B, H, ...)`` back in the series' unit; ``base (B, H, ...)``, ``scale (B, 1, ...)``."""
        y = z * scale + base
        return np.exp(y) if self.log else y

    def fit(self, past: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """``base (B, L + horizon)`` and ``scale (B, 1)`` from transformed values ``past (B, L)`` with NaN."""
        n_past = past.shape[1]
        places = (np.arange(n_past + horizon) - n_past) % self.season  # the horizon's first step is at place 0
        base = self._level(past)[:, places if self.level == "season" else np.zeros_like(places)]
        return base, self._scale(past, base[:, :n_past])

    def _level(self, past: np.ndarray) -> np.ndarray:
        """``(B, 1)``, or ``(B, season)`` by place in the season."""
        if self.level == "none":
            return np.zeros((len(past), 1))
        if self.level == "last":
            return _last_known(past)[:, None]
        if self.level == "mean":
            return _nan_mean(past)
        cycles = _cycles(past, self.season)
        latest = np.moveaxis(cycles, 1, 2)
        return np.where(np.isnan(latest).all(-1), _nan_mean(past), _last_known(latest))

    def _scale(self, past: np.ndarray, base: np.ndarray) -> np.ndarray:
        if self.scale == "none":
            return np.ones((len(past), 1))
        if self.scale == "mean":
            scale = _nan_mean(np.abs(past))
        elif self.scale == "std":
            scale = np.sqrt(_nan_mean((past - base) ** 2))
        else:
            scale = _nan_mean(np.abs(past[:, self.season :] - past[:, : -self.season]))
        # A flat window has no spread; a floor relative to its level keeps rounding noise from being blown up.
        floor = 1e-4 * np.abs(base).max(axis=1, keepdims=True)
        return np.where(scale > floor, scale, np.where(floor > 0, floor, 1.0))


def _nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean of each row's known values, 0 where there are none: ``(B, L) -> (B, 1)``."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)


def _last_known(values: np.ndarray) -> np.ndarray:
    """The last value along the last axis that is known, 0 where none is: ``(..., L) -> (...)``."""
    from_the_end = np.argmax(~np.isnan(values[..., ::-1]), axis=-1)
    last = np.take_along_axis(values, values.shape[-1] - 1 - from_the_end[..., None], axis=-1)[..., 0]
    return np.nan_to_num(last)


def _cycles(past: np.ndarray, season: int) -> np.ndarray:
    """Whole seasons up to the end, missing before the start: ``(B, L) -> (B, seasons, season)``."""
    missing = np.full((len(past), -past.shape[1] % season), np.nan)
    return np.concatenate([missing, past], axis=1).reshape(len(past), -1, season)


class Windows:
    """The windows at given origins, as a source of batches.

    Args:
        series: The data.
        features: Their covariates as numbers.
        scaling: What to take out of each window.
        origins: Which windows, ``(N, 2)``.
        past: Steps before the horizon, ``L``; where a series has fewer, the rest counts as missing.
        horizon: Steps asked, ``H``, known or not.
        ahead: Steps of the horizon that the inputs go on for, ``A``: 0, or ``H`` and what fills up a patch.
        fed: Lay out for a model that is fed the value before: step ``t`` has the value of ``t - 1``.
        counts: Targets are the values themselves rather than scaled ones.

    A batch has ``inputs (B, L + A, N_OWN_FEATURES + features.width)``, ``extras`` ``base (B, H)`` and ``scale (B, 1)``.
    Its ``targets`` are ``(B, H)``, or ``(B, L + H)`` if ``fed``; NaN where there is no value.

    Raises:
        ValueError: An origin lies outside its series, ``0 .. T_i``.
    """

    N_VALUE_FEATURES = 3  #: value, observed, in the horizon; the covariates' columns follow.

    lengths: np.ndarray | None = None  # all windows are as long

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
        fed: bool = False,
        counts: bool = False,
    ) -> None:
        self.scaling, self.origins, self.past, self.horizon = scaling, origins, past, horizon
        self.fed, self.counts, self.n_past_features = fed, counts, features.n_past
        self.ahead = ahead
        if len(origins) and ((origins[:, 1] < 0) | (origins[:, 1] > series.lengths[origins[:, 0]])).any():
            raise ValueError("an origin lies outside its series")
        self._reach = reach = max(horizon, ahead)
        # One flat array with room for a whole window before each series and a horizon behind it: no bounds to check.
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
        """The windows ``rows`` side by side."""
        series, first = self.origins[rows].T
        steps = (self._starts[series] + first)[:, None] + np.arange(self.past + self._reach)
        y = self._y[steps]
        base, scale = self.scaling.fit(y[:, : self.past], self._reach)
        z = ((y - base) / scale).astype(np.float32)
        seen = slice(0, self.past + self.ahead)
        inputs = np.concatenate([self._value_features(z[:, seen]), self._features[steps[:, seen]]], axis=2)
        inputs[:, self.past :, self.N_VALUE_FEATURES : self.N_VALUE_FEATURES + self.n_past_features] = 0.0
        asked = slice(0 if self.fed else self.past, self.past + self.horizon)
        unknown = np.isnan(y[:, : self.past]).all(axis=1, keepdims=True)
        targets = np.where(unknown, np.nan, y if self.counts else z)[:, asked]
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
        """``(B, L + A, 3)``: value, observed, in the horizon."""
        seen = np.full_like(z, np.nan)
        if self.fed:
            seen[:, 1:] = z[:, :-1]
        else:
            seen[:, : self.past] = z[:, : self.past]
        observed = ~np.isnan(seen)
        ahead = np.broadcast_to(np.arange(z.shape[1]) >= self.past, z.shape)
        return np.stack([np.where(observed, seen, 0.0), observed, ahead], axis=-1).astype(np.float32)


def rolling_origins(series: SeriesSet, first: SeriesSteps, last: SeriesSteps, stride: int = 1) -> Origins:
    """Origins ``first[i] .. last[i]`` (both included) of every series, the last always among them."""
    found = [
        np.stack([np.full(len(steps), i), steps], axis=1)
        for i in range(len(series))
        if len(steps := np.arange(last[i], first[i] - 1, -stride)[::-1])
    ]
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=int)
