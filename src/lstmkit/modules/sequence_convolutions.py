"""Strided convolutions that shorten a sequence before the recurrent trunk, independent of padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.augmentation import SpecAugment, SpeedPerturbation, TextLineAugmentation
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.pooling import length_mask

ConvolutionState = tuple[Tensor, ...] | None  #: Last inputs of each convolution, to continue a sequence.


def strided_lengths(lengths: Tensor | None, stride: int) -> Tensor | None:
    """Lengths ``(B,)`` after a strided convolution, rounded up."""
    return None if lengths is None else -(-lengths // stride)


class CausalConvEncoder(nn.Module):
    """Causal strided convolutions over time; the output never depends on later steps.

    Args:
        input_size: Features per step, ``F``.
        channels: Channels of each convolution.
        strides: Stride of each convolution.
        reach: Earlier steps that each convolution reads in addition to its stride.
        dropout: Dropout probability on the output's features, with one mask for all steps.
        masks: Masking in training; see :class:`SpecAugment`.
        tempo: Speed perturbation in training; see :class:`SpeedPerturbation`.

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
        """``(B, T, F) -> (B, ceil(T / stride), channels)``, its lengths, and the state to continue from.

        A sequence can only be continued if ``T`` is a multiple of the stride.
        """
        if self.tempo is not None:
            x, lengths = self.tempo(x, lengths)
        if self.masks is not None:
            x = self.masks(x, lengths)
        if torch.compiler.is_exporting() or x.shape[1] % self.stride:  # the length of an exported graph is open
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device) if lengths is None else lengths
            x = F.pad(x, (0, 0, 0, -x.shape[1] % self.stride))
        after = []
        for i, (convolution, norm, stride) in enumerate(zip(self.convolutions, self.norms, self.strides, strict=True)):
            past = x.new_zeros(x.shape[0], self.reach, x.shape[2]) if before is None else before[i]
            extended = torch.cat([past, x], 1)
            after.append(extended[:, extended.shape[1] - self.reach :])
            x = F.relu(norm(convolution(extended.transpose(1, 2)).transpose(1, 2)))
            lengths = strided_lengths(lengths, stride)
            x = x * length_mask(x, lengths).unsqueeze(2)
        return variational_dropout(x, self.dropout, self.training), lengths, tuple(after)


class TextLineEncoder(nn.Module):
    """An image of a text line to a sequence of columns: two 3 x 3 convolutions, each with 2 x 2 max pooling.

    After C. Wick, C. Reul, F. Puppe 2020, "Calamari", DHQ 14, with other widths. A column of the output stands for four
    columns of the image.

    Args:
        height: Height of the image in pixels, a multiple of 4.
        channels: Channels of the first convolution; the second has twice as many.
        output_size: Width of a column's features.
        dropout: Dropout probability on the output's features, with one mask for all columns.
        noise: Augmentation of the images in training.
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
        """Columns ``(B, W, H)``, ink 1 on background 0, to ``(B, ceil(W / 4), output_size)`` and its lengths.

        The convolutions are not causal, so ``before`` is ignored and no state is returned.
        """
        if self.noise is not None:
            x = self.noise(x)
        if lengths is None and x.shape[1] % self.stride:
            lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.stride)).unsqueeze(1)
        for convolution in (self.first, self.second):
            x = x * length_mask(x[:, 0], lengths)[:, None, :, None]
            x = F.relu(convolution(x))
            x = F.max_pool2d(x * length_mask(x[:, 0], lengths)[:, None, :, None], 2)
            lengths = strided_lengths(lengths, 2)
        x = F.relu(self.linear(x.transpose(1, 2).flatten(2)))
        x = x * length_mask(x, lengths).unsqueeze(2)
        return variational_dropout(x, self.dropout, self.training), lengths, None
