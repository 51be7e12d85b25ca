"""Baselines for piano rolls: key frequencies, and a Markov chain per key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WEIGHT = 1.0  # pseudo-count of the frequency over all keys, in steps


def key_transition_counts(rolls: Sequence[np.ndarray]) -> np.ndarray:
    """``(2, 2, K)``: how often each key was off or on after it was off or on; before a piece all are off.

    >>> key_transition_counts([np.array([[1], [1], [0]])])[:, :, 0].tolist()  # after off: on; after on: on, off
    [[0, 1], [1, 1]]
    """
    keys = rolls[0].shape[1]
    counts = np.zeros((2, 2, keys), dtype=np.int64)
    for roll in rolls:
        now = roll.astype(bool)
        before = np.concatenate([np.zeros((1, keys), dtype=bool), now[:-1]])
        for was in (0, 1):
            for is_ in (0, 1):
                counts[was, is_] += ((before == was) & (now == is_)).sum(axis=0)
    return counts


def frequency_nll(counts: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Negative log-likelihood ``(T,)`` in nats of ``roll (T, K)`` if each key sounds independently of the past."""
    return _nats(np.broadcast_to(key_probabilities(counts.sum(axis=0)), roll.shape), roll)


def markov_nll(counts: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Negative log-likelihood ``(T,)`` in nats of a Markov chain per key: on or off, given the step before."""
    before = np.concatenate([np.zeros_like(roll[:1]), roll[:-1]])
    return _nats(np.where(before == 1, key_probabilities(counts[1]), key_probabilities(counts[0])), roll)


def key_probabilities(counts: np.ndarray) -> np.ndarray:
    """Counts of off and on ``(2, K)`` to the probability that a key is on, smoothed by the frequency over all keys."""
    whole = (counts[1].sum() + 1) / (counts.sum() + 2)
    return (counts[1] + _WEIGHT * whole) / (counts.sum(axis=0) + _WEIGHT)


def _nats(probabilities: np.ndarray, roll: np.ndarray) -> np.ndarray:
    return -np.log(np.where(roll == 1, probabilities, 1 - probabilities)).sum(axis=1)
