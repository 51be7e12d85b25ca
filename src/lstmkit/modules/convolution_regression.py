"""Logistic regression on random convolutions of time series, as a module beside a recurrent classifier."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.modules.mixed_regression import MixedRegression

_TAPS = 9
_GOLDEN_RATIO = (np.sqrt(5) + 1) / 2
_BATCH = 64
_SEED = 0  # of thresholds and channels
_MAX_CHANNELS = 9  # that a kernel reads

MIN_STEPS = _TAPS  #: Shorter series are not worth a convolution.


def minirocket_kernels() -> np.ndarray:
    """The 84 kernels of 9 taps: three are 2, the others -1, so that each sums to 0.

    >>> kernels = minirocket_kernels()
    >>> kernels.shape, float(np.abs(kernels.sum(axis=1)).max())
    ((84, 9), 0.0)
    """
    places = list(combinations(range(_TAPS), 3))
    kernels = np.full((len(places), _TAPS), -1.0, dtype=np.float32)
    kernels[np.arange(len(places))[:, None], np.array(places)] = 2.0
    return kernels


def dilations_for(steps: int, limit: int = 8) -> list[int]:
    """At most ``limit`` dilations at equal ratios, the largest with a kernel as long as ``steps``.

    >>> dilations_for(150)
    [1, 2, 3, 5, 8, 12, 18]
    """
    largest = max(1.0, (steps - 1) / (_TAPS - 1))
    return sorted({int(d) for d in np.geomspace(1, largest, limit) + 1e-9})


class ConvolutionRegression(MixedRegression):
    """Log-probabilities of classes from MiniRocket features (Dempster, Schmidt and Webb 2021).

    A feature is the fraction of steps at which a dilated convolution with one of 84 fixed kernels exceeds a threshold.
    Thresholds are quantiles of the convolutions of random training examples. Of several channels a kernel reads a
    random subset. Series are padded with zeros, the mean after standardization, for all kernels, unlike in the paper.

    Args:
        channels: Values per step, ``F``.
        dilations: Steps between the taps of kernels.
        thresholds: Number of thresholds for each kernel and dilation.
        classes: Number of classes, ``C``.
        share: Its weight in the probabilities of the classifier, above 0 and below 1.

    >>> module = ConvolutionRegression(channels=2, dilations=[1, 2], thresholds=3, classes=4)
    >>> module(torch.zeros(5, 30, 2)).shape
    torch.Size([5, 4])
    """

    kind = "convolutions"
    kernels: Tensor
    channel_masks: Tensor
    levels: Tensor
    means: Tensor
    scales: Tensor

    def __init__(
        self, channels: int, dilations: Sequence[int], thresholds: int, classes: int, share: float = 0.5
    ) -> None:
        kernels = torch.from_numpy(minirocket_kernels())
        shape = (len(dilations), thresholds, len(kernels))
        super().__init__(int(np.prod(shape)), classes, share)
        self.channels, self.dilations, self.thresholds = channels, tuple(dilations), thresholds
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("channel_masks", torch.ones(len(dilations), len(kernels), channels))
        self.register_buffer("levels", torch.zeros(shape))
        self.register_buffer("means", torch.zeros(len(self.weight)))
        self.register_buffer("scales", torch.ones(len(self.weight)))

    @property
    def sizes(self) -> dict[str, Any]:
        return {"channels": self.channels, "dilations": list(self.dilations), "thresholds": self.thresholds}

    def fit_features(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """Choose channels and thresholds, and standardize the features of training series ``(T, F)``: ``(N, D)``."""
        rng = np.random.default_rng(_SEED)
        self.channel_masks.copy_(torch.from_numpy(self._random_channels(rng)))
        for d in range(len(self.dilations)):
            for j in range(self.thresholds):
                series = torch.from_numpy(encoded[int(rng.integers(len(encoded)))])
                values = self._convolved(series.T[None], d)[0].numpy()
                first = (d * self.thresholds + j) * len(values)
                quantiles = (np.arange(first + 1, first + 1 + len(values)) * _GOLDEN_RATIO) % 1
                self.levels[d, j] = torch.from_numpy(_between_values(values, quantiles))
        features = np.concatenate([self._of_batch(encoded[i : i + _BATCH]) for i in range(0, len(encoded), _BATCH)])
        deviations = features.std(axis=0)
        size = np.sqrt(max(1, int((deviations > 0).sum())))  # so that examples have about length 1
        self.means.copy_(torch.from_numpy(features.mean(axis=0)))
        self.scales.copy_(torch.from_numpy(np.where(deviations > 0, 1 / (np.maximum(deviations, 1e-3) * size), 0.0)))
        return (features - self.means.numpy()) * self.scales.numpy()

    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        standardized = (self.fractions(inputs, lengths) - self.means) * self.scales
        return standardized @ self.weight + self.bias

    def fractions(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Fractions of steps above each threshold, ``(B, D)``, of padded series ``(B, T, F)``."""
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        counts = torch.full((inputs.shape[0],), inputs.shape[1], device=inputs.device) if lengths is None else lengths
        inside = (steps < counts.to(inputs.device)[:, None]).to(self.levels.dtype)[:, None]  # (B, 1, T)
        series = inputs.to(self.levels.dtype).transpose(1, 2) * inside
        weights = inside / inside.sum(-1, keepdim=True).clamp(min=1)
        found = []
        for d in range(len(self.dilations)):
            values = self._convolved(series, d)
            found += [((values > levels[:, None]) * weights).sum(-1) for levels in self.levels[d]]
        return torch.cat(found, 1)

    def _convolved(self, series: Tensor, d: int) -> Tensor:
        """``(B, F, T) -> (B, 84, T)``."""
        dilation = self.dilations[d]
        weights = self.channel_masks[d].unsqueeze(-1) * self.kernels.unsqueeze(1)
        return F.conv1d(series, weights, dilation=dilation, padding=dilation * (_TAPS // 2))

    def _of_batch(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in encoded], batch_first=True)
        with torch.inference_mode():
            return self.fractions(padded, torch.tensor([len(one) for one in encoded])).numpy()

    def _random_channels(self, rng: np.random.Generator) -> np.ndarray:
        """``(dilations, 84, F)`` of 0 and 1: subsets whose sizes are spread evenly in the logarithm."""
        masks = np.zeros(tuple(self.channel_masks.shape), dtype=np.float32)
        largest = np.log2(min(self.channels, _MAX_CHANNELS) + 1)
        for mask in masks.reshape(-1, self.channels):
            size = min(self.channels, max(1, int(2 ** rng.uniform(0, largest))))
            mask[rng.choice(self.channels, size, replace=False)] = 1.0
        return masks


def _between_values(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """A quantile of each row of ``values (N, T)``, midway between two values: rounding must not decide what exceeds it.

    Args:
        values: At least one in each row.
        quantiles: ``(N,)`` in [0, 1).
    """
    ranked, rows = np.sort(values, axis=1), np.arange(len(values))
    lower = (quantiles * max(1, values.shape[1] - 1)).astype(int)
    upper = np.minimum(lower + 1, values.shape[1] - 1)
    return (ranked[rows, lower] + ranked[rows, upper]) / 2
