"""DRAW: a picture read glimpse by glimpse, and painted stroke by stroke. Keeps the contract of ``model.py``.

K. Gregor, I. Danihelka, A. Graves, D. J. Rezende, D. Wierstra 2015, "DRAW: A Recurrent Neural Network For Image
Generation", arXiv:1502.04623.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model, State
from lstmkit.modules.draw_attention import DrawReader, DrawWriter, FullImageReader, FullImageWriter, Window


class DrawState(NamedTuple):
    """Where painting has come to.

    Attributes:
        logits: ``(B, height, width)`` of ink, the sum of all strokes.
        hidden: ``(B, H)``, the decoder's output at the last step.
        encoder, decoder: The states of both recurrent layers.
        kind: ``(B, K)``: of which kind the picture is to be, one of them 1; ``K`` is 0 without kinds.
        window: Through which the last stroke was painted; ``None`` before the first.
    """

    logits: Tensor
    hidden: Tensor
    encoder: State
    decoder: State
    kind: Tensor
    window: Window | None


class Told(NamedTuple):
    """What reading and painting pictures told, each as ``(B, T, …)``.

    Attributes:
        canvases: ``(B, T, height, width)`` logits after each step.
        means: ``(B, T, Z)`` of the latent variables, given the picture.
        windows: Of each step, its five numbers ``(B, T, 5)``.
    """

    canvases: Tensor
    means: Tensor
    windows: Tensor


class DrawModel(Model):
    """Encoder and decoder, each recurrent, with a latent variable between at every step.

    Equations 3 to 8 and 12: the encoder sees the picture, and how it differs from the canvas, through a window that the
    decoder's state tells; the decoder reads what was drawn from the encoder's Gaussian, and paints.

    Args:
        reader: ``(B, 2, height, width)`` and the decoder's ``(B, H)`` to what is seen, ``(B, R)``.
        encoder: Recurrent layer, batch first, of ``R + H + K`` features.
        decoder: Recurrent layer, batch first, of ``latent + K`` features.
        writer: ``(B, H)`` to strokes ``(B, height, width)`` and their window.
        shape: Height and width.
        latent: Width of the latent variable of a step, ``Z``.
        steps: How many there are, ``T``.
        kinds: ``K``: of so many kinds pictures are told to be; 0 where none is told.
        sampled: Whether training draws black and white anew from grey values each time.
    """

    def __init__(
        self,
        reader: DrawReader | FullImageReader,
        encoder: RecurrentLayer,
        decoder: RecurrentLayer,
        writer: DrawWriter | FullImageWriter,
        shape: tuple[int, int],
        latent: int,
        steps: int,
        kinds: int = 0,
        sampled: bool = True,
    ) -> None:
        super().__init__()
        self.reader, self.encoder, self.decoder, self.writer = reader, encoder, decoder, writer
        self.shape, self.latent, self.steps, self.kinds, self.sampled = shape, latent, steps, kinds, sampled
        self.guess = nn.Linear(encoder.output_size, 2 * latent)
        self.blank = nn.Parameter(torch.zeros(shape))
        self.start = nn.Parameter(torch.zeros(decoder.output_size))

    def begin(self, count: int, kinds: Tensor | None = None) -> DrawState:
        """An empty canvas for each of ``count`` pictures, of which ``kinds (count,)`` are told."""
        like = self.blank
        told = like.new_zeros(count, 0) if kinds is None else F.one_hot(kinds, self.kinds).to(like.dtype)
        return DrawState(like.expand(count, *self.shape), self.start.expand(count, -1), None, None, told, None)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read pictures ``(B, height, width)``, ink 1, and paint them again: canvases ``(B, T, height, width)``, logits
        after each step.
        """
        told, state = self.read(inputs, self.begin(len(inputs)) if state is None else DrawState(*state))
        return told.canvases, state

    def read(self, pictures: Tensor, state: DrawState) -> tuple[Told, DrawState]:
        """All steps with the pictures seen; the latent variables are their means."""
        canvases, means, windows = [], [], []
        for _ in range(self.steps):
            mean, _, state = self._look(pictures, state)
            state = self._paint(mean, state)
            assert state.window is not None
            canvases.append(state.logits)
            means.append(mean)
            windows.append(torch.cat(state.window, 1))
        return Told(*(torch.stack(kept, 1) for kept in (canvases, means, windows))), state

    def _look(self, pictures: Tensor, state: DrawState) -> tuple[Tensor, Tensor, DrawState]:
        missing = pictures - state.logits.sigmoid()
        seen = self.reader(torch.stack([pictures, missing], 1), state.hidden)
        features, encoder = self.encoder(torch.cat([seen, state.hidden, state.kind], 1).unsqueeze(1), state.encoder)
        mean, spread = self.guess(features[:, 0]).chunk(2, dim=1)
        return mean, spread.exp(), state._replace(encoder=encoder)

    def _paint(self, latent: Tensor, state: DrawState) -> DrawState:
        hidden, decoder = self.decoder(torch.cat([latent, state.kind], 1).unsqueeze(1), state.decoder)
        stroke, window = self.writer(hidden[:, 0])
        return state._replace(
            logits=state.logits + stroke, hidden=hidden[:, 0], decoder=decoder, window=Window(*window)
        )

    def dream(self, latents: Tensor, state: DrawState) -> tuple[Tensor, Tensor]:
        """Paint all steps at once: latent variables ``(B, T, Z)`` to canvases ``(B, T, height, width)``, logits, and
        windows ``(B, T, 5)``. The decoder never sees the canvas, so that one call of it does.
        """
        kinds = state.kind.unsqueeze(1).expand(-1, latents.shape[1], -1)
        hidden, _ = self.decoder(torch.cat([latents, kinds], 2), state.decoder)
        strokes, window = self.writer(hidden.flatten(0, 1))
        shape = latents.shape[:2]
        canvases = state.logits.unsqueeze(1) + strokes.unflatten(0, shape).cumsum(1)
        return canvases, torch.cat(window, 1).unflatten(0, shape)

    def bound(self, pictures: Tensor, state: DrawState, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``(B,)`` each, in nats: what the last canvas says of the picture, and what the latent variables cost.

        Their sum is an upper bound of ``-log p(picture)``, in the mean over ``noise (B, T, Z)``, standard normal
        (equations 9 to 11).
        """
        costs = state.hidden.new_zeros(len(pictures))
        for drawn in noise.unbind(1):
            mean, deviation, state = self._look(pictures, state)
            costs = costs + (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum(1) / 2
            state = self._paint(mean + deviation * drawn, state)
        said = F.binary_cross_entropy_with_logits(state.logits, pictures, reduction="none")
        return said.flatten(1).sum(1), costs

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean over pictures ``batch.inputs (B, height, width)`` of the bound, in nats.

        With kinds ``batch.extras["kind"] (B,)`` tells each picture's. Where not in training, the noise is the same at
        every call, so that losses of epochs can be compared.
        """
        pictures = batch.inputs
        shape = len(pictures), self.steps, self.latent
        if self.training:
            pictures = torch.bernoulli(pictures) if self.sampled else pictures
            noise = torch.randn(shape, device=pictures.device)
        else:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(pictures.device)
        said, costs = self.bound(pictures, self.begin(len(pictures), batch.extras.get("kind")), noise)
        return (said + costs).mean(), None

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Paint: latent variables ``(B, Z)`` to the canvas's logits ``(B, height · width)``, and the state."""
        state = self._paint(inputs, self.begin(len(inputs)) if state is None else DrawState(*state))
        return state.logits.flatten(1), state
