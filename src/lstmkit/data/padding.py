"""Sequences of different lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pad_sequences(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Stack arrays ``(T_i, …)`` into ``(B, max T_i, …)``, padded at the end with ``fill``; scalars into ``(B,)``.

    >>> pad_sequences([np.array([1, 2]), np.array([3])], fill=-1).tolist()
    [[1, 2], [3, -1]]
    """
    if arrays[0].ndim == 0:
        return np.stack(arrays)
    padded = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded
