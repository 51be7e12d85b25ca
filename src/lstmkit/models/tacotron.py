"""Tacotron: speech synthesis from characters to spectrogram frames.

After Wang et al. 2017 (Tacotron) and Shen et al. 2018 (Tacotron 2): pre-net, location-sensitive attention, several
frames per step (reduction factor), stop token.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model, State, swap_layers_and_batch
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.decoder_init import Bridge
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.encoders import PreNet
from lstmkit.modules.pooling import length_mask
from lstmkit.modules.renamed_weights import RenamedWeights


class TacotronState(NamedTuple):
    """State of the decoder. Every tensor is batch first.

    Attributes:
        keys: ``(B, S, K)`` the encoded text.
        prepared: ``(B, S, A)`` the attention's projection of the keys.
        mask: ``(B, S)``, true at the steps of the text.
        lower, upper: States of the recurrent layers below and above the attention, ``(B, L, size)``.
        coverage: ``(B, S)`` sum of the attention weights so far.
        weights: ``(B, S)`` attention weights of the last step.
    """

    keys: Tensor
    prepared: Tensor
    mask: Tensor
    lower: State
    upper: State
    coverage: Tensor
    weights: Tensor


class TacotronOutput(NamedTuple):
    """Output of the decoder for ``T`` steps.

    Attributes:
        frames: ``(B, T, r, F)`` spectrogram frames.
        stop: ``(B, T)`` logits of the stop token.
        weights: ``(B, T, S)`` attention weights.
    """

    frames: Tensor
    stop: Tensor
    weights: Tensor


class TacotronDecoder(RenamedWeights):
    """The decoder: previous frames and an encoded text to the next frames.

    The layer below the attention reads the frames and gives the query. The layer above it reads query and context.
    Neither depends on the other's previous output, so each runs over all steps of a clip in one call. Only the
    attention runs step by step.

    Args:
        prenet: Maps frames ``(B, T, F)`` to ``(B, T, E)``.
        lower: Recurrent layer, batch first, of ``E`` features.
        attention: Attention with queries of the lower layer's width.
        upper: Recurrent layer of ``lower.output_size + K`` features.
        key_size: Width of the keys, ``K``.
        frame_size: Mel bands per frame, ``F``.
        reduction_factor: Frames per step, the reduction factor ``r``.
    """

    old_names: ClassVar = {"tell": "linear"}  # in version 0.1

    def __init__(
        self,
        prenet: PreNet,
        lower: RecurrentLayer,
        attention: LocationAttention,
        upper: RecurrentLayer,
        key_size: int,
        frame_size: int,
        reduction_factor: int,
    ) -> None:
        super().__init__()
        self.prenet, self.lower, self.attention, self.upper = prenet, lower, attention, upper
        self.frame_size, self.reduction_factor = frame_size, reduction_factor
        self.lower_bridge, self.upper_bridge = Bridge(key_size, lower), Bridge(key_size, upper)
        self.linear = nn.Linear(upper.output_size + key_size, reduction_factor * frame_size + 1)

    def initial_state(self, keys: Tensor, mask: Tensor) -> TacotronState:
        """The initial state, from ``keys (B, S, K)`` and ``mask (B, S)``."""
        zeros = keys.new_zeros(keys.shape[:2])
        states = self.lower_bridge(keys, mask), self.upper_bridge(keys, mask)
        return TacotronState(keys, self.attention.prepare(keys), mask, *states, zeros, zeros)

    def forward(
        self, frames: Tensor, state: TacotronState, dropout: float = 0.0
    ) -> tuple[TacotronOutput, TacotronState]:
        """The frames after each of ``frames (B, T, F)``, and the final state.

        Args:
            frames: The last frame of each previous step; ``T`` is at least 1.
            state: The state before.
            dropout: Dropout probability on the upper layer's features, with one mask for all steps.
        """
        queries, lower = self.lower(self.prenet(frames), swap_layers_and_batch(state.lower))
        weights, covered = self.attention.walk(queries, state.prepared, state.mask, state.coverage)
        contexts = weights @ state.keys
        hidden, upper = self.upper(torch.cat([queries, contexts], -1), swap_layers_and_batch(state.upper))
        hidden = variational_dropout(hidden, dropout, self.training)
        outputs = self.linear(torch.cat([hidden, contexts], -1))
        predicted = outputs[..., :-1].unflatten(-1, (self.reduction_factor, self.frame_size))
        after = state._replace(
            lower=swap_layers_and_batch(lower),
            upper=swap_layers_and_batch(upper),
            coverage=covered,
            weights=weights[:, -1],
        )
        return TacotronOutput(predicted, outputs[..., -1], weights), after


class StreamingDecoder:
    """A stateful decoder for synthesis: each call maps the last frame to the next ones, without gradients.

    It gives the same numbers as :meth:`Tacotron.step`, but runs the recurrent layers as streams, which is faster.

    Args:
        decoder: The decoder, in ``eval`` mode.
        initial_state: The initial state.
    """

    def __init__(self, decoder: TacotronDecoder, initial_state: TacotronState) -> None:
        self.decoder, self.state = decoder, initial_state
        self.lower = decoder.lower.stream(swap_layers_and_batch(initial_state.lower))
        self.upper = decoder.upper.stream(swap_layers_and_batch(initial_state.upper))

    def __call__(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """A frame ``(B, F)`` to frames and stop logit ``(B, r·F + 1)``, and attention weights ``(B, S)``."""
        decoder, state = self.decoder, self.state
        query = self.lower(decoder.prenet(frame))
        weights, covered = decoder.attention.walk(query.unsqueeze(1), state.prepared, state.mask, state.coverage)
        context = (weights @ state.keys)[:, 0]
        hidden = self.upper(torch.cat([query, context], -1))
        self.state = state._replace(coverage=covered)
        return decoder.linear(torch.cat([hidden, context], -1)), weights[:, 0]


class LossWeights(NamedTuple):
    """Weights of the loss terms, relative to the error of the frames.

    Attributes:
        stop: Weight of the stop token's cross-entropy.
        stopping: Weight of the positive class in it: each clip has only one last step.
        guided: Weight of the guided attention loss, see :func:`guided_attention_penalty`.
        guide: Width of the diagonal as a fraction of the text, ``g``.
    """

    stop: float = 1.0
    stopping: float = 5.0
    guided: float = 1.0
    guide: float = 0.2


class Tacotron(Model):
    """Tokens to spectrogram frames. ``forward`` encodes, ``step`` decodes ``r`` frames, ``loss`` does both.

    The last of the ``r`` frames is the input of the next step. The input of the first step is zero.

    Args:
        encoder: Maps ids ``(B, S)`` to ``(B, S, F)``.
        trunk: The recurrent layer of the encoder, batch first.
        decoder: The decoder.
        dropout: Dropout probability on the features before attention and output, with one mask for all steps.
        weights: Weights of the loss terms.
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        decoder: TacotronDecoder,
        dropout: float = 0.0,
        weights: LossWeights = LossWeights(),  # noqa: B008  (immutable)
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.decoder = encoder, trunk, decoder
        self.dropout, self.weights = dropout, weights

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Encode ids ``(B, S)``: keys ``(B, S, K)``, and the decoder's initial state."""
        keys, _ = self.trunk(self.encoder(inputs), None, lengths)
        keys = variational_dropout(keys, self.dropout, self.training)
        return keys, self.decoder.initial_state(keys, length_mask(keys, lengths))

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Decode a frame ``(B, F)`` to the next frames and the stop logit ``(B, r·F + 1)``, and the new state."""
        assert state is not None
        output, after = self.decoder(inputs.unsqueeze(1), TacotronState(*state))
        return torch.cat([output.frames.flatten(1), output.stop], 1), after

    def teacher_forced(self, batch: Batch) -> TacotronOutput:
        """The output for ``batch.targets (B, T·r, F)`` with teacher forcing: every step reads the true last frame."""
        assert batch.targets is not None
        _, start = self(batch.inputs, None, batch.lengths)
        frames_per_step = self.decoder.reduction_factor
        previous = F.pad(batch.targets[:, frames_per_step - 1 : -1 : frames_per_step], (0, 0, 1, 0))
        return self.decoder(previous, start, self.dropout)[0]

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Half the absolute plus half the squared error of the frames, stop cross-entropy and guided attention loss.

        Each is a mean over the frames or steps of ``batch.targets (B, T·r, F)``; lengths are multiples of ``r``.
        """
        assert batch.targets is not None
        assert batch.lengths is not None
        assert batch.target_lengths is not None
        output, weights = self.teacher_forced(batch), self.weights
        frames = output.frames.flatten(1, 2)
        error = (frames - batch.targets)[length_mask(frames, batch.target_lengths)]
        steps = batch.target_lengths // self.decoder.reduction_factor
        mask = length_mask(output.stop, steps)
        last = torch.zeros_like(output.stop).scatter(1, steps.unsqueeze(1) - 1, 1.0)
        positive = output.stop.new_tensor(weights.stopping)
        stop = F.binary_cross_entropy_with_logits(output.stop[mask], last[mask], pos_weight=positive)
        loss = (error.abs().mean() + error.square().mean()) / 2 + weights.stop * stop
        if weights.guided:
            penalty = guided_attention_penalty(output.weights, batch.lengths, steps, weights.guide)
            loss = loss + weights.guided * penalty[mask].mean()
        return loss, None


def guided_attention_penalty(weights: Tensor, text_lengths: Tensor, step_counts: Tensor, width: float) -> Tensor:
    """Guided attention loss of each step ``(B, T)``, 0 to 1: how far the attention is from the diagonal.

    Tachibana, Uenoyama and Aihara 2018, "Efficiently Trainable Text-to-Speech System Based on Deep Convolutional
    Networks with Guided Attention", section 4.1: the sum over the text of
    ``A[t, s] (1 - exp(-(s / S - t / T)² / 2 g²))``.

    Args:
        weights: ``(B, T, S)`` attention weights, ``A``.
        text_lengths: ``(B,)`` tokens of each text, ``S``.
        step_counts: ``(B,)`` steps of each clip, ``T``.
        width: Width of the diagonal, ``g``.
    """
    text_position, step_position = (
        torch.arange(count, device=weights.device) / lengths.unsqueeze(1)
        for count, lengths in ((weights.shape[2], text_lengths), (weights.shape[1], step_counts))
    )
    distance = text_position.unsqueeze(1) - step_position.unsqueeze(2)
    return (weights * -torch.expm1(-distance.square() / (2 * width**2))).sum(-1)
