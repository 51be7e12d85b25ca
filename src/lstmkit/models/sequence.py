"""Encoder → recurrent trunk → head: tensors and state in, tensors and state out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Head, Model, State
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.item_head import ItemHead
from lstmkit.modules.sequence_convolutions import CausalConvEncoder, TextLineEncoder


class SequenceModel(Model):
    """One sequence in, one answer a step or at the end out.

    Args:
        encoder: ``(B, T, F)`` or ids ``(B, T)`` to ``(B, S, output_size)``.
        trunk: The recurrent layer, batch first.
        head: ``(B, S, trunk.output_size)`` to outputs, with ``loss(outputs, batch)``.
        shortcut: Inputs and the trunk's features to what is added to the outputs; ``None`` for no way around.
    """

    def __init__(
        self, encoder: nn.Module, trunk: RecurrentLayer, head: Head, shortcut: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.shortcut = encoder, trunk, shortcut
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs as the head has them, and the trunk's final state."""
        features, state = self.trunk(self.encoder(inputs), state, lengths)
        outputs = self.head(features)
        return outputs if self.shortcut is None else outputs + self.shortcut(inputs, features), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state


class SequenceClassifier(Model):
    """One sequence in, one answer for the whole of it out.

    Args:
        encoder: ``(B, T, F)`` or ids ``(B, T)`` to ``(B, T, output_size)``; one that ``reads_lengths`` gets these too,
            and gives with its steps how many each has.
        trunk: The recurrent layer, batch first.
        pool: Its steps ``(B, T, P)`` and their lengths to ``(B, P)``.
        head: ``(B, P)`` to outputs, with ``loss(outputs, batch)``.
    """

    def __init__(self, encoder: nn.Module, trunk: RecurrentLayer, pool: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder, self.trunk, self.pool = encoder, trunk, pool
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, C)``: outputs as the head has them, and the trunk's final state."""
        if getattr(self.encoder, "reads_lengths", False):
            features, lengths = self.encoder(inputs, lengths)
        else:
            features = self.encoder(inputs)
        steps, state = self.trunk(features, state, lengths)
        return self.head(self.pool(steps, lengths)), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, F)`` or ``(B,) -> (B, C)``: the answer to that step, given the state."""
        return self(inputs.unsqueeze(1), state)


class SpanModel(Model):
    """A question and a passage in, as one sequence; where in the passage the answer begins and where it ends out.

    Args:
        encoder: ``(B, T, 3)``, of each word its number, whether it is the passage's, and what else there is to know,
            to ``(B, T, output_size)``.
        trunk: The recurrent layer, batch first.
        pool: The question's steps ``(B, T, P)`` and their lengths to ``(B, P)``.
        dropout: In training, the share of the trunk's features that are hidden, the same at all steps.
    """

    def __init__(self, encoder: nn.Module, trunk: RecurrentLayer, pool: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.trunk, self.pool, self.dropout = encoder, trunk, pool, dropout
        self.ends = nn.Linear(trunk.output_size, 2 * trunk.output_size)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, T, 2)``: logits of beginning and end, the lowest number outside the passage; and the trunk's state."""
        steps, state = self.trunk(self.encoder(inputs), state, lengths)
        steps = variational_dropout(steps, self.dropout, self.training)
        passage = inputs[..., 1] > 0
        asked = self.pool(steps, ((inputs[..., 0] > 0) & ~passage).sum(1))  # the question stands first
        wanted = self.ends(asked).unflatten(1, (2, -1))
        logits = steps @ wanted.transpose(1, 2)
        return logits.masked_fill(~passage.unsqueeze(2), torch.finfo(logits.dtype).min), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy of beginnings and ends against ``batch.targets (B, 2)``, their steps."""
        assert batch.targets is not None
        logits, state = self(batch.inputs, state, batch.lengths)
        return F.cross_entropy(logits, batch.targets), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, 3) -> (B, 2)``."""
        logits, state = self(inputs.unsqueeze(1), state)
        return logits[:, 0], state


class CTCModel(Model):
    """A long sequence in; at every step of a shorter one which character it is, if any, out: CTC.

    Its state is what the encoder's convolutions saw last, and the trunk's: pieces of multiples of the encoder's stride,
    one after another, give what the whole gives, if trunk and encoder see no later steps.

    Args:
        encoder: ``(B, T, F)``, lengths and what came before to ``(B, S, output_size)``, lengths, and what to go on
            from; its ``stride`` is the steps that become one.
        trunk: The recurrent layer, batch first.
        head: Its steps ``(B, S, P)`` to logarithmic probabilities, with a loss.
    """

    def __init__(self, encoder: CausalConvEncoder | TextLineEncoder, trunk: RecurrentLayer, head: CTCHead) -> None:
        super().__init__()
        self.encoder, self.trunk, self.head = encoder, trunk, head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, ceil(T / stride), 1 + V)``: logarithmic probabilities, and the state."""
        log_p, _, state = self._aligned(inputs, state, lengths)
        return log_p, state

    def _aligned(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, State]:
        """The same, and ``(B,)`` steps between, which training may tell faster or slower."""
        before, carried = (None, None) if state is None else state
        features, steps, before = self.encoder(inputs, lengths, before)
        features, carried = self.trunk(features, carried, steps)
        return self.head(features), steps, (before, carried)

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean over texts of the nats a character; ``batch.targets (B, L)`` of ``batch.target_lengths``."""
        assert batch.lengths is not None
        assert batch.targets is not None
        assert batch.target_lengths is not None
        log_p, steps, state = self._aligned(batch.inputs, state, batch.lengths)
        assert steps is not None
        return self.head.loss(log_p, steps, batch.targets, batch.target_lengths), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, stride, F) -> (B, 1 + V)``."""
        log_p, state = self(inputs, state)
        return log_p[:, 0], state


class NextTokenModel(Model):
    """Tokens in, at every step the logits of the token that comes next. The loss never holds all logits at once.

    Args:
        encoder: Ids ``(B, T)`` to ``(B, T, output_size)``.
        trunk: The recurrent layer, batch first.
        head: Features to logits, with ``loss(features, targets)``.
        dropout: In training, the share of the trunk's features that the head does not see, the same at all steps.
        activation, slowness: Penalties in training (Merity et al. 2018, section 4.4): weight of the mean square of the
            features that the head sees, and of the mean square of the features' change from step to step.
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        head: TokenHead | ItemHead,
        dropout: float = 0.0,
        activation: float = 0.0,
        slowness: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.head = encoder, trunk, head
        self.dropout, self.activation, self.slowness = dropout, activation, slowness

    def features(self, ids: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """What the head reads, ``(B, T, P)``, and the trunk's final state."""
        return self.trunk(self.encoder(ids), state, lengths)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, T) -> (B, T, V)``: logits."""
        features, state = self.features(inputs, state, lengths)
        return self.head(variational_dropout(features, self.dropout, self.training)), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        assert batch.targets is not None
        features, state = self.features(batch.inputs, state, batch.lengths)
        seen = variational_dropout(features, self.dropout, self.training)
        loss = self.head.loss(seen, batch.targets)
        if self.training and self.activation:
            loss = loss + self.activation * seen.square().mean()
        if self.training and self.slowness and features.shape[1] > 1:
            loss = loss + self.slowness * features.diff(dim=1).square().mean()
        return loss, state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B,) -> (B, V)``."""
        logits, state = self(inputs.unsqueeze(1), state)
        return logits[:, 0], state
