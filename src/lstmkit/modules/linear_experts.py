"""Ways from the inputs to the outputs beside the trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearExperts(nn.Module):
    """Linear maps from the past values to the whole horizon, mixed by what the trunk has seen.

    A linear map of the window is a strong forecaster by itself (Zeng et al. 2023, "Are transformers effective for time
    series forecasting?"); several of them, weighted by a softmax over the trunk's last state, let the LSTM choose
    the one that fits the series. It starts at zero.

    Args:
        past: Past steps ``L``; the value is the first input feature.
        horizon: Steps answered, ``H``.
        state_size: Width of the trunk's features.
        experts: How many maps.
    """

    def __init__(self, past: int, horizon: int, state_size: int, experts: int) -> None:
        super().__init__()
        self.past, self.horizon, self.experts = past, horizon, experts
        self.maps = nn.Linear(past, horizon * experts)
        self.choice = nn.Linear(state_size, experts)
        nn.init.zeros_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Inputs ``(B, T, F)`` and features ``(B, S, P)`` to ``(B, H, 1)``, added to every quantile."""
        forecasts = self.maps(inputs[:, : self.past, 0]).unflatten(1, (self.horizon, self.experts))
        share = torch.softmax(self.choice(features[:, -1]), dim=-1).unsqueeze(1)
        return (forecasts * share).sum(-1, keepdim=True)
