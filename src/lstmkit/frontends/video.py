"""Front end for video: a convolutional network over each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from lstmkit.data.vision.image_io import channel_mean_std, thumbnail
from lstmkit.data.vision.video_io import ClipFormat, VideoClip
from lstmkit.errors import DataError
from lstmkit.modules.image_encoder import WIDTHS, ImageEncoder, PixelNormalizer
from lstmkit.modules.video_encoder import VideoEncoder
from lstmkit.progress import Progress


@dataclass
class VideoFrontEnd:
    """Video clips as frames of one format, normalized on the training split and encoded by a residual network.

    Attributes:
        clip_format: Format of the frames.
        feature_size: Features per frame.
        dropout, max_translation: See :class:`VideoEncoder`.
    """

    kind: ClassVar[str] = "video"

    clip_format: ClipFormat
    feature_size: int
    dropout: float
    max_translation: float
    _mean: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _std: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)

    def fit(self, inputs: Sequence[VideoClip], progress: Progress) -> None:
        self._check(inputs)
        self._mean, self._std = channel_mean_std([clip.frames for clip in inputs])

    def _check(self, inputs: Sequence[VideoClip]) -> None:
        for clip in inputs:
            if clip.frames.shape[1:] != self.frame_shape:
                raise DataError(
                    f"{clip.name} has frames of shape {clip.frames.shape[1:]}, the model expects {self.frame_shape}: "
                    "give the file, or arrays, which are converted"
                )

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """``(H, W, C)`` of the frames."""
        return self.clip_format.height, self.clip_format.width, self._channels

    @property
    def _channels(self) -> int:
        return 3 if self.clip_format.color else 1

    def encode(self, inputs: Sequence[VideoClip]) -> list[np.ndarray]:
        """Frames ``(T, H, W, C)`` uint8 of each clip, unchanged."""
        self._check(inputs)
        return [clip.frames for clip in inputs]

    def thumbnails(self, inputs: Sequence[VideoClip]) -> list[np.ndarray]:
        """Grayscale thumbnails of 8 × 8 pixels of each clip, ``(T, 64)`` float32, for nearest-neighbor baselines."""
        return [np.stack([thumbnail(frame, color=False) for frame in clip.frames]) for clip in inputs]

    def build(self) -> tuple[nn.Module, int]:
        normalizer = PixelNormalizer(self._mean.tolist(), self._std.tolist())
        encoder = VideoEncoder(
            normalizer,
            ImageEncoder(self._channels, WIDTHS),
            self.feature_size,
            self.dropout,
            max_translation=self.max_translation,
        )
        return encoder, encoder.output_size

    def steps(self, example: VideoClip) -> list[str]:
        """The time of each frame."""
        return [f"{time:.2f} s" for time in example.times]

    def occlude(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """Set frames to the mean color of the training split."""
        occluded = encoded.copy()
        occluded[start:end] = self._mean.round()
        return occluded

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        single = sum(len(frames) == 1 for frames in encoded)
        return [f"{single} of the clips have a single frame, so they show no motion."] if single else []

    def state(self) -> dict[str, Any]:
        return {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._mean, self._std = (np.array(state[name], dtype=np.float64) for name in ("mean", "std"))
        if self._mean.shape != (self._channels,) or self._std.shape != (self._channels,):
            raise ValueError("its means and deviations do not match its color channels")
        if not (np.isfinite(self._mean).all() and (self._std > 0).all()):
            raise ValueError("its means or deviations are invalid")
