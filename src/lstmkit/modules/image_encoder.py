"""Image encoders: a small residual network, and its use for grids of image features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.renamed_weights import RenamedWeights

WIDTHS = (16, 32, 64)  #: Default channels of the stages, small enough to train on a CPU.
_EPSILON = 1e-6  # added to the sum of squared weights


class _WeightStandardizedConv2d(nn.Conv2d):
    """A 3 x 3 convolution without bias and with weight standardization (Qiao et al. 2019).

    The squared weights of an output channel sum to 1, while the paper normalizes their mean; the following norm removes
    the scale. With group normalization it trains as fast as batch normalization.
    """

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__(size, output_size, 3, stride, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        centered = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        scale = torch.rsqrt(centered.square().sum((1, 2, 3), keepdim=True) + _EPSILON)  # 10 times faster than var_mean
        return F.conv2d(input, centered * scale, None, self.stride, self.padding)


class _ResidualBlock(nn.Module):
    """A residual block (He et al. 2016, figure 2) with group normalization (Wu and He 2018).

    With group normalization the output of an image does not depend on the other images of the batch.
    """

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__()
        self.first = _WeightStandardizedConv2d(size, output_size, stride)
        self.first_norm = _norm(output_size)
        self.second = _WeightStandardizedConv2d(output_size, output_size, 1)
        self.second_norm = _norm(output_size)
        self.stride = stride
        self.around = nn.Conv2d(size, output_size, 1, bias=False) if stride > 1 or size != output_size else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        if self.around is not None:
            # The same as a stride of the convolution. With that, and fewer than 8 channels, oneDNN 3.12 (torch 2.13)
            # writes beyond its memory on CPUs without AVX-512.
            x = self.around(x[:, :, :: self.stride, :: self.stride])
        return F.relu(self.second_norm(self.second(y)).add_(x), inplace=True)


class ImageEncoder(nn.Module):
    """A residual network: images ``(N, C, H, W)`` to features ``(N, output_size, h, w)``.

    Height and width shrink by a factor of ``2 ** len(widths)``. Any module with this interface can replace it.

    Args:
        channels: Channels of the images, ``C``.
        widths: Channels of the stages; each halves height and width.

    >>> ImageEncoder(3)(torch.zeros(2, 3, 64, 48)).shape
    torch.Size([2, 64, 8, 6])
    """

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = _WeightStandardizedConv2d(channels, widths[0], 2)
        self.stem_norm = _norm(widths[0])
        stages = [_ResidualBlock(widths[0], widths[0], 1), *(_ResidualBlock(a, b, 2) for a, b in pairwise(widths))]
        self.stages = nn.Sequential(*stages)
        self.output_size = widths[-1]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fastest on CPUs

    def forward(self, images: Tensor) -> Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        return self.stages(F.relu(self.stem_norm(self.stem(x)), inplace=True))


class PixelNormalizer(nn.Module):
    """Standardization of pixels: ``(N, H, W, C)`` uint8 to ``(N, C, H, W)`` float.

    Args:
        mean, std: Mean and standard deviation of each channel in the training set, in 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std


class ImageGridEncoder(RenamedWeights):
    """Images ``(B, H, W, C)`` uint8 to a sequence of grid features ``(B, h * w, output_size)``, row by row.

    A learned position embedding is added to each cell, because attention ignores order. All images have the same
    number of cells, so it returns no lengths.

    Args:
        normalizer: Standardization of the pixels.
        image_encoder: Image encoder that returns a grid of features.
        output_size: Width of a cell's features.
        num_cells: Number of cells, ``h * w``.
        max_translation: Maximum random shift in training, as a fraction of height and width.
        horizontal_flip: Whether to flip images horizontally with probability 0.5 in training.
    """

    old_names: ClassVar = {  # in version 0.1
        "dots": "normalizer",
        "pictures": "image_encoder",
        "narrow": "linear",
        "places": "position_embedding",
    }

    reads_lengths = True

    def __init__(
        self,
        normalizer: PixelNormalizer,
        image_encoder: ImageEncoder,
        output_size: int,
        num_cells: int,
        max_translation: float = 0.0,
        horizontal_flip: bool = False,
    ) -> None:
        super().__init__()
        self.normalizer, self.image_encoder, self.max_translation, self.horizontal_flip = (
            normalizer,
            image_encoder,
            max_translation,
            horizontal_flip,
        )
        self.linear, self.norm = nn.Linear(image_encoder.output_size, output_size), nn.LayerNorm(output_size)
        self.position_embedding = nn.Parameter(torch.zeros(num_cells, output_size))
        self.output_size = output_size

    def forward(self, pixels: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        if self.training and self.horizontal_flip:
            flipped = torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5
            pixels = torch.where(flipped, pixels.flip(2), pixels)
        if self.training and self.max_translation:
            pixels = random_translation(pixels.unsqueeze(1), self.max_translation).squeeze(1)
        cells = self.image_encoder(self.normalizer(pixels)).flatten(2).transpose(1, 2)
        return F.relu(self.norm(self.linear(cells)) + self.position_embedding), None


class FeatureEncoder(nn.Module):
    """Precomputed features of another network, ``(B, S, F)`` to ``(B, S, output_size)``: layer norm, linear, ReLU.

    Args:
        input_size: Width of the features, ``F``.
        output_size: Width of the output.
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.norm, self.narrow = nn.LayerNorm(input_size), nn.Linear(input_size, output_size)
        self.output_size = output_size

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.narrow(self.norm(features)))


def random_translation(clips: Tensor, max_shift: float) -> Tensor:
    """Shift each clip ``(B, T, H, W, C)`` randomly by up to a fraction of height and width; the border is black."""
    shifted = torch.zeros_like(clips)
    sides = torch.tensor(clips.shape[2:4])
    max_offsets = (sides * max_shift).int()
    offsets = (torch.rand(len(clips), 2) * (2 * max_offsets + 1)).int() - max_offsets
    for target, clip, (down, right) in zip(shifted, clips, offsets.tolist(), strict=True):
        target[:, _shifted_slice(down), _shifted_slice(right)] = clip[:, _shifted_slice(-down), _shifted_slice(-right)]
    return shifted


def _shifted_slice(offset: int) -> slice:
    """Target positions of a side that is shifted by an offset."""
    return slice(max(0, offset), min(0, offset) or None)


def _norm(size: int) -> nn.GroupNorm:
    """Group normalization with at most 8 groups of at least 4 channels each."""
    groups = max(count for count in range(1, 9) if size % count == 0 and (size // count >= 4 or count == 1))
    return nn.GroupNorm(groups, size)
