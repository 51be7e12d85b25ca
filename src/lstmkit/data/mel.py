"""What a sound is like from moment to moment: the log-mel spectrum, of a whole sound or as it comes in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.sound import Sound, resampled

_QUIETEST = 1e-10  # power: of what is below the logarithm says nothing
_AT_ONCE = 4096  # frames that are transformed together


@dataclass(frozen=True)
class Mel:
    """How sounds become frames: windows of samples, the power of their frequencies in bands as wide as one hears.

    Args:
        rate: Samples a second; sounds of another are brought to it.
        bands: Of the mel scale, up to half the rate; ``F``.
        window: Length of a frame, in seconds.
        hop: From one frame to the next, in seconds.

    >>> Mel(rate=8000, bands=40).frames(Sound("hum", np.ones(8000, np.float32), 8000)).shape
    (98, 40)
    """

    rate: int = 16_000
    bands: int = 40
    window: float = 0.025
    hop: float = 0.010

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

    def frames(self, sound: Sound) -> np.ndarray:
        """``(T, F)`` float32: frame ``t`` is of the samples ``t * step … t * step + length``, and of no later one.

        A sound shorter than a frame is one frame, filled up with silence.
        """
        samples = resampled(sound, self.rate).samples
        return self.of_samples(np.pad(samples, (0, max(0, self.length - len(samples)))))

    def of_samples(self, samples: np.ndarray) -> np.ndarray:
        """``(T, F)`` of ``(N,)`` samples at the rate: the frames that are whole."""
        count = max(0, 1 + (len(samples) - self.length) // self.step)
        if not count:
            return np.zeros((0, self.bands), dtype=np.float32)
        pieces = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).unfold(0, self.length, self.step)
        return torch.cat([self._bands(part) for part in pieces.split(_AT_ONCE)]).numpy()

    def _bands(self, pieces: Tensor) -> Tensor:
        power = torch.fft.rfft(pieces * torch.hann_window(self.length), n=self.size).abs().square()
        return (power @ self.filters).clamp(min=_QUIETEST).log()

    @property
    def filters(self) -> Tensor:
        """``(size / 2 + 1, F)``: the share of each frequency in each band, by Slaney's scale and areas, as librosa."""
        return _filters(self.rate, self.size, self.bands)

    def live(self) -> MelStream:
        """For samples as they come in."""
        return MelStream(self)

    def times(self, frames: int) -> np.ndarray:
        """``(frames,)`` seconds at the middle of each."""
        return (np.arange(frames) * self.step + self.length / 2) / self.rate


class MelStream:
    """The frames of samples that come in bit by bit: the same as of all together."""

    def __init__(self, mel: Mel) -> None:
        self.mel = mel
        self._rest = np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """``(T, F)``: the frames that are whole with these ``(N,)`` samples, at the rate of :class:`Mel`."""
        known = np.concatenate([self._rest, samples.astype(np.float32)])
        found = self.mel.of_samples(known)
        self._rest = known[len(found) * self.mel.step :]
        return found


@lru_cache(maxsize=8)
def _filters(rate: int, size: int, bands: int) -> Tensor:
    from librosa.filters import mel

    return torch.from_numpy(mel(sr=rate, n_fft=size, n_mels=bands)).T.contiguous()
