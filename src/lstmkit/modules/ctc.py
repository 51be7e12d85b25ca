"""Connectionist temporal classification: a long sequence is told as a shorter one, in order."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.dropout import variational_dropout


class CTCHead(nn.Module):
    """At each step the logarithmic probability of every character, and of the blank, which writes nothing.

    The loss is the probability of a text: that of all alignments which spell it, repeats taken once and blanks left
    out (Graves, Fernández, Gomez, Schmidhuber 2006, "Connectionist Temporal Classification").

    Args:
        input_size: Width of the trunk's features, ``P``.
        characters: How many there are, ``V``; the blank is class 0.
        dropout: In training, the share of the features that are hidden, the same at all steps.

    >>> import torch
    >>> CTCHead(3, characters=2)(torch.zeros(1, 4, 3)).shape
    torch.Size([1, 4, 3])
    """

    def __init__(self, input_size: int, characters: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(input_size, 1 + characters)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, 1 + V)``: logarithmic probabilities."""
        features = variational_dropout(features, self.dropout, self.training)
        return self.linear(features).float().log_softmax(-1)

    @staticmethod
    def loss(log_p: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Mean over the texts of the nats a character.

        Args:
            log_p: ``(B, S, 1 + V)``.
            steps: ``(B,)`` how many of the ``S`` count.
            targets: ``(B, L)`` characters from 1 on; what is past a text's end is not read.
            target_lengths: ``(B,)``; a text that does not fit into its steps counts 0 and teaches nothing.
        """
        return F.ctc_loss(log_p.transpose(0, 1), targets.clamp(min=0), steps, target_lengths, zero_infinity=True)
