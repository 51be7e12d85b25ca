"""Log-mel spectrogram of a clip or of a stream of samples."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip, resampled
from lstmkit.errors import SettingError

_MIN_POWER = 1e-10  # floor of the power before the logarithm
_FRAMES_PER_CHUNK = 4096


@dataclass(frozen=True)
class LogMelSpectrogram:
    """Log-mel spectrogram: log power in mel bands of overlapping Hann windows.

    Args:
        rate: Sample rate in Hz; clips with another rate are resampled.
        bands: Number of mel bands from 0 Hz to half the sample rate, ``F``.
        window: Length of a frame, in seconds.
        hop: Distance between frames, in seconds.
        centred: Whether to subtract the mean of each frame, which removes a DC offset.

    >>> LogMelSpectrogram(rate=8000, bands=40).frames(AudioClip("hum", np.ones(8000, np.float32), 8000)).shape
    (98, 40)
    """

    rate: int = 16_000
    bands: int = 40
    window: float = 0.025
    hop: float = 0.010
    centred: bool = False

    @property
    def length(self) -> int:
        """Frame length in samples."""
        return round(self.window * self.rate)

    @property
    def step(self) -> int:
        """Hop length in samples."""
        return max(1, round(self.hop * self.rate))

    @property
    def size(self) -> int:
        """FFT size: the frame length, rounded up to a power of two."""
        return 1 << (self.length - 1).bit_length()

    @property
    def full_scale_log_power(self) -> float:
        """Log power in every band of white noise at full scale."""
        window = torch.hann_window(self.length)
        return float(np.log(float(window.square().sum()) * self.size / self.rate))

    @property
    def pitches(self) -> np.ndarray:
        """Center frequency of each band in Hz, ``(F,)``."""
        from librosa import mel_frequencies

        return np.asarray(mel_frequencies(self.bands + 2, fmin=0.0, fmax=self.rate / 2)[1:-1])

    def frames(self, sound: AudioClip) -> np.ndarray:
        """Frames ``(T, F)`` float32 of a clip. Frame ``t`` covers the samples ``t * step … t * step + length``.

        A clip shorter than a frame is padded with silence to one frame.
        """
        samples = resampled(sound, self.rate).samples
        return self.from_samples(np.pad(samples, (0, max(0, self.length - len(samples)))))

    def from_samples(self, samples: np.ndarray) -> np.ndarray:
        """Complete frames ``(T, F)`` of samples ``(N,)`` at the sample rate."""
        count = max(0, 1 + (len(samples) - self.length) // self.step)
        if not count:
            return np.zeros((0, self.bands), dtype=np.float32)
        frames = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).unfold(0, self.length, self.step)
        return torch.cat([self._log_mel(chunk) for chunk in frames.split(_FRAMES_PER_CHUNK)]).numpy()

    def _log_mel(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(1, keepdim=True) if self.centred else frames
        power = torch.fft.rfft(frames * torch.hann_window(self.length), n=self.size).abs().square()
        return (power @ self.filters).clamp(min=_MIN_POWER).log()

    @property
    def filters(self) -> Tensor:
        """Mel filter bank ``(size / 2 + 1, F)`` with Slaney's scale and area normalization, as in librosa."""
        return _filters(self.rate, self.size, self.bands)

    def live(self) -> StreamingLogMelSpectrogram:
        """A streaming version."""
        return StreamingLogMelSpectrogram(self)

    def times(self, frames: int) -> np.ndarray:
        """Center time of each frame in seconds, ``(frames,)``."""
        return (np.arange(frames) * self.step + self.length / 2) / self.rate


class StreamingLogMelSpectrogram:
    """Log-mel spectrogram of a stream of samples; all frames together equal those of the whole clip."""

    def __init__(self, mel: LogMelSpectrogram) -> None:
        self.mel = mel
        self._rest = np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Frames ``(T, F)`` that are complete after the next samples ``(N,)``, at the rate of :attr:`mel`."""
        pending = np.concatenate([self._rest, samples.astype(np.float32)])
        frames = self.mel.from_samples(pending)
        self._rest = pending[len(frames) * self.mel.step :]
        return frames


@lru_cache(maxsize=8)
def _filters(rate: int, size: int, bands: int) -> Tensor:
    from librosa.filters import mel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        filters = mel(sr=rate, n_fft=size, n_mels=bands)
    if not filters.any(axis=1).all():
        raise SettingError(
            f"n_mels={bands} is too many for a sample rate of {rate:,} Hz (some bands are empty): give fewer"
        )
    return torch.from_numpy(filters).T.contiguous()
