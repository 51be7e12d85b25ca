"""Videos of any length, read segment by segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lstmkit.data.media_files import MediaItems
from lstmkit.data.vision.video_io import ClipFormat, TimedFrame, VideoClip, iter_frames, video_from_frames
from lstmkit.errors import DataError


class VideoSegment(NamedTuple):
    """A part of a video.

    Attributes:
        name: The video's name.
        start, end: In seconds.
        clip: Its frames.
    """

    name: str
    start: float
    end: float
    clip: VideoClip


def video_segments(media: MediaItems, format: ClipFormat, segment_seconds: float) -> Iterator[VideoSegment]:
    """Segments of videos, in order; only one segment is in memory at a time.

    Args:
        media: Video files.
        format: Size, channels and frame rate of what is read.
        segment_seconds: Length of a segment in seconds; the last one of a video may be shorter.

    Raises:
        DataError: A file is not a video, or cannot be read.
    """
    for item in media.iterate():
        if item.media_type.noun != "video" or not isinstance(item.source, (Path, bytes)):
            raise DataError(f"{item.id} is not a video file: give video files")
        frames: list[TimedFrame] = []
        number = 0
        for frame in iter_frames(item.source, format, item.id):
            if frames and frame.time >= (number + 1) * segment_seconds - 1e-6:
                yield _segment(item.id, frames, format, (number + 1) * segment_seconds)
                frames = []
            number = int((frame.time + 1e-6) / segment_seconds)
            frames.append(frame)
        yield _segment(item.id, frames, format)


def _segment(name: str, frames: list[TimedFrame], format: ClipFormat, end: float = 0.0) -> VideoSegment:
    """A segment that ends at ``end`` seconds, or with its last frame."""
    clip = video_from_frames(name, frames, format)
    return VideoSegment(name, frames[0].time, end or frames[0].time + clip.seconds, clip)
