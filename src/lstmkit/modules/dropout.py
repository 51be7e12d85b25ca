"""Noise for training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def variational_dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """``(B, T, F)`` with the same features hidden at all steps of a sequence (Gal and Ghahramani 2016)."""
    if not share or not training:
        return x
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)
