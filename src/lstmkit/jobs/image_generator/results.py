"""What a painter gives: pictures, stroke by stroke; as text, as a sheet, as a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.vision.image_io import library
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.draw import DrawModel

_ASCII_SHADES = " .:-=+*#%@"
_SHOWN = 4  # dots of a sheet or film for each dot of a picture
_COLUMNS = 10  # of a sheet
_FRAME_MS, _LAST = 120, 1500  # milliseconds of a film's picture, and of its last


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """A picture that was painted.

    Attributes:
        name: What it is called.
        kind: Of which kind it was to be; ``""`` without one.
        canvases: ``(T, height, width)`` after each step: the probability of ink.
        windows: ``(T, 5)``: of each step the middle across and down and the distance of filters in dots, the first dot
            at 1, the variance of each filter, and the strength.
        given: ``(height, width)`` what it was to look like; ``None`` where nothing was given.
    """

    name: str
    kind: str
    canvases: np.ndarray
    windows: np.ndarray
    given: np.ndarray | None = None

    @property
    def picture(self) -> np.ndarray:
        """``(height, width)`` the probability of ink after the last step."""
        return self.canvases[-1]


def text_of(painting: GeneratedImage) -> str:
    """A picture in signs, the more ink the darker: two of them for a dot, which makes it about square.

    >>> text_of(GeneratedImage("", "", np.array([[[0.0, 1.0]]]), np.zeros((1, 5))))
    '  @@'
    """
    shade = (painting.picture * len(_ASCII_SHADES)).astype(int).clip(0, len(_ASCII_SHADES) - 1)
    return "\n".join("".join(2 * _ASCII_SHADES[i] for i in row) for row in shade)


def write_image_grid(painted: Sequence[GeneratedImage], path: Path, inverted: bool) -> None:
    """All pictures on one sheet; as a ``.gif`` how they are painted."""
    frames = [_image_grid(painted, step, inverted) for step in range(len(painted[0].canvases))]
    if path.suffix.lower() != ".gif":
        frames[-1].save(path)
        return
    times = [*([_FRAME_MS] * (len(frames) - 1)), _LAST]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)


def _image_grid(painted: Sequence[GeneratedImage], step: int, inverted: bool) -> Any:
    height, width = painted[0].picture.shape
    columns = min(_COLUMNS, len(painted))
    rows = -(-len(painted) // columns)
    sheet = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1))
    for i, one in enumerate(painted):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[top : top + height, left : left + width] = one.canvases[step]
    shades = (255 * (1 - sheet if inverted else sheet)).round().astype(np.uint8)
    return library("PIL.Image").fromarray(shades.repeat(_SHOWN, 0).repeat(_SHOWN, 1))


def draw_networks(model: Model) -> list[DrawModel]:
    """The one network, or those of an ensemble."""
    members = model.members if isinstance(model, Ensemble) else [model]
    return [one for one in members if isinstance(one, DrawModel)]


@torch.inference_mode()
def sample_images(model: DrawModel, noise: torch.Tensor, kinds: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Canvases ``(B, T, height, width)`` and windows ``(B, T, 5)`` of latent variables ``(B, T, Z)``."""
    canvases, windows = model.dream(noise, model.begin(len(noise), kinds))
    return canvases.sigmoid().float().cpu().numpy(), windows.float().cpu().numpy()
