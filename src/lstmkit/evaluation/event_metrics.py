"""Scores of alarms on events: thresholds, costs, and the precision of the most suspicious entities of each day."""

from __future__ import annotations

import numpy as np


def fit_threshold(
    scores: np.ndarray,
    is_positive: np.ndarray,
    method: str,
    *,
    costs: tuple[float, float] = (1.0, 1.0),
    max_alarms: float = np.inf,
) -> float:
    """The threshold of scores ``(N,)`` from which an event is an alarm.

    Args:
        scores: Probabilities of the positive class.
        is_positive: ``(N,)`` bool.
        method: ``"f1"`` for the highest F1; ``"cost"`` for the lowest cost; ``"alarms"`` for as many alarms as allowed.
        costs: Of a false alarm, and of a missed positive event.
        max_alarms: Alarms that are allowed.

    Returns:
        A threshold midway between two scores, so that rounding moves no event across it; above 1 for no alarm.

    >>> fit_threshold(np.array([0.1, 0.4, 0.8, 0.9]), np.array([0, 0, 1, 1]) > 0, "f1")
    0.6000000000000001
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(is_positive[order])
    last = np.append(ranked[1:] < ranked[:-1], True)  # an event with the same score as the next is an alarm with it
    alarms, hits = (1 + np.flatnonzero(last)).astype(float), hits[last].astype(float)
    positives = float(is_positive.sum())
    if method == "f1":
        value = 2 * hits / (alarms + positives)
    elif method == "cost":
        value = -(costs[0] * (alarms - hits) + costs[1] * (positives - hits))
        alarms, value = np.append(0.0, alarms), np.append(-costs[1] * positives, value)
    else:
        value = np.where(alarms <= max_alarms, alarms, -1.0)
        alarms, value = np.append(0.0, alarms), np.append(0.0, value)
    count = int(alarms[value.argmax()])
    if count == 0:
        return (1.0 + float(ranked[0])) / 2 if ranked[0] < 1 else 1.5
    return float(ranked[count - 1] + (ranked[count] if count < len(ranked) else 0.0)) / 2


def entity_precision_at_k(
    scores: np.ndarray, is_positive: np.ndarray, days: np.ndarray, entities: np.ndarray, k: int
) -> float:
    """Card precision at k: the fraction of truly positive ones among the ``k`` most suspicious entities of a day.

    The score of an entity is the highest of its events of the day. An entity that was found is left out on later days.
    The mean over days (Le Borgne et al. 2022, Fraud Detection Handbook, section 4.4).

    Args:
        scores, is_positive: ``(N,)`` of each event.
        days: ``(N,)`` whole numbers.
        entities: ``(N,)`` whole numbers.
        k: Entities that are inspected in a day.

    >>> days, cards = np.zeros(4, dtype=int), np.array([1, 2, 2, 3])
    >>> entity_precision_at_k(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1, 0, 0, 1]) > 0, days, cards, k=2)
    0.5
    """
    found: set[int] = set()
    precisions = []
    for day in np.unique(days):
        of_day = np.flatnonzero(days == day)
        ids, index = np.unique(entities[of_day], return_inverse=True)
        highest, positive = np.full(len(ids), -np.inf), np.zeros(len(ids), dtype=bool)
        np.maximum.at(highest, index, scores[of_day])
        np.logical_or.at(positive, index, is_positive[of_day])
        remaining = np.array([entity not in found for entity in ids.tolist()], dtype=bool)
        ranked = np.flatnonzero(remaining)[np.argsort(-highest[remaining], kind="stable")][:k]
        hits = ids[ranked[positive[ranked]]].tolist()
        found.update(hits)
        precisions.append(len(hits) / k)
    return float(np.mean(precisions))
