"""Front end for audio classification: augmented log-mel frames with normalized loudness."""

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
from lstmkit.modules.preparation import LogMel, LoudnessNormalization
from lstmkit.progress import Progress

MAX_SAMPLE_RATE = 16_000  #: Maximum default sample rate in Hz: speech has little energy above 8 kHz.
MIN_SAMPLE_RATE = 4_000  #: Minimum sample rate in Hz.
_DYNAMIC_RANGE = 60.0  # dB below the level of a clip; lower values are clipped
_MIN_LEVEL = -70.0  # dB of full scale; quieter clips are not amplified further
_LEVEL_QUANTILE = 0.9  # the level of a clip is this quantile of its frame loudness
_NATS_PER_DECIBEL = np.log(10) / 10


@dataclass
class AugmentedLogMelFrontEnd:
    """Audio clips as log-mel frames of 25 ms every 10 ms, with data augmentation.

    The mean of each frame is subtracted (DC offset). The level of a clip, the 90th percentile of its frame loudness, is
    subtracted, and values are clipped at 60 dB below it, so that the recording volume does not matter. Clips below
    -70 dB of full scale are not amplified further. Then each band is standardized on the training split.

    Attributes:
        sample_rate: Sample rate in Hz; 0 for the lowest rate of the training clips, at most 16,000.
        n_mels: Number of mel bands.
        conv_channels: Convolution channels.
        max_time_shift: Maximum time shift in training, in seconds.
        min_snr_db, speed_perturbation, spec_augment_masks: See :class:`AudioAugmentation`.
        dropout: See :class:`AudioEncoder`.
    """

    kind: ClassVar[str] = "audio"

    sample_rate: int
    n_mels: int
    conv_channels: int
    max_time_shift: float
    min_snr_db: float
    speed_perturbation: float
    spec_augment_masks: int
    dropout: float
    seconds: float = field(default=0.0, init=False)  #: Duration of the longest training clip.
    mel: LogMelSpectrogram = field(default_factory=LogMelSpectrogram, init=False)
    _scaler: StandardizedFrontEnd = field(default_factory=StandardizedFrontEnd, init=False, repr=False)

    def fit(self, inputs: Sequence[AudioClip], progress: Progress) -> None:
        min_rate = min(clip.sample_rate for clip in inputs)
        rate = self.sample_rate or min(MAX_SAMPLE_RATE, max(MIN_SAMPLE_RATE, min_rate))
        self._set_up(rate, max(clip.seconds for clip in inputs))
        frames = []
        with progress.task("computing spectrograms", len(inputs)) as task:
            for done, clip in enumerate(inputs, 1):
                frames.append(self.normalize_loudness(self.mel.frames(clip)))
                task.update(done)
        self._scaler.fit(frames, progress)

    def _set_up(self, sample_rate: int, seconds: float) -> None:
        self.mel, self.seconds = LogMelSpectrogram(sample_rate, self.n_mels, remove_dc_offset=True), seconds

    def loudness(self, frames: np.ndarray) -> np.ndarray:
        """Loudness of frames ``(T, F)`` in dB of full scale, ``(T,)``."""
        return (
            np.log(np.exp(frames, dtype=np.float64).mean(axis=1)) - self.mel.full_scale_log_power
        ) / _NATS_PER_DECIBEL

    def decibels(self, frames: np.ndarray) -> np.ndarray:
        """Convert frames ``(T, F)`` to dB of full scale."""
        return (frames - self.mel.full_scale_log_power) / _NATS_PER_DECIBEL

    def normalize_loudness(self, frames: np.ndarray) -> np.ndarray:
        """Subtract the level of a clip from its frames ``(T, F)``, and clip the dynamic range."""
        level = max(float(np.quantile(self.loudness(frames), _LEVEL_QUANTILE)), _MIN_LEVEL)
        normalized = frames - np.float32(level * _NATS_PER_DECIBEL + self.mel.full_scale_log_power)
        return np.maximum(normalized, np.float32(-_DYNAMIC_RANGE * _NATS_PER_DECIBEL))

    def encode(self, inputs: Sequence[AudioClip]) -> list[np.ndarray]:
        """Normalized frames ``(T, F)`` float32 of each clip."""
        return [self.normalize(self.mel.frames(clip)) for clip in inputs]

    def normalize(self, frames: np.ndarray) -> np.ndarray:
        """Normalize the frames ``(T, F)`` of one clip for the network."""
        return self._scaler.encode([self.normalize_loudness(frames)])[0]

    def check_duration(self, inputs: Sequence[AudioClip]) -> None:
        """Raise DataError if a clip is longer than twice the longest training clip plus 1 s."""
        for clip in inputs:
            if clip.seconds > 2 * self.seconds + 1:
                raise DataError(
                    f"{clip.name} has {clip.seconds:,.1f} s, but training clips have at most {self.seconds:.1f} s: "
                    "find the commands in it with keyword_threshold=0.5 of predict"
                )

    def build(self) -> tuple[nn.Module, int]:
        state = self._scaler.state()
        augmentation = AudioAugmentation(
            torch.tensor(state["mean"]),
            torch.tensor(state["std"]),
            torch.from_numpy(self.mel.center_frequencies),
            -_DYNAMIC_RANGE * _NATS_PER_DECIBEL,
            max_time_shift=round(self.max_time_shift / self.mel.hop_seconds),
            min_snr_db=self.min_snr_db,
            speed_perturbation=self.speed_perturbation,
            spec_augment_masks=self.spec_augment_masks,
        )
        encoder = AudioEncoder(self.n_mels, self.conv_channels, self.dropout, augmentation)
        return encoder, encoder.output_size

    def preparation(self) -> nn.Module:
        """:meth:`encode` of a clip's samples ``(N,)`` at the model's rate as a module, for exported graphs."""
        loudness = LoudnessNormalization(
            _LEVEL_QUANTILE,
            self.mel.full_scale_log_power,
            _MIN_LEVEL * _NATS_PER_DECIBEL,
            _DYNAMIC_RANGE * _NATS_PER_DECIBEL,
        )
        return nn.Sequential(LogMel(self.mel), loudness, self._scaler.preparation())

    def steps(self, example: AudioClip) -> list[str]:
        """Center time of each frame."""
        count = len(self.mel.frames(example))
        return [f"{time:.2f} s" for time in self.mel.times(count)]

    def occlude(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """Set frames to the training mean, as SpecAugment masks do."""
        return self._scaler.occlude(encoded, start, end)

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        return []

    def state(self) -> dict[str, Any]:
        return {"rate": self.mel.sample_rate, "seconds": self.seconds, **self._scaler.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        rate, seconds = state["rate"], float(state["seconds"])
        if not isinstance(rate, int) or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE * 3 or not 0 < seconds < 3600:
            raise ValueError("its sample rate or maximum duration is invalid")
        self._set_up(rate, seconds)
        self._scaler.load_state(state)
        if self._scaler.width != self.n_mels:
            raise ValueError("its means and deviations do not match its number of mel bands")
