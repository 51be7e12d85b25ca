"""Augmentation and convolutional encoding of spectrogram frames."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.augmentation import interpolate
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.pooling import length_mask

_NATS_PER_DECIBEL = math.log(10) / 10
_MAX_SNR = 60.0  # decibels: largest signal-to-noise ratio of added noise
_MAX_SPECTRAL_TILT = 2.0  # nats: largest difference of the noise between lowest and middle band
_MAX_MASK_FRACTION = 0.2  # largest fraction of a clip's frames, or of its bands, that one mask covers
TIME_REDUCTION = 4  #: Frames per step of the encoder's output.


class AudioAugmentation(nn.Module):
    """Augmentation of log-power spectrogram frames in training: tempo, pitch, time shift, noise and SpecAugment masks.

    Tempo and pitch are changed on the frames, each by its own factor. Noise is added as power. Masks are those of
    SpecAugment (Park et al. 2019), with the mean as fill value. The randomness comes from torch's global generator, so
    that a resumed training gives the same result as an uninterrupted one.

    Args:
        mean, std: ``(F,)`` mean and standard deviation of each band's log power, by which frames are standardized.
        center_frequencies: ``(F,)`` center frequencies of the bands in Hz, ascending.
        silence_log_power: Log power of silence, relative to the clip.
        max_time_shift: Maximum number of silent frames added before and after.
        min_snr_db: Minimum signal-to-noise ratio in decibels; 0 for no noise.
        speed_perturbation: Maximum relative change of tempo and pitch, for example 0.1.
        spec_augment_masks: Number of time masks, and of frequency masks.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        center_frequencies: Tensor,
        silence_log_power: float,
        *,
        max_time_shift: int = 0,
        min_snr_db: float = 0.0,
        speed_perturbation: float = 0.0,
        spec_augment_masks: int = 0,
    ) -> None:
        super().__init__()
        (
            self.silence_log_power,
            self.max_time_shift,
            self.min_snr_db,
            self.speed_perturbation,
            self.spec_augment_masks,
        ) = silence_log_power, max_time_shift, min_snr_db, speed_perturbation, spec_augment_masks
        self.mean: Tensor
        self.std: Tensor
        self.center_frequencies: Tensor
        for name, fixed in {"mean": mean, "std": std, "center_frequencies": center_frequencies}.items():
            self.register_buffer(name, fixed.float(), persistent=False)  # saved with the job

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Augment standardized frames ``(B, T, F)`` of lengths ``(B,)``; the number of frames may change."""
        if not self.training:
            return x, lengths
        power = x * self.std + self.mean
        if self.speed_perturbation:
            power = self._shift_pitch(power)
        if self.speed_perturbation or self.max_time_shift:
            power, lengths = self._stretch_time(power, lengths)
        if self.min_snr_db:
            power = self._add_noise(power)
        x = (power - self.mean) / self.std
        for _ in range(self.spec_augment_masks):
            x = x.masked_fill(self._mask(x, lengths)[:, :, None], 0.0)
            x = x.masked_fill(self._mask(x.transpose(1, 2), None)[:, None], 0.0)
        return x, lengths

    def _factor(self, x: Tensor) -> Tensor:
        """Random factors ``(B, 1)`` around 1."""
        return 1 + self.speed_perturbation * (2 * torch.rand(len(x), 1, device=x.device) - 1)

    def _shift_pitch(self, power: Tensor) -> Tensor:
        """Multiply all frequencies by a random factor."""
        source = self.center_frequencies / self._factor(power)
        right = torch.searchsorted(self.center_frequencies, source).clamp(1, len(self.center_frequencies) - 1)
        below, above = self.center_frequencies[right - 1], self.center_frequencies[right]
        weight = ((source - below) / (above - below)).clamp(0, 1).unsqueeze(1)
        index = right.unsqueeze(1).expand_as(power)
        return power.gather(2, index - 1).lerp(power.gather(2, index), weight)

    def _stretch_time(self, power: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch time by a random factor and add random silence before and after."""
        lengths = lengths.to(power.device).unsqueeze(1)
        stretched = (lengths / self._factor(power)).round().long().clamp(min=1)
        before, after = torch.randint(0, self.max_time_shift + 1, (2, len(power), 1), device=power.device)
        new_lengths = stretched + before + after
        steps = torch.arange(int(new_lengths.max()), device=power.device)
        positions = (steps - before) * ((lengths - 1) / (stretched - 1).clamp(min=1))
        frames = interpolate(power, positions, lengths[:, 0])
        silent = (steps < before) | (steps >= before + stretched)
        return frames.masked_fill(silent.unsqueeze(2), self.silence_log_power), new_lengths[:, 0]

    def _add_noise(self, power: Tensor) -> Tensor:
        """Add noise of random level and spectral tilt, with the variance of a mean of three spectrum bins."""
        snr = self.min_snr_db + (_MAX_SNR - self.min_snr_db) * torch.rand(len(power), 1, 1, device=power.device)
        slope = _MAX_SPECTRAL_TILT * (2 * torch.rand(len(power), 1, 1, device=power.device) - 1)
        tilt = slope * torch.linspace(1, -1, power.shape[2], device=power.device)
        noise_power = -torch.rand(*power.shape, 3, device=power.device).clamp(min=1e-6).log().mean(-1)
        return torch.logaddexp(power, noise_power.log() + tilt - _NATS_PER_DECIBEL * snr).clamp(
            min=self.silence_log_power
        )

    @staticmethod
    def _mask(x: Tensor, lengths: Tensor | None) -> Tensor:
        """A mask ``(B, T)`` of bool: one random interval per row."""
        positions = torch.arange(x.shape[1], device=x.device)
        size = x.new_full((len(x), 1), x.shape[1]) if lengths is None else lengths.to(x.device).unsqueeze(1)
        width = _MAX_MASK_FRACTION * size * torch.rand(len(x), 1, device=x.device)
        start = (size - width) * torch.rand(len(x), 1, device=x.device)
        return (positions >= start.round()) & (positions < (start + width).round())


class AudioEncoder(nn.Module):
    """Two convolutions over time and frequency with stride 2: one step per four frames.

    Inputs past a clip's end are 0, so that padding does not change the output.

    Args:
        n_mels: Number of mel bands, ``F``.
        conv_channels: Channels of each convolution.
        dropout: Dropout probability on the output's features, with one mask for all steps.
        augmentation: Augmentation of the frames in training; ``None`` for none.

    >>> features, lengths = AudioEncoder(40, conv_channels=8)(torch.zeros(2, 100, 40))
    >>> features.shape, lengths.tolist()
    (torch.Size([2, 25, 80]), [25, 25])
    """

    reads_lengths = True  # the output has fewer steps than the input

    def __init__(
        self, n_mels: int, conv_channels: int, dropout: float = 0.0, augmentation: AudioAugmentation | None = None
    ) -> None:
        super().__init__()
        self.augmentation, self.dropout = augmentation, dropout
        self.first = nn.Conv2d(1, conv_channels, 5, stride=2, padding=2)
        self.second = nn.Conv2d(conv_channels, conv_channels, 3, stride=2, padding=1)
        self.output_size = conv_channels * -(-n_mels // TIME_REDUCTION)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames ``(B, T, F)`` and lengths ``(B,)`` to ``(B, ceil(T / 4), output_size)`` and its lengths."""
        steps: Tensor = x.new_full((x.shape[0],), x.shape[1], dtype=torch.long) if lengths is None else lengths
        if self.augmentation is not None:
            x, steps = self.augmentation(x, steps)
        x = x.unsqueeze(1)
        for convolution in (self.first, self.second):
            x = F.relu(convolution(x * length_mask(x[:, 0], steps)[:, None, :, None]))
            steps = (steps + 1) // 2
        return variational_dropout(x.transpose(1, 2).flatten(2), self.dropout, self.training), steps
