"""Drawings as points of a pen: checks, scale, and the ids of texts. Without torch, for exported models too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lstmkit.errors import DataError

MAX_POINTS = 100_000  #: Maximum points of a drawing.
MAX_JUMP_RATIO = 1000  #: A drawing with an offset this many times the median is dropped as a recording error.
MAX_TEXT_LENGTH = 10_000  #: Maximum characters of the text of a drawing.
NOISE_SIZE = 5  #: Uniform random numbers per sampled point: component, two directions, pen and end.
_MAX_OFFSET = 1e9  # between successive points


@dataclass(frozen=True, eq=False)
class Ink:
    """One drawing. The pen starts on the paper, at the origin.

    Attributes:
        points: ``(T, 3)`` float32: dx (to the right) and dy (down) from the previous point, and whether the pen is
            lifted after the point (1) or keeps drawing (0).
        name: Its name in messages and figures.
        text: The written text; ``""`` if unknown.

    >>> [len(stroke) for stroke in Ink(np.array([[1, 0, 0], [0, 2, 1]], np.float32), "corner").strokes]
    [3]
    """

    points: np.ndarray
    name: str
    text: str = ""

    @property
    def strokes(self) -> list[np.ndarray]:
        """The strokes as positions ``(n, 2)`` each; the first one starts at the origin."""
        return offsets_to_strokes(self.points)


def offsets_to_strokes(points: np.ndarray) -> list[np.ndarray]:
    """Convert offsets ``(T, 3)`` to strokes of positions ``(n, 2)``; a lifted pen ends a stroke.

    >>> [line.tolist() for line in offsets_to_strokes(np.array([[1, 0, 0], [0, 2, 1], [3, 0, 0], [0, 1, 1]]))]
    [[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], [[4.0, 2.0], [4.0, 3.0]]]
    """
    if not len(points):
        return []
    positions = np.cumsum(points[:, :2].astype(np.float64), axis=0)
    strokes = np.split(positions, np.flatnonzero(points[:-1, 2] > 0) + 1)
    if points[0, :2].any():
        strokes[0] = np.concatenate([np.zeros((1, 2)), strokes[0]])
    return strokes


def validate_points(points: np.ndarray, name: str) -> np.ndarray:
    """Check offsets as in :class:`Ink`; return a copy as ``(T, 3)`` float32.

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


def validated_ink(points: np.ndarray, name: str, text: str, where: str) -> Ink:
    """A drawing of offsets ``(T, 3)``, checked as in :func:`validate_points`; the pen is lifted after the last.

    Args:
        points: The offsets.
        name: Name of the drawing.
        text: Its text.
        where: Name of the data in messages.

    Raises:
        DataError: As :func:`validate_points`, or the text is too long.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise DataError(f"{where}, {name} has {len(text):,} characters, the maximum is {MAX_TEXT_LENGTH:,}: shorten it")
    points = validate_points(points, f"{where}, {name}")
    points[-1, 2] = 1.0
    return Ink(points, name, " ".join(text.split()))


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
