"""What a sound is like from moment to moment: the log-mel spectrum, of a whole sound or as it comes in."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.audio.audio_io import AudioClip, resampled
from lstmkit.errors import SettingError

_MIN_POWER = 1e-10  # power: of what is below the logarithm says nothing
_AT_ONCE = 4096  # frames that are transformed together


@dataclass(frozen=True)
class LogMelSpectrogram:
    """How sounds become frames: windows of samples, the power of their frequencies in bands as wide as one hears.

    Args:
        rate: Samples a second; sounds of another are brought to it.
        bands: Of the mel scale, up to half the rate; ``F``.
        window: Length of a frame, in seconds.
        hop: From one frame to the next, in seconds.
        centred: Whether each frame's own mean is taken away first: the offset of a microphone is no sound.

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
        """Samples of a frame."""
        return round(self.window * self.rate)

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return max(1, round(self.hop * self.rate))

    @property
    def size(self) -> int:
        """Samples that are transformed: the next power of two."""
        return 1 << (self.length - 1).bit_length()

    @property
    def full_scale_log_power(self) -> float:
        """The log power in every band of white noise at full scale."""
        window = torch.hann_window(self.length)
        return float(np.log(float(window.square().sum()) * self.size / self.rate))

    @property
    def pitches(self) -> np.ndarray:
        """``(F,)`` hertz: the middle of each band."""
        from librosa import mel_frequencies

        return np.asarray(mel_frequencies(self.bands + 2, fmin=0.0, fmax=self.rate / 2)[1:-1])

    def frames(self, sound: AudioClip) -> np.ndarray:
        """``(T, F)`` float32: frame ``t`` is of the samples ``t * step … t * step + length``, and of no later one.

        A sound shorter than a frame is one frame, filled up with silence.
        """
        samples = resampled(sound, self.rate).samples
        return self.from_samples(np.pad(samples, (0, max(0, self.length - len(samples)))))

    def from_samples(self, samples: np.ndarray) -> np.ndarray:
        """``(T, F)`` of ``(N,)`` samples at the rate: the frames that are whole."""
        count = max(0, 1 + (len(samples) - self.length) // self.step)
        if not count:
            return np.zeros((0, self.bands), dtype=np.float32)
        pieces = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).unfold(0, self.length, self.step)
        return torch.cat([self._bands(part) for part in pieces.split(_AT_ONCE)]).numpy()

    def _bands(self, pieces: Tensor) -> Tensor:
        pieces = pieces - pieces.mean(1, keepdim=True) if self.centred else pieces
        power = torch.fft.rfft(pieces * torch.hann_window(self.length), n=self.size).abs().square()
        return (power @ self.filters).clamp(min=_MIN_POWER).log()

    @property
    def filters(self) -> Tensor:
        """``(size / 2 + 1, F)``: the share of each frequency in each band, by Slaney's scale and areas, as librosa."""
        return _filters(self.rate, self.size, self.bands)

    def live(self) -> StreamingLogMelSpectrogram:
        """For samples as they come in."""
        return StreamingLogMelSpectrogram(self)

    def times(self, frames: int) -> np.ndarray:
        """``(frames,)`` seconds at the middle of each."""
        return (np.arange(frames) * self.step + self.length / 2) / self.rate


class StreamingLogMelSpectrogram:
    """The frames of samples that come in bit by bit: the same as of all together."""

    def __init__(self, mel: LogMelSpectrogram) -> None:
        self.mel = mel
        self._rest = np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """``(T, F)``: the frames that are whole with these ``(N,)`` samples, at the rate of :class:`LogMelSpectrogram`."""
        known = np.concatenate([self._rest, samples.astype(np.float32)])
        found = self.mel.from_samples(known)
        self._rest = known[len(found) * self.mel.step :]
        return found


@lru_cache(maxsize=8)
def _filters(rate: int, size: int, bands: int) -> Tensor:
    from librosa.filters import mel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        found = mel(sr=rate, n_fft=size, n_mels=bands)
    if not found.any(axis=1).all():
        raise SettingError(f"bands={bands} are too many to tell apart at {rate:,} samples a second: give fewer")
    return torch.from_numpy(found).T.contiguous()
