"""Sounds: the log power of their mel bands, frame by frame, and convolutions over these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.errors import DataError
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.modules.audio_encoder import AudioAugmentation, AudioEncoder
from lstmkit.progress import Progress

FASTEST = 16_000  #: Samples a second that are read where none are asked for: speech has little above half of them.
SLOWEST = 4_000
_DEPTH = 60.0  # decibels below a sound's level that are told apart
_MIN_LEVEL = -70.0  # decibels of full scale: a sound below is not made louder
_LOUD = 0.9  # of the frames, by their loudness: that of the loud ones is a sound's level
_NATS = np.log(10) / 10  # of a decibel


@dataclass
class AugmentedLogMelFrontEnd:
    """Sounds as frames of log power in bands of the mel scale, 25 ms long, 10 ms apart.

    An offset is taken out frame by frame. Of each sound its level is taken away, the loudness that a tenth of its
    frames are above, and what is 60 dB below is silence: a sound is the same however loud it was recorded, and a
    clipped one is near to what it was. Below -70 dB of full scale it is not made louder. Then each band is
    standardised on the training part.

    Attributes:
        rate: Samples a second that sounds are brought to; 0 for those of the slowest training sound, at most 16,000.
        bands: Of the mel scale.
        channels: Of the convolutions.
        shift: Seconds of silence that training puts before and after, at most.
        noise, speed, masks: As of :class:`AudioAugmentation`.
        dropout: As of :class:`AudioEncoder`.
    """

    kind: ClassVar[str] = "sound"

    rate: int
    bands: int
    channels: int
    shift: float
    noise: float
    speed: float
    masks: int
    dropout: float
    seconds: float = field(default=0.0, init=False)  #: Of the longest training sound.
    mel: LogMelSpectrogram = field(default_factory=LogMelSpectrogram, init=False)
    _scale: StandardizedFrontEnd = field(default_factory=StandardizedFrontEnd, init=False, repr=False)

    def fit(self, inputs: Sequence[AudioClip], progress: Progress) -> None:
        slowest = min(sound.rate for sound in inputs)
        self._set_up(self.rate or min(FASTEST, max(SLOWEST, slowest)), max(sound.seconds for sound in inputs))
        frames = []
        with progress.task("hearing the sounds", len(inputs)) as task:
            for done, sound in enumerate(inputs, 1):
                frames.append(self.normalize_loudness(self.mel.frames(sound)))
                task.update(done)
        self._scale.fit(frames, progress)

    def _set_up(self, rate: int, seconds: float) -> None:
        self.mel, self.seconds = LogMelSpectrogram(rate, self.bands, centred=True), seconds

    def loudness(self, frames: np.ndarray) -> np.ndarray:
        """``(T,)`` decibels of full scale of frames ``(T, F)``."""
        return (np.log(np.exp(frames, dtype=np.float64).mean(axis=1)) - self.mel.full_scale_log_power) / _NATS

    def decibels(self, frames: np.ndarray) -> np.ndarray:
        """Frames ``(T, F)`` in decibels of full scale."""
        return (frames - self.mel.full_scale_log_power) / _NATS

    def normalize_loudness(self, frames: np.ndarray) -> np.ndarray:
        """Frames of one sound, 0 at its own level."""
        level = max(float(np.quantile(self.loudness(frames), _LOUD)), _MIN_LEVEL)
        found = frames - np.float32(level * _NATS + self.mel.full_scale_log_power)
        return np.maximum(found, np.float32(-_DEPTH * _NATS))

    def encode(self, inputs: Sequence[AudioClip]) -> list[np.ndarray]:
        """Of each its frames ``(T, F)`` float32."""
        return [self.heard(self.mel.frames(sound)) for sound in inputs]

    def heard(self, frames: np.ndarray) -> np.ndarray:
        """Frames ``(T, F)`` of :attr:`mel`, of one sound, as the network reads them."""
        return self._scale.encode([self.normalize_loudness(frames)])[0]

    def check_duration(self, inputs: Sequence[AudioClip]) -> None:
        """Raise DataError where a sound is too long to be one of what was learnt: over twice the longest, and 1 s."""
        for sound in inputs:
            if sound.seconds > 2 * self.seconds + 1:
                raise DataError(
                    f"{sound.name} lasts {sound.seconds:,.1f} s, what the model learnt from at most {self.seconds:.1f} "
                    "s: find the commands in it with --listen 0.5, in Python with listen()"
                )

    def build(self) -> tuple[nn.Module, int]:
        scale = self._scale.state()
        disturbance = AudioAugmentation(
            torch.tensor(scale["mean"]),
            torch.tensor(scale["std"]),
            torch.from_numpy(self.mel.pitches),
            -_DEPTH * _NATS,
            shift=round(self.shift / self.mel.hop),
            noise=self.noise,
            speed=self.speed,
            masks=self.masks,
        )
        encoder = AudioEncoder(self.bands, self.channels, self.dropout, disturbance)
        return encoder, encoder.output_size

    def steps(self, example: AudioClip) -> list[str]:
        """The time at the middle of each frame."""
        count = len(self.mel.frames(example))
        return [f"{time:.2f} s" for time in self.mel.times(count)]

    def without(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """The frames at the training part's mean, as masks have them."""
        return self._scale.without(encoded, start, end)

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        return []

    def state(self) -> dict[str, Any]:
        return {"rate": self.mel.rate, "seconds": self.seconds, **self._scale.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        rate, seconds = state["rate"], float(state["seconds"])
        if not isinstance(rate, int) or not SLOWEST <= rate <= FASTEST * 3 or not 0 < seconds < 3600:
            raise ValueError("its rate or its longest sound is none")
        self._set_up(rate, seconds)
        self._scale.load_state(state)
        if self._scale.width != self.bands:
            raise ValueError("its means and deviations are not of its bands")
