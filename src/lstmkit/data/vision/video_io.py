"""Video files of any format as frames of one shape: PyAV decodes, a frame at a time, so that memory does not grow."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.vision.image_io import fitted
from lstmkit.errors import DataError, UserError, one_line

FILE_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ogv",
    ".3gp",
    ".wmv",
    ".flv",
    ".gif",
)
_MAX_FRAMES = 20_000  # of a clip that is read whole
_DEFAULT_FRAME_RATE = 10.0  # frames a second of arrays, which do not say
_MULTITHREADED_PIXELS = 640 * 480  # dots of a frame from which several threads decode
_MISSING = 0.8  # of the length that a file tells of itself: one that has less was cut off


class ClipFormat(NamedTuple):
    """To which frames are brought.

    Attributes:
        height, width: In dots; what is around a frame of other proportions is black.
        colour: Whether there are three channels, red, green and blue, or one, grey.
        rate: Frames a second that are read, at most; 0 for all.
    """

    height: int = 64
    width: int = 64
    colour: bool = True
    rate: float = 10.0


@dataclass(frozen=True, eq=False)
class VideoClip:
    """What a camera gave.

    Attributes:
        name: Where it is from.
        frames: ``(T, H, W, C)`` uint8, one channel or red, green and blue.
        times: ``(T,)`` seconds from the beginning.
        rate: Frames a second.
    """

    name: str
    frames: np.ndarray
    times: np.ndarray
    rate: float

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        return float(self.times[-1]) + 1 / self.rate


class TimedFrame(NamedTuple):
    """One of them: seconds from the beginning, and ``(H, W, C)`` uint8."""

    time: float
    dots: np.ndarray


def read_video(source: Path | bytes, shape: ClipFormat, name: str = "") -> VideoClip:
    """A whole video file.

    Args:
        source: Its path, or what is in it.
        shape: Of its frames.
        name: What messages call it; of a path by default its name.

    Raises:
        DataError: No video, no frame in it, cut off or damaged, or far too long.
        UserError: There is no such file, or PyAV is not installed.
    """
    name = name or _source_name(source)
    found: list[TimedFrame] = []
    for frame in iter_frames(source, shape, name):
        if len(found) == _MAX_FRAMES:
            raise DataError(f"{name} has more than {_MAX_FRAMES:,} frames to read: cut it into clips")
        found.append(frame)
    return video_from_frames(name, found, shape)


def video_from_frames(name: str, frames: Sequence[TimedFrame], shape: ClipFormat) -> VideoClip:
    """Frames one after the other as a clip of its own, which begins at 0."""
    times = np.array([frame.time for frame in frames])
    return VideoClip(name, np.stack([frame.dots for frame in frames]), times - times[0], _rate(times, shape))


def _rate(times: np.ndarray, shape: ClipFormat) -> float:
    """Frames a second; of a single frame, or where times do not differ, what was asked for."""
    lasts = float(times[-1] - times[0])
    return (len(times) - 1) / lasts if lasts > 0 else shape.rate or _DEFAULT_FRAME_RATE


def iter_frames(source: Path | bytes, shape: ClipFormat, name: str = "") -> Iterator[TimedFrame]:
    """The frames of a video, one after the other as they are decoded: a video of any length needs the memory of a few.

    A frame is turned as the file's rotation flag says, and brought to its size while it is still as the codec has it.

    Raises:
        DataError, UserError: As :func:`read_video`, at the frame where it shows.
    """
    av, name = _library(), name or _source_name(source)
    if isinstance(source, Path) and not source.is_file():
        raise UserError(f"{source}: there is no such file")
    count, end, due = 0, 0.0, 0.0
    try:
        with av.open(str(source) if isinstance(source, Path) else io.BytesIO(source)) as container:
            if not container.streams.video:
                raise DataError(f"{name} has no video in it: give a video file")
            stream = container.streams.video[0]
            codec, scaler = stream.codec_context, av.video.reformatter.VideoReformatter()
            if codec.width * codec.height < _MULTITHREADED_PIXELS:
                codec.thread_count = 1  # to start others costs more than they save
            else:
                codec.thread_type = "AUTO"
            begin = None
            steady = container.format.name == "avi" and stream.average_rate  # its times are of decoding, not of showing
            for number, frame in enumerate(container.decode(stream)):
                begin = (frame.time or 0.0) if begin is None else begin
                now = float(number / steady) if steady else (frame.time or 0.0) - begin
                end = max(end, now + float((frame.duration or 0) * (frame.time_base or 0)))
                if not shape.rate or now >= due - 1e-6:
                    due = _next_due(due, now, shape.rate)
                    count += 1
                    yield TimedFrame(now, _resize_frame(frame, shape, scaler))
            told = _seconds(stream, container)
    except UserError:
        raise
    except (av.FFmpegError, ValueError, OverflowError) as err:
        why = getattr(err, "strerror", None) or one_line(err)
        if not count:
            raise DataError(f"{name} is no video that can be read ({why}): get it again, or leave it out") from err
        raise DataError(f"{name} is damaged after {end:.1f} s ({why}): get it again, or cut it there") from err
    if not count:
        raise DataError(f"{name} has no frame in it: get it again, or leave it out")
    if end < _MISSING * told - 0.1:
        raise DataError(f"{name} was cut off: it tells of {told:.1f} s and has {end:.1f}: get it again")


def video_from_array(array: Any, shape: ClipFormat, name: str) -> VideoClip:
    """A clip of an array ``(T, H, W)`` or ``(T, H, W, C)``: whole numbers to 255, or shares from 0 to 1.

    Raises:
        DataError: Values that are neither, or other channels than 1 or 3.

    >>> video_from_array(np.zeros((5, 8, 8)), ClipFormat(4, 4, colour=False), "a clip").frames.shape
    (5, 4, 4, 1)
    """
    values = np.asarray(array)
    values = values[..., None] if values.ndim == 3 else values
    if values.ndim != 4 or values.shape[3] not in (1, 3) or not values.size:
        raise DataError(f"{name} has the shape {np.shape(array)}: a clip is (T, H, W), or (T, H, W, 3) with colours")
    most = 255 if np.issubdtype(values.dtype, np.integer) else 1
    if not (values >= 0).all() or not (values <= most).all():  # NaN is neither
        raise DataError(f"{name}: a shade is missing, or not from 0 to {most}: give whole numbers to 255, or shares")
    dots = values.astype(np.uint8) if most == 255 else (values * 255).round().astype(np.uint8)
    frames = np.stack([fitted(frame, shape.height, shape.width, shape.colour) for frame in dots])
    return VideoClip(name, frames, np.arange(len(frames)) / _DEFAULT_FRAME_RATE, _DEFAULT_FRAME_RATE)


def write_video(frames: Sequence[np.ndarray] | np.ndarray, path: Path, rate: float = _DEFAULT_FRAME_RATE) -> None:
    """Frames ``(T, H, W)`` or ``(T, H, W, 3)`` uint8, sides of even length, as a video file: H.264 in an MP4.

    Raises:
        DataError: A side is odd, or there is no frame.
    """
    if not len(frames) or any(side % 2 for side in frames[0].shape[:2]):
        raise DataError(f"{path.name}: give at least one frame, its height and width even")
    av: Any = _library()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(rate))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "preset": "veryfast"}
        if stream.height * stream.width < _MULTITHREADED_PIXELS:
            stream.codec_context.thread_count = 1
        for dots in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(dots), "gray" if dots.ndim == 2 else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _next_due(due: float, now: float, rate: float) -> float:
    step = 1 / rate if rate else 0.0
    return due + step if due + step > now else now + step


def _resize_frame(frame: Any, shape: ClipFormat, scaler: Any) -> np.ndarray:
    """``(H, W, C)`` of a decoded frame, its proportions kept, in the middle of black."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as numpy turns too
    high, wide = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    scale = min(shape.height / high, shape.width / wide)
    high, wide = max(1, round(high * scale)), max(1, round(wide * scale))
    size = {"width": high, "height": wide} if turns % 2 else {"width": wide, "height": high}
    kind = "rgb24" if shape.colour else "gray"
    dots = scaler.reformat(frame, **size, format=kind, interpolation="AREA", threads=1).to_ndarray()
    dots = np.rot90(dots if shape.colour else dots[..., None], turns)
    found = np.zeros((shape.height, shape.width, 3 if shape.colour else 1), dtype=np.uint8)
    top, left = (shape.height - high) // 2, (shape.width - wide) // 2
    found[top : top + high, left : left + wide] = dots
    return found


def _seconds(stream: Any, container: Any) -> float:
    """What a file tells of its video's length; 0 where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.streams.audio else (container.duration or 0) / 1_000_000


def _source_name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "the video"


def _library() -> Any:
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as err:
        raise UserError("video needs PyAV: pip install 'lstmkit[video]'") from err
