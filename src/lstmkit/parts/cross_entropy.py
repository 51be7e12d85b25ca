"""The loss of a large vocabulary, without holding the probabilities of all words of all steps at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_AT_ONCE = 2**22  # logits: enough rows for a matrix product to be worth the pass over the weights' gradient


def linear_cross_entropy(
    x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0, ignored: int = -1
) -> Tensor:
    """Mean cross-entropy of ``softmax(x weightᵀ + bias)``, as ``F.cross_entropy`` of a linear layer's output.

    On the CPU the gradients are computed along with the loss, some rows at a time: all logits are never there at once,
    and their gradient takes no further pass over memory.

    Args:
        x: ``(N, E)``.
        weight: ``(V, E)``.
        bias: ``(V,)``.
        targets: ``(N,)`` in ``0..V-1``, or ``ignored``: not scored.
        smoothing: Share of the wanted probability that is spread over all ``V`` (Szegedy et al. 2016).
        ignored: See targets.

    Returns:
        A scalar; 0 where no target is scored.

    >>> x, weight = torch.randn(5, 3), torch.randn(7, 3)
    >>> wanted = F.cross_entropy(x @ weight.T, torch.arange(5))
    >>> torch.allclose(linear_cross_entropy(x, weight, torch.zeros(7), torch.arange(5)), wanted, atol=1e-6)
    True
    """
    plain = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if plain:
        total = F.cross_entropy(
            F.linear(x, weight, bias), targets, ignore_index=ignored, label_smoothing=smoothing, reduction="sum"
        )
        return total / (targets != ignored).sum().clamp(min=1)
    return _Fused.apply(x, weight, bias, targets, smoothing, ignored)  # type: ignore[return-value]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, ignored: int
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:3])
        kept = targets != ignored
        count = max(1, int(kept.sum()))
        dx = torch.zeros_like(x) if wanted else None
        dweight, dbias = (torch.zeros_like(weight), torch.zeros_like(bias)) if wanted else (None, None)
        total = x.new_zeros((), dtype=torch.float64)
        rows = max(1, _AT_ONCE // len(weight))
        spread = smoothing / len(weight)
        for start in range(0, len(x), rows):
            here = slice(start, start + rows)
            scored = kept[here]
            logits = torch.addmm(bias, x[here], weight.t())
            told = targets[here].clamp(min=0).unsqueeze(1)
            logits -= logits.amax(1, keepdim=True)
            loss = -(1 - smoothing) * logits.gather(1, told)
            if smoothing:
                loss -= spread * logits.sum(1, keepdim=True)
            grad = logits.exp_()
            sums = grad.sum(1, keepdim=True)
            loss += sums.log()
            total += torch.where(scored, loss[:, 0], 0.0).sum(dtype=torch.float64)
            if dx is None or dweight is None or dbias is None:
                continue
            grad /= sums
            if smoothing:
                grad -= spread
            grad.scatter_add_(1, told, grad.new_full(told.shape, smoothing - 1))
            if not bool(scored.all()):
                grad *= scored.unsqueeze(1)
            torch.mm(grad, weight, out=dx[here])
            dweight.addmm_(grad.t(), x[here])
            dbias += grad.sum(0)
        ctx.save_for_backward(dx, dweight, dbias)
        ctx.count = count
        return (total / count).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        scale = grads[0] / ctx.count
        return *(None if g is None else g * scale for g in ctx.saved_tensors), None, None, None
