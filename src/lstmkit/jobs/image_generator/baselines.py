"""Baselines of image generation: independent pixels, and a mixture of them.

Images are ``(N, D)`` of 0 and 1; results are negative log-likelihoods in nats, ``(N,)``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from lstmkit.progress import Progress

_ITERATIONS = 30  # of expectation maximization
_PRIOR = 0.5  # pseudo-counts of ink, and of paper, per pixel and component
_MIN_PROBABILITY = 1e-3  # of a pixel: none is certain


def independent_bernoulli(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Each pixel is ink with its frequency in the training split.

    >>> independent_bernoulli(np.array([[1.0], [0.0]]), np.array([[1.0]])).round(3).tolist()
    [0.693]
    """
    return -_log_p(test, train.mean(axis=0, keepdims=True))[:, 0]


def bernoulli_mixture(
    train: np.ndarray, test: np.ndarray, components: int, seed: int, progress: Progress
) -> np.ndarray:
    """A mixture of images with independent pixels, fitted by expectation maximization.

    Args:
        train: Training images; ``components`` of them, chosen by the seed, initialize the components.
        test: Images to score.
        components: The number of components; at most one per training image.
        seed: Random seed.
        progress: Where to report progress.
    """
    rng = np.random.default_rng(seed)
    components = min(components, len(train))
    chosen = rng.choice(len(train), components, replace=False)
    ink = 0.25 + 0.5 * train[chosen].astype(np.float32)
    weights = np.full(components, 1 / components, dtype=np.float32)
    with progress.task("Bernoulli mixture", _ITERATIONS) as task:
        for iteration in range(_ITERATIONS):
            log_p = _log_p(train, ink) + np.log(weights)
            responsibilities = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
            counts = responsibilities.sum(axis=0) + 1e-6
            ink = (responsibilities.T @ train + _PRIOR) / (counts[:, None] + 2 * _PRIOR)
            weights = counts / counts.sum()
            task.update(iteration + 1)
    return -np.asarray(logsumexp(_log_p(test, ink) + np.log(weights), axis=1))


def _log_p(images: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """``(N, K)`` log-likelihood of images ``(N, D)`` under each component ``(K, D)``."""
    ink = ink.clip(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return images @ (np.log(ink) - np.log1p(-ink)).T + np.log1p(-ink).sum(axis=1)
