"""Resample ink to equidistant points of normalized height."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.ink.points import validate_points
from lstmkit.errors import DataError

POINT_SPACING = 0.06  #: Distance between resampled points, relative to the height of the ink.


class ResampledInk(NamedTuple):
    """Ink resampled to equidistant points.

    Attributes:
        steps: ``(T, 4)`` float32: dx and dy from the previous point, in units of the spacing; y relative to the center,
            in units of the height; and whether the stroke ends at the point.
        points: ``(T,)`` index of each point in the original ink, from 0, interpolated.
    """

    steps: np.ndarray
    points: np.ndarray


def validate_strokes(points: Any, name: str) -> np.ndarray:
    """Check offsets ``(N, 3)`` as :func:`validate_points`; return a float32 copy.

    Raises:
        DataError: As :func:`validate_points`, or all points are at the same position.
    """
    offsets = validate_points(np.asarray(points), name)
    if not np.abs(offsets[1:, :2]).any():
        raise DataError(f"{name}: all points are at the same position: remove the drawing")
    return offsets


def resample_ink(points: np.ndarray) -> ResampledInk:
    """Resample offsets ``(N, 3)`` to equidistant points of ink with height 1. A dot stays one point."""
    positions = np.cumsum(points[:, :2], axis=0, dtype=np.float64)
    low, high = positions.min(axis=0), positions.max(axis=0)
    size = (high - low)[1] or (high - low)[0]
    positions = (positions - [low[0], (low[1] + high[1]) / 2]) / size
    ends = np.flatnonzero(points[:, 2] > 0) + 1
    resampled, indices, lifted = [], [], []
    for stroke in np.split(np.arange(len(points)), ends):
        if not len(stroke):
            continue
        arc_length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(positions[stroke], axis=0), axis=1))])
        count = 1 + int(arc_length[-1] / POINT_SPACING) if arc_length[-1] else 1
        targets = np.linspace(0, arc_length[-1], count + 1) if arc_length[-1] else np.zeros(1)
        resampled.append(np.stack([np.interp(targets, arc_length, positions[stroke, k]) for k in (0, 1)], axis=1))
        indices.append(np.interp(targets, arc_length, stroke))
        lifted.append(np.arange(1, len(targets) + 1) == len(targets))
    points_xy = np.concatenate(resampled)
    offsets = np.diff(points_xy, axis=0, prepend=points_xy[:1]) / POINT_SPACING
    steps = np.column_stack([offsets.clip(-20, 20), points_xy[:, 1], np.concatenate(lifted)])
    return ResampledInk(steps.astype(np.float32), np.concatenate(indices))
