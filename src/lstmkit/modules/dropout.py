"""Variational dropout."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def variational_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of ``(B, T, F)`` with one mask for all steps of a sequence (Gal and Ghahramani 2016).

    Args:
        x: ``(B, T, F)``.
        p: Dropout probability.
        training: Whether to apply dropout.
    """
    if not p or not training:
        return x
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), p)
