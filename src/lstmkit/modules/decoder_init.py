"""From what an encoder said to the state in which a decoder begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.layers.recurrent import LayerState, RecurrentLayer


class Bridge(nn.Module):
    """The mean of the features through a linear map and tanh, as Bahdanau's successors have it (Sennrich et al. 2017).

    Args:
        input_size: Width of the features, ``K``.
        layer: The decoder's recurrent layer, of one direction.
    """

    def __init__(self, input_size: int, layer: RecurrentLayer) -> None:
        super().__init__()
        self.layers, self.sizes = layer.num_layers, layer.specs[0].state_sizes
        self.linear = nn.Linear(input_size, self.layers * sum(self.sizes))

    def forward(self, features: Tensor, mask: Tensor) -> LayerState:
        """``(B, S, K)`` and where they are, ``(B, S)``, to the layer's state, but batch first: ``(B, L, size)``."""
        there = mask.unsqueeze(-1).to(features.dtype)
        mean = (features * there).sum(1) / there.sum(1).clamp(min=1)
        states = torch.tanh(self.linear(mean)).unflatten(1, (self.layers, -1)).split(self.sizes, dim=-1)
        return states[0] if len(states) == 1 else tuple(states)
