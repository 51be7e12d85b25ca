"""Pictures as grey values or colours; of a line of text as ink on paper, at a height."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.errors import DataError, UserError, one_line

FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm")
MAX_LINE_WIDTH = 20_000  #: Of a line at its height: a page of wallpaper is none.
_THUMBNAIL_SIZE = 8  # dots of a side
_MIN_CONTRAST = 0.05  # of white


def read_grayscale_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """``(H, W)`` grey values, 0 black and 255 white; what is transparent is white; turned as the file's flag says.

    Raises:
        DataError: No picture, or damaged.
        UserError: There is no such file, or Pillow is not installed.
    """
    turn = library("PIL.ImageOps").exif_transpose
    return _read(source, name, lambda picture: grey(turn(picture)))


def read_image(source: Path | bytes, height: int, width: int, colour: bool = True, name: str = "") -> np.ndarray:
    """``(height, width, C)`` uint8, as :func:`fitted` brings them there; turned as the file's flag says.

    Raises:
        DataError, UserError: As :func:`read_grayscale_image`.
    """
    turn = library("PIL.ImageOps").exif_transpose

    def brought(picture: Any) -> np.ndarray:
        picture.draft("RGB", (2 * width, 2 * height))  # of a JPEG no more is decoded than is needed
        return fitted(colours(turn(picture)), height, width, colour)

    return _read(source, name, brought)


def _read(source: Path | bytes, name: str, of: Callable[[Any], np.ndarray]) -> np.ndarray:
    """What ``of`` makes of a Pillow picture."""
    name = name or (source.name if isinstance(source, Path) else "the picture")
    pillow: Any = library("PIL.Image")
    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(f"{source}: there is no such file")
        source = source.read_bytes()
    try:
        with pillow.open(io.BytesIO(source)) as picture:
            return of(picture)
    except pillow.UnidentifiedImageError as err:
        raise DataError(f"{name} is no picture that can be read: save it as PNG") from err
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as err:
        raise DataError(f"{name} is no picture that can be read ({one_line(err)}): save it as PNG") from err


def grey(picture: Any) -> np.ndarray:
    """``(H, W)`` grey values of a Pillow picture; of 16 bits the upper eight."""
    if picture.mode.startswith("I"):
        return _to_8_bit(picture)
    return np.asarray(_on_white(picture, ("1", "L", "RGB")).convert("L"))


def colours(picture: Any) -> np.ndarray:
    """``(H, W, 3)`` red, green and blue of a Pillow picture; of 16 bits the upper eight."""
    if picture.mode.startswith("I"):
        return np.repeat(_to_8_bit(picture)[..., None], 3, axis=2)
    return np.asarray(_on_white(picture, ("1", "L", "RGB", "CMYK", "YCbCr")).convert("RGB"))


def _to_8_bit(picture: Any) -> np.ndarray:
    return (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def _on_white(picture: Any, opaque: tuple[str, ...]) -> Any:
    """A picture on white, if its mode is none of those that are ``opaque``."""
    if picture.mode in opaque:
        return picture
    whole = picture.convert("RGBA")
    white = library("PIL.Image").new("RGBA", whole.size, "white")
    return library("PIL.Image").alpha_composite(white, whole)


def fitted(dots: np.ndarray, height: int, width: int, colour: bool = True) -> np.ndarray:
    """A picture ``(H, W, C)`` uint8 at a size, its proportions kept, in the middle of black.

    >>> fitted(np.full((2, 4, 1), 9, dtype=np.uint8), 4, 4)[:, 0, 0].tolist()
    [0, 9, 9, 0]
    """
    if colour and dots.shape[2] == 1:
        dots = np.repeat(dots, 3, axis=2)
    pillow: Any = library("PIL.Image")
    scale = min(height / dots.shape[0], width / dots.shape[1])
    high, wide = (max(1, round(side * scale)) for side in dots.shape[:2])
    picture = pillow.fromarray(np.ascontiguousarray(dots[..., 0] if dots.shape[2] == 1 else dots))
    picture = picture if colour else picture.convert("L")
    if picture.size != (wide, high):
        picture = picture.resize((wide, high), pillow.Resampling.BOX if scale < 1 else pillow.Resampling.BILINEAR)
    found = np.zeros((height, width, 3 if colour else 1), dtype=np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    found[top : top + high, left : left + wide] = np.asarray(picture).reshape(high, wide, -1)
    return found


def thumbnail(dots: np.ndarray, colour: bool = True) -> np.ndarray:
    """A picture ``(H, W, C)`` uint8 as ``(64 C,)`` float32 from 0 to 1: 8 by 8 dots, by which it is compared."""
    return fitted(dots, _THUMBNAIL_SIZE, _THUMBNAIL_SIZE, colour).reshape(-1).astype(np.float32) / 255


def channel_mean_std(dots: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``(C,)`` of each channel over arrays ``(…, C)`` uint8, each array counted alike.

    >>> channel_mean_std([np.array([[0, 10], [4, 10]], dtype=np.uint8)])[0].tolist()
    [2.0, 10.0]
    """
    axes = tuple(range(dots[0].ndim - 1))
    mean = np.mean([one.mean(axis=axes) for one in dots], axis=0)
    square = np.mean([np.square(one, dtype=np.float32).mean(axis=axes) for one in dots], axis=0)
    return mean, np.sqrt(np.maximum(square - mean**2, 1.0))


def ink(picture: np.ndarray, height: int, name: str) -> np.ndarray:
    """A line of text as columns ``(W, height)``: ink about 1, paper 0.

    Paper is the shade that most of the picture has, ink what is farthest from it, so that it does not matter which of
    the two is the darker. A picture is read as it stands: one that is upside down is not turned.

    Args:
        picture: ``(H, W)`` grey values.
        height: To which it is brought; its width follows.
        name: What messages call it.

    Raises:
        DataError: It has one shade only, or is far too wide.
    """
    values = picture.astype(np.float32) / 255
    dark, paper, light = np.percentile(values, (0.5, 50, 99.5))
    inks = dark if paper - dark >= light - paper else light
    if abs(paper - inks) < _MIN_CONTRAST:  # fine strokes may be rarer than that
        inks = min((values.min(), values.max()), key=lambda end: -abs(end - paper))
    if abs(paper - inks) < _MIN_CONTRAST:
        raise DataError(f"{name} holds no line: all of it has about the same shade")
    wide = max(1, round(picture.shape[1] * height / picture.shape[0]))
    if wide > MAX_LINE_WIDTH:
        raise DataError(f"{name} is {picture.shape[1]} by {picture.shape[0]} dots: cut it into lines")
    pillow = library("PIL.Image")
    share = ((paper - values) / (paper - inks)).clip(0, 1)
    scaled = pillow.fromarray(share.astype(np.float32)).resize((wide, height), pillow.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(scaled, dtype=np.float32).T)


def library(name: str) -> Any:
    """A module of Pillow.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise UserError("pictures need Pillow: pip install 'lstmkit[pictures]'") from err
