"""Clips: the dots of each frame, and a convolutional network over these, frame by frame."""

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
    """Clips as frames of one shape, on the training part's scale; a residual network of ours makes features of them.

    Attributes:
        shape: Of the frames.
        output_size: Features of a frame.
        dropout, shift: As of :class:`VideoEncoder`.
    """

    kind: ClassVar[str] = "video"

    shape: ClipFormat
    output_size: int
    dropout: float
    shift: float
    _mean: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _std: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)

    def fit(self, inputs: Sequence[VideoClip], progress: Progress) -> None:
        self._check(inputs)
        self._mean, self._std = channel_mean_std([clip.frames for clip in inputs])

    def _check(self, inputs: Sequence[VideoClip]) -> None:
        wanted = (self.shape.height, self.shape.width, self._channels)
        for clip in inputs:
            if clip.frames.shape[1:] != wanted:
                raise DataError(
                    f"{clip.name} has frames of {clip.frames.shape[1:]}, the model reads {wanted}: give the file, or "
                    "arrays, which are brought to that"
                )

    @property
    def _channels(self) -> int:
        return 3 if self.shape.colour else 1

    def encode(self, inputs: Sequence[VideoClip]) -> list[np.ndarray]:
        """Of each its frames ``(T, H, W, C)`` uint8, as they are."""
        self._check(inputs)
        return [clip.frames for clip in inputs]

    def thumbnails(self, inputs: Sequence[VideoClip]) -> list[np.ndarray]:
        """Of each ``(T, 64)`` float32: its frames in grey, 8 by 8 dots, for comparing them dot by dot."""
        return [np.stack([thumbnail(frame, colour=False) for frame in clip.frames]) for clip in inputs]

    def build(self) -> tuple[nn.Module, int]:
        dots = PixelNormalizer(self._mean.tolist(), self._std.tolist())
        encoder = VideoEncoder(
            dots, ImageEncoder(self._channels, WIDTHS), self.output_size, self.dropout, shift=self.shift
        )
        return encoder, encoder.output_size

    def steps(self, example: VideoClip) -> list[str]:
        """The time of each frame."""
        return [f"{time:.2f} s" for time in example.times]

    def without(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """The frames in the training part's mean colour."""
        rest = encoded.copy()
        rest[start:end] = self._mean.round()
        return rest

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        single = sum(len(one) == 1 for one in encoded)
        return [f"{single} of the clips have a single frame: nothing moves in them."] if single else []

    def state(self) -> dict[str, Any]:
        return {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._mean, self._std = (np.array(state[name], dtype=np.float64) for name in ("mean", "std"))
        if self._mean.shape != (self._channels,) or self._std.shape != (self._channels,):
            raise ValueError("its means and deviations are not of its colours")
        if not (np.isfinite(self._mean).all() and (self._std > 0).all()):
            raise ValueError("its means and deviations are no scale")
