"""The attention of DRAW: grids of Gaussian filters that read and write a window of an image.

K. Gregor, I. Danihelka, A. Graves, D. J. Rezende, D. Wierstra 2015, "DRAW: A Recurrent Neural Network For Image
Generation", arXiv:1502.04623, section 3.2.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.renamed_weights import RenamedWeights

N_WINDOW_PARAMETERS = 5  #: Parameters of a window.
_MIN_WEIGHT_SUM = 1e-8  # lower bound in the normalization of filters that lie outside the image


class Window(NamedTuple):
    """A grid of ``N`` by ``N`` Gaussian filters over an image, in pixels; the first pixel is 1.

    Attributes:
        across, down: ``(B, 1)`` center of the grid.
        stride: ``(B, 1)`` distance between filters.
        variance: ``(B, 1)`` variance of each filter.
        strength: ``(B, 1)`` intensity that multiplies the glimpse or divides the write.
    """

    across: Tensor
    down: Tensor
    stride: Tensor
    variance: Tensor
    strength: Tensor


class DrawAttention(RenamedWeights):
    """Window parameters from the decoder's state (equations 21 to 24), and the window's filters (19, 20, 25, 26).

    Args:
        state_size: Width of the decoder's state, ``H``.
        height, width: Size of the image in pixels.
        size: Filters along a side, ``N``.
    """

    old_names: ClassVar = {"tell": "linear"}  # in version 0.1

    def __init__(self, state_size: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        self.linear = nn.Linear(state_size, N_WINDOW_PARAMETERS)

    def window(self, state: Tensor) -> Window:
        """Window parameters of the states ``(B, H)``."""
        across, down, variance, stride, strength = self.linear(state).split(1, dim=1)
        step = (max(self.height, self.width) - 1) / max(1, self.size - 1)
        return Window(
            (self.width + 1) / 2 * (across + 1),
            (self.height + 1) / 2 * (down + 1),
            step * stride.exp(),
            variance.exp(),
            strength.exp(),
        )

    def filters(self, window: Window) -> tuple[Tensor, Tensor]:
        """Vertical filters ``(B, N, height)`` and horizontal filters ``(B, N, width)``; each sums to 1."""
        offsets = torch.arange(self.size, device=window.across.device) - (self.size - 1) / 2
        return tuple(
            _filters(center + offsets * window.stride, window.variance, pixels)
            for center, pixels in ((window.down, self.height), (window.across, self.width))
        )  # type: ignore[return-value]


class DrawReader(DrawAttention):
    """Reads a glimpse of images through a window (equation 27)."""

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Images ``(B, C, height, width)`` and states ``(B, H)`` to glimpses ``(B, C · N · N)``."""
        window = self.window(state)
        down, across = self.filters(window)
        glimpse = down.unsqueeze(1) @ images @ across.unsqueeze(1).transpose(2, 3)
        return glimpse.flatten(1) * window.strength


class DrawWriter(DrawAttention):
    """Writes to the canvas through a window (equations 28 and 29).

    Args:
        state_size, height, width, size: See :class:`DrawAttention`.
    """

    def __init__(self, state_size: int, height: int, width: int, size: int) -> None:
        super().__init__(state_size, height, width, size)
        self.patch = nn.Linear(state_size, size * size)

    def forward(self, state: Tensor) -> tuple[Tensor, Window]:
        """States ``(B, H)`` to writes ``(B, height, width)`` and their windows."""
        window = self.window(state)
        down, across = self.filters(window)
        patch = self.patch(state).unflatten(1, (self.size, self.size))
        return down.transpose(1, 2) @ patch @ across / window.strength.unsqueeze(2), window


def _filters(centers: Tensor, variance: Tensor, pixels: int) -> Tensor:
    """Gaussian filters ``(B, N, pixels)`` around ``centers (B, N)``."""
    positions = torch.arange(1, pixels + 1, device=centers.device, dtype=centers.dtype)
    distances = (positions - centers.unsqueeze(2)).square()
    weights = torch.exp(distances / (-2 * variance.unsqueeze(2)))
    return weights / weights.sum(2, keepdim=True).clamp(min=_MIN_WEIGHT_SUM)


class FullImageReader(nn.Module):
    """Reads whole images, without attention (equation 17).

    >>> FullImageReader()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4)).shape
    torch.Size([1, 18])
    """

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Images ``(B, C, height, width)`` to ``(B, C · height · width)``; the state is ignored."""
        return images.flatten(1)


class FullImageWriter(RenamedWeights):
    """Writes the whole canvas, without attention (equation 18).

    Args:
        state_size: Width of the state, ``H``.
        height, width: Size of the image in pixels.
    """

    old_names: ClassVar = {"paint": "linear"}  # in version 0.1

    def __init__(self, state_size: int, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.linear = nn.Linear(state_size, height * width)

    def forward(self, state: Tensor) -> tuple[Tensor, Window]:
        """States ``(B, H)`` to writes ``(B, height, width)``, and a window at the image's center."""
        zero = F.pad(state[:, :0], (0, 1))
        window = Window(zero + (self.width + 1) / 2, zero + (self.height + 1) / 2, zero + 1.0, zero + 1.0, zero + 1.0)
        return self.linear(state).unflatten(1, (self.height, self.width)), window
