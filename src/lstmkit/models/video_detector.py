"""A detector of objects in video: image encoder, convolutional LSTM over time, center-point head."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.layers.conv_recurrent import ConvRecurrentLayer2d
from lstmkit.models.base import Model, State
from lstmkit.modules.center_head import CenterHead
from lstmkit.modules.image_encoder import ImageEncoder, PixelNormalizer


class VideoDetector(Model):
    """Frames ``(B, T, H, W, C)`` uint8 to the outputs of the head ``(B, T, K + 4, h, w)``.

    The head reads the features of the frame beside those of the memory.

    Args:
        normalizer: Standardization of the pixels.
        encoder: Image encoder that returns a grid of features.
        trunk: Convolutional recurrent layer over the frames.
        head: Reads ``encoder.output_size + trunk.output_size`` channels.
        is_recurrent: Whether the memory is carried from frame to frame. Without it the trunk begins anew at each frame:
            the same network, frame by frame.
    """

    def __init__(
        self,
        normalizer: PixelNormalizer,
        encoder: ImageEncoder,
        trunk: ConvRecurrentLayer2d,
        head: CenterHead,
        is_recurrent: bool = True,
    ) -> None:
        super().__init__()
        self.normalizer, self.encoder, self.trunk, self.head = normalizer, encoder, trunk, head
        self.is_recurrent = is_recurrent

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        batch, steps = inputs.shape[:2]
        features = self.encoder(self.normalizer(inputs.flatten(0, 1)))
        if self.is_recurrent:
            memory, state = self.trunk(features.unflatten(0, (batch, steps)), state, lengths)
            memory = memory.flatten(0, 1)
        else:
            memory, state = self.trunk(features.unsqueeze(1))[0].squeeze(1), None
        outputs = self.head(torch.cat([features, memory], 1))
        return outputs.unflatten(0, (batch, steps)), state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        outputs, state = self(batch.inputs, state, batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """A frame ``(B, H, W, C)`` to ``(B, K + 4, h, w)``, and the new state."""
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state
