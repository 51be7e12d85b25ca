"""What a captioner reads of pictures, clips and features, and what it tells of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.media_files import Takes
from lstmkit.data.vision.image_io import channel_mean_std
from lstmkit.data.vision.video_io import ClipFormat, TimedFrame, VideoClip, iter_frames, video_from_frames
from lstmkit.errors import DataError
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.image_encoder import FeatureEncoder, ImageEncoder, ImageGridEncoder, PixelNormalizer
from lstmkit.modules.video_encoder import VideoGridEncoder

KINDS = ("pictures", "clips", "features")


@dataclass(frozen=True, eq=False)
class Caption:
    """A picture or video and what was written for it.

    Attributes:
        name: What it is called.
        text: The best sentence that was found.
        score: Its logarithmic probability in nats, normalised by its length.
        tokens: Of it.
        attention: Where each token looked: ``(tokens, h, w)`` cells of a picture, ``(tokens, T, h, w)`` of all frames,
            ``(tokens, S)`` features.
        n_best: Sentences and their scores, the best first.
        start, end: Seconds of a video that it tells of; both 0 of a picture.
    """

    name: str
    text: str
    score: float
    tokens: tuple[str, ...]
    attention: np.ndarray
    n_best: tuple[tuple[str, float], ...]
    start: float = 0.0
    end: float = 0.0


class VisualInput(NamedTuple):
    """What is seen, as the network reads it.

    Attributes:
        kind: One of :data:`KINDS`.
        shape: Of pictures and frames.
        width: Features of a cell, where another network made them; else 0.
        mean, std: Of each colour in the training part.
        stages: Of the convolutions, each of which halves the sides.
    """

    kind: str
    shape: ClipFormat
    stages: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, train: CaptionedMedia, shape: ClipFormat, stages: int) -> VisualInput:
        """Learnt from the training part."""
        if train.kind == "features":
            found = cls(train.kind, shape, stages, train.seen[0].shape[1], (), ())
            found.encode(train.seen)
            return found
        arrays = [one.frames if isinstance(one, VideoClip) else one for one in train.seen]
        mean, std = channel_mean_std(arrays)
        return cls(train.kind, shape, stages, 0, tuple(mean.tolist()), tuple(std.tolist()))

    def encode(self, seen: Sequence[Any]) -> list[np.ndarray]:
        """Of each what a batch holds: dots ``(H, W, C)`` or ``(T, H, W, C)`` uint8, or features ``(S, F)``.

        Raises:
            DataError: Features of another width, frames of another size.
        """
        arrays = [one.frames if isinstance(one, VideoClip) else one for one in seen]
        wanted = (self.width,) if self.width else (self.shape.height, self.shape.width, 3 if self.shape.colour else 1)
        for number, one in enumerate(arrays, 1):
            if one.shape[-len(wanted) :] != wanted:
                raise DataError(f"input {number} has the shape {one.shape}, the model reads {('…', *wanted)}")
        return arrays

    def grid(self, encoded: np.ndarray) -> tuple[int, ...]:
        """What is attended to: cells of a picture, ``(h, w)``, of all frames, ``(T, h, w)``, or features, ``(S,)``."""
        if self.kind == "features":
            return (len(encoded),)
        return self._grid_size if self.kind == "pictures" else (len(encoded), *self._grid_size)

    @property
    def _grid_size(self) -> tuple[int, int]:
        """Rows and columns of a picture's grid."""
        high, wide = (-(-side // 2**self.stages) for side in (self.shape.height, self.shape.width))
        return high, wide

    def build(
        self, channels: int, output_size: int, temporal_layer: Callable[[int], RecurrentLayer], shift: float, flip: bool
    ) -> ImageGridEncoder | VideoGridEncoder | FeatureEncoder:
        """What makes of a batch that which is attended to.

        Args:
            channels: Of the first stage; each next has twice as many.
            output_size: Of a cell.
            follow: The recurrent layer that reads features of so many as they come, cells of clips through the frames.
            shift, flip: What training does to what is seen; clips are not flipped.
        """
        if self.kind == "features":
            return FeatureEncoder(self.width, output_size)
        widths = [channels * 2**stage for stage in range(self.stages)]
        dots, pictures = PixelNormalizer(self.mean, self.std), ImageEncoder(len(self.mean), widths)
        cells = math.prod(self._grid_size)
        if self.kind == "pictures":
            return ImageGridEncoder(dots, pictures, output_size, cells, shift, flip)
        return VideoGridEncoder(
            ImageGridEncoder(dots, pictures, output_size, cells), temporal_layer(output_size), shift
        )

    def state(self) -> dict[str, Any]:
        return {"reads": self.kind, "width": self.width, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def loaded(cls, state: dict[str, Any], shape: ClipFormat, stages: int) -> VisualInput:
        """What :meth:`state` gave; ``ValueError`` where it does not fit together."""
        found = cls(state["reads"], shape, stages, int(state["width"]), tuple(state["mean"]), tuple(state["std"]))
        channels = 0 if found.kind == "features" else 3 if shape.colour else 1
        if found.kind not in KINDS or bool(found.width) != (found.kind == "features"):
            raise ValueError("what it reads is none of what there is")
        if len(found.mean) != channels or len(found.std) != channels or not all(s > 0 for s in found.std):
            raise ValueError("its means and deviations are not of its colours")
        return found


class VideoSegment(NamedTuple):
    """A part of a video: its name, when it begins and ends in seconds, and its frames."""

    name: str
    start: float
    end: float
    clip: VideoClip


def stretches(takes: Takes, shape: ClipFormat, every: float) -> Iterator[VideoSegment]:
    """Videos cut into stretches of ``every`` seconds, as they are read: no more than one of them is in memory.

    Raises:
        DataError: One is no video file, or cannot be read.
    """
    for take in takes.each():
        if take.kind.noun != "video" or not isinstance(take.source, (Path, bytes)):
            raise DataError(f"{take.id} is no video file: give these")
        frames: list[TimedFrame] = []
        number = 0
        for frame in iter_frames(take.source, shape, take.id):
            if frames and frame.time >= (number + 1) * every - 1e-6:
                yield _stretch(take.id, frames, shape, (number + 1) * every)
                frames = []
            number = int((frame.time + 1e-6) / every)
            frames.append(frame)
        yield _stretch(take.id, frames, shape)


def _stretch(name: str, frames: list[TimedFrame], shape: ClipFormat, end: float = 0.0) -> VideoSegment:
    """One that ends where it is said, or else, the last, with its last frame."""
    clip = video_from_frames(name, frames, shape)
    return VideoSegment(name, frames[0].time, end or frames[0].time + clip.seconds, clip)


def subtitles(told: Sequence[Caption], ending: str) -> str:
    """SubRip (``.srt``) or WebVTT (``.vtt``).

    Raises:
        DataError: There are no times, or they are of several videos.

    >>> print(subtitles([Caption("a.mp4", "a dog runs", 0.0, (), np.zeros(0), (), 0.0, 2.5)], ".srt"), end="")
    1
    00:00:00,000 --> 00:00:02,500
    a dog runs
    """
    names = {one.name for one in told}
    if len(names) != 1 or not all(one.end for one in told):
        raise DataError(
            f"subtitles are of one video, this is of {len(names)} inputs: give one video file, or write .txt"
        )
    point = "," if ending == ".srt" else "."
    cues = [
        f"{number}\n{_clock(one.start, point)} --> {_clock(one.end, point)}\n{one.text}\n"
        for number, one in enumerate(told, 1)
    ]
    return ("" if ending == ".srt" else "WEBVTT\n\n") + "\n".join(cues)


def _clock(seconds: float, point: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{point}{whole % 1000:03}"
