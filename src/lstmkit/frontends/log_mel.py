"""Front end for speech recognition: log-mel frames."""

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
    """Audio clips as log-mel frames, standardized on the training split.

    Attributes:
        mel: Log-mel spectrogram.
        frames: Front end for the frames.
    """

    kind: ClassVar[str] = "audio"
    unit: ClassVar[str] = "second"

    mel: LogMelSpectrogram
    frames: FeatureFrontEnd

    def fit(self, inputs: Sequence[AudioClip], progress: Progress) -> None:
        with progress.task("computing spectrograms", len(inputs)) as task:
            spectrograms = []
            for done, clip in enumerate(inputs, 1):
                spectrograms.append(self.mel.frames(clip))
                task.update(done)
        self.frames.fit(spectrograms, progress)

    def encode(self, inputs: Sequence[AudioClip], names: Sequence[str]) -> list[np.ndarray]:
        """Standardized frames ``(T, bands)`` float32 of each clip."""
        return self.frames.encode([self.mel.frames(clip) for clip in inputs], names)

    def build(self) -> CausalConvEncoder:
        return self.frames.build()

    def positions(self, example: AudioClip, steps: np.ndarray) -> np.ndarray:
        """Seconds from the start of the clip."""
        return np.minimum(self.seconds(steps), example.seconds)

    def seconds(self, steps: np.ndarray) -> np.ndarray:
        """Start time of frames in seconds; a frame represents the hop at its center."""
        return (steps * self.mel.hop_length + (self.mel.window_length - self.mel.hop_length) / 2) / self.mel.sample_rate

    def state(self) -> dict[str, Any]:
        return self.frames.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.frames.load_state(state)
