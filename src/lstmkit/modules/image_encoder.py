"""Pictures to grids of features: a small residual network, and what stands around one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)  #: Channels of the stages, as learnt from scratch on a processor.
_LEAST = 1e-6  # added to the squares of weights


class _WeightStandardizedConv2d(nn.Conv2d):
    """Without a bias, its weights standardised for each feature that comes out (Qiao et al. 2019).

    The squares of a feature's weights add up to 1, where the paper has their mean so: the norm that follows takes such
    a scale away. Before a norm of groups this learns as soon as one of batches does.
    """

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__(size, output_size, 3, stride, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        scale = torch.rsqrt(centred.square().sum((1, 2, 3), keepdim=True) + _LEAST)  # var_mean takes ten times as long
        return F.conv2d(input, centred * scale, None, self.stride, self.padding)


class _ResidualBlock(nn.Module):
    """Two convolutions and a way around them (He et al. 2016, figure 2), each normalised in groups (Wu and He 2018).

    Groups, not batches: a picture is seen the same whatever stands beside it, in training too.
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
    """Pictures ``(N, C, H, W)`` to a grid of features ``(N, output_size, h, w)``, a side ``2 ** len(widths)`` shorter.

    Any module of that shape can stand in its place.

    Args:
        channels: Of the pictures.
        widths: Channels of the stages; each halves the sides.

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
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # processors convolve it fastest

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.contiguous(memory_format=torch.channels_last)
        return self.stages(F.relu(self.stem_norm(self.stem(x)), inplace=True))


class PixelNormalizer(nn.Module):
    """Dots ``(N, H, W, C)`` uint8, as files have them, to pictures ``(N, C, H, W)`` on the training part's scale.

    Args:
        mean, std: Of each channel, from 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, dots: Tensor) -> Tensor:
        return (dots.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std


class ImageGridEncoder(nn.Module):
    """Dots ``(B, H, W, C)`` uint8 to the cells of a picture encoder's grid, ``(B, h * w, output_size)``, row by row.

    To what a cell has comes a vector of its place, which is learnt: what is attended to has no order of its own.
    All pictures have as many cells, so that it gives no lengths.

    Args:
        dots: From uint8 to pictures.
        pictures: These to a grid.
        output_size: Of the features of a cell.
        cells: Of the grid, ``h * w``.
        shift: In training, the share of a side by which a picture is moved at most.
        flip: Whether training shows every second picture from behind, left for right.
    """

    reads_lengths = True

    def __init__(
        self,
        dots: PixelNormalizer,
        pictures: ImageEncoder,
        output_size: int,
        cells: int,
        shift: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__()
        self.dots, self.pictures, self.shift, self.flip = dots, pictures, shift, flip
        self.narrow, self.norm = nn.Linear(pictures.output_size, output_size), nn.LayerNorm(output_size)
        self.places = nn.Parameter(torch.zeros(cells, output_size))
        self.output_size = output_size

    def forward(self, dots: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        if self.training and self.flip:
            turned = torch.rand(len(dots), 1, 1, 1, device=dots.device) < 0.5
            dots = torch.where(turned, dots.flip(2), dots)
        if self.training and self.shift:
            dots = moved(dots.unsqueeze(1), self.shift).squeeze(1)
        cells = self.pictures(self.dots(dots)).flatten(2).transpose(1, 2)
        return F.relu(self.norm(self.narrow(cells)) + self.places), None


class FeatureEncoder(nn.Module):
    """Features that another network made, ``(B, S, F)``, to ``(B, S, output_size)``.

    Args:
        input_size: ``F``.
        output_size: Of what is attended to.
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.norm, self.narrow = nn.LayerNorm(input_size), nn.Linear(input_size, output_size)
        self.output_size = output_size

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.narrow(self.norm(features)))


def moved(clips: Tensor, share: float) -> Tensor:
    """Each clip ``(B, T, H, W, C)`` moved by up to a share of its sides; what comes in at an edge is black."""
    found = torch.zeros_like(clips)
    sides = torch.tensor(clips.shape[2:4])
    most = (sides * share).int()
    offsets = (torch.rand(len(clips), 2) * (2 * most + 1)).int() - most
    for one, clip, (down, right) in zip(found, clips, offsets.tolist(), strict=True):
        one[:, _shifted_slice(down), _shifted_slice(right)] = clip[:, _shifted_slice(-down), _shifted_slice(-right)]
    return found


def _shifted_slice(offset: int) -> slice:
    """What is left of a side that is moved by an offset, where it comes to lie."""
    return slice(max(0, offset), min(0, offset) or None)


def _norm(size: int) -> nn.GroupNorm:
    """Groups of at least four channels, at most eight of them, as many as go into the size."""
    groups = max(count for count in range(1, 9) if size % count == 0 and (size // count >= 4 or count == 1))
    return nn.GroupNorm(groups, size)
