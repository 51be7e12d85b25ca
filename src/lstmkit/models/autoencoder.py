"""Recurrent autoencoder: a sequence is compressed to a code and reconstructed from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Head, Model, State


class Autoencoder(Model):
    """An autoencoder that reconstructs a sequence in reverse order (Malhotra et al. 2016, section 2.1).

    The decoder gets the code at every step and never the sequence itself, so the code is the only information.

    Args:
        trunk: The encoder, a recurrent layer, batch first, of ``H`` units.
        code_size: Size of the code.
        decoder: Recurrent layer, batch first, of ``code_size`` features.
        head: Maps the decoder's features to ``K`` values per step.
    """

    def __init__(self, trunk: RecurrentLayer, code_size: int, decoder: RecurrentLayer, head: Head) -> None:
        super().__init__()
        self.trunk, self.decoder = trunk, decoder
        self.code = nn.Linear(trunk.hidden_size, code_size)
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The reconstruction ``(B, T, K)``, and the encoder's final state."""
        _, state = self.trunk(inputs, state, lengths)
        last: Tensor = (state[0] if isinstance(state, tuple) else state)[-1]  # type: ignore[index]
        steps = inputs.shape[1]
        decoded, _ = self.decoder(self.code(last).unsqueeze(1).expand(-1, steps, -1))
        counts = inputs.new_full((inputs.shape[0],), steps, dtype=torch.int64) if lengths is None else lengths
        order = (counts.unsqueeze(1) - 1 - torch.arange(steps, device=inputs.device)).clamp(min=0)
        return self.head(decoded.gather(1, order.unsqueeze(-1).expand(-1, -1, decoded.shape[-1]))), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Encode one more step ``(B, F)`` and reconstruct it, ``(B, K)``."""
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state
