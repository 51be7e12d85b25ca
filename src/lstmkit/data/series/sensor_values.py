"""Values of sensor series, and their windows. It needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstmkit.errors import DataError

MAX_VALUE = 1e100  #: Largest absolute value; larger ones are treated as errors in the data.
VALUES_AT_ONCE = 4_000_000  #: Values of windows in memory.


def array_of_channels(values: np.ndarray) -> np.ndarray:
    """An array ``(T,)`` or ``(T, C)`` as ``(T, C)``.

    Raises:
        DataError: It has another shape or no values, or a value is too large.

    >>> array_of_channels(np.zeros(3)).shape
    (3, 1)
    """
    channels = values[:, None] if values.ndim == 1 else values
    if channels.ndim != 2 or not channels.size:
        raise DataError(f"the array has shape {values.shape}: give numbers (T,) or (T, C), with T and C above 0")
    too_large = (np.abs(channels) > MAX_VALUE).any(axis=1)
    if too_large.any():
        raise DataError(
            f"the array, step {int(too_large.argmax()) + 1}: a value is infinite or above {MAX_VALUE:g}: "
            "use NaN if it is missing"
        )
    return channels


def check_channels(values: np.ndarray, channels: Sequence[str], where: str) -> None:
    """Raise DataError if a channel of a series ``(T, C)`` has no value at all."""
    missing = np.isnan(values).all(axis=0)
    if missing.any():
        raise DataError(f"{where}: channel {channels[int(missing.argmax())]!r} has no value: remove it")


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Forward-fill missing values of ``(T, C)``; 0 before the first value.

    >>> forward_fill(np.array([[np.nan], [2.0], [np.nan]])).tolist()
    [[0.0], [2.0], [2.0]]
    """
    known = ~np.isnan(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], 0), axis=0)
    filled = np.take_along_axis(values, newest, axis=0)
    return np.where(np.isnan(filled), 0.0, filled)


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
