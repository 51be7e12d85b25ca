"""Values of sensor series, and their windows. It needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_VALUE = 1e100  #: Largest absolute value; larger ones are treated as errors in the data.


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Forward-fill missing values of ``(T, C)``; 0 before the first value.

    >>> forward_fill(np.array([[np.nan], [2.0], [np.nan]])).tolist()
    [[0.0], [2.0], [2.0]]
    """
    known = ~np.isnan(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(values, newest, axis=0), nan=0.0, posinf=np.inf, neginf=-np.inf)


def sliding_windows(lengths: Sequence[int], window: int, stride: int) -> np.ndarray:
    """Sliding windows ``(N, 3)`` every ``stride`` steps, plus the last one. A shorter sequence is one window.

    >>> sliding_windows([5, 2], window=3, stride=3).tolist()
    [[0, 0, 3], [0, 2, 5], [1, 0, 2]]
    """
    windows = []
    for k, length in enumerate(lengths):
        last = max(0, length - window)
        starts = sorted({*range(0, last + 1, stride), last})
        windows += [(k, start, min(start + window, length)) for start in starts]
    return np.array(windows, dtype=np.int64).reshape(-1, 3)


def trailing_windows(lengths: Sequence[int], window: int) -> np.ndarray:
    """Windows ``(N, 3)`` that end at each step of each sequence; the first ones are shorter."""
    windows = [np.stack([np.full(n, k), np.maximum(0, np.arange(1, n + 1) - window), np.arange(1, n + 1)], 1)
             for k, n in enumerate(lengths)]  # fmt: skip
    return np.concatenate(windows)
