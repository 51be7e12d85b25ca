"""Models of one sequence, encoder, recurrent trunk and head: step outputs, classification, spans, CTC, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
from lstmkit.modules.mixed_regression import MixedRegression
from lstmkit.modules.sequence_convolutions import CausalConvEncoder, TextLineEncoder


class SequenceModel(Model):
    """A model with outputs at every step, or at the last steps.

    Args:
        encoder: Maps ``(B, T, F)`` or ids ``(B, T)`` to ``(B, S, output_size)``.
        trunk: The recurrent layer, batch first.
        head: Maps ``(B, S, trunk.output_size)`` to outputs.
        shortcut: Maps inputs and trunk features to a term that is added to the outputs; ``None`` for none.
        skip: Whether the head reads the encoder's outputs beside the trunk's features.

    >>> from lstmkit.layers.rnn import LSTM
    >>> from lstmkit.modules.heads import StepRegressionHead
    >>> model = SequenceModel(nn.Identity(), LSTM(2, 4, batch_first=True), StepRegressionHead(4, 1))
    >>> outputs, state = model(torch.zeros(3, 5, 2))
    >>> outputs.shape
    torch.Size([3, 5, 1])
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        head: Head,
        shortcut: nn.Module | None = None,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.shortcut, self.skip = encoder, trunk, shortcut, skip
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs of the head, and the trunk's final state."""
        encoded = self.encoder(inputs)
        features, state = self.trunk(encoded, state, lengths)
        return self._outputs(inputs, encoded, features), state

    def _outputs(self, inputs: Tensor, encoded: Tensor, features: Tensor) -> Tensor:
        """The head's outputs with the shortcut, from inputs, the encoder's outputs and the trunk's features."""
        outputs = self.head(torch.cat([features, encoded], dim=-1) if self.skip else features)
        return outputs if self.shortcut is None else outputs + self.shortcut(inputs, features)

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state

    def stream(self) -> Callable[[Tensor], Tensor]:
        """As in :class:`Model`, by :meth:`RecurrentLayer.stream` of the trunk."""
        trunk = self.trunk.stream()

        def step(inputs: Tensor) -> Tensor:
            one = inputs.unsqueeze(1)
            encoded = self.encoder(one)
            features = trunk(encoded[:, 0]).unsqueeze(1)
            return self._outputs(one, encoded, features)[:, 0]

        return step


class SequenceClassifier(Model):
    """A model with one output per sequence.

    Args:
        encoder: Maps ``(B, T, F)`` or ids ``(B, T)`` to ``(B, T, output_size)``. An encoder with ``reads_lengths`` also
            takes the lengths and returns the new ones.
        trunk: The recurrent layer, batch first.
        pool: Maps the trunk's steps ``(B, T, P)`` and their lengths to ``(B, P)``.
        head: Maps ``(B, P)`` to outputs.
        regression: Logistic regression that is mixed into the outputs, but not trained; ``None`` for none.

    >>> from lstmkit.layers.rnn import LSTM
    >>> from lstmkit.modules.classification_head import ClassificationHead
    >>> from lstmkit.modules.pooling import MeanPool
    >>> trunk = LSTM(2, 4, batch_first=True)
    >>> model = SequenceClassifier(nn.Identity(), trunk, MeanPool(), ClassificationHead(4, classes=3))
    >>> model(torch.zeros(5, 7, 2))[0].shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        pool: nn.Module,
        head: Head,
        regression: MixedRegression | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.pool, self.regression = encoder, trunk, pool, regression
        self.head: Head = head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs of the head ``(B, C)``, the regression mixed in, and the trunk's final state."""
        outputs, state = self._head_outputs(inputs, state, lengths)
        return outputs if self.regression is None else self.regression.mixed(outputs, inputs, lengths), state

    def _head_outputs(self, inputs: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        if getattr(self.encoder, "reads_lengths", False):
            features, lengths = self.encoder(inputs, lengths)
        else:
            features = self.encoder(inputs)
        steps, state = self.trunk(features, state, lengths)
        return self.head(self.pool(steps, lengths)), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """The loss of the head, without the regression."""
        outputs, state = self._head_outputs(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, F)`` or ``(B,)`` to the output after that step, ``(B, C)``, and the new state."""
        return self(inputs.unsqueeze(1), state)


class SpanModel(Model):
    """Extractive question answering: question and passage as one sequence to start and end of the answer.

    Args:
        encoder: Maps ``(B, T, 3)``, word id, passage flag and exact-match flag, to ``(B, T, output_size)``.
        trunk: The recurrent layer, batch first.
        pool: Maps the question's steps ``(B, T, P)`` and their lengths to ``(B, P)``.
        dropout: Dropout probability on the trunk's features, with one mask for all steps.
    """

    def __init__(self, encoder: nn.Module, trunk: RecurrentLayer, pool: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.trunk, self.pool, self.dropout = encoder, trunk, pool, dropout
        self.ends = nn.Linear(trunk.output_size, 2 * trunk.output_size)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits of answer start and end ``(B, T, 2)``, the lowest float outside the passage; and the trunk's state."""
        steps, state = self.trunk(self.encoder(inputs), state, lengths)
        steps = variational_dropout(steps, self.dropout, self.training)
        passage = inputs[..., 1] > 0
        question = self.pool(steps, ((inputs[..., 0] > 0) & ~passage).sum(1))  # the question comes first
        queries = self.ends(question).unflatten(1, (2, -1))
        logits = steps @ queries.transpose(1, 2)
        return logits.masked_fill(~passage.unsqueeze(2), torch.finfo(logits.dtype).min), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy of start and end against ``batch.targets (B, 2)``, the true steps."""
        assert batch.targets is not None
        logits, state = self(batch.inputs, state, batch.lengths)
        return F.cross_entropy(logits, batch.targets), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, 3)`` to logits ``(B, 2)``, and the new state."""
        logits, state = self(inputs.unsqueeze(1), state)
        return logits[:, 0], state


class CTCModel(Model):
    """Transcription with connectionist temporal classification (CTC): a long sequence to characters.

    The state holds the last inputs of the encoder's convolutions and the trunk's state. If encoder and trunk are
    causal, chunks of a multiple of the encoder's stride give the same outputs as the whole sequence.

    Args:
        encoder: Maps ``(B, T, F)``, lengths and its state to ``(B, S, output_size)``, new lengths and new state; its
            ``stride`` is the number of input steps per output step.
        trunk: The recurrent layer, batch first.
        head: Maps the trunk's steps ``(B, S, P)`` to log-probabilities.
    """

    def __init__(self, encoder: CausalConvEncoder | TextLineEncoder, trunk: RecurrentLayer, head: CTCHead) -> None:
        super().__init__()
        self.encoder, self.trunk, self.head = encoder, trunk, head

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Log-probabilities ``(B, ceil(T / stride), 1 + V)``, and the state."""
        log_p, _, state = self._log_probabilities(inputs, state, lengths)
        return log_p, state

    def _log_probabilities(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, State]:
        """Log-probabilities, output lengths ``(B,)``, which speed perturbation changes in training, and the state."""
        encoder_state, trunk_state = (None, None) if state is None else state
        features, steps, encoder_state = self.encoder(inputs, lengths, encoder_state)
        features, trunk_state = self.trunk(features, trunk_state, steps)
        return self.head(features), steps, (encoder_state, trunk_state)

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """CTC loss in nats per character, the mean over texts ``batch.targets (B, L)`` of ``batch.target_lengths``."""
        assert batch.lengths is not None
        log_p, steps, state = self._log_probabilities(batch.inputs, state, batch.lengths)
        return self.head.loss(log_p, replace(batch, lengths=steps)), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Inputs ``(B, stride, F)`` to log-probabilities ``(B, 1 + V)``, and the new state."""
        log_p, state = self(inputs, state)
        return log_p[:, 0], state


class NextTokenModel(Model):
    """Next-token prediction: ids to the logits of the next token at every step.

    The head computes its loss from the features, so that the logits of all steps are never in memory together.

    Args:
        encoder: Maps ids ``(B, T)`` to ``(B, T, output_size)``.
        trunk: The recurrent layer, batch first.
        head: Maps features to logits; its loss takes features.
        dropout: Dropout probability on the trunk's features, with one mask for all steps.
        activation_reg: Weight of activation regularization: the mean square of the head's inputs (Merity et al. 2018,
            section 4.4).
        temporal_activation_reg: Weight of temporal activation regularization: the mean square of the features' change
            between steps (same section).
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        head: TokenHead | ItemHead,
        dropout: float = 0.0,
        activation_reg: float = 0.0,
        temporal_activation_reg: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.head = encoder, trunk, head
        self.dropout, self.activation_reg, self.temporal_activation_reg = (
            dropout,
            activation_reg,
            temporal_activation_reg,
        )

    def features(self, ids: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Features of the trunk ``(B, T, P)``, before dropout, and its final state."""
        return self.trunk(self.encoder(ids), state, lengths)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Ids ``(B, T)`` to logits ``(B, T, V)``, and the trunk's final state."""
        features, state = self.features(inputs, state, lengths)
        return self.head(variational_dropout(features, self.dropout, self.training)), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        features, state = self.features(batch.inputs, state, batch.lengths)
        dropped = variational_dropout(features, self.dropout, self.training)
        loss = self.head.loss(dropped, batch)
        if self.training and self.activation_reg:
            loss = loss + self.activation_reg * dropped.square().mean()
        if self.training and self.temporal_activation_reg and features.shape[1] > 1:
            loss = loss + self.temporal_activation_reg * features.diff(dim=1).square().mean()
        return loss, state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ids ``(B,)`` to logits ``(B, V)``, and the new state."""
        logits, state = self(inputs.unsqueeze(1), state)
        return logits[:, 0], state
