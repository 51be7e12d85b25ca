"""Binary labels sampled from the last to the first, each given those above it.

The algorithm is that of :func:`lstmkit.decoding.generation.sample_labels`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lstmkit.runtime.arithmetic import sigmoid, softmax


def sample_labels(
    logits_below: Callable[[np.ndarray], np.ndarray],
    noise: np.ndarray,
    temperature: float = 1.0,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Labels ``(B, K)`` of 0 and 1.

    Args:
        logits_below: ``logits_below(labels (B, K)) -> (B, K)``: logits of the labels below the lowest active one.
        noise: ``(B, K)`` uniform in 0…1.
        temperature: 0 takes the more probable choice, 1 samples from the logits.
        known: ``(B, K)`` of 1, 0, and NaN for labels to sample; ``None`` for none.

    >>> sample_labels(lambda labels: np.array([[2.0, -1.0, 1.0]]), np.full((1, 3), 0.5)).tolist()
    [[1.0, 0.0, 1.0]]
    """
    labels = np.zeros_like(noise)
    numbers = np.arange(noise.shape[1])
    limit = np.full((len(noise), 1), noise.shape[1])
    while True:
        probabilities = sigmoid(logits_below(labels))
        if known is not None:
            probabilities = np.where(np.isnan(known), probabilities, known)
        probabilities = np.where(numbers < limit, probabilities, 0.0)
        active = noise < _tempered(probabilities, temperature)
        if not active.any():
            return labels
        limit = np.where(active, numbers, -1).max(1, keepdims=True)
        labels = np.where(numbers == limit, 1.0, labels)


def _tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probability ``(B, K)`` that a label is active if none above it is, at a temperature."""
    if temperature == 1:
        return probabilities
    p = probabilities.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of labels that are certain or impossible
        log_inactive = np.log1p(-p)
        above = np.pad(log_inactive[:, 1:], ((0, 0), (0, 1)))
        log_next = np.log(p) + above[:, ::-1].cumsum(1)[:, ::-1]
        log_none = log_inactive.sum(1, keepdims=True)
        log_any = np.log1p(-np.exp(log_none))
        if temperature == 0:
            any_active = (log_any > log_none).astype(np.float64)
            share = np.eye(p.shape[1])[log_next.argmax(1)]
        else:
            any_active = sigmoid((log_any - log_none) / temperature)
            share = np.nan_to_num(softmax(log_next / temperature), nan=0.0)  # NaN if no label can be active
        p_next = any_active * share
        return np.where(p_next > 0, p_next / (1 - any_active + p_next.cumsum(1)), 0.0)
