"""Arrays that users pass: lists, numpy arrays, and tensors of torch."""

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
