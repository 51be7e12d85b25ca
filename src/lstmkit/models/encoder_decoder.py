"""Encoder-decoder with attention, input feeding, coverage, copying and scheduled sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model, State, swap_layers_and_batch
from lstmkit.modules.attention import Attention
from lstmkit.modules.decoder_init import Bridge
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.pointer_generator import final_log_probabilities, pointer_generator_loss


class Memory(NamedTuple):
    """The encoded input sequence.

    Attributes:
        keys: ``(B, S, K)`` features of the encoder.
        prepared: ``(B, S, A)`` the attention's projection of the keys.
        mask: ``(B, S)``, true at the steps of the sequence.
        ids: ``(B, S)`` input ids, if the decoder copies.
    """

    keys: Tensor
    prepared: Tensor
    mask: Tensor
    ids: Tensor | None = None


class DecoderState(NamedTuple):
    """State of the decoder. Every tensor is batch first, so that beam search can select rows.

    Attributes:
        memory: The encoded input.
        lower, upper: States of the recurrent layers below and above the attention, ``(B, L, size)``.
        fed_features: ``(B, P)`` features of the previous step, with input feeding.
        coverage: ``(B, S)`` coverage: the sum of the attention weights so far.
        generated: ``(B,)`` with copying: the probability ``p_gen`` that the last token came from the vocabulary.
        weights: ``(B, S)`` attention weights of the last step.
    """

    memory: Memory
    lower: State
    upper: State
    fed_features: Tensor | None
    coverage: Tensor | None
    generated: Tensor | None
    weights: Tensor


class DecoderOutput(NamedTuple):
    """Output of the decoder for ``T`` steps.

    Attributes:
        features: ``(B, T, P)`` input of the head.
        weights: ``(B, T, S)`` attention weights.
        switch: ``(B, T)`` with copying: logits of ``p_gen``, the probability that the token comes from the vocabulary.
    """

    features: Tensor
    weights: Tensor
    switch: Tensor | None


class Decoder(nn.Module):
    """A recurrent decoder with attention: previous tokens to the features of the next token.

    The layer below the attention gives the query. The optional layer above it reads query and context, as in Wu et al.
    2016. Luong's ``tanh(W [h, context])`` follows.

    Args:
        encoder: Maps ids ``(B, T)`` to embeddings ``(B, T, E)``.
        lower: Recurrent layer, batch first, of ``E`` features, or ``E + P`` with input feeding.
        attention: Attention with queries of the lower layer's width.
        upper: Recurrent layer of ``lower.output_size + K`` features; ``None`` for none.
        key_size: Width of the memory, ``K``.
        output_size: Width of the features, ``P``.
        input_feeding: Whether the features are an input of the next step (input feeding, Luong et al. 2015).
        copy_mechanism: Whether to compute the generation probability ``p_gen`` from context, layer output and layer
            input (See et al. 2017, equation 8).
    """

    def __init__(
        self,
        encoder: nn.Module,
        lower: RecurrentLayer,
        attention: Attention,
        upper: RecurrentLayer | None,
        key_size: int,
        output_size: int,
        input_feeding: bool = False,
        copy_mechanism: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.lower, self.attention, self.upper = encoder, lower, attention, upper
        self.output_size, self.input_feeding = output_size, input_feeding
        self.lower_bridge = Bridge(key_size, lower)
        self.upper_bridge = None if upper is None else Bridge(key_size, upper)
        width = lower.output_size if upper is None else upper.output_size
        self.combine = nn.Linear(width + key_size, output_size)
        self.switch = nn.Linear(key_size + width + lower.input_size, 1) if copy_mechanism else None

    @property
    def is_sequential(self) -> bool:
        """Whether a step depends on the attention of the previous step, so that steps cannot run in parallel."""
        return self.input_feeding or self.attention.coverage is not None

    def initial_state(self, keys: Tensor, mask: Tensor, ids: Tensor) -> DecoderState:
        """The initial state, from ``keys (B, S, K)``, ``mask (B, S)`` and the input ids ``(B, S)``."""
        zeros = keys.new_zeros(keys.shape[:2])
        return DecoderState(
            Memory(keys, self.attention.prepare(keys), mask, None if self.switch is None else ids),
            self.lower_bridge(keys, mask),
            None if self.upper_bridge is None else self.upper_bridge(keys, mask),
            keys.new_zeros(keys.shape[0], self.output_size) if self.input_feeding else None,
            zeros if self.attention.coverage is not None else None,
            None if self.switch is None else keys.new_ones(keys.shape[0]),
            zeros,
        )

    def forward(self, ids: Tensor, state: DecoderState) -> tuple[DecoderOutput, DecoderState]:
        """Features of the token after each of ``ids (B, T)``, and the final state.

        All steps run in one call of each layer. If the decoder :attr:`is_sequential`, ``T`` must be 1.
        """
        x = self.encoder(ids)
        if state.fed_features is not None:
            x = torch.cat([x, state.fed_features.unsqueeze(1)], -1)
        hidden, lower = self.lower(x, swap_layers_and_batch(state.lower))
        memory = Memory(*state.memory)
        covered = None if state.coverage is None else state.coverage.unsqueeze(1)
        contexts, weights = self.attention(hidden, memory.keys, memory.mask, memory.prepared, covered)
        upper = None
        if self.upper is not None:
            hidden, upper = self.upper(torch.cat([hidden, contexts], -1), swap_layers_and_batch(state.upper))
        features = torch.tanh(self.combine(torch.cat([hidden, contexts], -1)))
        switch = None if self.switch is None else self.switch(torch.cat([contexts, hidden, x], -1)).squeeze(-1)
        after = DecoderState(
            memory,
            swap_layers_and_batch(lower),
            swap_layers_and_batch(upper),
            None if state.fed_features is None else features[:, -1],
            None if state.coverage is None else state.coverage + weights[:, -1],
            None if switch is None else switch[:, -1].sigmoid(),
            weights[:, -1],
        )
        return DecoderOutput(features, weights, switch), after


class EncoderDecoder(Model):
    """A sequence-to-sequence model with attention.

    ``forward`` encodes, ``step`` decodes one token, ``loss`` does both. The loss computes all target steps in parallel
    unless the decoder is sequential.

    If the decoder copies, inputs and targets are extended ids: those from ``V`` on are out-of-vocabulary words,
    numbered separately in each example (:mod:`lstmkit.modules.pointer_generator`). Outputs then have ``V + S`` ids.

    Args:
        encoder: Maps inputs to ``(B, S, F)``. An encoder with ``reads_lengths`` also takes the lengths and returns the
            new ones.
        trunk: The recurrent layer of the encoder, batch first; ``None`` to attend to the encoder's output directly.
        decoder: The decoder.
        head: Maps features to logits; its loss takes features.
        begin_id: Id of the token before the first one.
        dropout: Dropout probability on the features before attention and head, with one mask for all steps.
        coverage_weight: Weight of the coverage loss (See et al. 2017), which penalizes repeated attention.
        scheduled_sampling: Scheduled sampling (Bengio et al. 2015): final probability of feeding the model's own token
            instead of the target's.
        scheduled_sampling_steps: Batches over which that probability rises linearly from 0.
    """

    batches: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer | None,
        decoder: Decoder,
        head: TokenHead,
        begin_id: int,
        dropout: float = 0.0,
        coverage_weight: float = 0.0,
        scheduled_sampling: float = 0.0,
        scheduled_sampling_steps: int = 0,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.decoder, self.head = encoder, trunk, decoder, head
        self.begin_id, self.dropout, self.coverage_weight, self.scheduled_sampling, self.scheduled_sampling_steps = (
            begin_id,
            dropout,
            coverage_weight,
            scheduled_sampling,
            scheduled_sampling_steps,
        )
        if scheduled_sampling:
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Without a state, encode: inputs to the keys ``(B, S, K)`` and the decoder's initial state.

        With a state, decode: ids ``(B, T)`` to the logits of the next tokens ``(B, T, V)``, and the new state.
        """
        if state is not None:
            output, after = self.decoder(inputs, DecoderState(*state))
            return self._logits(output, after), after
        if getattr(self.encoder, "reads_lengths", False):
            features, lengths = self.encoder(inputs, lengths)
        else:
            features = self.encoder(inputs)
        if self.trunk is not None:
            features, _ = self.trunk(features, None, lengths)
        features = variational_dropout(features, self.dropout, self.training)
        steps = torch.arange(features.shape[1], device=features.device)
        counts = (
            torch.full((features.shape[0],), steps.shape[0], device=features.device) if lengths is None else lengths
        )
        mask = steps < counts.unsqueeze(1)
        return features, self.decoder.initial_state(features, mask, inputs)

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Decode one token: ids ``(B,)`` to logits ``(B, V)``, with copying ``(B, V + S)``, and the new state."""
        assert state is not None
        output, after = self.decoder(inputs.unsqueeze(1), DecoderState(*state))
        return self._logits(output, after)[:, 0], after

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy of ``batch.targets (B, T)`` with teacher forcing; targets of -1 are ignored."""
        assert batch.targets is not None
        _, start = self(batch.inputs, None, batch.lengths)
        previous = torch.cat([batch.targets.new_full((len(batch), 1), self.begin_id), batch.targets[:, :-1]], 1)
        previous = previous.clamp(min=0)
        probability = self._sampling_probability()
        if probability or self.decoder.is_sequential:
            output, coverage = self._decode_stepwise(previous, start, batch.targets >= 0, probability)
        else:
            output, coverage = self.decoder(previous, start)[0], None
        output = output._replace(features=variational_dropout(output.features, self.dropout, self.training))
        loss = self._loss(output, start.memory.ids, batch)
        return (loss if coverage is None else loss + self.coverage_weight * coverage), None

    def _logits(self, output: DecoderOutput, state: DecoderState) -> Tensor:
        """Logits ``(B, T, V)``; with copying log-probabilities ``(B, T, V + S)``."""
        logits, ids = self.head(output.features), state.memory.ids
        if output.switch is None or ids is None:
            return logits
        return final_log_probabilities(
            logits, output.switch, output.weights, ids.unsqueeze(1).expand_as(output.weights)
        )

    def _loss(self, output: DecoderOutput, ids: Tensor | None, batch: Batch) -> Tensor:
        if output.switch is None or ids is None:
            return self.head.loss(output.features, batch)
        assert batch.targets is not None
        scored = batch.targets >= 0
        ids = ids.unsqueeze(1).expand_as(output.weights)
        logits = self.head(output.features[scored])
        smoothing = self.head.smoothing
        return pointer_generator_loss(
            logits, output.switch[scored], output.weights[scored], ids[scored], batch.targets[scored], smoothing
        )

    def _sampling_probability(self) -> float:
        """Scheduled-sampling probability of the current batch; advances the batch counter."""
        if not self.training or not self.scheduled_sampling:
            return 0.0
        done = int(self.batches)
        self.batches += 1
        return self.scheduled_sampling * (
            min(1.0, done / self.scheduled_sampling_steps) if self.scheduled_sampling_steps else 1.0
        )

    def _decode_stepwise(
        self, ids: Tensor, state: DecoderState, scored: Tensor, probability: float
    ) -> tuple[DecoderOutput, Tensor | None]:
        """Decode step by step, with scheduled sampling.

        Args:
            ids: ``(B, T)`` the true previous tokens.
            state: The initial state.
            scored: ``(B, T)``, true at the steps that count.
            probability: Probability of feeding the model's own token.

        Returns:
            The output of all steps, and with coverage the mean coverage loss.
        """
        outputs: list[DecoderOutput] = []
        coverage_loss = state.weights.new_zeros(()) if state.coverage is not None else None
        for t in range(ids.shape[1]):
            token = ids[:, t]
            if t and probability:
                with torch.no_grad():
                    predicted = self._logits(outputs[-1], state)[:, 0].argmax(-1)
                token = torch.where(torch.rand(len(ids), device=ids.device) < probability, predicted, token)
            covered = state.coverage
            output, state = self.decoder(token.unsqueeze(1), state)
            outputs.append(output)
            if covered is not None and coverage_loss is not None:
                repeated = torch.minimum(output.weights[:, 0], covered).sum(-1)
                coverage_loss = coverage_loss + (repeated * scored[:, t]).sum()
        if coverage_loss is not None:
            coverage_loss = coverage_loss / scored.sum().clamp(min=1)
        return _concatenate_steps(outputs), coverage_loss


def _concatenate_steps(outputs: list[DecoderOutput]) -> DecoderOutput:
    """Outputs of single steps as one output of all steps."""
    switches = [output.switch for output in outputs if output.switch is not None]
    features, weights = (torch.cat(parts, 1) for parts in zip(*(output[:2] for output in outputs), strict=True))
    return DecoderOutput(features, weights, torch.cat(switches, 1) if switches else None)


def attention_weights(state: State) -> Tensor:
    """Attention weights of the last step ``(B, S)``, averaged over the members of an ensemble."""
    return torch.stack([member.weights for member in decoder_states(state)]).mean(0)


def generation_probabilities(state: State) -> Tensor | None:
    """Probability ``(B,)`` that the last token came from the vocabulary; ``None`` without copying."""
    probabilities = [member.generated for member in decoder_states(state) if member.generated is not None]
    return torch.stack(probabilities).mean(0) if probabilities else None


def decoder_states(state: State) -> list[DecoderState]:
    """The states of an ensemble's members, or the one state of a single model."""
    if isinstance(state[-1], Tensor):
        return [DecoderState(*state)]
    return [decoder_state for member in state for decoder_state in decoder_states(member)]
