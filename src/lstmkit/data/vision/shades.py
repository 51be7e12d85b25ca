"""Shades of ink and paper in an image of a text line."""

from __future__ import annotations

import numpy as np

from lstmkit.errors import DataError

_MAX_LINE_WIDTH = 20_000  # pixels of a text line at its normalized height
_MIN_CONTRAST = 0.05  # between ink and paper, of the range from black to white


def check_line_width(width: int, image: np.ndarray, name: str) -> None:
    """Raise DataError if an image ``(H, W)`` is wider than a text line, scaled to ``width`` pixels."""
    if width > _MAX_LINE_WIDTH:
        raise DataError(
            f"{name} is {image.shape[1]} by {image.shape[0]} pixels, too wide for a text line: split it into lines"
        )


def ink_of(image: np.ndarray, name: str) -> np.ndarray:
    """Ink of a grayscale image ``(H, W)``, 0 to 255: float32 from 0 for paper to 1.

    Args:
        image: The image.
        name: Name in messages.

    Raises:
        DataError: The image has no contrast.

    >>> ink_of(np.array([[255, 255, 255, 0]], dtype=np.uint8), "the image").round(2).tolist()
    [[0.0, 0.0, 0.0, 1.0]]
    """
    values = image.astype(np.float32) / 255
    paper, ink = line_shades(values, name)
    return ((paper - values) / (paper - ink)).clip(0, 1).astype(np.float32)


def line_shades(values: np.ndarray, name: str) -> tuple[float, float]:
    """Shades of paper and ink of a text line: the median, and the shade farthest from it.

    Args:
        values: From 0 (black) to 1, of any shape.
        name: Name in messages.

    Raises:
        DataError: The image has no contrast.
    """
    dark, paper, light = np.percentile(values, (0.5, 50, 99.5)).tolist()
    ink = dark if paper - dark >= light - paper else light
    if abs(paper - ink) < _MIN_CONTRAST:  # thin strokes may cover less than 0.5 %
        ink = min((float(values.min()), float(values.max())), key=lambda end: -abs(end - paper))
    if abs(paper - ink) < _MIN_CONTRAST:
        raise DataError(f"{name} shows no text line (no contrast): leave it out")
    return paper, ink
