"""Encoder → a few numbers → decoder: what can be told again of a sequence once all of it has gone through them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Head, Model, State


class Autoencoder(Model):
    """Reads a sequence and tells it again, the last step first (Malhotra et al. 2016, section 2.1).

    The decoder is told the same code at each step and never what the sequence was, so that all of it has to go through
    the code.

    Args:
        trunk: Reads, batch first, ``H`` units.
        code_size: Numbers that the sequence must go through.
        decoder: Takes the code at each step, batch first.
        head: The decoder's features to ``K`` numbers a step, with ``loss(outputs, batch)``.
    """

    def __init__(self, trunk: RecurrentLayer, code_size: int, decoder: RecurrentLayer, head: Head) -> None:
        super().__init__()
        self.trunk, self.decoder = trunk, decoder
        self.code = nn.Linear(trunk.hidden_size, code_size)
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, T, K)``, and the state of what reads."""
        _, state = self.trunk(inputs, state, lengths)
        last: Tensor = (state[0] if isinstance(state, tuple) else state)[-1]  # type: ignore[index]
        steps = inputs.shape[1]
        told, _ = self.decoder(self.code(last).unsqueeze(1).expand(-1, steps, -1))
        ends = inputs.new_full((len(inputs),), steps, dtype=torch.int64) if lengths is None else lengths
        order = (ends.unsqueeze(1) - 1 - torch.arange(steps, device=inputs.device)).clamp(min=0)
        return self.head(told.gather(1, order.unsqueeze(-1).expand(-1, -1, told.shape[-1]))), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step more is read, and told again."""
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state
