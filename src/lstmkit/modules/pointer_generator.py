"""Pointer-generator: the next token comes from the vocabulary or is copied (See, Liu and Manning 2017).

Ids from ``V`` on are out-of-vocabulary words of the input, numbered separately in each example. There are at most as
many as input steps ``S``, so distributions have ``V + S`` ids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def final_log_probabilities(logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of the final distribution ``p_gen · softmax + (1 - p_gen) · attention`` (equation 9).

    For decoding. Use :func:`log_likelihood` for training, since ids of probability 0 have no gradient here.

    Args:
        logits: ``(..., V)`` logits of the vocabulary.
        switch: ``(...)`` logits of ``p_gen``, the probability that the next token comes from the vocabulary.
        weights: ``(..., S)`` attention weights over the input; each row sums to 1.
        ids: ``(..., S)`` input ids.

    Returns:
        ``(..., V + S)``; minus infinity for ids that are neither in the vocabulary nor in the input.

    >>> weights, ids = torch.tensor([[0.75, 0.25]]), torch.tensor([[1, 2]])  # V is 2, so id 2 is out of vocabulary
    >>> final_log_probabilities(torch.zeros(1, 2), torch.zeros(1), weights, ids).exp()
    tensor([[0.2500, 0.6250, 0.1250, 0.0000]])
    """
    log_p, weights, switch = (
        _at_least_float32(logits).log_softmax(-1),
        _at_least_float32(weights),
        _at_least_float32(switch).unsqueeze(-1),
    )
    shape = (*log_p.shape[:-1], log_p.shape[-1] + ids.shape[-1])
    copied = weights.new_zeros(shape).scatter_add_(-1, ids, weights)
    generated = F.pad(log_p + F.logsigmoid(switch), (0, ids.shape[-1]), value=-torch.inf)
    return torch.logaddexp(generated, copied.log() + F.logsigmoid(-switch))


def log_likelihood(logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of the ``targets (...)``, as :func:`final_log_probabilities` of them.

    Differentiable, without the full distribution in memory. A target that is neither in the vocabulary nor attended to
    has the logarithm of the smallest positive float.

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
    generated = log_p.gather(-1, targets.clamp(max=last).unsqueeze(-1)).squeeze(-1)
    generated = torch.where(targets <= last, generated, limits.min / 2)
    copied = (weights * (ids == targets.unsqueeze(-1))).sum(-1).clamp(min=limits.tiny)
    return torch.logaddexp(generated + F.logsigmoid(switch), copied.log() + F.logsigmoid(-switch))


def pointer_generator_loss(
    logits: Tensor, switch: Tensor, weights: Tensor, ids: Tensor, targets: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean negative log-likelihood of the targets ``(N,)``; 0 if there are none.

    Args:
        logits, switch, weights, ids: See :func:`final_log_probabilities`, for ``N`` tokens.
        targets: Ids below ``V + S``.
        smoothing: Label smoothing of the vocabulary's distribution; the attention is not smoothed.
    """
    loss = -log_likelihood(logits, switch, weights, ids, targets)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * _at_least_float32(logits).log_softmax(-1).mean(-1)
    return loss.sum() / max(1, targets.numel())


def _at_least_float32(x: Tensor) -> Tensor:
    """Promote half precision to float32, which small probabilities need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
