"""Weight matrices in 8 bits: how they are rounded, and the product that every back end must give.

Weights are rounded once, with a scale per row of the matrix (output channel). Activations are rounded while the layer
runs, with a scale per row (per step and sequence), so nothing has to be calibrated. Sums are exact integers:

    ``x Wᵀ ≈ scale_x · scale_w · (q_x q_wᵀ)``, with ``q = round(x / scale)`` and ``scale = max |x| / 127``

Source: Jacob et al. 2018 (arXiv 1712.05877), section 2, without zero points.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 127
_SMALLEST_MAXIMUM = 1e-36  # below it, 127 / maximum is infinite in float32; such a row is zero


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of ``x (..., n)``: integers ``-127..127`` in the dtype of ``x``, and scales ``(..., 1)``.

    A row with infinities or NaN has the scale NaN.

    >>> integers, scale = quantize_rows(torch.tensor([[1.0, -2.54, 0.25]]))
    >>> integers.tolist(), round(float(scale), 3)
    ([[50.0, -127.0, 12.0]], 0.02)
    """
    is_finite = x.isfinite().all(-1, keepdim=True)
    largest = x.abs().amax(-1, keepdim=True)
    # Not `127 / largest`, which torch computes as 127 times the rounded reciprocal.
    inverse = torch.where(largest > _SMALLEST_MAXIMUM, largest.new_tensor(_LARGEST) / largest, 0.0)
    # A float32 product, rounded once more, would sometimes be on the other side of one half.
    integers = (x.double() * inverse.double()).round().to(x.dtype)
    return torch.where(is_finite, integers, 0.0), torch.where(is_finite, largest / _LARGEST, torch.nan)


def quantize_matrix(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix ``(rows, columns)`` as int8 and its scales ``(rows,)``.

    Raises:
        ValueError: A weight is infinite or NaN.
    """
    if not bool(weight.isfinite().all()):
        raise ValueError("the weights are not all finite: they cannot be stored in 8 bits")
    integers, scales = quantize_rows(weight)
    return integers.to(torch.int8), scales.squeeze(-1)


def dequantize_matrix(weight: Tensor, scale: Tensor) -> Tensor:
    """The numbers ``(rows, columns)`` that a matrix of :func:`quantize_matrix` stands for."""
    return weight.to(scale.dtype) * scale[:, None]


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x Wᵀ + bias`` with rounded ``x (..., columns)`` and the matrix of :func:`quantize_matrix`: ``(..., rows)``."""
    integers, scale_x = quantize_rows(x)
    sums = (integers.double() @ weight.double().T).to(x.dtype)  # exact: the sums are below 2^53
    product = sums * (scale_x * scale)
    return product if bias is None else product + bias
