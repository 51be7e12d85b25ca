"""After training, on the validation part: make stated probabilities true. The result is saved inside the model."""

from __future__ import annotations

import numpy as np

FEWEST = 50  #: Scores that one horizon step needs for a width of its own; with fewer, all steps share one.


def conformal_widths(y: np.ndarray, low: np.ndarray, high: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """How much to widen (or, negative, narrow) each interval so that it covers what it says.

    Split conformal prediction on quantiles: Romano, Patterson, Candès 2019, "Conformalized quantile regression". Its
    guarantee is for exchangeable windows; windows of one series overlap and drift, so it holds here approximately.

    Args:
        y: ``(N, H)`` true values, NaN where not known, in the unit of the intervals.
        low, high: ``(N, H, K)`` bounds of ``K`` intervals.
        coverage: ``(K,)`` the share each is to cover, in (0, 1).

    Returns:
        ``(H, K)``. With too few windows for a level's quantile the largest score seen is taken.

    >>> y = np.arange(100.0).reshape(100, 1)
    >>> conformal_widths(y, np.full((100, 1, 1), 10.0), np.full((100, 1, 1), 89.0), np.array([0.9]))
    array([[6.]])
    """
    horizon, n_intervals = low.shape[1:]
    scores = np.maximum(low - y[..., None], y[..., None] - high)
    widths = np.zeros((horizon, n_intervals))
    pooled = bool((np.isfinite(y).sum(axis=0) < FEWEST).any())
    for h in range(horizon):
        seen = scores if pooled else scores[:, h : h + 1]
        seen = seen.reshape(-1, n_intervals)
        seen = np.sort(seen[np.isfinite(seen).all(axis=1)], axis=0)
        if len(seen):
            # The finite-sample quantile, from 1; rounded first, since 100 * 0.55 is 55.00000000000001.
            rank = np.ceil(np.round((len(seen) + 1) * coverage, 9)).astype(int)
            widths[h] = seen[np.minimum(rank, len(seen)) - 1, np.arange(n_intervals)]
    return widths
