"""Clips to features: pictures to features, frame by frame, and what changes from frame to frame."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.image_encoder import ImageEncoder, ImageGridEncoder, PixelNormalizer, moved

_AT_ONCE = 512  # frames whose features are in memory together
_CELLS = 4  # of a side of the grid that a frame is told by: where in it something is matters


class _PerFrameEncoder(nn.Module, ABC):
    """What looks at the frames of clips ``(B, T, H, W, C)`` uint8, each by itself.

    What is past a clip's end is not looked at. Of many frames some are looked at after others: memory is that of 512,
    and in training their features are computed anew for the gradient.

    Args:
        shift: In training, the share of a side by which a clip is moved at most, all its frames alike.
    """

    reads_lengths = True

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    @abstractmethod
    def look(self, frames: Tensor) -> Tensor:
        """Frames ``(N, H, W, C)`` to features ``(N, ...)``."""

    def frames(self, clips: Tensor, lengths: Tensor | None) -> Tensor:
        """``(B, T, H, W, C) -> (B, T, ...)``, 0 past a clip's end."""
        if self.training and self.shift:
            clips = moved(clips, self.shift)
        if lengths is None:
            return self._looked(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        steps = torch.arange(clips.shape[1], device=clips.device)
        there = steps < lengths.to(clips.device).unsqueeze(1)
        seen = self._looked(clips[there])
        found = seen.new_zeros(*clips.shape[:2], *seen.shape[1:])
        found[there] = seen
        return found

    def _looked(self, frames: Tensor) -> Tensor:
        pieces = frames.split(_AT_ONCE)
        if len(pieces) > 1 and torch.is_grad_enabled():
            return torch.cat([checkpoint(self.look, one, use_reentrant=False) for one in pieces])
        return torch.cat([self.look(one) for one in pieces])


class VideoEncoder(_PerFrameEncoder):
    """Clips ``(B, T, H, W, C)`` uint8 and their lengths to ``(B, T, output_size)``, a vector for each frame.

    Of a frame's grid are read the means of 4 by 4 fields, which say where something is, and the largest of each
    feature, that say what there is.

    Args:
        dots: From uint8 to pictures.
        pictures: These to a grid.
        output_size: Of the features of a frame.
        dropout: In training, the share of these that are hidden.
        shift: In training, the share of a side by which a clip is moved at most, all its frames alike.
    """

    def __init__(
        self, dots: PixelNormalizer, pictures: ImageEncoder, output_size: int, dropout: float = 0.0, shift: float = 0.0
    ) -> None:
        super().__init__(shift)
        self.dots, self.pictures, self.dropout = dots, pictures, nn.Dropout(dropout)
        self.narrow = nn.Linear(pictures.output_size * (_CELLS**2 + 1), output_size)
        self.norm = nn.LayerNorm(output_size)
        self.output_size = output_size

    def forward(self, clips: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.dropout(self.frames(clips, lengths)), lengths

    def look(self, frames: Tensor) -> Tensor:
        grid = self.pictures(self.dots(frames))
        where, what = F.adaptive_avg_pool2d(grid, _CELLS).flatten(1), grid.amax((2, 3))
        return F.relu(self.norm(self.narrow(torch.cat([where, what], 1))))


class VideoGridEncoder(_PerFrameEncoder):
    """Clips ``(B, T, H, W, C)`` uint8 and their lengths to the cells of all frames, frame by frame.

    Each cell is looked at in its frame, and followed through the frames by a recurrent layer, the same for all cells.
    Both stand side by side in what is attended to, ``(B, T * cells, output_size)``: what is there does not hang on how
    it moves.

    Args:
        grid: Frames to cells.
        trunk: Recurrent layer, batch first, that reads a cell of frame after frame.
        shift: In training, the share of a side by which a clip is moved at most, all its frames alike.
    """

    def __init__(self, grid: ImageGridEncoder, trunk: RecurrentLayer, shift: float = 0.0) -> None:
        super().__init__(shift)
        self.grid, self.trunk = grid, trunk
        self.output_size = grid.output_size + trunk.output_size

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        seen = self.frames(clips, lengths)
        cells = seen.shape[2]
        each = None if lengths is None else lengths.repeat_interleave(cells)
        followed, _ = self.trunk(seen.transpose(1, 2).flatten(0, 1), None, each)
        followed = followed.unflatten(0, (len(clips), cells)).transpose(1, 2)
        both = torch.cat([seen, followed], -1).flatten(1, 2)
        return both, None if lengths is None else lengths * cells

    def look(self, frames: Tensor) -> Tensor:
        return self.grid(frames)[0]
