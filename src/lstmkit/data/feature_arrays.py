"""Features over time as arrays, checked. It needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.errors import DataError


def rectangular_array(entry: Any, name: str) -> np.ndarray:
    """An example as an array.

    Raises:
        DataError: Its rows differ in length.
    """
    try:
        return np.asarray(entry)
    except ValueError as err:
        raise DataError(f"{name} is not an array, as its rows differ in length: give all rows the same length") from err


def finite_features(values: np.ndarray, name: str) -> np.ndarray:
    """Features ``(T, F)`` as float32.

    Raises:
        DataError: They are not numbers, have another shape or no values, or one is NaN or infinite.
    """
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise DataError(f"{name} has shape {values.shape}: give features as numbers (T, F), with T and F above 0")
    features = values.astype(np.float32)
    if not np.isfinite(features).all():
        step = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise DataError(f"{name}, step {step + 1}: a value is NaN or infinite: fill it in")
    return features


def check_number_of_features(features: np.ndarray, expected: int, name: str) -> None:
    """Raise DataError unless features ``(T, F)`` are as many per step as the model reads."""
    if features.shape[1] != expected:
        raise DataError(f"{name} has {features.shape[1]} features per step, the model expects {expected}")
