"""What painted pictures are held against: each dot by itself, and a mixture of such pictures.

Pictures are ``(N, D)`` of 0 and 1; answers are nats a picture, ``(N,)``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from lstmkit.progress import Progress

_ROUNDS = 30  # of expectation and maximisation
_SEEN = 0.5  # pictures with ink, and as many without, that each dot of a component has seen before the first
_LEAST = 1e-3  # probability of a dot: none is certain


def independent_bernoulli(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Each dot is ink as often as it is in the training part.

    >>> independent_bernoulli(np.array([[1.0], [0.0]]), np.array([[1.0]])).round(3).tolist()
    [0.693]
    """
    return -_log_p(test, train.mean(axis=0, keepdims=True))[:, 0]


def bernoulli_mixture(
    train: np.ndarray, test: np.ndarray, components: int, seed: int, progress: Progress
) -> np.ndarray:
    """A mixture of pictures of independent dots, fitted by expectation and maximisation from ``components`` of them."""
    rng = np.random.default_rng(seed)
    components = min(components, len(train))
    chosen = rng.choice(len(train), components, replace=False)
    ink = 0.25 + 0.5 * train[chosen].astype(np.float32)
    shares = np.full(components, 1 / components, dtype=np.float32)
    with progress.task("mixture of dots", _ROUNDS) as task:
        for done in range(_ROUNDS):
            log_p = _log_p(train, ink) + np.log(shares)
            belongs = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
            weight = belongs.sum(axis=0) + 1e-6
            ink = (belongs.T @ train + _SEEN) / (weight[:, None] + 2 * _SEEN)
            shares = weight / weight.sum()
            task.update(done + 1)
    return -logsumexp(_log_p(test, ink) + np.log(shares), axis=1)


def _log_p(pictures: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """``(N, K)`` of pictures ``(N, D)`` under each ``(K, D)``."""
    ink = ink.clip(_LEAST, 1 - _LEAST)
    return pictures @ (np.log(ink) - np.log1p(-ink)).T + np.log1p(-ink).sum(axis=1)
