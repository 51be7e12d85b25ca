"""What piano rolls stand beside: how often each key sounds, and whether it goes on or sets in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WEIGHT = 1.0  # steps that the whole piano's share counts as, at each key


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


def by_share(counts: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Each key by how often it sounds, whatever was before: ``(T,)`` nats of the steps of ``roll (T, K)``."""
    return _nats(np.broadcast_to(chances(counts.sum(axis=0)), roll.shape), roll)


def markov_nll(counts: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Each key by whether it sounded at the step before, a Markov chain of its own: ``(T,)`` nats."""
    before = np.concatenate([np.zeros_like(roll[:1]), roll[:-1]])
    return _nats(np.where(before == 1, chances(counts[1]), chances(counts[0])), roll)


def chances(counts: np.ndarray) -> np.ndarray:
    """``(2, K)`` counts of off and on to the chance that a key is on, drawn a little to that of all keys together."""
    whole = (counts[1].sum() + 1) / (counts.sum() + 2)
    return (counts[1] + _WEIGHT * whole) / (counts.sum(axis=0) + _WEIGHT)


def _nats(chances: np.ndarray, roll: np.ndarray) -> np.ndarray:
    return -np.log(np.where(roll == 1, chances, 1 - chances)).sum(axis=1)
