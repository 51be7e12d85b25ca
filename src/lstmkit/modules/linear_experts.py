"""Mixture of linear experts: a shortcut from inputs to outputs that bypasses the trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearExperts(nn.Module):
    """Linear maps from past values to the horizon, mixed by a softmax over the trunk's last features.

    A linear map of the window is a strong forecaster by itself (Zeng et al. 2023, "Are transformers effective for time
    series forecasting?"). With several maps the LSTM selects the one that fits the series. Its output starts at zero.

    Args:
        past: Past steps, ``L``; the value is the first input feature.
        horizon: Forecast steps, ``H``.
        state_size: Width of the trunk's features, ``P``.
        experts: Number of linear maps.
    """

    def __init__(self, past: int, horizon: int, state_size: int, experts: int) -> None:
        super().__init__()
        self.past, self.horizon, self.experts = past, horizon, experts
        self.maps = nn.Linear(past, horizon * experts)
        self.choice = nn.Linear(state_size, experts)
        nn.init.zeros_(self.maps.weight)
        nn.init.zeros_(self.maps.bias)

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Inputs ``(B, T, F)`` and features ``(B, S, P)`` to ``(B, H, 1)``, which is added to every quantile."""
        forecasts = self.maps(inputs[:, : self.past, 0]).unflatten(1, (self.horizon, self.experts))
        weights = torch.softmax(self.choice(features[:, -1]), dim=-1).unsqueeze(1)
        return (forecasts * weights).sum(-1, keepdim=True)
