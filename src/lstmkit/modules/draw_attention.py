"""Looking at a part of a picture, and painting on a part of it: grids of Gaussian filters whose place is told.

K. Gregor, I. Danihelka, A. Graves, D. J. Rezende, D. Wierstra 2015, "DRAW: A Recurrent Neural Network For Image
Generation", arXiv:1502.04623, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_WINDOW_PARAMETERS = 5  #: Numbers that tell a window.
_LEAST = 1e-8  # what a filter's weights add up to at least: one that lies far outside the picture sees nothing


class Window(NamedTuple):
    """A grid of ``N`` by ``N`` filters over a picture, in dots, the first dot at 1.

    Attributes:
        across, down: ``(B, 1)`` where the middle of the grid lies.
        stride: ``(B, 1)`` from a filter to the next.
        variance: ``(B, 1)`` of each filter.
        strength: ``(B, 1)`` that what is seen or painted is multiplied by.
    """

    across: Tensor
    down: Tensor
    stride: Tensor
    variance: Tensor
    strength: Tensor


class DrawAttention(nn.Module):
    """From a state to a window (equations 21 to 24), and from a window to its filters (19, 20, 25, 26).

    Args:
        state_size: Width of the state that tells where.
        height, width: Of the picture, in dots.
        size: Filters along a side, ``N``.
    """

    def __init__(self, state_size: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        self.tell = nn.Linear(state_size, N_WINDOW_PARAMETERS)

    def window(self, state: Tensor) -> Window:
        """``(B, H)`` to where it looks."""
        across, down, variance, stride, strength = self.tell(state).split(1, dim=1)
        step = (max(self.height, self.width) - 1) / max(1, self.size - 1)
        return Window(
            (self.width + 1) / 2 * (across + 1),
            (self.height + 1) / 2 * (down + 1),
            step * stride.exp(),
            variance.exp(),
            strength.exp(),
        )

    def filters(self, window: Window) -> tuple[Tensor, Tensor]:
        """``(B, N, height)`` and ``(B, N, width)``: each filter's weights add up to 1."""
        at = torch.arange(self.size, device=window.across.device) - (self.size - 1) / 2
        return tuple(
            _filters(middle + at * window.stride, window.variance, dots)
            for middle, dots in ((window.down, self.height), (window.across, self.width))
        )  # type: ignore[return-value]


class DrawReader(DrawAttention):
    """What of pictures is seen through a window (equation 27)."""

    def forward(self, pictures: Tensor, state: Tensor) -> Tensor:
        """``(B, C, height, width)`` and ``(B, H)`` to ``(B, C · N · N)``."""
        window = self.window(state)
        down, across = self.filters(window)
        seen = down.unsqueeze(1) @ pictures @ across.unsqueeze(1).transpose(2, 3)
        return seen.flatten(1) * window.strength


class DrawWriter(DrawAttention):
    """What is painted through a window (equations 28 and 29).

    Args:
        state_size, height, width, size: As of :class:`DrawAttention`.
    """

    def __init__(self, state_size: int, height: int, width: int, size: int) -> None:
        super().__init__(state_size, height, width, size)
        self.patch = nn.Linear(state_size, size * size)

    def forward(self, state: Tensor) -> tuple[Tensor, Window]:
        """``(B, H)`` to ``(B, height, width)``, and through which window."""
        window = self.window(state)
        down, across = self.filters(window)
        patch = self.patch(state).unflatten(1, (self.size, self.size))
        return down.transpose(1, 2) @ patch @ across / window.strength.unsqueeze(2), window


def _filters(middles: Tensor, variance: Tensor, dots: int) -> Tensor:
    """Gaussians around ``(B, N)`` over ``dots``, ``(B, N, dots)``."""
    places = torch.arange(1, dots + 1, device=middles.device, dtype=middles.dtype)
    apart = (places - middles.unsqueeze(2)).square()
    weights = torch.exp(apart / (-2 * variance.unsqueeze(2)))
    return weights / weights.sum(2, keepdim=True).clamp(min=_LEAST)


class FullImageReader(nn.Module):
    """All of the pictures: no window (equation 17).

    >>> FullImageReader()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4)).shape
    torch.Size([1, 18])
    """

    def forward(self, pictures: Tensor, state: Tensor) -> Tensor:
        """``(B, C, height, width)`` to ``(B, C · height · width)``."""
        return pictures.flatten(1)


class FullImageWriter(nn.Module):
    """Paints everywhere at once (equation 18).

    Args:
        state_size: Width of the state.
        height, width: Of the picture, in dots.
    """

    def __init__(self, state_size: int, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.paint = nn.Linear(state_size, height * width)

    def forward(self, state: Tensor) -> tuple[Tensor, Window]:
        """``(B, H)`` to ``(B, height, width)``, and the window that is the whole picture."""
        whole = F.pad(state[:, :0], (0, 1))
        window = Window(
            whole + (self.width + 1) / 2, whole + (self.height + 1) / 2, whole + 1.0, whole + 1.0, whole + 1.0
        )
        return self.paint(state).unflatten(1, (self.height, self.width)), window
