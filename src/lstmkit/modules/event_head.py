"""Classification of every event of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch


class EventHead(nn.Module):
    """A class for every step, by a hidden layer; with class weights and a focal loss for rare classes.

    Args:
        input_size: Width of the features, ``P``.
        classes: Number of classes, ``C``.
        hidden_size: Width of the hidden layer.
        dropout: Dropout probability on features and hidden units.
        class_weights: Weight of each class in the loss; empty for equal weights.
        focal_gamma: Exponent of the focal loss ``-(1 - p)^γ log p`` (Lin et al. 2017); 0 is cross-entropy.

    >>> EventHead(4, classes=2, hidden_size=8)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    class_weights: Tensor

    def __init__(
        self,
        input_size: int,
        classes: int,
        hidden_size: int,
        dropout: float = 0.0,
        class_weights: Sequence[float] = (),
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size, self.focal_gamma = classes, focal_gamma
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(input_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, classes),
        )
        weights = torch.tensor(class_weights or [1.0] * classes, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to logits ``(B, S, C)``."""
        return self.layers(features)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Weighted mean loss of the steps with a class; ``batch.targets (B, S)`` has -1 for others."""
        assert batch.targets is not None
        targets = batch.targets.flatten()
        known = targets >= 0
        log_p = F.log_softmax(outputs.flatten(0, 1).float(), dim=-1)
        of_target = log_p.gather(1, targets.clamp(min=0).unsqueeze(1))[:, 0]
        focus = (1 - of_target.exp()).pow(self.focal_gamma) if self.focal_gamma else 1.0
        weights = self.class_weights[targets.clamp(min=0)] * known
        return -(weights * focus * of_target).sum() / weights.sum().clamp(min=1e-6)
