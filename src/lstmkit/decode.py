"""From outputs to an answer, one step after another. A decoder is handed a step function, never a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def roll_out(step: Callable[[Tensor, int, Any], tuple[Tensor, Any]], value: Tensor, state: Any, n_steps: int) -> Tensor:
    """Feed a model what it said: the values of ``n_steps`` further steps.

    Args:
        step: ``step(value, t, state) -> (value, state)``: the value after ``value``, for the step ``t = 0, 1, …``.
        value: ``(B, ...)``, the last known one.
        state: What the model carries.
        n_steps: How many to make.

    Returns:
        ``(B, n_steps, ...)``.

    >>> roll_out(lambda v, t, s: (v * 2, s), torch.tensor([1, 3]), None, 3)
    tensor([[ 2,  4,  8],
            [ 6, 12, 24]])
    """
    values = []
    for t in range(n_steps):
        value, state = step(value, t, state)
        values.append(value)
    return torch.stack(values, dim=1)
