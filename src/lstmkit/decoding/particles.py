"""Particle filter (sequential Monte Carlo): sample a sequence from a model, given observations of every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.decoding.particle_paths import RESAMPLE_BELOW, trace_back


class Trajectory(NamedTuple):
    """A sampled sequence.

    Attributes:
        values: ``(T, ...)`` its values.
        rows: For each step the particle that it comes from, to look up other results of that step.
    """

    values: Tensor
    rows: tuple[int, ...]


def particle_filter(
    step: Callable[[Tensor, int, Any], tuple[Tensor, Tensor, Any]],
    values: Tensor,
    state: Any,
    n_steps: int,
    *,
    select: Callable[[Any, Tensor], Any],
    generator: torch.Generator,
) -> Trajectory:
    """Sample one sequence, approximately from its distribution given the observations of all steps.

    Gordon, Salmond, Smith 1993, "Novel approach to nonlinear/non-Gaussian Bayesian state estimation": particles are
    sampled step by step and weighted by the likelihood of the observations. If few of them carry the weight, they are
    resampled (systematic resampling, Kitagawa 1996). The approximation becomes exact with the number of particles.

    Args:
        step: ``step(values (N, ...), t, state) -> (values, log_likelihoods (N,), state)``: samples the values of step
            ``t`` and returns the log-likelihood of its observation, which must not depend on values not yet sampled.
        values: ``(N, ...)`` values before the first step, one row per particle.
        state: State of the model.
        n_steps: Number of steps, at least 1.
        select: ``select(state, rows (N,)) -> state`` takes rows of a state.
        generator: Random generator on the CPU.
    """
    n = len(values)
    log_weights = torch.zeros(n)
    history: list[Tensor] = []
    parents: list[list[int]] = []
    for t in range(n_steps):
        values, log_likelihoods, state = step(values, t, state)
        history.append(values)
        log_weights = log_weights + log_likelihoods.float().cpu()
        weights = log_weights.softmax(0)
        rows = torch.arange(n)
        if t + 1 < n_steps and float(1 / weights.square().sum()) < RESAMPLE_BELOW * n:
            points = (rows + torch.rand(1, generator=generator)) / n
            rows = torch.searchsorted(weights.cumsum(0), points).clamp(max=n - 1)
            log_weights = torch.zeros(n)
            values, state = values[rows.to(values.device)], select(state, rows.to(values.device))
        parents.append(rows.tolist())
    path = trace_back(parents, int(torch.multinomial(log_weights.softmax(0), 1, generator=generator)))
    return Trajectory(torch.stack([history[t][row] for t, row in enumerate(path)]), tuple(path))
