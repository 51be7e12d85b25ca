"""Cross-entropy of a linear layer over a large vocabulary, without all logits in memory."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lstmkit.ops.cpu import linear_cross_entropy as cpu_kernel


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of ``softmax(x weightᵀ + bias)``, equal to ``F.cross_entropy`` of a linear layer's output.

    On the CPU the gradients are computed together with the loss.

    Args:
        x: ``(N, E)`` features.
        weight: ``(V, E)`` output weights.
        bias: ``(V,)`` output biases.
        targets: ``(N,)`` in ``0..V-1``, or -1 to ignore.
        smoothing: Label smoothing: probability spread evenly over all ``V`` (Szegedy et al. 2016).

    Returns:
        A scalar; 0 if all targets are ignored.

    >>> import torch
    >>> x, weight = torch.randn(5, 3), torch.randn(7, 3)
    >>> expected = F.cross_entropy(x @ weight.T, torch.arange(5))
    >>> torch.allclose(linear_cross_entropy(x, weight, torch.zeros(7), torch.arange(5)), expected, atol=1e-6)
    True
    """
    if cpu_kernel.is_supported(x, weight, bias):
        return cpu_kernel.cross_entropy(x, weight, bias, targets, smoothing)
    logits = F.linear(x, weight, bias)
    total = F.cross_entropy(logits, targets, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
