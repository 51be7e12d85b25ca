"""Convolutions that make a sequence shorter before a recurrent trunk reads it. Padding changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.augmentation import SpecAugment, SpeedPerturbation, TextLineAugmentation
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.pooling import within

ConvolutionState = tuple[Tensor, ...] | None  #: What each convolution saw last; it goes on from there.


def strided_lengths(lengths: Tensor | None, stride: int) -> Tensor | None:
    """``(B,)``: how many strides there are in so many steps, the last may be begun."""
    return None if lengths is None else -(-lengths // stride)


class CausalConvEncoder(nn.Module):
    """Convolutions over time, each of which keeps every ``stride``-th step; what comes later is never seen.

    Args:
        input_size: Features a step, ``F``.
        channels: Of each convolution.
        strides: Of each convolution.
        reach: Steps before its stride that each convolution sees as well.
        dropout: In training, the share of the output's features that are hidden, the same at all steps.
        masks: What is hidden from training, see :class:`SpecAugment`.
        tempo: How training is told faster or slower, see :class:`SpeedPerturbation`.

    >>> encoder = CausalConvEncoder(3, 8, strides=(2, 2), reach=3).eval()
    >>> x = torch.randn(1, 12, 3)
    >>> whole, _, _ = encoder(x)
    >>> first, _, before = encoder(x[:, :8])
    >>> later, _, _ = encoder(x[:, 8:], before=before)
    >>> whole.shape, torch.allclose(whole, torch.cat([first, later], 1), atol=1e-6)
    (torch.Size([1, 3, 8]), True)
    """

    def __init__(
        self,
        input_size: int,
        channels: int,
        strides: Sequence[int],
        reach: int = 3,
        dropout: float = 0.0,
        masks: SpecAugment | None = None,
        tempo: SpeedPerturbation | None = None,
    ) -> None:
        super().__init__()
        self.output_size, self.stride, self.reach, self.dropout = channels, math.prod(strides), reach, dropout
        self.strides, self.masks, self.tempo = tuple(strides), masks, tempo
        sizes = [input_size, *(channels for _ in strides)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, channels, reach + stride, stride) for size, stride in zip(sizes, strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in strides)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, before: ConvolutionState = None
    ) -> tuple[Tensor, Tensor | None, ConvolutionState]:
        """``(B, T, F) -> (B, ceil(T / stride), channels)``, the lengths of that, and what to go on from.

        To go on, ``T`` must have been a multiple of the stride.
        """
        if self.tempo is not None:
            x, lengths = self.tempo(x, lengths)
        if self.masks is not None:
            x = self.masks(x, lengths)
        if x.shape[1] % self.stride:
            lengths = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
            x = F.pad(x, (0, 0, 0, -x.shape[1] % self.stride))
        after = []
        for i, (convolution, norm, stride) in enumerate(zip(self.convolutions, self.norms, self.strides, strict=True)):
            past = x.new_zeros(len(x), self.reach, x.shape[2]) if before is None else before[i]
            seen = torch.cat([past, x], 1)
            after.append(seen[:, seen.shape[1] - self.reach :])
            x = F.relu(norm(convolution(seen.transpose(1, 2)).transpose(1, 2)))
            lengths = strided_lengths(lengths, stride)
            x = x * within(x, lengths).unsqueeze(2)
        return variational_dropout(x, self.dropout, self.training), lengths, tuple(after)


class TextLineEncoder(nn.Module):
    """A picture of a line, column by column: two convolutions of three by three, each pooled two by two.

    After C. Wick, C. Reul, F. Puppe 2020, "Calamari", DHQ 14, with other widths. A column of the output is four of
    the picture.

    Args:
        height: Of the picture, a multiple of 4.
        channels: Of the first convolution; the second has twice as many.
        output_size: Width of what is made of a column.
        dropout: In training, the share of the output's features that are hidden, the same at all columns.
        noise: What is done to a picture in training.
    """

    stride = 4

    def __init__(
        self,
        height: int,
        channels: int,
        output_size: int,
        dropout: float = 0.0,
        noise: TextLineAugmentation | None = None,
    ) -> None:
        super().__init__()
        self.output_size, self.dropout, self.noise = output_size, dropout, noise
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.linear = nn.Linear(2 * channels * height // 4, output_size)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, before: ConvolutionState = None
    ) -> tuple[Tensor, Tensor | None, ConvolutionState]:
        """Columns ``(B, W, H)``, ink 1 on 0, to ``(B, ceil(W / 4), output_size)``, and the lengths of that.

        It sees to both sides, so that nothing goes on from ``before``.
        """
        if self.noise is not None:
            x = self.noise(x)
        if lengths is None and x.shape[1] % self.stride:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.stride)).unsqueeze(1)
        for convolution in (self.first, self.second):
            x = x * within(x[:, 0], lengths)[:, None, :, None]
            x = F.relu(convolution(x))
            x = F.max_pool2d(x * within(x[:, 0], lengths)[:, None, :, None], 2)
            lengths = strided_lengths(lengths, 2)
        x = F.relu(self.linear(x.transpose(1, 2).flatten(2)))
        x = x * within(x, lengths).unsqueeze(2)
        return variational_dropout(x, self.dropout, self.training), lengths, None
