"""Points of a pen ``(T, 3)``: checks, scale, and the ids of texts. Without torch, for exported models too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lstmkit.errors import DataError

MAX_POINTS = 100_000  #: Maximum points of a drawing.
MAX_JUMP_RATIO = 1000  #: A drawing with an offset this many times the median is dropped as a recording error.
MAX_TEXT_LENGTH = 10_000  #: Maximum characters of the text of a drawing.
_MAX_OFFSET = 1e9  # between successive points


def validate_points(points: np.ndarray, name: str) -> np.ndarray:
    """Check offsets as in :class:`~lstmkit.data.ink.strokes.Ink`; return a copy as ``(T, 3)`` float32.

    Raises:
        DataError: The shape is wrong, a value is not finite, there are fewer than two points, or a pen is not 0 or 1.
    """
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iufb":
        raise DataError(f"{name} has shape {points.shape}: give numbers (T, 3): dx, dy, pen lifted (0 or 1)")
    if len(points) < 2:
        raise DataError(f"{name} has {len(points)} point{'s' * (len(points) != 1)}: give at least 2")
    if len(points) > MAX_POINTS:
        raise DataError(f"{name} has {len(points):,} points, the maximum is {MAX_POINTS:,}: split it")
    if not (np.abs(points[:, :2]) <= _MAX_OFFSET).all():
        raise DataError(f"{name}: an offset is NaN or above {_MAX_OFFSET:g}: correct it, or remove the drawing")
    if not np.isin(points[:, 2], (0, 1)).all():
        raise DataError(f"{name}: the pen must be 0 (keeps drawing) or 1 (lifted after this point)")
    return points.astype(np.float32)


class Jumps(NamedTuple):
    """Drawings in which the pen jumps, see :data:`MAX_JUMP_RATIO`.

    Attributes:
        has_jump: ``(N,)`` true for such drawings.
        usual_offset: The median length of an offset that is not zero.
    """

    has_jump: np.ndarray
    usual_offset: float


def find_jumps(drawings: Sequence[np.ndarray]) -> Jumps:
    """Compare the longest offset of each drawing ``(T, 3)`` with the median offset of all.

    >>> find_jumps([np.array([[1, 0, 0], [1, 0, 1]]), np.array([[1, 0, 0], [5000, 0, 1]])]).has_jump.tolist()
    [False, True]
    """
    lengths = np.hypot(*np.concatenate([points[:, :2] for points in drawings]).T)
    starts = np.cumsum([0, *(len(points) for points in drawings[:-1])])
    usual = float(np.median(lengths[lengths > 0])) if lengths.any() else 0.0
    return Jumps(np.maximum.reduceat(lengths, starts) > MAX_JUMP_RATIO * usual, usual)


def scale_offsets(points: np.ndarray, scale: float) -> np.ndarray:
    """Divide the offsets of ``(T, 3)`` by ``scale``; the pen is unchanged."""
    return points / np.array([scale, scale, 1.0], dtype=np.float32)


def shift_right(points: np.ndarray) -> np.ndarray:
    """Previous point of each step ``(T, 3)``; zeros before the first (Graves 2013, section 2)."""
    return np.concatenate([np.zeros_like(points[:1]), points[:-1]])


def encode_text(text: str, characters: Sequence[str]) -> np.ndarray:
    """Character ids ``(U,)`` from 1; 0 for an unknown character."""
    ids = {character: i for i, character in enumerate(characters, 1)}
    return np.array([ids.get(character, 0) for character in text], dtype=np.int64)
