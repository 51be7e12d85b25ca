"""The loss of a large vocabulary, without holding the probabilities of all words of all steps at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lstmkit.ops.cpu import linear_cross_entropy as vocabulary


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of ``softmax(x weightᵀ + bias)``, as ``F.cross_entropy`` of a linear layer's output.

    On the CPU the gradients are computed along with the loss.

    Args:
        x: ``(N, E)``.
        weight: ``(V, E)``.
        bias: ``(V,)``.
        targets: ``(N,)`` in ``0..V-1``, or -1: not scored.
        smoothing: Share of the wanted probability that is spread over all ``V`` (Szegedy et al. 2016).

    Returns:
        A scalar; 0 where no target is scored.

    >>> import torch
    >>> x, weight = torch.randn(5, 3), torch.randn(7, 3)
    >>> wanted = F.cross_entropy(x @ weight.T, torch.arange(5))
    >>> torch.allclose(linear_cross_entropy(x, weight, torch.zeros(7), torch.arange(5)), wanted, atol=1e-6)
    True
    """
    if vocabulary.is_supported(x, weight, bias):
        return vocabulary.cross_entropy(x, weight, bias, targets, smoothing)
    logits = F.linear(x, weight, bias)
    total = F.cross_entropy(logits, targets, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
