"""Classification of a whole sequence from its pooled features ``(B, P)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch


class ClassificationHead(nn.Module):
    """Single-label or multi-label classification of a sequence.

    Args:
        input_size: Width of the pooled features, ``P``.
        classes: Number of classes or labels, ``C``.
        multi_label: Whether a sequence may have several labels.
        class_weights: ``(C,)`` weight of each class in the loss; ``None`` for equal weights.
        dropout: Dropout probability on the features.

    >>> ClassificationHead(4, classes=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    class_weights: Tensor

    def __init__(
        self,
        input_size: int,
        classes: int,
        multi_label: bool = False,
        class_weights: Sequence[float] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size, self.multi_label = classes, multi_label
        weights = torch.ones(classes) if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(input_size, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, P)`` to logits ``(B, C)``."""
        return self.linear(self.dropout(features))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy against ``batch.targets``: classes ``(B,)``, or binary labels ``(B, C)``.

        A loss is multiplied by the weight of the true class; for labels, the positive term by the label's weight.
        """
        assert batch.targets is not None
        if self.multi_label:
            losses = F.binary_cross_entropy_with_logits(
                outputs, batch.targets, pos_weight=self.class_weights.to(outputs.dtype), reduction="none"
            )
            return losses.sum(1).mean()
        losses = F.cross_entropy(outputs, batch.targets, reduction="none")
        return (losses * self.class_weights[batch.targets]).mean()
