"""Thresholds of anomaly scores, computed from validation scores or past scores, without labels.

A step is an alarm if its score exceeds the threshold. The threshold of a step only depends on the scores up to it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_TAIL_FRACTION = 0.1  # fraction of the scores to which the extreme-value distribution is fitted
_MIN_EXCEEDANCES = 10
TAIL = 100  #: Number of scores needed to fit the extreme-value distribution to their upper tenth.
_MIN_RELATIVE_DEVIATION = (
    0.01  # lower bound of the standard deviation, relative to the mean, for nearly constant scores
)
_VALUES_AT_ONCE = 1_000_000  # of windows in memory


def quantile_threshold(scores: np.ndarray, rate: float) -> float:
    """The finite-sample quantile of ``scores (N,)`` that is exceeded at most at the given rate (conformal).

    With fewer than ``1 / rate`` scores it is the largest score, and the rate is not guaranteed.

    >>> quantile_threshold(np.arange(1000.0), rate=0.01)
    990.0
    """
    ranked = np.sort(scores)
    return float(ranked[_conformal_rank(len(ranked), rate) - 1])


def _conformal_rank(count: int, rate: float) -> int:
    """Rank, from 1, of the score among ``count`` that a new score exceeds at most at the rate."""
    return min(math.ceil(round((count + 1) * (1 - rate), 9)), count)


def extreme_value_threshold(scores: np.ndarray, rate: float) -> float:
    """The threshold exceeded at the given rate, from a generalized Pareto fit to the upper tenth of the scores.

    Siffer, Fouque, Termier, Largouet 2017, "Anomaly detection in streams with extreme value theory", eq. 1. It
    extrapolates to rates that are too small for the number of validation scores. It falls back to
    :func:`quantile_threshold` if there are fewer than 10 exceedances.

    Args:
        scores: ``(N,)`` validation scores.
        rate: False alarms per step, below 0.1.
    """
    from scipy.stats import genpareto  # thresholds of exported detectors need no scipy

    start = float(np.quantile(scores, 1 - _TAIL_FRACTION))
    excesses = scores[scores > start] - start
    if len(excesses) < _MIN_EXCEEDANCES or np.ptp(excesses) == 0:
        return quantile_threshold(scores, rate)
    shape, _, scale = genpareto.fit(excesses, floc=0)
    tail_probability = rate * len(scores) / len(excesses)
    return start + float(genpareto.isf(min(1.0, tail_probability), shape, scale=scale))


def moving_average_thresholds(
    scores: np.ndarray, window: int, rate: float, before: np.ndarray | None = None
) -> np.ndarray:
    """Thresholds ``(T,)`` from the mean and standard deviation of the previous ``window`` scores.

    The number of standard deviations is that of a normal distribution at the given rate: the anomaly likelihood of
    Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms", section IV. The thresholds adapt, so that
    a drift only raises alarms at its start. Scores have heavier tails than a normal distribution, so there are more
    false alarms than ``rate``.

    Args:
        scores: ``(T,)``.
        window: Number of previous scores, without the step's own.
        rate: Alarms per step.
        before: ``(N,)`` scores before the first step; without them the first step has no alarm.
    """
    earlier = np.zeros(0) if before is None else before[-window:]
    past = np.concatenate([np.full(window - len(earlier), np.nan), earlier, scores])
    windows = sliding_window_view(past, window)[: len(scores)]
    size = max(1, _VALUES_AT_ONCE // window)
    parts = [_mean_and_deviation(windows[i : i + size]) for i in range(0, len(scores), size)]
    mean, deviation = np.concatenate([np.zeros((2, 0)), *parts], axis=1)
    z = -NormalDist().inv_cdf(rate)
    thresholds = mean + z * np.maximum(deviation, _MIN_RELATIVE_DEVIATION * np.abs(mean))
    return np.nan_to_num(thresholds, nan=np.inf)


def _mean_and_deviation(windows: np.ndarray) -> np.ndarray:
    """Mean and standard deviation, ``(2, N)``, of the known values of windows ``(N, W)``; NaN without any."""
    known = ~np.isnan(windows)
    count = known.sum(axis=1)
    count = np.where(count > 0, count, np.nan)
    mean = np.where(known, windows, 0.0).sum(axis=1) / count
    squares = np.where(known, (windows - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return np.stack([mean, np.sqrt(squares / count)])


def rolling_quantile_thresholds(
    scores: np.ndarray, window: int, rate: float, before: np.ndarray | None = None
) -> np.ndarray:
    """Thresholds ``(T,)``: the quantile of the previous ``window`` scores, at least their mean plus deviations.

    The :func:`quantile_threshold` keeps the rate for any distribution of scores that changes slowly. After a fast rise
    the scores in the window differ widely, so the mean plus standard deviations of :func:`moving_average_thresholds`
    is higher: it prevents alarms until the window is full of new scores. Rates below one over the window cannot be
    guaranteed.

    Args:
        scores: ``(T,)``.
        window: Number of previous scores, without the step's own.
        rate: Alarms per step.
        before: ``(N,)`` scores before the first step; without them the first step has no alarm.

    >>> rolling_quantile_thresholds(np.array([1.0, 9.0, 1.0, 1.0]), window=2, rate=0.05, before=np.ones(2)).round(2)
    array([ 1.02,  1.02, 11.58, 11.58])
    """
    deviations = moving_average_thresholds(scores, window, rate, before)
    earlier = np.zeros(0) if before is None else before[-window:]
    past, ranked = earlier.tolist(), np.sort(earlier).tolist()
    quantiles = np.full(len(scores), np.inf)
    for t, score in enumerate(scores.tolist()):
        if ranked:
            quantiles[t] = ranked[_conformal_rank(len(ranked), rate) - 1]
        past.append(score)
        insort(ranked, score)
        if len(ranked) > window:
            del ranked[bisect_left(ranked, past[-window - 1])]
    return np.maximum(quantiles, deviations)


def dynamic_thresholds(scores: np.ndarray, window: int, pruning: float, before: np.ndarray | None = None) -> np.ndarray:
    """Nonparametric dynamic thresholds ``(T,)``, each from the last ``window`` scores up to the step.

    Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic thresholding". Section
    3.2: among the thresholds mean + z standard deviations, the one whose exceedances, if removed, reduce mean and
    deviation most relative to their number. Section 3.3 (pruning): with the maxima of all anomalous sequences in
    descending order, a sequence only counts if a relative decrease of more than ``pruning`` follows at or below it.

    Args:
        scores: ``(T,)``.
        window: Number of scores, including the step's own.
        pruning: Minimum relative decrease; 0 for no pruning.
        before: ``(N,)`` scores before the first step.

    Returns:
        ``(T,)``: a step is an alarm if its score exceeds its threshold.
    """
    earlier = np.zeros(0) if before is None else before[-window:]
    all_scores = np.concatenate([earlier, scores])
    thresholds = np.empty(len(scores))
    for t in range(len(scores)):
        end = len(earlier) + t + 1
        thresholds[t] = _dynamic_threshold(all_scores[max(0, end - window) : end], pruning)
    return thresholds


_DEVIATIONS = np.arange(2.5, 12, 0.5)  # candidate values of z


def _dynamic_threshold(window: np.ndarray, pruning: float) -> float:
    """The threshold for the last score of the window."""
    mean, deviation, last = float(window.mean()), float(window.std()), window[-1]
    lowest = mean + float(_DEVIATIONS[0]) * deviation
    if deviation <= 1e-12 * max(1.0, abs(mean)) or last <= lowest:
        return lowest
    best, threshold = -math.inf, lowest
    for candidate in mean + _DEVIATIONS * deviation:
        above = window > candidate
        count = int(above.sum())
        if not count:
            break
        normal = window[~above]
        n_sequences = int(above[0]) + int(np.count_nonzero(above[1:] & ~above[:-1]))
        decrease = ((mean - normal.mean()) / mean if mean else 0.0) + (deviation - normal.std()) / deviation
        merit = decrease / (count + n_sequences**2)
        if merit >= best:
            best, threshold = merit, float(candidate)
    return max(threshold, float(last)) if not _survives_pruning(window, threshold, pruning) else threshold


def _survives_pruning(window: np.ndarray, threshold: float, pruning: float) -> bool:
    """Whether the sequence above the threshold at the window's end survives pruning; true if there is none."""
    above = window > threshold
    if not above[-1]:
        return True
    starts = np.flatnonzero(above & ~np.concatenate([[False], above[:-1]]))
    maxima = np.maximum.reduceat(np.where(above, window, -np.inf), starts)
    last_maximum = maxima[-1]
    normal = window[~above]
    ranked = np.append(np.sort(maxima)[::-1], normal.max() if len(normal) else 0.0)
    decreases = (ranked[:-1] - ranked[1:]) / np.maximum(ranked[:-1], 1e-12)
    kept = np.flatnonzero(decreases > pruning)
    return bool(len(kept)) and last_maximum >= ranked[kept[-1]]


def true_runs(alarms: np.ndarray, gap: int = 0, max_steps: int = 0) -> list[tuple[int, int]]:
    """Start and end (excluded) of every run of ``True`` in ``(T,)``; runs at most ``gap`` steps apart are merged.

    Args:
        alarms: ``(T,)`` of bool.
        gap: Runs at most this many steps apart are one.
        max_steps: A longer run is split into runs of this many steps; 0 = not split.

    >>> true_runs(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    >>> true_runs(np.ones(5, dtype=bool), max_steps=2)
    [(0, 2), (2, 4), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(alarms, dtype=np.int8), [0]])))
    ranges: list[tuple[int, int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if ranges and start - ranges[-1][1] <= gap:
            ranges[-1] = (ranges[-1][0], stop)
        else:
            ranges.append((start, stop))
    if not max_steps:
        return ranges
    parts = [(a, min(a + max_steps, stop)) for start, stop in ranges for a in range(start, stop, max_steps)]
    return [(start, stop) for start, stop in parts if alarms[start:stop].any()]


def merge_gaps(alarms: np.ndarray, gap: int) -> np.ndarray:
    """The alarms ``(T,)`` with gaps of at most ``gap`` steps filled.

    >>> merge_gaps(np.array([True, False, True, False, False]), gap=1).tolist()
    [True, True, True, False, False]
    """
    filled = np.zeros(len(alarms), dtype=bool)
    for start, stop in true_runs(alarms, gap):
        filled[start:stop] = True
    return filled
