"""One answer for a whole sequence, from its pooled features ``(B, P)``, and its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch


class ClassificationHead(nn.Module):
    """Which class a sequence is of; or, where several may hold, which of the labels.

    Args:
        input_size: Width of the pooled features, ``P``.
        classes: How many there are, ``C``.
        several: Whether several may hold.
        weights: What a mistake in each class costs; ``None`` for the same in all.
        dropout: In training, the share of the features dropped.
    """

    weights: Tensor

    def __init__(
        self,
        input_size: int,
        classes: int,
        several: bool = False,
        weights: Sequence[float] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size, self.several = classes, several
        costs = torch.ones(classes) if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", costs, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(input_size, classes)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, P) -> (B, C)``: logits."""
        return self.linear(self.dropout(features))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy against ``batch.targets``: classes ``(B,)``, or which labels hold ``(B, C)``.

        Weights count where the class is the true one, the label holds.
        """
        assert batch.targets is not None
        if self.several:
            each = F.binary_cross_entropy_with_logits(
                outputs, batch.targets, pos_weight=self.weights.to(outputs.dtype), reduction="none"
            )
            return each.sum(1).mean()
        each = F.cross_entropy(outputs, batch.targets, reduction="none")
        return (each * self.weights[batch.targets]).mean()
