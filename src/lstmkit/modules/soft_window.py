"""The soft window: monotonic attention over the characters of a text.

A. Graves 2013, "Generating Sequences With Recurrent Neural Networks", arXiv:1308.0850, section 5.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SoftWindow(nn.Module):
    """A mixture of Gaussians over text positions, whose centers only move forward (equations 46 to 51).

    Args:
        input_size: Width of the hidden state, ``H``.
        components: Number of Gaussians, ``K``.
        advance: Initial movement in characters per step.

    >>> window = SoftWindow(8, components=2)
    >>> vector, centers, weights = window(torch.zeros(1, 8), torch.zeros(1, 2), torch.zeros(1, 5, 3))
    >>> vector.shape, centers.shape, weights.shape
    (torch.Size([1, 3]), torch.Size([1, 2]), torch.Size([1, 5]))
    """

    def __init__(self, input_size: int, components: int, advance: float = 0.05) -> None:
        super().__init__()
        self.components = components
        self.linear = nn.Linear(input_size, 3 * components)
        with torch.no_grad():
            self.linear.bias[2 * components :] = math.log(advance)

    def forward(self, hidden: Tensor, middles: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move the window and read the text.

        Args:
            hidden: ``(B, H)`` hidden state.
            middles: ``(B, K)`` centers at the previous step; initially zeros.
            text: ``(B, U, C)`` a vector for each character; the first is at position 1.

        Returns:
            The window vector ``(B, C)``, the new centers ``(B, K)``, and the weight of each character ``(B, U)``. The
            weights do not sum to 1.
        """
        height, precision, movement = self.linear(hidden).exp().chunk(3, -1)
        middles = middles + movement
        positions = torch.arange(1, text.shape[1] + 1, device=text.device, dtype=text.dtype)
        distance = middles.unsqueeze(-1) - positions
        weights = (height.unsqueeze(-1) * (-precision.unsqueeze(-1) * distance.square()).exp()).sum(1)
        return torch.bmm(weights.unsqueeze(1), text).squeeze(1), middles, weights
