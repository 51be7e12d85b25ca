"""Connectionist temporal classification (CTC)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.modules.dropout import variational_dropout


class CTCHead(nn.Module):
    """Log-probabilities of the characters and the blank at each step, with the CTC loss.

    The probability of a text is the sum over all alignments that spell it after merging repeats and removing blanks
    (Graves, Fernández, Gomez, Schmidhuber 2006, "Connectionist Temporal Classification").

    Args:
        input_size: Width of the trunk's features, ``P``.
        characters: Number of characters, ``V``; the blank is class 0.
        dropout: Dropout probability on the features, with one mask for all steps.

    >>> import torch
    >>> CTCHead(3, characters=2)(torch.zeros(1, 4, 3)).shape
    torch.Size([1, 4, 3])
    """

    def __init__(self, input_size: int, characters: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(input_size, 1 + characters)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to log-probabilities ``(B, S, 1 + V)``."""
        features = variational_dropout(features, self.dropout, self.training)
        return self.linear(features).float().log_softmax(-1)

    @staticmethod
    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        """CTC loss in nats per character, the mean over the texts.

        Args:
            outputs: ``(B, S, 1 + V)`` log-probabilities.
            batch: ``lengths (B,)`` are the valid steps of ``outputs``. ``targets (B, L)`` are characters from 1 on,
                valid up to ``target_lengths (B,)``. A text that needs more steps than it has counts 0 and has no
                gradient.
        """
        assert batch.lengths is not None
        assert batch.targets is not None
        assert batch.target_lengths is not None
        targets = batch.targets.clamp(min=0)
        return F.ctc_loss(outputs.transpose(0, 1), targets, batch.lengths, batch.target_lengths, zero_infinity=True)
