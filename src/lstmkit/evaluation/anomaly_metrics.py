"""How scores and alarms meet the stretches of time that are labelled as anomalies. Labels are ``(T,)`` of bool.

None of these gives credit for a whole stretch because one of its steps was found (point adjustment): Kim et al. 2022,
"Towards a rigorous evaluation of time-series anomaly detection", show that random scores then beat every model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.evaluation.anomaly_thresholds import stretches

_LEVELS = 250  # thresholds of a precision-recall curve


def vus_pr(labels: np.ndarray, scores: np.ndarray, window: int) -> float:
    """Volume under the surface of range-based precision-recall curves, over widths of a margin from 0 to ``window``.

    Paparrizos et al. 2022, "Volume under the surface: a new accuracy evaluation measure for time-series anomaly
    detection", VLDB 15, as their optimised code has it. Labels fall off softly over half the width at either side;
    recall also counts how many of the labelled stretches are met at all.

    Args:
        labels: ``(T,)``.
        scores: ``(T,)``, higher for more unusual.
        window: Widest margin, in steps; the field takes the period of the series, or 100.

    Returns:
        From 0 to 1; NaN where nothing is labelled.
    """
    if not labels.any():
        return math.nan
    ranges = stretches(labels)
    ranked = -np.sort(-scores)
    levels = ranked[np.linspace(0, len(scores) - 1, _LEVELS).astype(int)]
    order = np.argsort(-scores, kind="stable")
    counts = np.searchsorted(-ranked, -levels, side="right")  # scores at or above each level
    hard = labels.astype(np.float64)
    reach = _within(_widened(ranges, window, len(labels)), len(labels))
    areas = []
    for width in range(window + 1):
        met = np.array([scores[start:stop].max() for start, stop in _widened(ranges, width, len(labels))])
        existence = (met >= levels[:, None]).mean(axis=1)
        areas.append(_area(hard, _soft(hard, ranges, width), reach, order, counts, existence))
    return float(np.mean(areas))


def _soft(labels: np.ndarray, ranges: Sequence[tuple[int, int]], width: int) -> np.ndarray:
    """Labels that fall off over half of ``width`` before and after each range."""
    found, half = labels.copy(), width // 2
    for start, stop in ranges:
        after = np.arange(stop, min(stop + half, len(labels)))
        found[after] += np.sqrt(1 - (after - stop + 1) / width)
        ahead = np.arange(max(start - half, 0), start)
        found[ahead] += np.sqrt(1 - (start - ahead) / width)
    return np.minimum(found, 1)


def _widened(ranges: Sequence[tuple[int, int]], width: int, length: int) -> list[tuple[int, int]]:
    """The ranges with half of ``width`` at either side, those that then touch as one."""
    half = width // 2
    found = [(max(0, ranges[0][0] - half), ranges[0][1] + half)]
    for start, stop in ranges[1:]:
        if found[-1][1] - 1 < start - half:
            found.append((start - half, stop + half))
        else:
            found[-1] = (found[-1][0], stop + half)
    return [(start, min(stop, length)) for start, stop in found]


def _within(ranges: Sequence[tuple[int, int]], length: int) -> np.ndarray:
    found = np.zeros(length, dtype=bool)
    for start, stop in ranges:
        found[start:stop] = True
    return found


def _area(
    hard: np.ndarray, soft: np.ndarray, reach: np.ndarray, order: np.ndarray, counts: np.ndarray, existence: np.ndarray
) -> float:
    """Under the precision-recall curve of one width; ``order`` of the scores, ``counts`` of those at each level."""
    told = np.cumsum((soft * reach)[order])[counts - 1]
    labelled = np.cumsum((hard * reach)[order])[counts - 1]
    # A labelled step counts as one wherever it lies, a step beside it as much as it was told of.
    positives = (hard.sum() + (hard * reach).sum() + told - labelled) / 2
    recall = np.minimum(told / positives, 1) * existence
    return float(np.sum(np.diff(recall, prepend=0.0) * told / counts))


def range_precision_recall_f1(labels: np.ndarray, alarms: np.ndarray) -> tuple[float, float, float]:
    """Range-based precision, recall and F1: each stretch counts once, by the share of it that is covered.

    Tatbul, Lee, Zdonik, Alam, Gottschlich 2018, "Precision and recall for time series", NeurIPS, with flat bias, α = 0
    and a cardinality factor of one over the number of stretches that overlap it.

    Returns:
        0 where there is no alarm; NaN where nothing is labelled.
    """
    if not labels.any():
        return math.nan, math.nan, math.nan
    precision, recall = _covered(alarms, labels), _covered(labels, alarms)
    return precision, recall, _harmonic(precision, recall)


def _covered(of: np.ndarray, by: np.ndarray) -> float:
    """Mean over the stretches of ``of``: the share of each that ``by`` covers, over the number of stretches that do."""
    shares = []
    for start, stop in stretches(of):
        inside = by[start:stop]
        pieces = len(stretches(inside))
        shares.append(inside.mean() / pieces if pieces else 0.0)
    return float(np.mean(shares)) if shares else 0.0


def event_counts(labels: np.ndarray, alarms: np.ndarray) -> tuple[int, int, int]:
    """Labelled stretches that an alarm meets, alarms that meet none, and labelled stretches that are not met.

    As Hundman et al. 2018, section 4.2, and Orion's benchmark count them; add them up over recordings.
    """
    met = [bool(alarms[start:stop].any()) for start, stop in stretches(labels)]
    false = [not labels[start:stop].any() for start, stop in stretches(alarms)]
    return sum(met), sum(false), len(met) - sum(met)


def f1(right: float, false: float, missed: float) -> float:
    """From counts; NaN without any.

    >>> f1(right=2, false=1, missed=1)
    0.6666666666666666
    """
    return 2 * right / (2 * right + false + missed) if right + false + missed else math.nan


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


# ---- the Numenta anomaly benchmark -----------------------------------------------------------------------------------

_WEIGHTS = {"true": 1.0, "false": 0.11, "missed": 1.0}  # the standard profile


def nab_raw_score(windows: Sequence[tuple[int, int]], alarms: np.ndarray, probation: int, gap: int = 0) -> float:
    """What a file gives in the Numenta anomaly benchmark, standard profile, not yet normalised.

    Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms", section III: the first alarm of a window
    earns the more the earlier it is, every other alarm costs, the more the farther behind the last window it is, and a
    window without an alarm costs one.

    Args:
        windows: First step and the step after the last of each labelled window, in order.
        alarms: ``(T,)``.
        probation: Steps at the beginning in which nothing counts.
        gap: Alarms at most so many steps apart are one, which counts at its beginning.
    """
    steps = np.array([start for start, _ in stretches(alarms, gap)], dtype=np.int64)
    steps = steps[steps >= probation]
    points = 0.0
    outside = np.ones(len(steps), dtype=bool)
    position = np.full(len(steps), np.inf)  # behind the last window, in its width
    for start, stop in windows:
        within = (steps >= start) & (steps < stop)
        if within.any():
            points += _WEIGHTS["true"] * float(_sigmoid((steps[within][0] - stop) / (stop - start)) / _sigmoid(-1.0))
        else:
            points -= _WEIGHTS["missed"]
        outside &= ~within
        behind = steps >= stop
        position[behind] = (steps[behind] - stop + 1) / max(1, stop - start - 1)
    cost = np.where(position > 3, -1.0, _sigmoid(np.minimum(position, 3)))
    return points + _WEIGHTS["false"] * float(cost[outside].sum())


def nab_score(points: float, windows: int) -> float:
    """Normalised: 0 is what no alarm at all gives, 100 a perfect detector."""
    nothing = -_WEIGHTS["missed"] * windows
    return 100 * (points - nothing) / (_WEIGHTS["true"] * windows - nothing)


def _sigmoid(position: np.ndarray | float) -> Any:
    """From 1 to -1, 0 at the window's end."""
    return 2 / (1 + np.exp(5 * np.asarray(position))) - 1
