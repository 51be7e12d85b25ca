"""What is done to sounds and pictures in training, anew each time, so that a model learns what matters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpecAugment(nn.Module):
    """Stretches of time and bands of features are hidden in training: set to 0, the mean.

    Park et al. 2019, "SpecAugment", without the warping of time.

    Args:
        times: Stretches of time of each example.
        longest: Steps of one, at most; no more than a fifth of the example.
        bands: Bands of features of each example.
        widest: Features of one, at most.
    """

    def __init__(self, times: int, longest: int, bands: int, widest: int) -> None:
        super().__init__()
        self.times, self.longest, self.bands, self.widest = times, longest, bands, widest

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, F)``, some of it 0."""
        if not self.training:
            return x
        steps = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
        most = torch.minimum(steps / 5, torch.full_like(steps, self.longest))
        for _ in range(self.times):
            x = x.masked_fill(_stretch(steps, most, x.shape[1]).unsqueeze(2), 0.0)
        size = torch.full_like(steps, x.shape[2])
        for _ in range(self.bands):
            x = x.masked_fill(_stretch(size, torch.full_like(size, self.widest), x.shape[2]).unsqueeze(1), 0.0)
        return x


def _stretch(lengths: Tensor, most: Tensor, size: int) -> Tensor:
    """``(B, size)``: a stretch of each, drawn evenly, of up to ``most`` places."""
    wide = (torch.rand(len(lengths), device=lengths.device) * (most + 1)).floor()
    start = (torch.rand(len(lengths), device=lengths.device) * (lengths - wide + 1).clamp(min=1)).floor()
    places = torch.arange(size, device=lengths.device)
    return (places >= start.unsqueeze(1)) & (places < (start + wide).unsqueeze(1))


class SpeedPerturbation(nn.Module):
    """Examples are told faster or slower in training, each by a factor of its own; what lies between steps is a line.

    Ko et al. 2015, "Audio Augmentation for Speech Recognition", on features in place of samples: pitch stays.

    Args:
        speed: The factor lies between ``1 - speed`` and ``1 + speed``.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``(B, T, F)`` and its lengths to more or fewer steps, and the lengths of these."""
        if not self.training or not self.speed:
            return x, lengths
        steps = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths.to(x.device)
        factor = 1 + self.speed * (2 * torch.rand(len(x), device=x.device) - 1)
        own = (steps / factor).round().long().clamp(min=1)
        at = torch.arange(int(own.max()), device=x.device) * ((steps - 1) / (own - 1).clamp(min=1)).unsqueeze(1)
        return between(x, at, steps), own


def between(x: Tensor, at: Tensor, lengths: Tensor) -> Tensor:
    """``(B, T, F)`` at places ``(B, S)`` between its steps: ``(B, S, F)``, by straight lines.

    Before the first step and from the last of ``lengths (B,)`` on it stays as there.

    >>> between(torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[-1.0, 0.25, 1.5]]), torch.tensor([2])).flatten()
    tensor([0.0000, 0.2500, 1.0000])
    """
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    low = at.floor().long().clamp(min=0).minimum(last)
    high = (low + 1).minimum(last)
    rows = torch.arange(len(x), device=x.device).unsqueeze(1)
    return x[rows, low].lerp(x[rows, high], (at - low).clamp(0, 1).unsqueeze(2))


class TextLineAugmentation(nn.Module):
    """A line of text in training: sheared, moved and stretched a little, its ink thinner or thicker, speckled.

    Args:
        strength: 0 for none; at 1 slants of up to 0.2, heights from 0.85 to 1.1, and moves of up to 5 % of the height.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        """``(B, W, H)``; each picture keeps its width."""
        if not self.training or not self.strength:
            return x
        count, wide, high = x.shape
        slant, size, up, ink, specks = (2 * torch.rand(count, 5, device=x.device) - 1).unbind(1)
        place = torch.zeros(count, 2, 3, device=x.device)
        place[:, 0, 0] = 1 + self.strength * (size * 0.125 + 0.025)
        place[:, 0, 2] = 0.1 * self.strength * up
        place[:, 1, 0] = 0.2 * self.strength * slant * high / wide
        place[:, 1, 1] = 1.0
        grid = F.affine_grid(place, [count, 1, wide, high], align_corners=False)
        seen = F.grid_sample(x.unsqueeze(1), grid, align_corners=False)
        thick, thin = F.max_pool2d(seen, 3, 1, 1), -F.max_pool2d(-seen, 3, 1, 1)
        share = (self.strength * 0.6 * ink).view(-1, 1, 1, 1)
        seen = torch.where(share > 0, seen + share * (thick - seen), seen - share * (thin - seen))
        noise = torch.randn_like(seen) * (0.05 * self.strength * (1 + specks).view(-1, 1, 1, 1))
        return (seen + noise)[:, 0]
