"""Initial state of a decoder from the encoder's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.layers.recurrent import LayerState, RecurrentLayer


class Bridge(nn.Module):
    """The mean of the encoder's features through a linear layer and tanh (Sennrich et al. 2017, Nematus).

    Args:
        input_size: Width of the features, ``K``.
        layer: The decoder's recurrent layer, unidirectional.
    """

    def __init__(self, input_size: int, layer: RecurrentLayer) -> None:
        super().__init__()
        self.layers, self.sizes = layer.num_layers, layer.specs[0].state_sizes
        self.linear = nn.Linear(input_size, self.layers * sum(self.sizes))

    def forward(self, features: Tensor, mask: Tensor) -> LayerState:
        """Features ``(B, S, K)`` and mask ``(B, S)`` to the layer's state, batch first: ``(B, L, size)``."""
        valid = mask.unsqueeze(-1).to(features.dtype)
        mean = (features * valid).sum(1) / valid.sum(1).clamp(min=1)
        states = torch.tanh(self.linear(mean)).unflatten(1, (self.layers, -1)).split(self.sizes, dim=-1)
        return states[0] if len(states) == 1 else tuple(states)
