"""DRAW: a recurrent variational autoencoder that reads and draws an image through a moving attention window.

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
    """State of :class:`DrawModel` between steps.

    Attributes:
        logits: ``(B, height, width)`` the canvas: logits of the pixels, the sum of all writes.
        hidden: ``(B, H)`` the decoder's output at the last step.
        encoder, decoder: States of the recurrent layers.
        kind: ``(B, K)`` one-hot class of the image; ``K`` is 0 for an unconditional model.
        window: Attention window of the last write; ``None`` before the first.
    """

    logits: Tensor
    hidden: Tensor
    encoder: State
    decoder: State
    kind: Tensor
    window: Window | None


class Reconstruction(NamedTuple):
    """Outputs of all steps of a reconstruction.

    Attributes:
        canvases: ``(B, T, height, width)`` logits after each step.
        means: ``(B, T, Z)`` posterior means of the latent variables.
        windows: ``(B, T, 5)`` parameters of the write windows.
    """

    canvases: Tensor
    means: Tensor
    windows: Tensor


class DrawModel(Model):
    """A recurrent encoder and decoder with a latent variable at every step.

    Equations 3 to 8 and 12 of the paper: the encoder reads the image and its error image through a window whose
    parameters come from the decoder's state. The decoder reads a sample of the posterior and writes to the canvas.

    Args:
        reader: Maps images ``(B, 2, height, width)`` and the decoder's output ``(B, H)`` to a glimpse ``(B, R)``.
        encoder: Recurrent layer, batch first, of ``R + H + K`` features.
        decoder: Recurrent layer, batch first, of ``latent_size + K`` features.
        writer: Maps ``(B, H)`` to a write ``(B, height, width)`` and its window.
        shape: Height and width of the images in pixels.
        latent_size: Size of the latent variable of a step, ``Z``.
        num_steps: Number of steps, ``T``.
        num_classes: Number of classes to condition on, ``K``; 0 for an unconditional model.
        binarize: Whether training samples binary pixels from the gray values at each use.
    """

    def __init__(
        self,
        reader: DrawReader | FullImageReader,
        encoder: RecurrentLayer,
        decoder: RecurrentLayer,
        writer: DrawWriter | FullImageWriter,
        shape: tuple[int, int],
        latent_size: int,
        num_steps: int,
        num_classes: int = 0,
        binarize: bool = True,
    ) -> None:
        super().__init__()
        self.reader, self.encoder, self.decoder, self.writer = reader, encoder, decoder, writer
        self.shape, self.latent_size, self.num_steps, self.num_classes, self.binarize = (
            shape,
            latent_size,
            num_steps,
            num_classes,
            binarize,
        )
        self.guess = nn.Linear(encoder.output_size, 2 * latent_size)
        self.blank = nn.Parameter(torch.zeros(shape))
        self.start = nn.Parameter(torch.zeros(decoder.output_size))

    def initial_state(self, count: int, classes: Tensor | None = None) -> DrawState:
        """The initial state of ``count`` images, optionally with their classes ``classes (count,)``."""
        blank = self.blank
        one_hot = blank.new_zeros(count, 0) if classes is None else F.one_hot(classes, self.num_classes).to(blank.dtype)
        return DrawState(blank.expand(count, *self.shape), self.start.expand(count, -1), None, None, one_hot, None)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Reconstruct images ``(B, height, width)`` in 0…1: canvases ``(B, T, height, width)``, logits of each step."""
        reconstruction, state = self.read(
            inputs, self.initial_state(inputs.shape[0]) if state is None else DrawState(*state)
        )
        return reconstruction.canvases, state

    def read(self, images: Tensor, state: DrawState) -> tuple[Reconstruction, DrawState]:
        """Reconstruct the images from the posterior means, without sampling."""
        canvases, means, windows = [], [], []
        for _ in range(self.num_steps):
            mean, _, state = self._encode(images, state)
            state = self._decode(mean, state)
            assert state.window is not None
            canvases.append(state.logits)
            means.append(mean)
            windows.append(torch.cat(state.window, 1))
        return Reconstruction(*(torch.stack(steps, 1) for steps in (canvases, means, windows))), state

    def read_step(self, images: Tensor, state: DrawState) -> DrawState:
        """The state after one step of :meth:`read`."""
        mean, _, state = self._encode(images, state)
        return self._decode(mean, state)

    def _encode(self, images: Tensor, state: DrawState) -> tuple[Tensor, Tensor, DrawState]:
        """Mean and standard deviation of the posterior, ``(B, Z)`` each, and the new state."""
        error_image = images - state.logits.sigmoid()
        glimpse = self.reader(torch.stack([images, error_image], 1), state.hidden)
        features, encoder = self.encoder(torch.cat([glimpse, state.hidden, state.kind], 1).unsqueeze(1), state.encoder)
        mean, log_deviation = self.guess(features[:, 0]).chunk(2, dim=1)
        return mean, log_deviation.exp(), state._replace(encoder=encoder)

    def _decode(self, latent: Tensor, state: DrawState) -> DrawState:
        hidden, decoder = self.decoder(torch.cat([latent, state.kind], 1).unsqueeze(1), state.decoder)
        write, window = self.writer(hidden[:, 0])
        return state._replace(logits=state.logits + write, hidden=hidden[:, 0], decoder=decoder, window=Window(*window))

    def generate(self, latents: Tensor, state: DrawState) -> tuple[Tensor, Tensor]:
        """Generate images from latent variables ``(B, T, Z)``.

        All steps take one call of the decoder, because it does not read the canvas.

        Returns:
            Canvases ``(B, T, height, width)``, logits after each step, and write windows ``(B, T, 5)``.
        """
        kinds = state.kind.unsqueeze(1).expand(-1, latents.shape[1], -1)
        hidden, _ = self.decoder(torch.cat([latents, kinds], 2), state.decoder)
        writes, window = self.writer(hidden.flatten(0, 1))
        shape = latents.shape[:2]
        canvases = state.logits.unsqueeze(1) + writes.unflatten(0, shape).cumsum(1)
        return canvases, torch.cat(window, 1).unflatten(0, shape)

    def elbo_terms(self, images: Tensor, state: DrawState, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction loss and KL divergence, ``(B,)`` each, in nats (equations 9 to 11).

        In expectation over the standard normal ``noise (B, T, Z)`` their sum is an upper bound of
        ``-log p(image)``.
        """
        divergence = state.hidden.new_zeros(images.shape[0])
        for step_noise in noise.unbind(1):
            mean, deviation, state = self._encode(images, state)
            divergence = divergence + (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum(1) / 2
            state = self._decode(mean + deviation * step_noise, state)
        pixel_losses = F.binary_cross_entropy_with_logits(state.logits, images, reduction="none")
        return pixel_losses.flatten(1).sum(1), divergence

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean variational bound of images ``batch.inputs (B, height, width)``, in nats.

        A conditional model reads the classes from ``batch.extras["kind"] (B,)``. In evaluation mode the noise is the
        same in every call, so that epochs are comparable.
        """
        images = batch.inputs
        shape = images.shape[0], self.num_steps, self.latent_size
        if self.training:
            images = torch.bernoulli(images) if self.binarize else images
            noise = torch.randn(shape, device=images.device)
        else:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(images.device)
        pixel_loss, divergence = self.elbo_terms(
            images, self.initial_state(images.shape[0], batch.extras.get("kind")), noise
        )
        return (pixel_loss + divergence).mean(), None

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Decode latent variables ``(B, Z)`` to the canvas's logits ``(B, height · width)``, and the new state."""
        state = self._decode(inputs, self.initial_state(inputs.shape[0]) if state is None else DrawState(*state))
        return state.logits.flatten(1), state
