"""From a batch's inputs to what the recurrent trunk reads: ``(B, T, F) -> (B, S, output_size)``."""

from __future__ import annotations

from torch import Tensor, nn


class PatchEncoder(nn.Module):
    """Fold ``patch`` consecutive steps into one and map it linearly: a day of hours becomes one step of the trunk.

    Args:
        input_size: Features a step, ``F``.
        patch: Steps folded together; ``T`` must be a multiple of it. 1 leaves the steps as they are.
        output_size: Width of a folded step.
        dropout: In training, the share of the output's values dropped.
    """

    def __init__(self, input_size: int, patch: int, output_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch, self.output_size = patch, output_size
        self.linear = nn.Linear(input_size * patch, output_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F) -> (B, T / patch, output_size)``."""
        return self.dropout(self.linear(x.unflatten(1, (-1, self.patch)).flatten(2)))
