"""What a pen wrote: points ``(N, 3)``, each the way from the one before, and whether the pen is lifted after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.ink.strokes import validate_points
from lstmkit.errors import DataError

POINT_SPACING = 0.06  #: From point to point of what is read, in heights of the writing.


class ResampledInk(NamedTuple):
    """Strokes at points of even distance.

    Attributes:
        steps: ``(T, 4)`` float32: the way from the point before, in distances; height over the middle, in heights; and
            whether a stroke ends there.
        points: ``(T,)`` for each the number of the point as given, from 0.
    """

    steps: np.ndarray
    points: np.ndarray


def validate_strokes(points: Any, name: str) -> np.ndarray:
    """``(N, 3)`` float32.

    Raises:
        DataError: As of :func:`validate_points`, or all points at one place.
    """
    found = validate_points(np.asarray(points), name)
    if not np.abs(found[1:, :2]).any():
        raise DataError(f"{name}: all points are at one place: nothing is written")
    return found


def resample_ink(points: np.ndarray) -> ResampledInk:
    """Strokes at points of even distance, as high as one; a stroke of no length is one point."""
    places = np.cumsum(points[:, :2], axis=0, dtype=np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    size = (high - low)[1] or (high - low)[0]
    places = (places - [low[0], (low[1] + high[1]) / 2]) / size
    ends = np.flatnonzero(points[:, 2] > 0) + 1
    kept, numbers, lifted = [], [], []
    for stroke in np.split(np.arange(len(points)), ends):
        if not len(stroke):
            continue
        gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places[stroke], axis=0), axis=1))])
        count = 1 + int(gone[-1] / POINT_SPACING) if gone[-1] else 1
        at = np.linspace(0, gone[-1], count + 1) if gone[-1] else np.zeros(1)
        kept.append(np.stack([np.interp(at, gone, places[stroke, k]) for k in (0, 1)], axis=1))
        numbers.append(np.interp(at, gone, stroke))
        lifted.append(np.arange(1, len(at) + 1) == len(at))
    where = np.concatenate(kept)
    ways = np.diff(where, axis=0, prepend=where[:1]) / POINT_SPACING
    steps = np.column_stack([ways.clip(-20, 20), where[:, 1], np.concatenate(lifted)])
    return ResampledInk(steps.astype(np.float32), np.concatenate(numbers))
