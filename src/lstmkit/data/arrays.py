"""Arrays that users pass: lists, numpy arrays, and tensors of torch; and their root mean square."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def as_array(values: Any) -> np.ndarray:
    """Values as a numpy array. A tensor may be on any device and may need gradients; bfloat16 becomes float32.

    Raises:
        ValueError: They are ragged, or what they hold has no form in numpy.

    >>> as_array(torch.ones(2, dtype=torch.bfloat16))
    array([1., 1.], dtype=float32)
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)
    try:
        return np.asarray(values)
    except (TypeError, RuntimeError) as err:  # a list of tensors
        raise ValueError(str(err)) from err


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
