"""Integrated gradients: how much each input contributes to an output, compared with a baseline input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def integrated_gradients(
    function: Callable[[Tensor], Tensor], inputs: Tensor, baseline: Tensor, steps: int = 32
) -> Tensor:
    """Contributions of the entries of ``inputs`` to ``function(inputs) - function(baseline)``.

    The gradient is averaged along the straight line from the baseline to the inputs, by the midpoint rule, and
    multiplied by their difference (Sundararajan, Taly and Yan 2017, equation 1). The contributions sum to the change of
    the function, up to the error of the rule.

    Args:
        function: Maps a batch like ``inputs`` to one number for each example, ``(B,)``.
        inputs: ``(1, …)``, one example.
        baseline: ``(1, …)``, what stands for absence.
        steps: Points on the line; they run as one batch.

    Returns:
        A tensor like ``inputs``.

    >>> weights = torch.tensor([[1.0, -2.0]])
    >>> integrated_gradients(lambda x: (x * weights).sum(1), torch.ones(1, 2), torch.zeros(1, 2)).tolist()
    [[1.0, -2.0]]
    """
    places = (torch.arange(steps, device=inputs.device, dtype=inputs.dtype) + 0.5) / steps
    along = places.view(-1, *[1] * (inputs.dim() - 1))
    points = (baseline + along * (inputs - baseline)).detach().requires_grad_()
    with torch.enable_grad():
        (gradients,) = torch.autograd.grad(function(points).sum(), points)
    return gradients.mean(0, keepdim=True) * (inputs - baseline)
