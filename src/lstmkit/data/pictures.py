"""Pictures as grey values; of a line of text as ink on paper, at a height."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.errors import DataError, UserError, one_line

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm")
MOST_COLUMNS = 20_000  #: Of a line at its height: a page of wallpaper is none.
_LEAST_CONTRAST = 0.05  # of white


def read_picture(source: Path | bytes, name: str = "") -> np.ndarray:
    """``(H, W)`` grey values, 0 black and 255 white; what is transparent is white.

    Raises:
        DataError: No picture, or damaged.
        UserError: There is no such file, or Pillow is not installed.
    """
    name = name or (source.name if isinstance(source, Path) else "the picture")
    pillow: Any = library("PIL.Image")
    if isinstance(source, Path):
        if not source.is_file():
            raise UserError(f"{source}: there is no such file")
        source = source.read_bytes()
    try:
        with pillow.open(io.BytesIO(source)) as picture:
            return grey(picture)
    except pillow.UnidentifiedImageError as err:
        raise DataError(f"{name} is no picture that can be read: save it as PNG") from err
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as err:
        raise DataError(f"{name} is no picture that can be read ({one_line(err)}): save it as PNG") from err


def grey(picture: Any) -> np.ndarray:
    """``(H, W)`` grey values of a Pillow picture; of 16 bits the upper eight."""
    if picture.mode.startswith("I"):
        return (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    if picture.mode not in ("1", "L", "RGB"):
        whole = picture.convert("RGBA")
        white = library("PIL.Image").new("RGBA", whole.size, "white")
        picture = library("PIL.Image").alpha_composite(white, whole)
    return np.asarray(picture.convert("L"))


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
    if abs(paper - inks) < _LEAST_CONTRAST:  # fine strokes may be rarer than that
        inks = min((values.min(), values.max()), key=lambda end: -abs(end - paper))
    if abs(paper - inks) < _LEAST_CONTRAST:
        raise DataError(f"{name} holds no line: all of it has about the same shade")
    wide = max(1, round(picture.shape[1] * height / picture.shape[0]))
    if wide > MOST_COLUMNS:
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
