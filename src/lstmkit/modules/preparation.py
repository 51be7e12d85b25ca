"""Preparation of numbers and sound as modules: what front ends compute with numpy, for exported graphs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.audio.log_mel import MIN_POWER, LogMelSpectrogram
from lstmkit.modules.pooling import length_mask


class Standardization(nn.Module):
    """Standardized values: ``(..., F)`` of float64 to float32.

    Args:
        mean, std: ``(F,)`` of float64.
        float64_columns: ``(F,)`` true for columns whose values are not rounded to float32 first.
    """

    def __init__(self, mean: np.ndarray, std: np.ndarray, float64_columns: np.ndarray) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.float64_columns: Tensor
        for name, fixed in {"mean": mean, "std": std, "float64_columns": float64_columns}.items():
            self.register_buffer(name, torch.from_numpy(fixed))

    def forward(self, values: Tensor) -> Tensor:
        limit = torch.finfo(torch.float32).max
        values = values.double()
        rounded = values.clamp(-limit, limit).float().double()
        return ((torch.where(self.float64_columns, values, rounded) - self.mean) / self.std).float()


class SequenceStandardization(nn.Module):
    """Standardized sequences, perhaps relative to their means: ``(B, T, F)`` of lengths ``(B,)``; padding becomes 0.

    Args:
        standardization: Of the values.
        mean_normalization: Whether to subtract the mean of each sequence first.
    """

    def __init__(self, standardization: Standardization, mean_normalization: bool) -> None:
        super().__init__()
        self.standardization, self.mean_normalization = standardization, mean_normalization

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        mask = length_mask(values, lengths).unsqueeze(2)
        if self.mean_normalization:
            total = (values.double() * mask).sum(1, keepdim=True)
            values = values - (total / mask.sum(1, keepdim=True)).to(values.dtype)
        return self.standardization(values) * mask


class LogMel(nn.Module):
    """The frames of a log-mel spectrogram by matrix products: samples ``(N,)`` to ``(T, F)``.

    The discrete Fourier transform of a windowed frame is a matrix, and so is the subtraction of the frame's mean.

    Args:
        mel: The spectrogram. Samples must have its rate, and be enough for one frame.

    >>> mel = LogMelSpectrogram(sample_rate=8000, n_mels=20)
    >>> samples = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    >>> bool(np.allclose(LogMel(mel)(torch.from_numpy(samples)), mel.from_samples(samples), atol=1e-4))
    True
    """

    def __init__(self, mel: LogMelSpectrogram) -> None:
        super().__init__()
        self.hop, self.bins = mel.hop_length, mel.n_fft // 2 + 1
        angles = 2 * np.pi / mel.n_fft * np.outer(np.arange(mel.window_length), np.arange(self.bins))
        window = torch.hann_window(mel.window_length).double().numpy()[:, None]
        transform = np.concatenate([window * np.cos(angles), window * np.sin(angles)], axis=1)
        if mel.remove_dc_offset:
            transform = transform - transform.mean(axis=0)
        self.transform: Tensor
        self.filters: Tensor
        self.register_buffer("transform", torch.from_numpy(transform.T[:, None].astype(np.float32)))
        self.register_buffer("filters", mel.filters.clone())

    def forward(self, samples: Tensor) -> Tensor:
        spectrum = F.conv1d(samples[None, None], self.transform, stride=self.hop)[0]  # (2 bins, T)
        power = spectrum[: self.bins].square() + spectrum[self.bins :].square()
        # A convolution, not a matrix product: the weights of those may be kept in 8 bits, which filters do not stand.
        bands = F.conv1d(power[None], self.filters.T.unsqueeze(2))[0]  # (F, T)
        return bands.T.clamp(min=MIN_POWER).log()


class LoudnessNormalization(nn.Module):
    """Log-mel frames ``(T, F)`` of a clip relative to its level, a quantile of the loudness of its frames.

    Args:
        quantile: The quantile, in [0, 1].
        full_scale: Log power of full scale.
        min_level: Lowest level, in nats of full scale.
        dynamic_range: Values more than this below the level are clipped, in nats.
    """

    def __init__(self, quantile: float, full_scale: float, min_level: float, dynamic_range: float) -> None:
        super().__init__()
        self.quantile, self.full_scale = quantile, full_scale
        self.min_level, self.dynamic_range = min_level, dynamic_range

    def forward(self, frames: Tensor) -> Tensor:
        loudness = frames.double().exp().mean(1).log() - self.full_scale
        ranked = loudness.sort().values
        place = self.quantile * (torch.ones_like(loudness).sum() - 1)
        lower = place.floor().long()
        upper = place.ceil().long()
        level = ranked[lower] + (place - place.floor()) * (ranked[upper] - ranked[lower])
        shift = (level.clamp(min=self.min_level) + self.full_scale).float()
        return (frames - shift).clamp(min=-self.dynamic_range)


class Calibrated(nn.Module):
    """Logits ``(..., C)`` to calibrated probabilities of float64.

    Args:
        temperature: The logits are divided by it.
        multi_label: Whether each class has a probability of its own, by the logistic function, instead of softmax.
    """

    def __init__(self, temperature: float, multi_label: bool = False) -> None:
        super().__init__()
        self.temperature, self.multi_label = temperature, multi_label

    def forward(self, logits: Tensor) -> Tensor:
        scaled = logits.double() / self.temperature
        return scaled.sigmoid() if self.multi_label else scaled.softmax(-1)
