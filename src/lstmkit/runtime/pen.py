"""The distribution of the next point of a pen, as :mod:`lstmkit.modules.mixture_density` computes it."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from lstmkit.runtime.arithmetic import log_softmax, sigmoid, softmax

_TINY = float(np.finfo(np.float32).eps)


class PenMixture(NamedTuple):
    """Distribution of the next point.

    Attributes:
        logits: ``(K,)`` logits of the component weights.
        means: ``(K, 2)`` means of the offset.
        log_deviations: ``(K, 2)`` logarithms of the standard deviations.
        correlations: ``(K,)`` correlations of the two directions.
        pen: Logit that the pen is lifted after this point.
        last: Logit that a lifted pen ends the drawing; ``None`` if the model has no end.
    """

    logits: np.ndarray
    means: np.ndarray
    log_deviations: np.ndarray
    correlations: np.ndarray
    pen: float
    last: float | None

    def nll(self, point: np.ndarray) -> float:
        """Negative log-likelihood in nats of the offset (a density) and the pen of a point ``(4,)``."""
        z = (point[:2] - self.means) * np.exp(-self.log_deviations)
        residual = 1 - self.correlations**2
        distance = ((z**2).sum(-1) - 2 * self.correlations * z.prod(-1)) / residual
        log_density = -0.5 * (distance + np.log(residual)) - self.log_deviations.sum(-1) - math.log(2 * math.pi)
        offset = -np.logaddexp.reduce(log_softmax(self.logits) + log_density)
        return float(offset + np.logaddexp(0.0, self.pen) - point[2] * self.pen)

    def sample(self, noise: np.ndarray, bias: float = 0.0) -> np.ndarray:
        """Sample a point ``(4,)``: offset, pen lifted, end.

        Args:
            noise: ``(5,)`` uniform in 0…1, for component, two directions, pen and end.
            bias: Probability bias: values above 0 give neater writing.
        """
        totals = np.cumsum(softmax(self.logits * (1 + bias)))
        k = min(int((totals < noise[0]).sum()), len(totals) - 1)
        first, second = (NormalDist().inv_cdf(float(u)) for u in np.clip(noise[1:3], _TINY, 1 - _TINY))
        correlation = float(self.correlations[k])
        second = correlation * first + math.sqrt(1 - correlation**2) * second
        offset = self.means[k] + np.exp(self.log_deviations[k] - bias) * np.array([first, second])
        pen = float(noise[3] < sigmoid(np.array(self.pen)))
        last = pen * float(self.last is not None and noise[4] < sigmoid(np.array(self.last)))
        return np.array([*offset, pen, last])
