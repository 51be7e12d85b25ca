"""Metrics of anomaly detection: VUS-PR, range-based and event-based scores, NAB. Labels are ``(T,)`` of bool.

None of them uses point adjustment, which counts a whole anomaly as detected if one of its steps is. With it, random
scores beat every model (Kim et al. 2022, "Towards a rigorous evaluation of time-series anomaly detection"). The overlap
F1 of :func:`event_counts` has the same flaw unless alarms have a maximum length: one alarm over the whole series
detects everything and is never false. It is for comparisons with figures published in it; jobs report
:func:`composite_f1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.evaluation.anomaly_thresholds import true_runs

_N_THRESHOLDS = 250  # thresholds of a precision-recall curve


def vus_pr(labels: np.ndarray, scores: np.ndarray, window: int) -> float:
    """Volume under the surface of range-based precision-recall curves, over buffer widths from 0 to ``window``.

    Paparrizos et al. 2022, "Volume under the surface: a new accuracy evaluation measure for time-series anomaly
    detection", VLDB 15, as in their optimized code. Labels decrease smoothly over half the width on either side.
    Recall also includes the fraction of anomalies that are detected at all.

    Args:
        labels: ``(T,)`` of bool.
        scores: ``(T,)``, higher for more anomalous.
        window: Largest buffer width, in steps; usually the period of the series, or 100.

    Returns:
        0 to 1; NaN if there is no anomaly.

    >>> labels = np.array([False, False, True, False])
    >>> vus_pr(labels, np.array([0.1, 0.2, 0.9, 0.3]), window=0)
    1.0
    """
    if not labels.any():
        return math.nan
    ranges = true_runs(labels)
    ranked = -np.sort(-scores)
    thresholds = ranked[np.linspace(0, len(scores) - 1, _N_THRESHOLDS).astype(int)]
    order = np.argsort(-scores, kind="stable")
    counts = np.searchsorted(-ranked, -thresholds, side="right")  # scores at or above each threshold
    hard_labels = labels.astype(np.float64)
    buffered = _range_mask(_widen(ranges, window, len(labels)), len(labels))
    areas = []
    for width in range(window + 1):
        peaks = np.array([scores[start:stop].max() for start, stop in _widen(ranges, width, len(labels))])
        existence = (peaks >= thresholds[:, None]).mean(axis=1)
        soft_labels = _soft_labels(hard_labels, ranges, width)
        areas.append(_pr_area(hard_labels, soft_labels, buffered, order, counts, existence))
    return float(np.mean(areas))


def _soft_labels(labels: np.ndarray, ranges: Sequence[tuple[int, int]], width: int) -> np.ndarray:
    """Labels that decrease over half of ``width`` before and after each range."""
    soft, half = labels.copy(), width // 2
    for start, stop in ranges:
        after = np.arange(stop, min(stop + half, len(labels)))
        soft[after] += np.sqrt(1 - (after - stop + 1) / width)
        before = np.arange(max(start - half, 0), start)
        soft[before] += np.sqrt(1 - (start - before) / width)
    return np.minimum(soft, 1)


def _widen(ranges: Sequence[tuple[int, int]], width: int, length: int) -> list[tuple[int, int]]:
    """The ranges extended by half of ``width`` on either side; ranges that touch are merged."""
    half = width // 2
    widened = [(max(0, ranges[0][0] - half), ranges[0][1] + half)]
    for start, stop in ranges[1:]:
        if widened[-1][1] - 1 < start - half:
            widened.append((start - half, stop + half))
        else:
            widened[-1] = (widened[-1][0], stop + half)
    return [(start, min(stop, length)) for start, stop in widened]


def _range_mask(ranges: Sequence[tuple[int, int]], length: int) -> np.ndarray:
    mask = np.zeros(length, dtype=bool)
    for start, stop in ranges:
        mask[start:stop] = True
    return mask


def _pr_area(
    hard_labels: np.ndarray,
    soft_labels: np.ndarray,
    buffered: np.ndarray,
    order: np.ndarray,
    counts: np.ndarray,
    existence: np.ndarray,
) -> float:
    """Area under the precision-recall curve of one buffer width.

    Args:
        hard_labels, soft_labels: ``(T,)`` labels without and with the buffer.
        buffered: ``(T,)`` mask of the ranges with the largest buffer.
        order: ``(T,)`` steps by descending score.
        counts: Number of scores at or above each threshold.
        existence: Fraction of anomalies detected at each threshold.
    """
    true_positives = np.cumsum((soft_labels * buffered)[order])[counts - 1]
    hard_positives = np.cumsum((hard_labels * buffered)[order])[counts - 1]
    # All labeled steps count as positives, steps of the buffer by the soft labels above the threshold.
    positives = (hard_labels.sum() + (hard_labels * buffered).sum() + true_positives - hard_positives) / 2
    recall = np.minimum(true_positives / positives, 1) * existence
    return float(np.sum(np.diff(recall, prepend=0.0) * true_positives / counts))


def range_precision_recall_f1(labels: np.ndarray, alarms: np.ndarray) -> tuple[float, float, float]:
    """Range-based precision, recall and F1: each range counts once, by the fraction of it that is covered.

    Tatbul, Lee, Zdonik, Alam, Gottschlich 2018, "Precision and recall for time series", NeurIPS, with flat bias, α = 0
    and a cardinality factor of one over the number of overlapping ranges.

    Args:
        labels, alarms: ``(T,)`` of bool.

    Returns:
        Precision, recall and F1; 0 if there is no alarm, NaN if there is no anomaly.
    """
    if not labels.any():
        return math.nan, math.nan, math.nan
    precision, recall = _mean_coverage(alarms, labels), _mean_coverage(labels, alarms)
    return precision, recall, _harmonic_mean(precision, recall)


def _mean_coverage(ranges: np.ndarray, cover: np.ndarray) -> float:
    """Mean over the ranges: the fraction that ``cover`` covers, divided by the number of covering ranges."""
    coverages = []
    for start, stop in true_runs(ranges):
        overlap = cover[start:stop]
        count = len(true_runs(overlap))
        coverages.append(overlap.mean() / count if count else 0.0)
    return float(np.mean(coverages)) if coverages else 0.0


def event_counts(labels: np.ndarray, alarms: np.ndarray, max_steps: int = 0) -> tuple[int, int, int]:
    """True positives, false positives and false negatives, by overlap of labeled ranges and alarms.

    As in Hundman et al. 2018, section 4.2, and Orion's benchmark; add the counts up over series.

    Args:
        labels, alarms: ``(T,)`` of bool.
        max_steps: A longer alarm counts as several; 0 = as one, however long it is.
    """
    detected = [bool(alarms[start:stop].any()) for start, stop in true_runs(labels)]
    _, false_alarms = alarm_counts(labels, alarms, max_steps)
    return sum(detected), false_alarms, len(detected) - sum(detected)


def alarm_counts(labels: np.ndarray, alarms: np.ndarray, max_steps: int = 0) -> tuple[int, int]:
    """Number of alarms that meet a labeled range, and of those that meet none. Arguments as in :func:`event_counts`.

    >>> alarm_counts(np.array([True, False, False, False]), np.ones(4, dtype=bool), max_steps=1)
    (1, 3)
    """
    right = [bool(labels[start:stop].any()) for start, stop in true_runs(alarms, max_steps=max_steps)]
    return sum(right), len(right) - sum(right)


def composite_f1(labels: Sequence[np.ndarray], alarms: Sequence[np.ndarray]) -> float:
    """Composite F1 over all series together: the harmonic mean of the precision of steps and the recall of events.

    Garg, Zhang, Samaran, Savitha, Foo 2021, "An evaluation of anomaly detection and diagnosis in multivariate time
    series", IEEE TNNLS, section IV-B. An event is detected if one of its steps is an alarm, but every step of an alarm
    counts for the precision, so that long alarms do not pay.

    Args:
        labels, alarms: Of each series ``(T,)`` of bool.

    Returns:
        0 to 1; 0 without an alarm, NaN if there is no anomaly.

    >>> labels = np.array([False, True, True, False])
    >>> composite_f1([labels], [np.array([False, True, False, False])])
    1.0
    >>> round(composite_f1([labels], [np.ones(4, dtype=bool)]), 3)
    0.667
    """
    pairs = list(zip(labels, alarms, strict=True))
    detected, _, missed = np.sum([event_counts(*pair) for pair in pairs], axis=0)
    if not detected + missed:
        return math.nan
    right, count = (sum(int(steps.sum()) for steps in of_series) for of_series in ((a & b for a, b in pairs), alarms))
    return _harmonic_mean(right / count if count else 0.0, float(detected / (detected + missed)))


def f1(right: float, false: float, missed: float) -> float:
    """F1 from true positives, false positives and false negatives; NaN if all are 0.

    >>> f1(right=2, false=1, missed=1)
    0.6666666666666666
    """
    return 2 * right / (2 * right + false + missed) if right + false + missed else math.nan


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


# ---- the Numenta anomaly benchmark -----------------------------------------------------------------------------------

_WEIGHTS = {"true": 1.0, "false": 0.11, "missed": 1.0}  # the standard profile


def nab_raw_score(windows: Sequence[tuple[int, int]], alarms: np.ndarray, probation: int, gap: int = 0) -> float:
    """Unnormalized score of a file in the Numenta anomaly benchmark (NAB), standard profile.

    Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms", section III. The first alarm of a window
    scores higher the earlier it is. An alarm outside costs more the farther it is behind the last window. A window
    without an alarm costs 1.

    Args:
        windows: Start and end (excluded) of each labeled window, in order.
        alarms: ``(T,)`` of bool.
        probation: Leading steps that are ignored.
        gap: Alarms at most this many steps apart are merged into one.
    """
    steps = np.array([start for start, _ in true_runs(alarms, gap)], dtype=np.int64)
    steps = steps[steps >= probation]
    score = 0.0
    outside = np.ones(len(steps), dtype=bool)
    position = np.full(len(steps), np.inf)  # distance behind the last window, relative to its width
    for start, stop in windows:
        within = (steps >= start) & (steps < stop)
        if within.any():
            score += _WEIGHTS["true"] * float(_sigmoid((steps[within][0] - stop) / (stop - start)) / _sigmoid(-1.0))
        else:
            score -= _WEIGHTS["missed"]
        outside &= ~within
        behind = steps >= stop
        position[behind] = (steps[behind] - stop + 1) / max(1, stop - start - 1)
    cost = np.where(position > 3, -1.0, _sigmoid(np.minimum(position, 3)))
    return score + _WEIGHTS["false"] * float(cost[outside].sum())


def nab_score(points: float, windows: int) -> float:
    """Normalized NAB score: 0 for a detector without alarms, 100 for a perfect one.

    Args:
        points: Sum of :func:`nab_raw_score` over all files.
        windows: Number of labeled windows in all files.
    """
    null_score = -_WEIGHTS["missed"] * windows
    return 100 * (points - null_score) / (_WEIGHTS["true"] * windows - null_score)


def _sigmoid(position: np.ndarray | float) -> Any:
    """NAB's scaled sigmoid, from 1 to -1, 0 at the window's end."""
    return 2 / (1 + np.exp(5 * np.asarray(position))) - 1
