"""Read images as grayscale or RGB, resize them, and normalize images of text lines."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.errors import DataError, UserError, one_line

FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm")
MAX_LINE_WIDTH = 20_000  #: Maximum width in pixels of a text line at its normalized height.
_THUMBNAIL_SIZE = 8  # pixels
_MIN_CONTRAST = 0.05  # between ink and paper, of the range from black to white


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


def _read(source: Path | bytes, name: str, convert: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Open an image with Pillow and convert it to an array."""
    name = name or (source.name if isinstance(source, Path) else "the image")
    pillow: Any = import_pillow("PIL.Image")
    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(f"no such file: {source}")
        source = source.read_bytes()
    try:
        with pillow.open(io.BytesIO(source)) as image:
            return convert(image)
    except pillow.UnidentifiedImageError as err:
        raise DataError(f"{name} is not a readable image: save it as PNG") from err
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as err:
        raise DataError(f"{name} is not a readable image ({one_line(err)}): save it as PNG") from err


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
    values = image.astype(np.float32) / 255
    dark, paper, light = np.percentile(values, (0.5, 50, 99.5))
    ink_shade = dark if paper - dark >= light - paper else light
    if abs(paper - ink_shade) < _MIN_CONTRAST:  # thin strokes may cover less than 0.5 %
        ink_shade = min((values.min(), values.max()), key=lambda end: -abs(end - paper))
    if abs(paper - ink_shade) < _MIN_CONTRAST:
        raise DataError(f"{name} shows no text line (no contrast): leave it out")
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    if width > MAX_LINE_WIDTH:
        raise DataError(
            f"{name} is {image.shape[1]} by {image.shape[0]} pixels, too wide for a text line: split it into lines"
        )
    pillow = import_pillow("PIL.Image")
    darkness = ((paper - values) / (paper - ink_shade)).clip(0, 1)
    scaled = pillow.fromarray(darkness.astype(np.float32)).resize((width, height), pillow.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(scaled, dtype=np.float32).T)


def import_pillow(name: str) -> Any:
    """Import a module of Pillow.

    Raises:
        UserError: Pillow is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise UserError("images need Pillow: pip install 'lstmkit[pictures]'") from err
