"""Read images as grayscale or RGB, resize them, and normalize images of text lines."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lstmkit.data.arrays import as_array
from lstmkit.data.files import check_decoded_size, open_file, read_bytes, reading
from lstmkit.data.formats import DataFormat
from lstmkit.data.vision.shades import check_line_width, ink_of
from lstmkit.errors import DataError
from lstmkit.libraries import import_library

FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm")
IMAGE = DataFormat(
    "image",
    FILE_SUFFIXES,
    notes="One still image: not animated, one page. Transparency becomes white; EXIF rotation is applied.",
)
_MEMORY_PER_PIXEL = 16  # bytes, while an image is converted
_MIN_FRAME_SECONDS, _DEFAULT_FRAME_SECONDS = 0.02, 0.1  # of an animation
_THUMBNAIL_SIZE = 8  # pixels

T = TypeVar("T")


def read_grayscale_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """Read an image as grayscale ``(H, W)`` uint8, 0 is black. Transparency becomes white; EXIF rotation is applied.

    Raises:
        DataError: The file is not an image, or is damaged.
        UserError: The file does not exist, or Pillow is not installed.
    """
    rotate = import_pillow("PIL.ImageOps").exif_transpose
    return _read(source, name, lambda image: to_grayscale(rotate(image)))


def read_image(source: Path | bytes, height: int, width: int, color: bool = True, name: str = "") -> np.ndarray:
    """Read an image, apply EXIF rotation, and resize it with :func:`resize_with_pad` to ``(height, width, C)`` uint8.

    Raises:
        DataError, UserError: As :func:`read_grayscale_image`.
    """
    rotate = import_pillow("PIL.ImageOps").exif_transpose

    def convert(image: Any) -> np.ndarray:
        image.draft("RGB", (2 * width, 2 * height))  # decodes a JPEG only at the resolution needed
        return resize_with_pad(to_rgb(rotate(image)), height, width, color)

    return _read(source, name, convert)


def image_size(source: Path | bytes, name: str = "") -> tuple[int, int]:
    """Height and width of an image after EXIF rotation.

    Raises:
        DataError, UserError: As :func:`read_grayscale_image`.
    """
    rotate = import_pillow("PIL.ImageOps").exif_transpose
    return _read(source, name, lambda image: rotate(image).size[::-1])


def _read(source: Path | bytes, name: str, convert: Callable[[Any], T]) -> T:
    """Open an image with Pillow and convert it."""
    name = name or (source.name if isinstance(source, Path) else "the image")
    with _open(source, name) as image:
        if _frames_in_time(image):
            raise DataError(f"{name} is animated, but a still image is needed: save one of its frames as PNG")
        if image.format == "TIFF" and image.n_frames > 1:
            raise DataError(f"{name} has {image.n_frames} pages, but one image is needed: save each page as a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is damaged and not used
            return convert(image)


@contextmanager
def _open(source: Path | bytes, name: str) -> Iterator[Any]:
    """Open an image of bounded size with Pillow; its pixels are decoded on first use, at the latest in the block."""
    pillow: Any = import_pillow("PIL.Image")
    content = read_bytes(source) if isinstance(source, Path) else source
    with reading(name, "is not a readable image", "save it as PNG"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large image, whose size is checked next
            opened = pillow.open(io.BytesIO(content))
        with opened as image:
            check_decoded_size(_MEMORY_PER_PIXEL * image.width * image.height, name)
            yield image


def _frames_in_time(image: Any) -> bool:
    """Whether a Pillow image is animated. The pages of a TIFF file are not frames in time."""
    return image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False)


def is_animated(source: Path | bytes) -> bool:
    """Whether a file is an animated GIF, PNG or WebP, by its content; False if it cannot be read."""
    try:
        if isinstance(source, Path):
            with open_file(source) as file:
                head = file.read(12)
        else:
            head = source[:12]
        if not head.startswith((b"GIF8", b"\x89PNG")) and head[:4] + head[8:] != b"RIFFWEBP":
            return False
        with _open(source, "") as image:
            return _frames_in_time(image)
    except DataError:
        return False


def read_animation(source: Path | bytes, name: str) -> Iterator[tuple[float, float, np.ndarray]]:
    """Frames of an animated GIF, PNG or WebP: start and end in seconds, and pixels ``(H, W, 3)`` uint8 on white.

    A frame that states less than 0.02 s lasts 0.1 s, as in browsers.

    Raises:
        DataError, UserError: As :func:`read_grayscale_image`.
    """
    frames = import_pillow("PIL.ImageSequence").Iterator
    with _open(source, name) as image:
        start = 0.0
        for frame in frames(image):
            check_decoded_size(_MEMORY_PER_PIXEL * frame.width * frame.height, name)  # a frame may exceed the first
            pixels = to_rgb(frame)  # before the duration, which WebP states only then
            stated = float(frame.info.get("duration") or 0) / 1000
            end = start + (stated if stated >= _MIN_FRAME_SECONDS else _DEFAULT_FRAME_SECONDS)
            yield start, end, pixels
            start = end


def is_color_image(shape: Sequence[int]) -> bool:
    """Whether a shape is that of one image ``(H, W, 3)`` or ``(H, W, 4)``, and not of tiny images ``(N, H, W)``."""
    return len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 8


def scale_pixels(array: Any, name: str) -> np.ndarray:
    """Scale pixels, integers from 0 to 255 or floats from 0 to 1, to float32 from 0 to 1.

    Raises:
        DataError: A value is out of range, or the integers are 0 and 1 only, which may mean black and white.

    >>> scale_pixels(np.array([0, 51, 255]), "the image").round(2).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    try:
        values = as_array(array)
        pixels = values.astype(np.float32)
    except (ValueError, TypeError):
        raise DataError(f"{name} is not an array: give a path, or images of numbers of one size") from None
    is_integer = values.dtype.kind in "iu"
    if not (pixels >= 0).all() or not (pixels <= (255 if is_integer else 1)).all():  # NaN is neither
        raise DataError(f"{name}: a pixel is NaN or out of range: give integers from 0 to 255, or floats from 0 to 1")
    if is_integer and pixels.max(initial=0) == 1:
        raise DataError(
            f"{name} has the integers 0 and 1 only, where 255 is white: give bool or float for black and white"
        )
    return pixels / 255 if is_integer else pixels


def to_grayscale(image: Any) -> np.ndarray:
    """Convert a Pillow image to grayscale ``(H, W)`` uint8; 16-bit images keep the upper 8 bits."""
    if image.mode.startswith("I"):
        return _to_8_bit(image)
    return np.asarray(_on_white(image, ("1", "L", "RGB")).convert("L"))


def to_rgb(image: Any) -> np.ndarray:
    """Convert a Pillow image to RGB ``(H, W, 3)`` uint8; 16-bit images keep the upper 8 bits."""
    if image.mode.startswith("I"):
        return np.repeat(_to_8_bit(image)[..., None], 3, axis=2)
    return np.asarray(_on_white(image, ("1", "L", "RGB", "CMYK", "YCbCr")).convert("RGB"))


def _to_8_bit(image: Any) -> np.ndarray:
    return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def _on_white(image: Any, opaque: tuple[str, ...]) -> Any:
    """Composite an image onto white, unless its mode is one of ``opaque``."""
    if image.mode in opaque:
        return image
    rgba = image.convert("RGBA")
    white = import_pillow("PIL.Image").new("RGBA", rgba.size, "white")
    return import_pillow("PIL.Image").alpha_composite(white, rgba)


def resize_with_pad(pixels: np.ndarray, height: int, width: int, color: bool = True) -> np.ndarray:
    """Resize an image ``(H, W, C)`` uint8 with its aspect ratio kept, centered and padded with black.

    >>> resize_with_pad(np.full((2, 4, 1), 9, dtype=np.uint8), 4, 4)[:, 0, 0].tolist()
    [0, 9, 9, 0]
    """
    if color and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    pillow: Any = import_pillow("PIL.Image")
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    new_height, new_width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    image = pillow.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    image = image if color else image.convert("L")
    if image.size != (new_width, new_height):
        image = image.resize(
            (new_width, new_height), pillow.Resampling.BOX if scale < 1 else pillow.Resampling.BILINEAR
        )
    padded = np.zeros((height, width, 3 if color else 1), dtype=np.uint8)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    padded[top : top + new_height, left : left + new_width] = np.asarray(image).reshape(new_height, new_width, -1)
    return padded


def thumbnail(pixels: np.ndarray, color: bool = True) -> np.ndarray:
    """Downscale an image ``(H, W, C)`` uint8 to 8 × 8 pixels: ``(64 C,)`` float32 from 0 to 1."""
    return resize_with_pad(pixels, _THUMBNAIL_SIZE, _THUMBNAIL_SIZE, color).reshape(-1).astype(np.float32) / 255


def channel_mean_std(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(C,)`` of each channel over arrays ``(…, C)`` uint8; each array has equal weight.

    >>> channel_mean_std([np.array([[0, 10], [4, 10]], dtype=np.uint8)])[0].tolist()
    [2.0, 10.0]
    """
    axes = tuple(range(images[0].ndim - 1))
    mean = np.mean([image.mean(axis=axes) for image in images], axis=0)
    square = np.mean([np.square(image, dtype=np.float32).mean(axis=axes) for image in images], axis=0)
    return mean, np.sqrt(np.maximum(square - mean**2, 1.0))


def normalize_text_line(image: np.ndarray, height: int, name: str) -> np.ndarray:
    """Normalize an image of a text line to columns ``(W, height)`` float32: ink about 1, paper 0.

    Paper is the median shade, and ink the shade farthest from it, so dark-on-light and light-on-dark text look alike.

    Args:
        image: Grayscale ``(H, W)``.
        height: Target height in pixels; the aspect ratio is kept.
        name: Name in messages.

    Raises:
        DataError: The image has no contrast, or is too wide.
    """
    darkness = ink_of(image, name)
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    check_line_width(width, image, name)
    pillow = import_pillow("PIL.Image")
    scaled = pillow.fromarray(darkness).resize((width, height), pillow.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(scaled, dtype=np.float32).T)


def import_pillow(name: str) -> Any:
    """Import a module of Pillow.

    Raises:
        MissingLibraryError: Pillow is not installed.
    """
    return import_library(name, "pictures", "an image")
