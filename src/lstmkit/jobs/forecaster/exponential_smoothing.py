"""Forecasts by exponential smoothing: the Theta method with an additive season, for many windows at once.

The Theta method (Assimakopoulos and Nikolopoulos 2000), the winner of the M3 competition, is simple exponential
smoothing whose drift is half the slope of a straight line through the values (Hyndman and Billah 2003, "Unmasking the
Theta method").
"""

from __future__ import annotations

import numpy as np

from lstmkit.data.series.forecast_windows import last_known, split_into_seasons

MAX_STEPS = 1500  #: Steps of history that are smoothed at most.

_SEASONS, _MIN_STEPS = 8, 40
_SMOOTHING = np.linspace(0.1, 1.0, 10)  # the weight of the newest value, α


def steps_to_smooth(season: int) -> int:
    """Steps of history that :func:`theta_forecasts` is given: eight seasons, but 40 steps at least.

    >>> steps_to_smooth(1), steps_to_smooth(12)
    (40, 96)
    """
    return min(max(_SEASONS * season, _MIN_STEPS), MAX_STEPS)


def theta_forecasts(past: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Forecast each window from its own values, without a season if it has less than two.

    The smoothing weight, one of 0.1, 0.2, … 1, is the one with the smallest squared one-step error in the window. At a
    missing value the level moves on by the drift.

    Args:
        past: ``(B, L)`` values, NaN where missing.
        horizon: Steps to forecast, ``H``.
        season: Steps per season, ``S``.

    Returns:
        ``(B, H)``; 0 for a window without values.

    >>> theta_forecasts(np.array([[1.0, 2.0, 3.0, 4.0], [7.0, np.nan, 7.0, 7.0]]), horizon=2, season=1)
    array([[4.5, 5. ],
           [7. , 7. ]])
    """
    reference = last_known(past)[:, None]  # a high level costs digits, and tiny values have no squares
    values = past - reference
    size = np.nan_to_num(np.abs(values)).max(axis=1, keepdims=True)
    unit = np.where(size > 0, size, 1.0)
    values /= unit
    profile = seasonal_profile(values, season)
    phase = (np.arange(values.shape[1] + horizon) - values.shape[1]) % season
    adjusted = values - profile[:, phase[: values.shape[1]]]
    drift = _slope(adjusted)[:, None] / 2
    ahead = _level(adjusted, drift) + drift * np.arange(1, horizon + 1)
    return reference + unit * (ahead + profile[:, phase[values.shape[1] :]])


def seasonal_profile(past: np.ndarray, season: int) -> np.ndarray:
    """Mean differences from the moving average over a season, by step of the season, shrunk by their own noise.

    The shrinkage is that of James and Stein (1961): a season as large as its noise vanishes.

    Args:
        past: ``(B, L)`` values, NaN where missing.
        season: Steps per season, ``S``.

    Returns:
        ``(B, S)`` with mean 0, from the first step after the window on; 0 if the window has less than two seasons.
    """
    n_steps = past.shape[1]
    if season < 2 or n_steps < 2 * season:
        return np.zeros((len(past), season))
    differences = np.full_like(past, np.nan)
    half = season // 2
    average = _moving_average(past, season)
    inner = slice(half, half + average.shape[1])
    differences[:, inner] = past[:, inner] - average
    cycles = split_into_seasons(differences, season)  # (B, cycles, S)
    known = ~np.isnan(cycles)
    counts = known.sum(axis=1)
    profile = np.where(known, cycles, 0.0).sum(axis=1) / np.maximum(counts, 1)
    squares = np.where(known, (cycles - profile[:, None]) ** 2, 0.0).sum(axis=1)
    freedom = np.maximum(counts - 1, 0).sum(axis=1, keepdims=True)
    variance = squares.sum(axis=1, keepdims=True) / np.maximum(freedom, 1)
    profile -= profile.mean(axis=1, keepdims=True)
    noise = variance / np.maximum(counts.mean(axis=1, keepdims=True), 1)
    power = (profile**2).sum(axis=1, keepdims=True) / (season - 1)
    kept = np.where((power > noise) & (freedom > 0), 1 - noise / np.where(power > 0, power, 1.0), 0.0)
    return profile * kept


def _moving_average(values: np.ndarray, season: int) -> np.ndarray:
    """Mean over a season around each step that has one: ``(B, L) -> (B, L - 2 * (S // 2))``.

    A missing value counts as the last known one before it; before the first known value the mean is NaN.
    """
    known = ~np.isnan(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), axis=1)
    filled = np.nan_to_num(np.take_along_axis(values, newest, axis=1))
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1)), filled], axis=1), axis=1)
    means = (sums[:, season:] - sums[:, :-season]) / season
    starts = np.arange(means.shape[1])
    means = np.where(starts >= known.argmax(axis=1)[:, None], means, np.nan)
    return means if season % 2 else (means[:, 1:] + means[:, :-1]) / 2


def _slope(values: np.ndarray) -> np.ndarray:
    """Slope per step of the line of least squares through each row, ``(B, L) -> (B,)``; 0 for a single value."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(axis=1, keepdims=True), 1)
    steps = np.where(known, np.arange(values.shape[1]), 0.0)
    steps = np.where(known, steps - steps.sum(axis=1, keepdims=True) / counts, 0.0)
    spread = (steps**2).sum(axis=1)
    return (steps * np.nan_to_num(values)).sum(axis=1) / np.where(spread > 0, spread, 1.0)


def _level(values: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """The smoothed level after the last step of ``values (B, L)``, for ``drift (B, 1)`` per step: ``(B, 1)``."""
    levels = np.zeros((len(values), len(_SMOOTHING)))
    errors = np.zeros_like(levels)
    started = np.zeros((len(values), 1), dtype=bool)
    for column in values.T:
        known, value = ~np.isnan(column)[:, None], np.nan_to_num(column)[:, None]
        expected = levels + drift
        error = np.where(known & started, value - expected, 0.0)
        levels = np.where(started, expected + _SMOOTHING * error, value)
        errors += error**2
        started |= known
    return np.take_along_axis(levels, errors.argmin(axis=1)[:, None], axis=1)
