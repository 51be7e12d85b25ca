"""The soft window: where in a text a hand is as it writes.

A. Graves 2013, "Generating Sequences With Recurrent Neural Networks", arXiv:1308.0850, section 5.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SoftWindow(nn.Module):
    """A mixture of Gaussians over the positions of a text, whose middles only move on (equations 46 to 51).

    Args:
        input_size: Width of what tells how to move, ``H``.
        components: Gaussians, ``K``.
        advance: By how many characters they move at a step before anything is learnt.
    """

    def __init__(self, input_size: int, components: int, advance: float = 0.05) -> None:
        super().__init__()
        self.components = components
        self.linear = nn.Linear(input_size, 3 * components)
        with torch.no_grad():
            self.linear.bias[2 * components :] = math.log(advance)

    def forward(self, hidden: Tensor, middles: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move on and read.

        Args:
            hidden: ``(B, H)``, the hidden state.
            middles: ``(B, K)`` of the step before; zeros at first.
            text: ``(B, U, C)``, a vector for each character, counted from 1.

        Returns:
            The window ``(B, C)``, the middles, and how much of each character is in it, ``(B, U)``: these do not sum
            to one.
        """
        height, narrow, move = self.linear(hidden).exp().chunk(3, -1)
        middles = middles + move
        places = torch.arange(1, text.shape[1] + 1, device=text.device, dtype=text.dtype)
        away = middles.unsqueeze(-1) - places
        weights = (height.unsqueeze(-1) * (-narrow.unsqueeze(-1) * away.square()).exp()).sum(1)
        return torch.bmm(weights.unsqueeze(1), text).squeeze(1), middles, weights
