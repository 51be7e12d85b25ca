"""Random augmentation in training: SpecAugment, speed perturbation, and distortion of text-line images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpecAugment(nn.Module):
    """SpecAugment (Park et al. 2019) without time warping: random time and frequency masks, set to 0, the mean.

    Args:
        num_time_masks: Time masks per example.
        max_time_width: Maximum steps of a time mask; at most a fifth of the example.
        num_frequency_masks: Frequency masks per example.
        max_frequency_width: Maximum features of a frequency mask.
    """

    def __init__(
        self, num_time_masks: int, max_time_width: int, num_frequency_masks: int, max_frequency_width: int
    ) -> None:
        super().__init__()
        self.num_time_masks, self.max_time_width, self.num_frequency_masks, self.max_frequency_width = (
            num_time_masks,
            max_time_width,
            num_frequency_masks,
            max_frequency_width,
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mask ``(B, T, F)`` in training."""
        if not self.training:
            return x
        steps = torch.full((x.shape[0],), x.shape[1], device=x.device) if lengths is None else lengths
        max_steps = torch.minimum(steps / 5, torch.full_like(steps, self.max_time_width))
        for _ in range(self.num_time_masks):
            x = x.masked_fill(_random_interval(steps, max_steps, x.shape[1]).unsqueeze(2), 0.0)
        sizes = torch.full_like(steps, x.shape[2])
        max_features = torch.full_like(sizes, self.max_frequency_width)
        for _ in range(self.num_frequency_masks):
            x = x.masked_fill(_random_interval(sizes, max_features, x.shape[2]).unsqueeze(1), 0.0)
        return x


def _random_interval(lengths: Tensor, max_width: Tensor, size: int) -> Tensor:
    """A mask ``(B, size)``: one interval per row, uniform in width (up to ``max_width``) and position."""
    width = (torch.rand(len(lengths), device=lengths.device) * (max_width + 1)).floor()
    start = (torch.rand(len(lengths), device=lengths.device) * (lengths - width + 1).clamp(min=1)).floor()
    positions = torch.arange(size, device=lengths.device)
    return (positions >= start.unsqueeze(1)) & (positions < (start + width).unsqueeze(1))


class SpeedPerturbation(nn.Module):
    """Random change of tempo in training, with linear interpolation between steps.

    Ko et al. 2015, "Audio Augmentation for Speech Recognition", on features instead of samples, so the pitch stays.

    Args:
        speed: The factor of an example is uniform in ``1 - speed`` to ``1 + speed``.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Change the number of steps of ``(B, T, F)``; returns the new steps and lengths."""
        if not self.training or not self.speed:
            return x, lengths
        steps = torch.full((x.shape[0],), x.shape[1], device=x.device) if lengths is None else lengths.to(x.device)
        factor = 1 + self.speed * (2 * torch.rand(len(x), device=x.device) - 1)
        new_steps = (steps / factor).round().long().clamp(min=1)
        spacing = ((steps - 1) / (new_steps - 1).clamp(min=1)).unsqueeze(1)
        positions = torch.arange(int(new_steps.max()), device=x.device) * spacing
        return interpolate(x, positions, steps), new_steps


def interpolate(x: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Interpolate ``x (B, T, F)`` linearly at fractional steps ``positions (B, S)``: ``(B, S, F)``.

    Positions before the first and after the last step (of ``lengths (B,)``) are clamped.

    >>> x, positions = torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[-1.0, 0.25, 1.5]])
    >>> interpolate(x, positions, torch.tensor([2])).flatten()
    tensor([0.0000, 0.2500, 1.0000])
    """
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    low = positions.floor().long().clamp(min=0).minimum(last)
    high = (low + 1).minimum(last)
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return x[rows, low].lerp(x[rows, high], (positions - low).clamp(0, 1).unsqueeze(2))


class TextLineAugmentation(nn.Module):
    """Random distortion of text-line images in training: shear, scale, shift, stroke width and noise.

    Args:
        strength: 0 for none. At 1 the shear is up to 0.2, the height 0.85 to 1.1 times, the shift up to 5 % of the
            height.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        """Distort images ``(B, W, H)``; the width stays."""
        if not self.training or not self.strength:
            return x
        count, width, height = x.shape
        slant, scale, shift, ink, noise_level = (2 * torch.rand(count, 5, device=x.device) - 1).unbind(1)
        affine = torch.zeros(count, 2, 3, device=x.device)
        affine[:, 0, 0] = 1 + self.strength * (scale * 0.125 + 0.025)
        affine[:, 0, 2] = 0.1 * self.strength * shift
        affine[:, 1, 0] = 0.2 * self.strength * slant * height / width
        affine[:, 1, 1] = 1.0
        grid = F.affine_grid(affine, [count, 1, width, height], align_corners=False)
        images = F.grid_sample(x.unsqueeze(1), grid, align_corners=False)
        dilated, eroded = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
        amount = (self.strength * 0.6 * ink).view(-1, 1, 1, 1)
        images = torch.where(amount > 0, images + amount * (dilated - images), images - amount * (eroded - images))
        noise = torch.randn_like(images) * (0.05 * self.strength * (1 + noise_level).view(-1, 1, 1, 1))
        return (images + noise)[:, 0]
