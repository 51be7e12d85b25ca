"""A linear layer over a large vocabulary and its softmax cross-entropy, fused, on the C++ kernels.

``csrc/linear_cross_entropy.h`` computes the loss and all gradients in one forward and one backward pass over the
weights, without storing all logits.

Dimensions: ``N`` rows (targets), ``E`` input features, ``V`` vocabulary size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lstmkit.ops.cpu import kernels

_DTYPES = (torch.float32, torch.float64)
#: Rows up to which the kernels are faster than torch's product: they read each weight once and store no copy.
_MAX_ROWS = 128
#: Elements of the weight from which on a call pays off.
_MIN_WEIGHTS = 1 << 16


def is_supported(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the kernels support these tensors ``x (N, E)``, ``weight (V, E)``, ``bias (V,)``."""
    return (
        kernels.extension is not None
        and weight.numel() > 0
        and all(kernels.is_plain(t) and t.is_cpu and t.dtype == weight.dtype for t in (x, weight, bias))
        and weight.dtype in _DTYPES
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
    """``x weightᵀ + bias``, ``(N, V)``; ``None`` if gradients are needed or torch is as fast."""
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    # The number of rows comes last: to compare it would fix it in an exported graph.
    if needs_gradient or weight.numel() < _MIN_WEIGHTS or not is_supported(x, weight, bias):
        return None
    if not 1 < len(x) <= _MAX_ROWS:
        return None
    assert kernels.extension is not None
    result = x.new_empty(len(x), len(weight))
    kernels.extension.logits(x, weight, bias, torch.get_num_threads(), result)
    return result


def cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy over the targets ``(N,)`` other than -1, a scalar; 0 if there are none.

    ``smoothing`` is the label smoothing.
    """
    return _CrossEntropy.apply(x, weight, bias, targets, smoothing)  # type: ignore[return-value]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        ctx.save_for_backward(x, weight, bias, targets)
        ctx.smoothing = smoothing
        ctx.results = _empty_gradients(x, weight, bias) if any(ctx.needs_input_grad[:3]) else None
        return x.new_tensor(_compute(x, weight, bias, targets, smoothing, ctx.results))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        results, ctx.results = ctx.results, None  # without another owner, they become .grad without a copy
        if results is None:  # a second backward through the same graph
            x, weight, bias, targets = ctx.saved_tensors
            results = _empty_gradients(x, weight, bias)
            _compute(x, weight, bias, targets, ctx.smoothing, results)
        (scale,) = grads
        if float(scale) != 1:  # the loss is part of a larger expression
            results = tuple(g.mul_(scale) for g in results)
        return *results, None, None


def _empty_gradients(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors)


def _compute(
    x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, grads: tuple[Tensor, ...] | None
) -> float:
    """Return the loss; write the gradients of the first three arguments to ``grads`` if it is given."""
    assert kernels.extension is not None
    dx, d_weight, d_bias = grads or (None, None, None)
    threads = torch.get_num_threads()
    return kernels.extension.cross_entropy(x, weight, bias, targets, smoothing, threads, dx, d_weight, d_bias)
