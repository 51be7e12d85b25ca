"""Frames of sounds: as they might have been spoken otherwise, and what convolutions make of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.augmentation import between
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.pooling import within

_NATS = math.log(10) / 10  # of a decibel
_FAINTEST = 60.0  # decibels under the sound: noise that is hardly heard
_MAX_SPECTRAL_TILT = 2.0  # nats by which noise is at most stronger in the lowest than in the middle band, or weaker
_MAX_MASK_FRACTION = 0.2  # of a sound's frames, and of its bands, that one mask hides at most
TIME_REDUCTION = 4  #: Frames of what the encoder makes one step of.


class AudioAugmentation(nn.Module):
    """In training, frames as if they had been spoken faster or slower, higher or lower, later, in noise; parts hidden.

    Time is stretched and pitch is shifted on the frames themselves, each by a factor of its own; noise is added as
    power. Masks are those of SpecAugment (Park et al. 2019), whose hidden parts have the mean. Like dropout it draws
    from torch's own random numbers, so that a resumed training goes on as if it had not stopped.

    Args:
        mean, std: ``(F,)`` of the log power of each band, by which frames are standardised.
        pitches: ``(F,)`` hertz, rising: the middle of each band.
        quiet: Log power of silence, where 0 is that of the sound.
        shift: Frames of silence put before and after, at most.
        noise: Decibels that noise is below the sound, at least; 0 for no noise.
        speed: By which share tempo and pitch are higher or lower, at most.
        masks: Stretches of time, and as many of bands, that are hidden.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        pitches: Tensor,
        quiet: float,
        *,
        shift: int = 0,
        noise: float = 0.0,
        speed: float = 0.0,
        masks: int = 0,
    ) -> None:
        super().__init__()
        self.quiet, self.shift, self.noise, self.speed, self.masks = quiet, shift, noise, speed, masks
        self.mean: Tensor
        self.std: Tensor
        self.pitches: Tensor
        for name, fixed in {"mean": mean, "std": std, "pitches": pitches}.items():
            self.register_buffer(name, fixed.float(), persistent=False)  # whoever builds it has them saved

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised frames ``(B, T, F)`` and their lengths ``(B,)`` to others, which may be more or fewer."""
        if not self.training:
            return x, lengths
        power = x * self.std + self.mean
        if self.speed:
            power = self._retuned(power)
        if self.speed or self.shift:
            power, lengths = self._retimed(power, lengths)
        if self.noise:
            power = self._noisy(power)
        x = (power - self.mean) / self.std
        for _ in range(self.masks):
            x = x.masked_fill(self._mask(x, lengths)[:, :, None], 0.0)
            x = x.masked_fill(self._mask(x.transpose(1, 2), None)[:, None], 0.0)
        return x, lengths

    def _factor(self, x: Tensor) -> Tensor:
        """``(B, 1)`` around 1."""
        return 1 + self.speed * (2 * torch.rand(len(x), 1, device=x.device) - 1)

    def _retuned(self, power: Tensor) -> Tensor:
        """What was heard at a pitch is heard at a multiple of it."""
        wanted = self.pitches / self._factor(power)
        right = torch.searchsorted(self.pitches, wanted).clamp(1, len(self.pitches) - 1)
        below, above = self.pitches[right - 1], self.pitches[right]
        share = ((wanted - below) / (above - below)).clamp(0, 1).unsqueeze(1)
        which = right.unsqueeze(1).expand_as(power)
        return power.gather(2, which - 1).lerp(power.gather(2, which), share)

    def _retimed(self, power: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Stretched in time, silence before and after."""
        lengths = lengths.to(power.device).unsqueeze(1)
        own = (lengths / self._factor(power)).round().long().clamp(min=1)
        before, after = torch.randint(0, self.shift + 1, (2, len(power), 1), device=power.device)
        found = own + before + after
        steps = torch.arange(int(found.max()), device=power.device)
        at = (steps - before) * ((lengths - 1) / (own - 1).clamp(min=1))
        heard = between(power, at, lengths[:, 0])
        silent = (steps < before) | (steps >= before + own)
        return heard.masked_fill(silent.unsqueeze(2), self.quiet), found[:, 0]

    def _noisy(self, power: Tensor) -> Tensor:
        """Noise of any loudness and colour added, as uneven as that of three bins of a spectrum."""
        under = self.noise + (_FAINTEST - self.noise) * torch.rand(len(power), 1, 1, device=power.device)
        slope = _MAX_SPECTRAL_TILT * (2 * torch.rand(len(power), 1, 1, device=power.device) - 1)
        tilt = slope * torch.linspace(1, -1, power.shape[2], device=power.device)
        uneven = -torch.rand(*power.shape, 3, device=power.device).clamp(min=1e-6).log().mean(-1)
        return torch.logaddexp(power, uneven.log() + tilt - _NATS * under).clamp(min=self.quiet)

    @staticmethod
    def _mask(x: Tensor, lengths: Tensor | None) -> Tensor:
        """``(B, T)`` bool: one stretch of each."""
        places = torch.arange(x.shape[1], device=x.device)
        size = x.new_full((len(x), 1), x.shape[1]) if lengths is None else lengths.to(x.device).unsqueeze(1)
        width = _MAX_MASK_FRACTION * size * torch.rand(len(x), 1, device=x.device)
        start = (size - width) * torch.rand(len(x), 1, device=x.device)
        return (places >= start.round()) & (places < (start + width).round())


class AudioEncoder(nn.Module):
    """Two convolutions over time and bands, each of which halves both: a step is what is heard around four frames.

    What stands past a sound's end is 0 before each, as it is past the end of the longest: padding changes nothing.

    Args:
        bands: Of a frame, ``F``.
        channels: Of each convolution.
        dropout: In training, the share of the output's features that are hidden, the same at all steps.
        disturbance: What training does to the frames before; ``None`` for nothing.
    """

    reads_lengths = True  # for steps are fewer than frames

    def __init__(
        self, bands: int, channels: int, dropout: float = 0.0, disturbance: AudioAugmentation | None = None
    ) -> None:
        super().__init__()
        self.disturbance, self.dropout = disturbance, dropout
        self.first = nn.Conv2d(1, channels, 5, stride=2, padding=2)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.output_size = channels * -(-bands // TIME_REDUCTION)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(B, T, F)`` and lengths ``(B,)`` to ``(B, T / 4, output_size)``, rounded up, and the lengths of these."""
        own = x.new_full((len(x),), x.shape[1], dtype=torch.long) if lengths is None else lengths
        if self.disturbance is not None:
            x, own = self.disturbance(x, own)
        x = x.unsqueeze(1)
        for halve in (self.first, self.second):
            x = F.relu(halve(x * within(x[:, 0], own)[:, None, :, None]))
            own = (own + 1) // 2
        return variational_dropout(x.transpose(1, 2).flatten(2), self.dropout, self.training), own
