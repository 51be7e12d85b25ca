"""Forecasts by exponential smoothing, for many windows at once: the mean of two methods.

- The Theta method (Assimakopoulos and Nikolopoulos 2000), the winner of the M3 competition, is simple exponential
  smoothing whose drift is half the slope of a straight line through the values (Hyndman and Billah 2003, "Unmasking
  the Theta method").
- In exponential smoothing with a damped trend (Gardner and McKenzie 1985) the drift follows the values and fades.

The mean of simple methods beat each of them in the M competitions (Makridakis and Hibon 2000).
"""

from __future__ import annotations

import numpy as np

from lstmkit.data.series.window_scaling import last_known, split_into_seasons

MAX_STEPS = 1500  #: Steps of history that are smoothed at most.

_SEASONS, _MIN_STEPS = 8, 40
_MIN_RATIO, _MAX_RATIO = 0.03, 1 - 1e-6  # smallest to largest value of a window with a multiplicative season
_WINDOWS_AT_ONCE = 1000


def _combinations(level: list[float], trend: list[float], damping: list[float]) -> np.ndarray:
    """``(3, combinations)``: α, the weight of an error in the level; β, its weight in the drift; φ, the damping."""
    alpha, beta, phi = np.array(np.meshgrid(level, trend, damping)).reshape(3, -1)
    return np.stack([alpha, alpha * beta, phi])


#: What both methods choose from, by the squared one-step error. The drift of the Theta method stays.
_COMBINATIONS = np.concatenate(
    [
        _combinations(np.linspace(0.1, 1.0, 10).tolist(), [0.0], [1.0]),
        _combinations([0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.99], [0.05, 0.15, 0.3, 0.6], [0.8, 0.9, 0.97]),
    ],
    axis=1,
)
_METHODS = (slice(0, 10), slice(10, None))  # the combinations of each


def steps_to_smooth(season: int) -> int:
    """Steps of history that :func:`smoothed_forecasts` is given: eight seasons, but 40 steps at least.

    >>> steps_to_smooth(1), steps_to_smooth(12)
    (40, 96)
    """
    return min(max(_SEASONS * season, _MIN_STEPS), MAX_STEPS)


def smoothed_forecasts(past: np.ndarray, horizon: int, season: int, *, multiplicative: bool = True) -> np.ndarray:
    """Forecast each window from its own values: the mean of the Theta method and a damped trend.

    Each method takes the season out before and puts it back afterwards: an additive or a multiplicative one, whichever
    leaves smaller squared one-step errors in the window, or none in a window of less than two seasons. At a missing
    value the level moves on by the drift.

    Args:
        past: ``(B, L)`` values, NaN where missing.
        horizon: Steps to forecast, ``H``.
        season: Steps per season, ``S``.
        multiplicative: Whether a season may be multiplicative, in windows of one sign whose smallest value is more than
            3 % of the largest.

    Returns:
        ``(B, H)``; 0 for a window without values.

    >>> smoothed_forecasts(np.array([[2.0, 2.0, 2.0, 2.0], [7.0, np.nan, 7.0, 7.0]]), horizon=2, season=1)
    array([[2., 2.],
           [7., 7.]])
    """
    blocks = [past[i : i + _WINDOWS_AT_ONCE] for i in range(0, len(past), _WINDOWS_AT_ONCE)]
    found = [_forecasts_by_method(block, horizon, season, multiplicative).mean(axis=0) for block in blocks]
    return np.concatenate([np.zeros((0, horizon)), *found])


def _forecasts_by_method(past: np.ndarray, horizon: int, season: int, multiplicative: bool) -> np.ndarray:
    """``(methods, B, H)``."""
    n_steps = past.shape[1]
    phase = (np.arange(n_steps + horizon) - n_steps) % season  # 0 at the first step of the horizon
    reference = last_known(past)[:, None]  # a high level costs digits, and tiny values have no squares
    unit = _largest(past - reference)
    values = (past - reference) / unit
    profile = seasonal_profile(values, season)[:, phase]
    level = _largest(past) * np.where(reference < 0, -1.0, 1.0)
    ratios = past / level
    smallest = np.nan_to_num(ratios, nan=1.0).min(axis=1)
    rows = (smallest > _MIN_RATIO) & (smallest < _MAX_RATIO)
    rows &= multiplicative and season >= 2 and n_steps >= 2 * season
    level, ratios = level[rows], ratios[rows]
    factors = np.exp(seasonal_profile(np.log(ratios), season))[:, phase]
    # All in one loop over time: its steps are short, and their number counts.
    without_season = np.concatenate([values - profile[:, :n_steps], ratios / factors[:, :n_steps]])
    ahead, errors = _smoothed(without_season, horizon, np.concatenate([np.ones_like(past), factors[:, :n_steps]]))
    ahead, relative = np.split(ahead, [len(past)], axis=1)
    errors, relative_errors = np.split(errors, [len(past)], axis=1)
    forecasts = reference + unit * (ahead + profile[:, n_steps:])
    is_better = relative_errors * (level / unit[rows])[:, 0] ** 2 < errors[:, rows]
    forecasts[:, rows] = np.where(is_better[..., None], level * relative * factors[:, n_steps:], forecasts[:, rows])
    return forecasts


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest absolute value of each row, ``(B, L) -> (B, 1)``; 1 if there is none above 0."""
    size = np.nan_to_num(np.abs(values)).max(axis=1, keepdims=True)
    return np.where(size > 0, size, 1.0)


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


def _smoothed(values: np.ndarray, horizon: int, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts ``(methods, B, H)`` of values ``(B, L)`` without a season, and sums of squared errors ``(methods, B)``.

    Errors are multiplied by ``factors (B, L)`` before they are squared.
    """
    steps = np.arange(1, horizon + 1)
    states = _final_states(values, factors)
    forecasts, errors = [], []
    for method in _METHODS:
        levels, drifts, error = (of[:, method] for of in states)
        best = error.argmin(axis=1)[:, None]
        level, drift, error = (np.take_along_axis(of, best, axis=1) for of in (levels, drifts, error))
        phi = _COMBINATIONS[2, method][best]
        forecasts.append(level + drift * np.cumsum(phi**steps, axis=1))
        errors.append(error[:, 0])
    return np.stack(forecasts), np.stack(errors)


def _final_states(values: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level and drift after the last step, and the sum of squared errors: ``(B, combinations)`` each."""
    alpha, beta, phi = _COMBINATIONS
    levels = np.zeros((len(values), len(phi)))
    drifts = np.repeat(_slope(values)[:, None] / 2, len(phi), axis=1)
    errors = np.zeros_like(levels)
    known, values = ~np.isnan(values), np.nan_to_num(values)
    started = np.zeros_like(known)  # before each step
    started[:, 1:] = np.logical_or.accumulate(known, axis=1)[:, :-1]
    has_error = known & started
    is_usual = np.all(has_error, axis=0)
    for t in range(values.shape[1]):
        value, factor, has_started = values[:, t, None], factors[:, t, None], started[:, t, None]
        expected_drift = phi * drifts
        expected = levels + expected_drift
        error = value - expected
        if is_usual[t]:
            levels, drifts = expected + alpha * error, expected_drift + beta * error
        else:
            error = np.where(has_error[:, t, None], error, 0.0)
            levels = np.where(has_started, expected + alpha * error, value)
            drifts = np.where(has_started, expected_drift + beta * error, drifts)
        errors += (error * factor) ** 2
    return levels, drifts, errors
