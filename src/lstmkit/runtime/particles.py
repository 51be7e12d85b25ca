"""Particle filter; the algorithm is that of :func:`lstmkit.decoding.particles.particle_filter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmkit.decoding.particle_paths import RESAMPLE_BELOW, trace_back
from lstmkit.runtime.arithmetic import softmax


def particle_filter(
    step: Callable[[np.ndarray, int, Any], tuple[np.ndarray, np.ndarray, Any]],
    values: np.ndarray,
    state: Any,
    n_steps: int,
    select: Callable[[Any, np.ndarray], Any],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[int]]:
    """Sample one sequence given observations of all steps.

    Args:
        step: ``step(values (N, ...), t, state) -> (values, log_likelihoods (N,), state)``.
        values: ``(N, ...)`` values before the first step, one row per particle.
        state: State of the model.
        n_steps: Number of steps, at least 1.
        select: ``select(state, rows (N,)) -> state``.
        rng: Random numbers.

    Returns:
        The values ``(T, ...)``, and for each step the particle that it comes from.
    """
    n = len(values)
    log_weights = np.zeros(n)
    history, parents = [], []
    for t in range(n_steps):
        values, log_likelihoods, state = step(values, t, state)
        history.append(values)
        log_weights = log_weights + log_likelihoods
        weights = softmax(log_weights)
        rows = np.arange(n)
        if t + 1 < n_steps and 1 / np.square(weights).sum() < RESAMPLE_BELOW * n:
            points = (rows + rng.random()) / n
            rows = np.searchsorted(weights.cumsum(), points).clip(max=n - 1)
            log_weights = np.zeros(n)
            values, state = values[rows], select(state, rows)
        parents.append(rows)
    path = trace_back(parents, int(rng.choice(n, p=softmax(log_weights))))
    return np.stack([history[t][row] for t, row in enumerate(path)]), path
