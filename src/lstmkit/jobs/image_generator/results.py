"""Generated images, and how they are written: as text, as an image grid, as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.data.vision.image_io import import_pillow

_ASCII_SHADES = " .:-=+*#%@"
_PIXEL_SCALE = 4  # file pixels per image pixel
_GRID_COLUMNS = 10
_FRAME_MS, _LAST_FRAME_MS = 120, 1500  # of an animation


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """A generated or reconstructed image.

    Attributes:
        name: A number, or the name of the original.
        label: The class that was asked for; ``""`` without one.
        canvases: ``(T, height, width)`` after each glimpse: the probability of ink per pixel.
        windows: ``(T, 5)`` the write window of each glimpse: center x, center y and stride in pixels (the first pixel
            is at 1), variance of the filters, and intensity.
        original: ``(height, width)`` the image that was reconstructed; ``None`` for a new image.
    """

    name: str
    label: str
    canvases: np.ndarray
    windows: np.ndarray
    original: np.ndarray | None = None

    @property
    def image(self) -> np.ndarray:
        """``(height, width)`` the probability of ink after the last glimpse."""
        return self.canvases[-1]


def ascii_art(generated: GeneratedImage) -> str:
    """An image as text, darker characters for more ink; two characters per pixel make it about square.

    >>> ascii_art(GeneratedImage("", "", np.array([[[0.0, 1.0]]]), np.zeros((1, 5))))
    '  @@'
    """
    shades = (generated.image * len(_ASCII_SHADES)).astype(int).clip(0, len(_ASCII_SHADES) - 1)
    return "\n".join("".join(2 * _ASCII_SHADES[i] for i in row) for row in shades)


def write_image_grid(generated: Sequence[GeneratedImage], path: Path, invert: bool) -> None:
    """Write all images as one grid; a ``.gif`` shows how they are drawn.

    Args:
        generated: Images of one size.
        path: The file; its ending gives the format.
        invert: Draw dark ink on light paper; else light ink on dark paper.
    """
    frames = [_image_grid(generated, step, invert) for step in range(len(generated[0].canvases))]
    if path.suffix.lower() != ".gif":
        frames[-1].save(path)
        return
    durations = [*([_FRAME_MS] * (len(frames) - 1)), _LAST_FRAME_MS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _image_grid(generated: Sequence[GeneratedImage], step: int, invert: bool) -> Any:
    height, width = generated[0].image.shape
    columns = min(_GRID_COLUMNS, len(generated))
    rows = -(-len(generated) // columns)
    grid = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1))
    for i, image in enumerate(generated):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        grid[top : top + height, left : left + width] = image.canvases[step]
    pixels = (255 * (1 - grid if invert else grid)).round().astype(np.uint8)
    return import_pillow("PIL.Image").fromarray(pixels.repeat(_PIXEL_SCALE, 0).repeat(_PIXEL_SCALE, 1))
