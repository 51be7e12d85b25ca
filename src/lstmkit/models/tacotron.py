"""Tokens to frames of sound: what is written is read, attended to from left to right, and spoken frame by frame.

After Wang et al. 2017 (Tacotron) and Shen et al. 2018 (Tacotron 2): pre-net, location-sensitive attention, several
frames a step, a stop token. Keeps the contract of ``model.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model, State, turned
from lstmkit.modules.attention import LocationAttention
from lstmkit.modules.decoder_init import Bridge
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.encoders import PreNet
from lstmkit.modules.pooling import within


class TacotronState(NamedTuple):
    """Where speaking has come to. Every tensor has the batch first.

    Attributes:
        keys: ``(B, S, K)``, what was read.
        prepared: What the attention made of it.
        mask: ``(B, S)``, true where there is a key.
        lower, upper: States of the recurrent layers below and above the attention, ``(B, L, size)``.
        covered: ``(B, S)`` how much of what was read was attended to so far.
        weights: ``(B, S)`` what the last step attended to.
    """

    keys: Tensor
    prepared: Tensor
    mask: Tensor
    lower: State
    upper: State
    covered: Tensor
    weights: Tensor


class Told(NamedTuple):
    """What is said in ``T`` steps.

    Attributes:
        frames: ``(B, T, r, F)``.
        stop: ``(B, T)``: logits of whether that is all.
        weights: ``(B, T, S)``, the attention.
    """

    frames: Tensor
    stop: Tensor
    weights: Tensor


class TacotronDecoder(nn.Module):
    """Frames so far, and a text to attend to, to the frames that come next.

    The layer below the attention asks, having heard the frames; the one above it tells, from what was asked and found.
    Neither is told what the other found, so each reads all steps of a recording in one call: only the attention goes
    from step to step.

    Args:
        prenet: Frames ``(B, T, F)`` to ``(B, T, E)``.
        lower: Recurrent layer, batch first, of ``E`` features.
        attention: Of queries of the lower layer's width.
        upper: Recurrent layer of the lower's width and a key's.
        key_size: Width of the keys, ``K``.
        frame_size: ``F``.
        together: Frames told in a step, ``r``.
    """

    def __init__(
        self,
        prenet: PreNet,
        lower: RecurrentLayer,
        attention: LocationAttention,
        upper: RecurrentLayer,
        key_size: int,
        frame_size: int,
        together: int,
    ) -> None:
        super().__init__()
        self.prenet, self.lower, self.attention, self.upper = prenet, lower, attention, upper
        self.frame_size, self.together = frame_size, together
        self.lower_bridge, self.upper_bridge = Bridge(key_size, lower), Bridge(key_size, upper)
        self.tell = nn.Linear(upper.output_size + key_size, together * frame_size + 1)

    def begin(self, keys: Tensor, mask: Tensor) -> TacotronState:
        """Before the first frame: ``keys (B, S, K)`` and where they are, ``mask (B, S)``."""
        unseen = keys.new_zeros(keys.shape[:2])
        bridges = self.lower_bridge(keys, mask), self.upper_bridge(keys, mask)
        return TacotronState(keys, self.attention.prepare(keys), mask, *bridges, unseen, unseen)

    def forward(self, frames: Tensor, state: TacotronState, dropout: float = 0.0) -> tuple[Told, TacotronState]:
        """What comes after each of ``frames (B, T, F)``, the last ones of the steps before; and the state after all.

        Args:
            frames: ``T`` at least 1.
            state: Where speaking has come to.
            dropout: In training, the share of the upper layer's features that are hidden, the same at all steps.
        """
        asked, lower = self.lower(self.prenet(frames), turned(state.lower))
        weights, covered = self.attention.walk(asked, state.prepared, state.mask, state.covered)
        found = weights @ state.keys
        hidden, upper = self.upper(torch.cat([asked, found], -1), turned(state.upper))
        hidden = variational_dropout(hidden, dropout, self.training)
        outputs = self.tell(torch.cat([hidden, found], -1))
        told = outputs[..., :-1].unflatten(-1, (self.together, self.frame_size))
        after = state._replace(lower=turned(lower), upper=turned(upper), covered=covered, weights=weights[:, -1])
        return Told(told, outputs[..., -1], weights), after


class StreamingDecoder:
    """A decoder that speaks: each call hears the last frame and tells the next ones. No gradients are kept.

    The same numbers as :meth:`Tacotron.step`, with the recurrent layers as streams, which are faster.

    Args:
        decoder: In ``eval`` mode.
        begun: Where speaking begins.
    """

    def __init__(self, decoder: TacotronDecoder, begun: TacotronState) -> None:
        self.decoder, self.state = decoder, begun
        self.lower = decoder.lower.stream(turned(begun.lower))
        self.upper = decoder.upper.stream(turned(begun.upper))

    def __call__(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, F)`` to frames and the logit of the stop, ``(B, r·F + 1)``, and what was attended to, ``(B, S)``."""
        decoder, state = self.decoder, self.state
        asked = self.lower(decoder.prenet(frame))
        weights, covered = decoder.attention.walk(asked.unsqueeze(1), state.prepared, state.mask, state.covered)
        found = (weights @ state.keys)[:, 0]
        hidden = self.upper(torch.cat([asked, found], -1))
        self.state = state._replace(covered=covered)
        return decoder.tell(torch.cat([hidden, found], -1)), weights[:, 0]


class Weights(NamedTuple):
    """What the parts of the loss count beside the error of the frames.

    Attributes:
        stop: The cross-entropy of the stop token.
        stopping: In it, the one step of a recording that is the last.
        guided: Attention far from the diagonal, see :func:`guided_attention_penalty`.
        guide: How wide the diagonal is, as a share of the text.
    """

    stop: float = 1.0
    stopping: float = 5.0
    guided: float = 1.0
    guide: float = 0.2


class Tacotron(Model):
    """Reads tokens, tells frames. ``forward`` reads, ``step`` tells some frames more, ``loss`` does both.

    Frames are told ``r`` at a step, of which the last is what the next step hears; before the first it hears zeros.

    Args:
        encoder: Ids to ``(B, S, F)``.
        trunk: The recurrent layer that reads them, batch first.
        decoder: What tells.
        dropout: In training, the share of features hidden before attention and output, the same at all steps.
        weights: Of the parts of the loss.
    """

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        decoder: TacotronDecoder,
        dropout: float = 0.0,
        weights: Weights = Weights(),  # noqa: B008  (it cannot be changed)
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.decoder = encoder, trunk, decoder
        self.dropout, self.weights = dropout, weights

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read: what is attended to, ``(B, S, K)``, and the state in which speaking begins."""
        keys, _ = self.trunk(self.encoder(inputs), None, lengths)
        keys = variational_dropout(keys, self.dropout, self.training)
        return keys, self.decoder.begin(keys, within(keys, lengths))

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Tell: ``(B, F) -> (B, r·F + 1)``, the frames after ``inputs`` and the logit of the stop; and the state."""
        assert state is not None
        told, after = self.decoder(inputs.unsqueeze(1), TacotronState(*state))
        return torch.cat([told.frames.flatten(1), told.stop], 1), after

    def teacher_forced(self, batch: Batch) -> Told:
        """What is told of ``batch.targets (B, T·r, F)`` if at every step the true frames before it are heard."""
        assert batch.targets is not None
        _, begun = self(batch.inputs, None, batch.lengths)
        together = self.decoder.together
        heard = F.pad(batch.targets[:, together - 1 : -1 : together], (0, 0, 1, 0))
        return self.decoder(heard, begun, self.dropout)[0]

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """The frames' absolute and squared error, half of each, the stop's cross-entropy, attention off the diagonal.

        Each is the mean over all frames, or steps, of the recordings ``batch.targets (B, T·r, F)``, whole steps long.
        """
        assert batch.targets is not None
        assert batch.lengths is not None
        assert batch.target_lengths is not None
        told, weights = self.teacher_forced(batch), self.weights
        frames = told.frames.flatten(1, 2)
        error = (frames - batch.targets)[within(frames, batch.target_lengths)]
        steps = batch.target_lengths // self.decoder.together
        there = within(told.stop, steps)
        last = torch.zeros_like(told.stop).scatter(1, steps.unsqueeze(1) - 1, 1.0)
        positive = told.stop.new_tensor(weights.stopping)
        stop = F.binary_cross_entropy_with_logits(told.stop[there], last[there], pos_weight=positive)
        loss = (error.abs().mean() + error.square().mean()) / 2 + weights.stop * stop
        if weights.guided:
            off = guided_attention_penalty(told.weights, batch.lengths, steps, weights.guide)
            loss = loss + weights.guided * off[there].mean()
        return loss, None


def guided_attention_penalty(weights: Tensor, read: Tensor, told: Tensor, wide: float) -> Tensor:
    """``(B, T)``: how far from the diagonal each step attends, 0 to 1.

    The guided attention of Tachibana, Uenoyama and Aihara 2018, "Efficiently Trainable Text-to-Speech System Based on
    Deep Convolutional Networks with Guided Attention", section 4.1: the sum over the text of
    ``A[t, s] (1 - exp(-(s / S - t / T)² / 2 g²))``.

    Args:
        weights: ``(B, T, S)``, ``A``.
        read: ``(B,)`` tokens of each text, ``S``.
        told: ``(B,)`` steps of each recording, ``T``.
        wide: ``g``.
    """
    along_text, along_sound = (
        torch.arange(count, device=weights.device) / lengths.unsqueeze(1)
        for count, lengths in ((weights.shape[2], read), (weights.shape[1], told))
    )
    apart = along_text.unsqueeze(1) - along_sound.unsqueeze(2)
    return (weights * -torch.expm1(-apart.square() / (2 * wide**2))).sum(-1)
