"""Functions of arrays that several exported jobs need."""

from __future__ import annotations

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis; minus infinity stays.

    >>> log_softmax(np.zeros(2)).round(3).tolist()
    [-0.693, -0.693]
    """
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis.

    >>> softmax(np.zeros(2)).tolist()
    [0.5, 0.5]
    """
    return np.exp(log_softmax(logits))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    return np.exp(-np.logaddexp(0, -x))
