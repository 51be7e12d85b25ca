"""Statistics of arrays with missing values."""

from __future__ import annotations

import numpy as np

SMALLEST_SQUARED = 1e-140  #: The squares of smaller values lose digits, below 1e-162 all of them.


def root_mean_square(values: np.ndarray, axis: int) -> np.ndarray:
    """Of values of any size, along an axis that is kept; NaN is left out, and 0 stands for no values.

    >>> root_mean_square(np.array([[3e-200, -4e-200, np.nan], [1.0, -1.0, 1.0]]), axis=1).ravel()
    array([3.53553391e-200, 1.00000000e+000])
    """
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=axis, keepdims=True), 1)
    values = np.where(known, values, 0.0)
    with np.errstate(over="ignore"):
        plain = np.sqrt((values**2).sum(axis=axis, keepdims=True) / count)
    if ((plain > SMALLEST_SQUARED) & np.isfinite(plain)).all():
        return plain
    largest = np.abs(values).max(axis=axis, keepdims=True, initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)
    scaled = unit * np.sqrt(((values / unit) ** 2).sum(axis=axis, keepdims=True) / count)
    return np.where((plain > SMALLEST_SQUARED) & np.isfinite(plain), plain, scaled)


def is_missing(values: np.ndarray) -> np.ndarray:
    """Where values are missing: NaN in numbers, and NaN or ``None`` in objects; bool of the same shape.

    >>> is_missing(np.array(["a", None], dtype=object)).tolist()
    [False, True]
    """
    if values.dtype != object:
        return np.isnan(values)
    missing = [value is None or value != value for value in values.ravel().tolist()]
    return np.array(missing, dtype=bool).reshape(values.shape)
