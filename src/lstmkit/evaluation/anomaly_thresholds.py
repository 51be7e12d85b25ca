"""From scores to alarms. Each threshold is told what scores were like on the validation part, and sees no label.

A threshold gives for every step of a sequence of scores the level above which it is an alarm; the level of a step hangs
on the scores until then alone.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import genpareto, norm

_TAIL_FRACTION = 0.1  # share of the scores that the extreme-value distribution is fitted to
_MIN_EXCEEDANCES = 10
TAIL = 100  #: Scores, of which the upper tenth suffices for a distribution of extremes.
_MIN_RELATIVE_DEVIATION = (
    0.01  # least deviation of recent scores, of their mean: what hardly varies is no cause for alarm
)


def quantile_threshold(scores: np.ndarray, rate: float) -> float:
    """The least level that at most ``rate`` of ``scores (N,)`` are above, counted as if one more had come out on top.

    With fewer than ``1 / rate`` scores that is the largest of them: the rate cannot be promised then.

    >>> quantile_threshold(np.arange(1000.0), rate=0.01)
    990.0
    """
    ranked = np.sort(scores)
    rank = math.ceil(round((len(ranked) + 1) * (1 - rate), 9))
    return float(ranked[min(rank, len(ranked)) - 1])


def extreme_value_threshold(scores: np.ndarray, rate: float) -> float:
    """The level that is exceeded at the rate ``rate``, by a generalised Pareto distribution of the scores' upper tenth.

    Siffer, Fouque, Termier, Largouet 2017, "Anomaly detection in streams with extreme value theory", eq. 1. It can
    promise rates that no validation part is long enough to show.

    Args:
        scores: ``(N,)``.
        rate: Of false alarms a step, below 0.1.
    """
    start = float(np.quantile(scores, 1 - _TAIL_FRACTION))
    excesses = scores[scores > start] - start
    if len(excesses) < _MIN_EXCEEDANCES or np.ptp(excesses) == 0:
        return quantile_threshold(scores, rate)
    shape, _, scale = genpareto.fit(excesses, floc=0)
    share = rate * len(scores) / len(excesses)
    return start + float(genpareto.isf(min(1.0, share), shape, scale=scale))


def moving_average_thresholds(
    scores: np.ndarray, history: int, rate: float, before: np.ndarray | None = None
) -> np.ndarray:
    """For every step the level that a normal score would exceed at ``rate``, by the ``history`` scores before it.

    Their mean and as many of their standard deviations as a normal distribution asks for: the anomaly likelihood of
    Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms", section IV. What comes often becomes
    usual, so that a drift is an alarm at its beginning and not for ever. Scores have heavier tails than a normal
    distribution: there will be more false alarms than ``rate``.

    Args:
        scores: ``(T,)``.
        history: Scores that are looked at, without the step's own.
        rate: Of alarms a step.
        before: ``(N,)`` scores from before the first, to have a history at once; the first step has no alarm else.
    """
    known = np.zeros(0) if before is None else before[-history:]
    past = pd.Series(np.concatenate([known, scores])).shift(1).rolling(history, min_periods=1)
    mean, deviation = (np.asarray(of) for of in (past.mean(), past.std(ddof=0)))
    levels = mean + float(norm.isf(rate)) * np.maximum(deviation, _MIN_RELATIVE_DEVIATION * np.abs(mean))
    return np.nan_to_num(levels[len(known) :], nan=np.inf)


def dynamic_thresholds(
    scores: np.ndarray, history: int, pruning: float, before: np.ndarray | None = None
) -> np.ndarray:
    """For every step the level that sets the last ``history`` scores' extremes apart best.

    Hundman et al. 2018, "Detecting spacecraft anomalies using LSTMs and nonparametric dynamic thresholding", section
    3.2: of the levels mean + z standard deviations the one whose excesses, taken away, lower mean and deviation most
    for their number; then a stretch above it counts only if its top, or that of a smaller one, is followed by a fall
    of more than ``pruning`` to the next smaller top (section 3.3). Here each step is judged with the scores until it.

    Args:
        scores: ``(T,)``.
        history: Scores that are looked at, the step's own the last of them.
        pruning: Share, 0 for none.
        before: ``(N,)`` scores from before the first, to have a history at once.

    Returns:
        ``(T,)``: a step is an alarm if its score is above its level.
    """
    known = np.zeros(0) if before is None else before[-history:]
    whole = np.concatenate([known, scores])
    levels = np.empty(len(scores))
    for t in range(len(scores)):
        end = len(known) + t + 1
        levels[t] = _dynamic_threshold(whole[max(0, end - history) : end], pruning)
    return levels


_DEVIATIONS = np.arange(2.5, 12, 0.5)


def _dynamic_threshold(window: np.ndarray, pruning: float) -> float:
    """Above which the last score of the window is an alarm."""
    mean, deviation, last = float(window.mean()), float(window.std()), window[-1]
    lowest = mean + float(_DEVIATIONS[0]) * deviation
    if deviation <= 1e-12 * max(1.0, abs(mean)) or last <= lowest:
        return lowest
    best, level = -math.inf, lowest
    for candidate in mean + _DEVIATIONS * deviation:
        above = window > candidate
        count = int(above.sum())
        if not count:
            break
        normal = window[~above]
        stretches = int(above[0]) + int(np.count_nonzero(above[1:] & ~above[:-1]))
        gain = ((mean - normal.mean()) / mean if mean else 0.0) + (deviation - normal.std()) / deviation
        merit = gain / (count + stretches**2)
        if merit >= best:
            best, level = merit, float(candidate)
    return max(level, float(last)) if not _survives_pruning(window, level, pruning) else level


def _survives_pruning(window: np.ndarray, level: float, pruning: float) -> bool:
    """Whether the stretch above ``level`` that the window ends with survives the pruning; so does none."""
    above = window > level
    if not above[-1]:
        return True
    starts = np.flatnonzero(above & ~np.concatenate([[False], above[:-1]]))
    tops = np.maximum.reduceat(np.where(above, window, -np.inf), starts)
    own = tops[-1]
    normal = window[~above]
    ranked = np.append(np.sort(tops)[::-1], normal.max() if len(normal) else 0.0)
    falls = (ranked[:-1] - ranked[1:]) / np.maximum(ranked[:-1], 1e-12)
    kept = np.flatnonzero(falls > pruning)
    return bool(len(kept)) and own >= ranked[kept[-1]]


def stretches(alarms: np.ndarray, gap: int = 0) -> list[tuple[int, int]]:
    """First step and the step after the last of every stretch of ``True`` in ``(T,)``, which may have gaps so long.

    >>> stretches(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(alarms, dtype=np.int8), [0]])))
    found: list[tuple[int, int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if found and start - found[-1][1] <= gap:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def merged(alarms: np.ndarray, gap: int) -> np.ndarray:
    """``(T,)``: stretches that are at most ``gap`` steps apart as one.

    >>> merged(np.array([True, False, True, False, False]), gap=1).tolist()
    [True, True, True, False, False]
    """
    found = np.zeros(len(alarms), dtype=bool)
    for start, stop in stretches(alarms, gap):
        found[start:stop] = True
    return found
