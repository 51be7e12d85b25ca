"""Copying: what is written next comes from the vocabulary, or from what was read (See, Liu and Manning 2017).

Ids from ``V`` on are words that the vocabulary of ``V`` tokens does not have: each example numbers those of its own
source, so that it can write them. There are at most as many as steps ``S``, hence probabilities of ``V + S`` ids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mixed(logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
    """Logarithms of the final distribution: ``p_gen · softmax + (1 - p_gen) · attention`` (equation 9).

    To decode with; for training there is :func:`log_likelihood`, since ids of probability 0 have no gradient here.

    Args:
        logits: ``(..., V)`` of the vocabulary.
        switch: ``(...)`` logits of ``p_gen``, the probability that the next token comes from the vocabulary.
        weights: ``(..., S)`` attention over what was read; each row adds up to 1.
        ids: ``(..., S)`` what was read.

    Returns:
        ``(..., V + S)``; minus infinity where nothing with that id was read or known.

    >>> weights, ids = torch.tensor([[0.75, 0.25]]), torch.tensor([[1, 2]])  # 2 is unknown: V is 2
    >>> mixed(torch.zeros(1, 2), torch.zeros(1), weights, ids).exp()
    tensor([[0.2500, 0.6250, 0.1250, 0.0000]])
    """
    log_p, weights, switch = (
        _at_least_float32(logits).log_softmax(-1),
        _at_least_float32(weights),
        _at_least_float32(switch).unsqueeze(-1),
    )
    wider = (*log_p.shape[:-1], log_p.shape[-1] + ids.shape[-1])
    copied = weights.new_zeros(wider).scatter_add_(-1, ids, weights)
    told = F.pad(log_p + F.logsigmoid(switch), (0, ids.shape[-1]), value=-torch.inf)
    return torch.logaddexp(told, copied.log() + F.logsigmoid(-switch))


def log_likelihood(logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
    """What :func:`mixed` has for the ``targets (...)``, without holding all the rest, and with gradients.

    A target that is neither known nor attended to has the logarithm of the smallest number, not minus infinity.

    >>> weights, ids = torch.tensor([[0.75, 0.25]]), torch.tensor([[1, 2]])
    >>> log_likelihood(torch.zeros(1, 2), torch.zeros(1), weights, ids, torch.tensor([2])).exp()
    tensor([0.1250])
    """
    log_p, weights, switch = (
        _at_least_float32(logits).log_softmax(-1),
        _at_least_float32(weights),
        _at_least_float32(switch),
    )
    limits, last = torch.finfo(log_p.dtype), log_p.shape[-1] - 1
    told = log_p.gather(-1, targets.clamp(max=last).unsqueeze(-1)).squeeze(-1)
    told = torch.where(targets <= last, told, limits.min / 2)
    copied = (weights * (ids == targets.unsqueeze(-1))).sum(-1).clamp(min=limits.tiny)
    return torch.logaddexp(told + F.logsigmoid(switch), copied.log() + F.logsigmoid(-switch))


def pointer_generator_loss(
    logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean of ``-log p`` of the targets ``(N,)``; 0 where there are none.

    Args:
        logits, switch, weights, ids: See :func:`mixed`, of ``N`` tokens.
        targets: Ids below ``V + S``.
        smoothing: Share of the loss that asks the vocabulary's own distribution to be even (label smoothing); where to
            look is not smoothed.
    """
    loss = -log_likelihood(logits, switch, weights, ids, targets)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * _at_least_float32(logits).log_softmax(-1).mean(-1)
    return loss.sum() / max(1, targets.numel())


def _at_least_float32(x: Tensor) -> Tensor:
    """In float32 at least: differences of small probabilities are lost in half of it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
