"""Head of a regression: predictions or quantiles of several targets at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.modules.dropout import variational_dropout

#: Losses of a head by name; ``nse`` weights squared errors by entity, ``pinball`` is that of quantiles.
LOSSES = ("mse", "mae", "huber", "nse", "pinball")
_NSE_EPSILON = 0.1  # in standard deviations of all targets: bounds the weight of an entity with a constant target


class RegressionHead(nn.Module):
    """Regression of ``K`` standardized targets at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        targets: Number of targets, ``K``.
        loss: One of :data:`LOSSES`: mean squared error; mean absolute error; Huber's loss (1964) with a threshold of
            one standard deviation; the NSE loss of Kratzert et al. 2019 (HESS 23, eq. 14), a squared error divided by
            the variance of the entity's targets; or the pinball loss of quantiles.
        levels: Quantile levels in (0, 1), ascending; with ``loss="pinball"`` only.
        dropout: Dropout probability on the features, with one mask for all steps.

    >>> RegressionHead(4, targets=2)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    >>> RegressionHead(4, targets=2, loss="pinball", levels=[0.1, 0.5, 0.9])(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 6])
    """

    levels: Tensor

    def __init__(
        self, input_size: int, targets: int, loss: str = "mse", levels: Sequence[float] = (), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.targets, self.loss_name, self.dropout = targets, loss, dropout
        self.output_size = targets * max(1, len(levels))
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.linear = nn.Linear(input_size, self.output_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to predictions ``(B, S, K)``, or to quantiles ``(B, S, K·Q)``, target by target."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss over the known values of ``batch.targets (B, S, K)``.

        The NSE loss reads ``batch.extras["target_std"] (B, K)``, the deviations of each entity's targets.
        """
        assert batch.targets is not None
        known = ~torch.isnan(batch.targets)
        targets = torch.where(known, batch.targets, 0.0)
        losses = self._losses(outputs.float(), targets, batch)
        return (losses * known).sum() / known.sum().clamp(min=1)

    def _losses(self, outputs: Tensor, targets: Tensor, batch: Batch) -> Tensor:
        """The loss of each value, ``(B, S, K)``."""
        if self.loss_name == "pinball":
            errors = targets.unsqueeze(-1) - outputs.unflatten(-1, (self.targets, -1))
            return 2 * torch.maximum(self.levels * errors, (self.levels - 1) * errors).mean(-1)
        if self.loss_name == "mae":
            return (outputs - targets).abs()
        if self.loss_name == "huber":
            return F.huber_loss(outputs, targets, reduction="none")
        squared = (outputs - targets).square()
        if self.loss_name == "nse":
            return squared / (batch.extras["target_std"].unsqueeze(1) + _NSE_EPSILON).square()
        return squared
