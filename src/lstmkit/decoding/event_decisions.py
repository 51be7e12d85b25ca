"""Decisions about events: probabilities of classes to labels. The job and its exported form use the same code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class EventDecisions:
    """How logits become probabilities, and probabilities labels.

    Attributes:
        classes: ``C`` labels.
        positive: Index of the class to detect, of two; ``None`` with more classes.
        threshold: An event is positive if its probability is at least this.
        temperature: The logits are divided by it.
        log_weights: ``(C,)`` logarithms of the class weights in the loss, which are taken out of the logits again.
    """

    classes: tuple[str, ...]
    positive: int | None
    threshold: float
    temperature: float
    log_weights: np.ndarray

    def unweighted(self, logits: np.ndarray) -> np.ndarray:
        """Logits ``(N, C)`` as they are without class weights, float64.

        A loss with weights ``w`` is least if the odds of classes are those of ``w p`` (Elkan 2001, theorem 2).
        """
        return np.asarray(logits, dtype=np.float64) - self.log_weights

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities ``(N, C)``."""
        scaled = self.unweighted(logits) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predicted(self, probabilities: np.ndarray) -> np.ndarray:
        """Indices ``(N,)`` of the predicted classes: by the threshold if there is a positive class."""
        if self.positive is None:
            return probabilities.argmax(axis=1)
        is_positive = probabilities[:, self.positive] >= self.threshold
        return np.where(is_positive, self.positive, 1 - self.positive)

    def columns(self, probabilities: np.ndarray) -> dict[str, Any]:
        """The columns of an answer: ``label``, and the probability of each class as ``p_CLASS``."""
        labels = np.array(self.classes, dtype=object)[self.predicted(probabilities)]
        return {"label": labels, **dict(zip(probability_columns(self.classes), probabilities.T, strict=True))}


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Names of the columns of probabilities.

    >>> probability_columns(["fraud", "genuine"])
    ['p_fraud', 'p_genuine']
    """
    return [f"p_{name}" for name in classes]
