"""Read and write video files with PyAV. Frames are decoded one at a time and resized, so memory stays constant."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lstmkit.data.files import check_decoded_size, open_file, reading
from lstmkit.data.formats import DataFormat
from lstmkit.data.vision.frame_rate import DEFAULT_FRAME_RATE
from lstmkit.data.vision.image_io import is_animated, is_color_image, read_animation, resize_with_pad, scale_pixels
from lstmkit.errors import DataError, one_line
from lstmkit.libraries import import_library

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
    ".apng",
)
VIDEO = DataFormat("video", FILE_SUFFIXES, notes="The first video stream; sound is not read.")
ANIMATION = DataFormat("animated image", (".png", ".webp"), notes="Animated; a still one is an image.")
_MEMORY_PER_PIXEL = 16  # bytes of a frame, with those that a codec keeps
_NO_PROTOCOLS = {"protocol_whitelist": "none"}  # for files that a video refers to
_MAX_FRAMES = 20_000  # of a clip that is read into memory
_MULTITHREADED_PIXELS = 640 * 480  # larger frames are decoded with several threads
_MIN_DURATION_RATIO = 0.8  # of the duration in the header; a shorter file is truncated


class ClipFormat(NamedTuple):
    """Format to which clips are converted.

    Attributes:
        height, width: In pixels. Frames with another aspect ratio are padded with black.
        color: Whether frames have three channels (RGB), or one (grayscale).
        frame_rate: Maximum frames per second; 0 keeps all frames.
    """

    height: int = 64
    width: int = 64
    color: bool = True
    frame_rate: float = 10.0


@dataclass(frozen=True, eq=False)
class VideoClip:
    """A video clip.

    Attributes:
        name: Its name in messages.
        frames: ``(T, H, W, C)`` uint8, grayscale or RGB.
        times: ``(T,)`` seconds from the start.
        frame_rate: Frames per second.

    >>> VideoClip("a clip", np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) / 2, 2.0).seconds
    2.0
    """

    name: str
    frames: np.ndarray
    times: np.ndarray
    frame_rate: float

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """Duration."""
        return float(self.times[-1]) + 1 / self.frame_rate


class TimedFrame(NamedTuple):
    """A frame: seconds from the start, pixels ``(H, W, C)`` uint8, and its height and width before it was resized."""

    time: float
    pixels: np.ndarray
    source_size: tuple[int, int]


def read_video(source: Path | bytes, clip_format: ClipFormat, name: str = "") -> VideoClip:
    """Read a whole video file.

    Args:
        source: The path, or the content of the file.
        clip_format: Target format.
        name: Name in messages; by default the file name.

    Raises:
        DataError: The file has no video or no frame, is truncated or damaged, or is too long.
        UserError: The file does not exist, or PyAV is not installed.
    """
    name = name or _source_name(source)
    frames: list[TimedFrame] = []
    for frame in iter_frames(source, clip_format, name):
        if len(frames) == _MAX_FRAMES:
            raise DataError(f"{name} has more than {_MAX_FRAMES:,} frames to read: split it into clips")
        frames.append(frame)
    return video_from_frames(name, frames, clip_format)


def video_from_frames(name: str, frames: Sequence[TimedFrame], clip_format: ClipFormat) -> VideoClip:
    """Clip of successive frames; its times start at 0."""
    times = np.array([frame.time for frame in frames])
    return VideoClip(
        name, np.stack([frame.pixels for frame in frames]), times - times[0], _frame_rate(times, clip_format)
    )


def _frame_rate(times: np.ndarray, clip_format: ClipFormat) -> float:
    """Frames per second; that of the format if the frames have no duration."""
    duration = float(times[-1] - times[0])
    return (len(times) - 1) / duration if duration > 0 else clip_format.frame_rate or DEFAULT_FRAME_RATE


def iter_frames(source: Path | bytes, clip_format: ClipFormat, name: str = "") -> Iterator[TimedFrame]:
    """Iterate over the frames of a video of any length, decoded one at a time.

    The rotation flag of the file is applied. Frames are resized in the pixel format of the codec.

    Raises:
        DataError, UserError: As :func:`read_video`, at the frame with the error.
    """
    name = name or _source_name(source)
    decoded = (
        _decode_animation(source, clip_format, name) if is_animated(source) else _decode(source, clip_format, name)
    )
    end, next_time = 0.0, 0.0
    while True:
        problem, advice = "is not a readable video", "download it again, or leave it out"
        if end:
            problem, advice = f"is damaged after {end:.1f} s", "download it again, or cut it there"
        with reading(name, problem, advice):
            frame = next(decoded, None)
            if frame is None:
                break
            end = max(end, frame.end)
            is_due = not clip_format.frame_rate or frame.start >= next_time - 1e-6
            pixels = frame.resize() if is_due else None
        if pixels is not None:
            next_time = _next_due(next_time, frame.start, clip_format.frame_rate)
            yield TimedFrame(frame.start, pixels, frame.size)


class _DecodedFrame(NamedTuple):
    """A frame: start and end in seconds, height and width, and a function that resizes it to ``(H, W, C)`` uint8."""

    start: float
    end: float
    size: tuple[int, int]
    resize: Callable[[], np.ndarray]


def _decode_animation(source: Path | bytes, clip_format: ClipFormat, name: str) -> Iterator[_DecodedFrame]:
    """Frames of an animated image."""
    for start, end, pixels in read_animation(source, name):
        height, width, color, _ = clip_format
        yield _DecodedFrame(start, end, pixels.shape[:2], partial(resize_with_pad, pixels, height, width, color))


def _decode(source: Path | bytes, clip_format: ClipFormat, name: str) -> Iterator[_DecodedFrame]:
    """Frames of a video.

    FFmpeg reads from an open file, so that it takes no name for a URL, and opens no file that the video refers to.

    Raises:
        DataError: The file has no video or no frame, is truncated, or has frames that are too large.
    """
    av, count, end = import_library("av", "video", "video"), 0, 0.0
    with (
        open_file(source) if isinstance(source, Path) else io.BytesIO(source) as file,
        av.open(file, io_open=_refuse_reference, container_options=_NO_PROTOCOLS) as container,
    ):
        if not container.streams.video:
            raise DataError(f"{name} has no video stream: give a video file")
        stream = container.streams.video[0]
        codec, scaler = stream.codec_context, av.video.reformatter.VideoReformatter()
        if codec is None:
            raise DataError(f"{name} has a video codec that cannot be decoded here: convert it to H.264 in MP4")
        check_decoded_size(_MEMORY_PER_PIXEL * codec.width * codec.height, name)
        if codec.width * codec.height < _MULTITHREADED_PIXELS:
            codec.thread_count = 1  # more threads cost more than they save
        else:
            codec.thread_type = "AUTO"
        start = None
        # AVI stores decoding times, not presentation times.
        constant_rate = container.format.name == "avi" and stream.average_rate
        for number, frame in enumerate(container.decode(stream)):
            start = (frame.time or 0.0) if start is None else start
            time = float(number / constant_rate) if constant_rate else (frame.time or 0.0) - start
            count, frame_end = number + 1, time + float((frame.duration or 0) * (frame.time_base or 0))
            end = max(end, frame_end)
            check_decoded_size(_MEMORY_PER_PIXEL * frame.width * frame.height, name)
            yield _DecodedFrame(time, frame_end, _size(frame), partial(_resize_frame, frame, clip_format, scaler))
        expected = _seconds(stream, container)
    if not count:
        raise DataError(f"{name} has no frame: download it again, or leave it out")
    if end < _MIN_DURATION_RATIO * expected - 0.1:
        raise DataError(f"{name} is truncated: it has {end:.1f} of {expected:.1f} s: download it again")


def _refuse_reference(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise DataError(f"the video refers to another file, {one_line(url)}: give a video that holds its frames")


def video_from_array(array: Any, clip_format: ClipFormat, name: str) -> VideoClip:
    """Clip of an array ``(T, H, W)`` or ``(T, H, W, C)``: integers from 0 to 255, or floats from 0 to 1.

    Raises:
        DataError: The shape is another one, or a value is out of range.

    >>> video_from_array(np.zeros((5, 8, 8)), ClipFormat(4, 4, color=False), "a clip").frames.shape
    (5, 4, 4, 1)
    """
    shape = np.shape(array)
    advice = "give a clip as (T, H, W), or (T, H, W, 3) for RGB"
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise DataError(f"{name} has shape {shape}, its channels first: {advice}, as array.transpose(0, 2, 3, 1)")
    if is_color_image(shape):
        raise DataError(f"{name} has shape {shape}, which is one image (H, W, C) and not a clip: {advice}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape:
        raise DataError(f"{name} has shape {shape}: {advice}")
    values = scale_pixels(array, name)
    pixels: Any = (255 * (values[..., None] if values.ndim == 3 else values)).round().astype(np.uint8)
    frames = np.stack(
        [resize_with_pad(frame, clip_format.height, clip_format.width, clip_format.color) for frame in pixels]
    )
    return VideoClip(name, frames, np.arange(len(frames)) / DEFAULT_FRAME_RATE, DEFAULT_FRAME_RATE)


def write_video(frames: Sequence[np.ndarray] | np.ndarray, path: Path, frame_rate: float = DEFAULT_FRAME_RATE) -> None:
    """Write frames ``(T, H, W)`` or ``(T, H, W, 3)`` uint8 with even height and width as H.264 in an MP4 file.

    Raises:
        DataError: Height or width is odd, or there is no frame.
    """
    if not len(frames) or any(side % 2 for side in frames[0].shape[:2]):
        raise DataError(f"{path.name}: give at least one frame with even height and width")
    av: Any = import_library("av", "video", "video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(frame_rate))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "preset": "veryfast"}
        if stream.height * stream.width < _MULTITHREADED_PIXELS:
            stream.codec_context.thread_count = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "gray" if pixels.ndim == 2 else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _next_due(due: float, now: float, frame_rate: float) -> float:
    step = 1 / frame_rate if frame_rate else 0.0
    return due + step if due + step > now else now + step


def _quarter_turns(frame: Any) -> int:
    """By which a decoded frame is shown, counter-clockwise, as numpy turns too."""
    return round(frame.rotation / 90) % 4


def _size(frame: Any) -> tuple[int, int]:
    """Height and width of a decoded frame as it is shown."""
    return (frame.width, frame.height) if _quarter_turns(frame) % 2 else (frame.height, frame.width)


def _resize_frame(frame: Any, clip_format: ClipFormat, scaler: Any) -> np.ndarray:
    """Resize a decoded frame to ``(H, W, C)`` with its aspect ratio kept, centered and padded with black."""
    quarter_turns = _quarter_turns(frame)
    new_height, new_width = _size(frame)
    scale = min(clip_format.height / new_height, clip_format.width / new_width)
    new_height, new_width = max(1, round(new_height * scale)), max(1, round(new_width * scale))
    size = (
        {"width": new_height, "height": new_width} if quarter_turns % 2 else {"width": new_width, "height": new_height}
    )
    pixel_format = "rgb24" if clip_format.color else "gray"
    pixels = scaler.reformat(frame, **size, format=pixel_format, interpolation="AREA", threads=1).to_ndarray()
    pixels = np.rot90(pixels if clip_format.color else pixels[..., None], quarter_turns)
    padded = np.zeros((clip_format.height, clip_format.width, 3 if clip_format.color else 1), dtype=np.uint8)
    top, left = (clip_format.height - new_height) // 2, (clip_format.width - new_width) // 2
    padded[top : top + new_height, left : left + new_width] = pixels
    return padded


def _seconds(stream: Any, container: Any) -> float:
    """Duration in the header of a file, 0 if unknown."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.streams.audio else (container.duration or 0) / 1_000_000


def _source_name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "the video"
