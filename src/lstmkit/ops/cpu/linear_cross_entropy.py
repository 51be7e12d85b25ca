"""The linear layer in front of a softmax over many words, on the C++ kernels: its logits, and its cross-entropy.

``csrc/vocabulary.h`` computes the loss and all gradients in one pass over the weights there and one back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lstmkit.ops.cpu import kernels

_DTYPES = (torch.float32, torch.float64)
#: Rows up to which the kernels are faster than torch's product, since they read each weight once and keep nothing.
_FEW = 128
#: Numbers of the weight below which a call is not worth it.
_MIN_WEIGHTS = 1 << 16


def is_supported(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the kernels have what these ask for."""
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
    """``x weightᵀ + bias`` of ``x (N, E)`` where no gradient is wanted; ``None`` where torch does that as well."""
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias))
    if wants_gradient or not 1 < len(x) <= _FEW or weight.numel() < _MIN_WEIGHTS or not is_supported(x, weight, bias):
        return None
    assert kernels.extension is not None
    found = x.new_empty(len(x), len(weight))
    kernels.extension.logits(x, weight, bias, torch.get_num_threads(), found)
    return found


def cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy over the targets ``(N,)`` that are not -1, a scalar; 0 where there is none."""
    return _CrossEntropy.apply(x, weight, bias, targets, smoothing)  # type: ignore[return-value]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        ctx.save_for_backward(x, weight, bias, targets)
        ctx.smoothing = smoothing
        ctx.found = _gradients(x, weight, bias) if any(ctx.needs_input_grad[:3]) else None
        return x.new_tensor(_compute(x, weight, bias, targets, smoothing, ctx.found))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        found, ctx.found = ctx.found, None  # given away, so that they become the parameters' own without a copy
        if found is None:  # given away before
            x, weight, bias, targets = ctx.saved_tensors
            found = _gradients(x, weight, bias)
            _compute(x, weight, bias, targets, ctx.smoothing, found)
        (scale,) = grads
        if float(scale) != 1:  # where the loss is not the end
            found = tuple(g.mul_(scale) for g in found)
        return *found, None, None


def _gradients(*of: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in of)


def _compute(
    x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, found: tuple[Tensor, ...] | None
) -> float:
    """The loss; into ``found`` go the gradients of the first three."""
    assert kernels.extension is not None
    dx, d_weight, d_bias = found or (None, None, None)
    threads = torch.get_num_threads()
    return kernels.extension.cross_entropy(x, weight, bias, targets, smoothing, threads, dx, d_weight, d_bias)
