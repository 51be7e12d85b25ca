"""Calibration of intervals and probabilities on the validation set: conformal widths and temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax

MIN_VALUES_PER_STEP = 50  #: Scores a horizon step needs for its own width; with fewer, all steps share one width.


def conformal_widths(y: np.ndarray, low: np.ndarray, high: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Amount by which to widen each interval so that it has its nominal coverage; negative to narrow it.

    Conformalized quantile regression (Romano, Patterson, Candès 2019). The guarantee assumes exchangeable windows.
    Windows of one series overlap and drift, so it is approximate here.

    Args:
        y: ``(N, H)`` true values in the unit of the intervals; NaN if unknown.
        low, high: ``(N, H, K)`` bounds of ``K`` intervals.
        coverage: ``(K,)`` nominal coverage, in (0, 1).

    Returns:
        ``(H, K)``. If there are too few windows for a quantile, the largest score is used.

    >>> y = np.arange(100.0).reshape(100, 1)
    >>> conformal_widths(y, np.full((100, 1, 1), 10.0), np.full((100, 1, 1), 89.0), np.array([0.9]))
    array([[6.]])
    """
    horizon, n_intervals = low.shape[1:]
    scores = np.maximum(low - y[..., None], y[..., None] - high)
    widths = np.zeros((horizon, n_intervals))
    pooled = bool((np.isfinite(y).sum(axis=0) < MIN_VALUES_PER_STEP).any())
    for h in range(horizon):
        step_scores = scores if pooled else scores[:, h : h + 1]
        step_scores = step_scores.reshape(-1, n_intervals)
        step_scores = np.sort(step_scores[np.isfinite(step_scores).all(axis=1)], axis=0)
        if len(step_scores):
            # Rank of the finite-sample quantile, from 1; rounded first, since 100 * 0.55 is 55.00000000000001.
            rank = np.ceil(np.round((len(step_scores) + 1) * coverage, 9)).astype(int)
            widths[h] = step_scores[np.minimum(rank, len(step_scores)) - 1, np.arange(n_intervals)]
    return widths


def probabilities(logits: np.ndarray, multi_label: bool, temperature: float = 1.0) -> np.ndarray:
    """Convert logits ``(N, C)`` to probabilities: softmax, or sigmoid if an example may have several labels.

    >>> probabilities(np.log([[1.0, 3.0]]), multi_label=False)
    array([[0.25, 0.75]])
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return expit(scaled) if multi_label else softmax(scaled, axis=1)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Temperature scaling: the divisor of the logits that minimizes the log loss on the validation set.

    Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks". The ranking of classes does not
    change. Targets are smoothed by ``1 / (N + 2)`` (Platt 1999, section 2.2), so that a small set without errors does
    not give extreme probabilities.

    Args:
        logits: ``(N, C)``.
        targets: Classes ``(N,)``, or binary labels ``(N, C)``.

    Returns:
        The temperature, 0.05 to 20.

    >>> round(fit_temperature(np.array([[4.0, 0.0]] * 4), np.array([0, 0, 0, 1])), 2)
    5.77
    """
    smoothing = 1 / (len(targets) + 2)
    result = minimize_scalar(
        lambda t: _smoothed_log_loss(logits / np.exp(t), targets, smoothing), bounds=(-3, 3), method="bounded"
    )
    return float(np.clip(np.exp(result.x), 0.05, 20.0))


def _smoothed_log_loss(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    """Log loss of targets that are wrong with probability ``smoothing``."""
    if targets.ndim == 2:
        return log_loss(logits, targets + smoothing * (1 - 2 * targets))
    others = logits.copy()
    others[np.arange(len(targets)), targets] = -np.inf
    log_p_other = logsumexp(others, axis=1) - logsumexp(logits, axis=1)
    return (1 - smoothing) * log_loss(logits, targets) - smoothing * float(np.mean(log_p_other))


def log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of classes ``(N,)``, or of binary labels ``(N, C)``."""
    if targets.ndim == 1:
        return float(np.mean(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets]))
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


@dataclass(frozen=True)
class ReliabilityCurve:
    """A reliability curve: predicted and observed frequency in ``K`` nonempty bins, ``(K,)`` each.

    Attributes:
        stated: Mean predicted probability.
        observed: Observed frequency.
        count: Number of predictions.
    """

    stated: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean absolute difference of the two, weighted by count (Naeini et al. 2015)."""
        return float(np.sum(self.count * np.abs(self.stated - self.observed)) / self.count.sum())


def reliability(predicted: np.ndarray, outcomes: np.ndarray, bins: int = 15) -> ReliabilityCurve:
    """Compute the reliability curve of predicted probabilities and outcomes, ``(N,)`` each, in equal-width bins.

    >>> reliability(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])).error.__round__(3)
    0.3
    """
    indices = np.minimum((predicted * bins).astype(int), bins - 1)
    count = np.bincount(indices, minlength=bins)
    nonempty = count > 0
    predicted, observed = (
        np.bincount(indices, weights=values, minlength=bins)[nonempty] / count[nonempty]
        for values in (predicted, outcomes)
    )
    return ReliabilityCurve(predicted, observed, count[nonempty])


def confidences_and_outcomes(stated: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness of the most probable class, or probability and truth of every label.

    Args:
        stated: Probabilities ``(N, C)``.
        targets: Classes ``(N,)``, or binary labels ``(N, C)``.
    """
    if targets.ndim == 2:
        return stated.ravel(), targets.ravel() > 0.5
    return stated.max(axis=1), stated.argmax(axis=1) == targets
