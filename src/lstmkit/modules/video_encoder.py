"""Encoders of video clips: features of each frame, and of grid cells followed over time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.image_encoder import ImageEncoder, ImageGridEncoder, PixelNormalizer, random_translation
from lstmkit.modules.renamed_weights import RenamedWeights

_MAX_FRAMES = 512  # frames encoded together, to bound memory
_POOLED_SIZE = 4  # height and width of the average-pooled grid, which keeps positions


class _PerFrameEncoder(RenamedWeights, ABC):
    """Base class of encoders that process each frame of clips ``(B, T, H, W, C)`` uint8 separately.

    Frames past a clip's end are skipped. Frames are encoded in chunks of 512, which training recomputes in the backward
    pass to bound memory.

    Args:
        max_translation: Maximum random shift of a clip in training, as a fraction of height and width. All frames are
            shifted alike.
    """

    old_names: ClassVar = {"dots": "normalizer", "pictures": "image_encoder", "narrow": "linear"}  # in version 0.1

    reads_lengths = True

    def __init__(self, max_translation: float) -> None:
        super().__init__()
        self.max_translation = max_translation

    @abstractmethod
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode frames ``(N, H, W, C)`` to features ``(N, ...)``."""

    def frames(self, clips: Tensor, lengths: Tensor | None) -> Tensor:
        """Encode clips ``(B, T, H, W, C)`` to features ``(B, T, ...)``, 0 past a clip's end."""
        if self.training and self.max_translation:
            clips = random_translation(clips, self.max_translation)
        if lengths is None:
            return self._encode_in_chunks(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        steps = torch.arange(clips.shape[1], device=clips.device)
        mask = steps < lengths.to(clips.device).unsqueeze(1)
        if torch.compiler.is_exporting():  # the number of valid frames is not known
            features = self.encode_frames(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
            return torch.where(mask.unflatten(1, (-1, *(1,) * (features.dim() - 2))), features, 0.0)
        valid = self._encode_in_chunks(clips[mask])
        features = valid.new_zeros(*clips.shape[:2], *valid.shape[1:])
        features[mask] = valid
        return features

    def _encode_in_chunks(self, frames: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # the number of chunks would be fixed
            return self.encode_frames(frames)
        chunks = frames.split(_MAX_FRAMES)
        if len(chunks) > 1 and torch.is_grad_enabled():
            return torch.cat([checkpoint(self.encode_frames, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self.encode_frames(chunk) for chunk in chunks])


class VideoEncoder(_PerFrameEncoder):
    """Clips ``(B, T, H, W, C)`` uint8 and lengths to ``(B, T, output_size)``, one vector per frame.

    A frame's feature grid is average-pooled to 4 x 4 cells, which keeps positions, and max-pooled to one vector.

    Args:
        normalizer: Standardization of the pixels.
        image_encoder: Image encoder that returns a grid of features.
        output_size: Width of a frame's features.
        dropout: Dropout probability on the features.
        max_translation: Maximum random shift of a clip in training, as a fraction of height and width. All frames are
            shifted alike.
    """

    def __init__(
        self,
        normalizer: PixelNormalizer,
        image_encoder: ImageEncoder,
        output_size: int,
        dropout: float = 0.0,
        max_translation: float = 0.0,
    ) -> None:
        super().__init__(max_translation)
        self.normalizer, self.image_encoder, self.dropout = normalizer, image_encoder, nn.Dropout(dropout)
        self.linear = nn.Linear(image_encoder.output_size * (_POOLED_SIZE**2 + 1), output_size)
        self.norm = nn.LayerNorm(output_size)
        self.output_size = output_size

    def forward(self, clips: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.dropout(self.frames(clips, lengths)), lengths

    def encode_frames(self, frames: Tensor) -> Tensor:
        grid = self.image_encoder(self.normalizer(frames))
        averages, maxima = F.adaptive_avg_pool2d(grid, _POOLED_SIZE).flatten(1), grid.amax((2, 3))
        return F.relu(self.norm(self.linear(torch.cat([averages, maxima], 1))))


class VideoGridEncoder(_PerFrameEncoder):
    """Clips ``(B, T, H, W, C)`` uint8 and lengths to the grid cells of all frames ``(B, T * cells, output_size)``.

    A recurrent layer, shared by all cells, follows each cell over the frames. Its output is concatenated with the
    cell's image features, so that appearance and motion are both available to attention.

    Args:
        grid: Encoder of a frame to grid cells.
        trunk: Recurrent layer, batch first, over the frames of a cell.
        max_translation: Maximum random shift of a clip in training, as a fraction of height and width. All frames are
            shifted alike.
    """

    def __init__(self, grid: ImageGridEncoder, trunk: RecurrentLayer, max_translation: float = 0.0) -> None:
        super().__init__(max_translation)
        self.grid, self.trunk = grid, trunk
        self.output_size = grid.output_size + trunk.output_size

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        features = self.frames(clips, lengths)
        cells = features.shape[2]
        cell_lengths = None if lengths is None else lengths.repeat_interleave(cells)
        motion, _ = self.trunk(features.transpose(1, 2).flatten(0, 1), None, cell_lengths)
        motion = motion.unflatten(0, (clips.shape[0], cells)).transpose(1, 2)
        combined = torch.cat([features, motion], -1).flatten(1, 2)
        return combined, None if lengths is None else lengths * cells

    def encode_frames(self, frames: Tensor) -> Tensor:
        return self.grid(frames)[0]
