"""Sampled paths: the recursive method forecasts one step at a time."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.decoding.generation import roll_out
from lstmkit.models.base import Ensemble, Model, map_state
from lstmkit.modules.heads import DistributionHead
from lstmkit.training.random_state import seeded


def sample_paths(
    model: Model, batch: Batch, *, past: int, horizon: int, num_samples: int, seed: int, counts: bool
) -> Tensor:
    """Sample futures of windows: each sampled value is the next step's input.

    Args:
        model: A network with a :class:`DistributionHead`, or an ensemble of them.
        batch: Windows laid out for an autoregressive model, with ``extras["scale"]``.
        past: Steps before the horizon.
        horizon: Steps to sample, ``H``.
        num_samples: Paths per window.
        seed: Random seed.
        counts: The distribution is over counts, not over scaled values.

    Returns:
        ``(B, num_samples, H)`` values in scaled units.
    """
    _, state = model(batch.inputs[:, :past])
    state = map_state(state, lambda tensor: tensor.repeat_interleave(num_samples, dim=1))
    future_inputs = batch.inputs[:, past:].repeat_interleave(num_samples, dim=0)
    scale = batch.extras["scale"].float().repeat_interleave(num_samples, dim=0).squeeze(1)
    head = (model.members[0] if isinstance(model, Ensemble) else model).head
    assert isinstance(head, DistributionHead)

    def step(value: Tensor, t: int, state: Any) -> tuple[Tensor, Any]:
        inputs = future_inputs[:, t].clone()
        inputs[:, 0] = value
        if t:
            inputs[:, 1] = 1.0  # a sampled value counts as observed
        outputs, state = model.step(inputs, state)
        samples = head.distribution(outputs, scale).sample()
        return samples / scale if counts else samples, state

    with seeded(seed):
        return roll_out(step, future_inputs[:, 0, 0], state, horizon).unflatten(0, (-1, num_samples))
