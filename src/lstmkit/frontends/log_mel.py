"""Sounds as what one hears from moment to moment: the log-mel spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.frontends.features import FeatureFrontEnd
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.progress import Progress


@dataclass
class LogMelFrontEnd:
    """Sounds, brought to one rate, as frames of bands, which are standardised on the training part.

    Attributes:
        mel: How a sound becomes frames.
        frames: How frames are read.
    """

    kind: ClassVar[str] = "sounds"
    unit: ClassVar[str] = "second"

    mel: LogMelSpectrogram
    frames: FeatureFrontEnd

    def fit(self, inputs: Sequence[AudioClip], progress: Progress) -> None:
        with progress.task("reading the sounds", len(inputs)) as task:
            found = []
            for done, one in enumerate(inputs, 1):
                found.append(self.mel.frames(one))
                task.update(done)
        self.frames.fit(found, progress)

    def encode(self, inputs: Sequence[AudioClip], names: Sequence[str]) -> list[np.ndarray]:
        """Of each its frames, ``(T, bands)`` float32."""
        return self.frames.encode([self.mel.frames(one) for one in inputs], names)

    def build(self) -> CausalConvEncoder:
        return self.frames.build()

    def places(self, example: AudioClip, steps: np.ndarray) -> np.ndarray:
        """Seconds from the sound's beginning."""
        return np.minimum(self.seconds(steps), example.seconds)

    def seconds(self, steps: np.ndarray) -> np.ndarray:
        """Where frames begin: a frame stands for the hop in its middle."""
        return (steps * self.mel.step + (self.mel.length - self.mel.step) / 2) / self.mel.rate

    def state(self) -> dict[str, Any]:
        return self.frames.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.frames.load_state(state)
