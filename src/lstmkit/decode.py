"""From outputs to an answer, one step after another. A decoder is handed a step function, never a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Sampled(NamedTuple):
    """Tokens that were drawn.

    Attributes:
        ids: ``(B, n)``.
        surprise: ``(B, n)`` in nats: minus the logarithm of what the model gave each, whatever was drawn from.
    """

    ids: Tensor
    surprise: Tensor


def sample(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    logits: Tensor,
    state: Any,
    n_steps: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Callable[[Tensor], bool] | None = None,
) -> Sampled:
    """Draw tokens, each fed to the model for the next.

    Args:
        step: ``step(ids (B,), state) -> (logits (B, V), state)``.
        logits: ``(B, V)`` for the first of them.
        state: What the model carries.
        n_steps: At most so many.
        temperature: Of the softmax; 0 always takes the most probable.
        top_k: Only from the so many most probable; 0 for all.
        top_p: Only from the fewest that have this probability together (nucleus sampling, Holtzman et al. 2020).
        seed: Of the drawing.
        stop: Asked of all ids so far, ``(B, n)``: whether it is enough.
    """
    generator = torch.Generator().manual_seed(seed)
    ids: list[Tensor] = []
    surprise: list[Tensor] = []
    for i in range(n_steps):
        if i:
            logits, state = step(ids[-1], state)
        chosen = _draw(kept_logits(logits, temperature, top_k, top_p), generator)
        ids.append(chosen)
        surprise.append(-logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1))[:, 0])
        if stop is not None and stop(torch.stack(ids, 1)):
            break
    return Sampled(torch.stack(ids, 1), torch.stack(surprise, 1))


def kept_logits(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """The logits ``(B, V)`` that are drawn from, all others at minus infinity.

    >>> kept_logits(torch.tensor([[3.0, 2.0, 1.0]]), temperature=0.5, top_k=2, top_p=1.0)
    tensor([[6., 4., -inf]])
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        ranked = logits.sort(dim=-1, descending=True, stable=True).indices[:, top_k:]
        logits = logits.scatter(-1, ranked, -torch.inf)
    if top_p < 1:
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)
        logits = values.masked_fill(before >= top_p, -torch.inf).gather(-1, order.argsort(-1))
    return logits


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One of each row, on the CPU, so that a seed draws the same anywhere."""
    chosen = torch.multinomial(logits.float().cpu().softmax(-1), 1, generator=generator)
    return chosen[:, 0].to(logits.device)
