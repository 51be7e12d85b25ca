"""Log-mel spectrogram of a clip or of a stream of samples."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip, resample
from lstmkit.errors import SettingError
from lstmkit.libraries import imports_of

MIN_POWER = 1e-10  #: Floor of the power before the logarithm
_FRAMES_PER_CHUNK = 4096


@dataclass(frozen=True)
class LogMelSpectrogram:
    """Log-mel spectrogram: log power in mel bands of overlapping Hann windows.

    Args:
        sample_rate: Sample rate in Hz; clips with another rate are resampled.
        n_mels: Number of mel bands from 0 Hz to half the sample rate, ``F``.
        window_seconds: Length of a frame, in seconds.
        hop_seconds: Distance between frames, in seconds.
        remove_dc_offset: Whether to subtract the mean of each frame, which removes a DC offset.

    >>> LogMelSpectrogram(sample_rate=8000, n_mels=40).frames(AudioClip("hum", np.ones(8000, np.float32), 8000)).shape
    (98, 40)
    """

    sample_rate: int = 16_000
    n_mels: int = 40
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    remove_dc_offset: bool = False

    @property
    def window_length(self) -> int:
        """Frame length in samples."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Hop length in samples."""
        return max(1, round(self.hop_seconds * self.sample_rate))

    @property
    def n_fft(self) -> int:
        """FFT size: the frame length, rounded up to a power of two."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def full_scale_log_power(self) -> float:
        """Log power in every band of white noise at full scale."""
        window = torch.hann_window(self.window_length)
        return float(np.log(float(window.square().sum()) * self.n_fft / self.sample_rate))

    @property
    def center_frequencies(self) -> np.ndarray:
        """Center frequency of each band in Hz, ``(F,)``."""
        with imports_of("sound", "audio"):
            from librosa import mel_frequencies

        return np.asarray(mel_frequencies(self.n_mels + 2, fmin=0.0, fmax=self.sample_rate / 2)[1:-1])

    def frames(self, clip: AudioClip) -> np.ndarray:
        """Frames ``(T, F)`` float32 of a clip.

        Frame ``t`` covers ``window_length`` samples from sample ``t * hop_length``. A clip shorter than a frame is
        padded with silence to one frame.
        """
        samples = resample(clip, self.sample_rate).samples
        return self.from_samples(np.pad(samples, (0, max(0, self.window_length - len(samples)))))

    def from_samples(self, samples: np.ndarray) -> np.ndarray:
        """Complete frames ``(T, F)`` of samples ``(N,)`` at the sample rate."""
        count = max(0, 1 + (len(samples) - self.window_length) // self.hop_length)
        if not count:
            return np.zeros((0, self.n_mels), dtype=np.float32)
        frames = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).unfold(
            0, self.window_length, self.hop_length
        )
        return torch.cat([self._log_mel(chunk) for chunk in frames.split(_FRAMES_PER_CHUNK)]).numpy()

    def _log_mel(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(1, keepdim=True) if self.remove_dc_offset else frames
        power = torch.fft.rfft(frames * torch.hann_window(self.window_length), n=self.n_fft).abs().square()
        return (power @ self.filters).clamp(min=MIN_POWER).log()

    @property
    def filters(self) -> Tensor:
        """Mel filter bank ``(n_fft / 2 + 1, F)`` with Slaney's scale and area normalization, as in librosa."""
        return _filters(self.sample_rate, self.n_fft, self.n_mels)

    def stream(self) -> StreamingLogMelSpectrogram:
        """A streaming version of the spectrogram."""
        return StreamingLogMelSpectrogram(self)

    def times(self, frames: int) -> np.ndarray:
        """Center time of each frame in seconds, ``(frames,)``."""
        return (np.arange(frames) * self.hop_length + self.window_length / 2) / self.sample_rate


class StreamingLogMelSpectrogram:
    """Log-mel spectrogram of a stream of samples; all frames together equal those of the whole clip."""

    def __init__(self, mel: LogMelSpectrogram) -> None:
        self.mel = mel
        self._rest = np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Frames ``(T, F)`` that are complete after the next samples ``(N,)``, at the rate of :attr:`mel`."""
        pending = np.concatenate([self._rest, samples.astype(np.float32)])
        frames = self.mel.from_samples(pending)
        self._rest = pending[len(frames) * self.mel.hop_length :]
        return frames


@lru_cache(maxsize=8)
def _filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    with imports_of("sound", "audio"):
        from librosa.filters import mel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        filters = mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
    if not filters.any(axis=1).all():
        raise SettingError(
            f"n_mels={n_mels} is too many for a sample rate of {sample_rate:,} Hz (some bands are empty): give fewer"
        )
    return torch.from_numpy(filters).T.contiguous()
