"""After training, on the validation part: make stated probabilities true. The result is saved inside the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax

MIN_VALUES_PER_STEP = 50  #: Scores that one horizon step needs for a width of its own; with fewer, all steps share one.


def conformal_widths(y: np.ndarray, low: np.ndarray, high: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """How much to widen (or, negative, narrow) each interval so that it covers what it says.

    Split conformal prediction on quantiles: Romano, Patterson, Candès 2019, "Conformalized quantile regression". Its
    guarantee is for exchangeable windows; windows of one series overlap and drift, so it holds here approximately.

    Args:
        y: ``(N, H)`` true values, NaN where not known, in the unit of the intervals.
        low, high: ``(N, H, K)`` bounds of ``K`` intervals.
        coverage: ``(K,)`` the share each is to cover, in (0, 1).

    Returns:
        ``(H, K)``. With too few windows for a level's quantile the largest score seen is taken.

    >>> y = np.arange(100.0).reshape(100, 1)
    >>> conformal_widths(y, np.full((100, 1, 1), 10.0), np.full((100, 1, 1), 89.0), np.array([0.9]))
    array([[6.]])
    """
    horizon, n_intervals = low.shape[1:]
    scores = np.maximum(low - y[..., None], y[..., None] - high)
    widths = np.zeros((horizon, n_intervals))
    pooled = bool((np.isfinite(y).sum(axis=0) < MIN_VALUES_PER_STEP).any())
    for h in range(horizon):
        seen = scores if pooled else scores[:, h : h + 1]
        seen = seen.reshape(-1, n_intervals)
        seen = np.sort(seen[np.isfinite(seen).all(axis=1)], axis=0)
        if len(seen):
            # The finite-sample quantile, from 1; rounded first, since 100 * 0.55 is 55.00000000000001.
            rank = np.ceil(np.round((len(seen) + 1) * coverage, 9)).astype(int)
            widths[h] = seen[np.minimum(rank, len(seen)) - 1, np.arange(n_intervals)]
    return widths


def probabilities(logits: np.ndarray, several: bool, temperature: float = 1.0) -> np.ndarray:
    """``(N, C)`` logits to probabilities: of the classes together 1, or where several may hold each by itself.

    >>> probabilities(np.log([[1.0, 3.0]]), several=False)
    array([[0.25, 0.75]])
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return expit(scaled) if several else softmax(scaled, axis=1)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """By what to divide logits so that their probabilities are true: the least log loss of the validation part.

    Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks". The ranking does not change. Each
    of ``N`` examples counts as wrong by ``1 / (N + 2)`` (Platt 1999, section 2.2): few that are all right do not prove
    that all are.

    Args:
        logits: ``(N, C)``.
        targets: Classes ``(N,)``, or which labels hold ``(N, C)``.

    Returns:
        From 0.05 to 20.

    >>> round(fit_temperature(np.array([[4.0, 0.0]] * 4), np.array([0, 0, 0, 1])), 2)
    5.77
    """
    doubt = 1 / (len(targets) + 2)
    found = minimize_scalar(
        lambda t: _smoothed_log_loss(logits / np.exp(t), targets, doubt), bounds=(-3, 3), method="bounded"
    )
    return float(np.clip(np.exp(found.x), 0.05, 20.0))


def _smoothed_log_loss(logits: np.ndarray, targets: np.ndarray, doubt: float) -> float:
    """Log loss where with the probability ``doubt`` it is not as the targets say."""
    if targets.ndim == 2:
        return log_loss(logits, targets + doubt * (1 - 2 * targets))
    others = logits.copy()
    others[np.arange(len(targets)), targets] = -np.inf
    against = logsumexp(others, axis=1) - logsumexp(logits, axis=1)
    return (1 - doubt) * log_loss(logits, targets) - doubt * float(np.mean(against))


def log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood of classes ``(N,)``, or of each label ``(N, C)``."""
    if targets.ndim == 1:
        return float(np.mean(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets]))
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


@dataclass(frozen=True)
class ReliabilityCurve:
    """How often what was stated came true, bin by bin of the stated probability; ``(K,)`` each, no bin empty.

    Attributes:
        stated: Mean probability that was stated.
        observed: Share that came true.
        count: Statements.
    """

    stated: np.ndarray
    observed: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of the two, by statements (Naeini et al. 2015)."""
        return float(np.sum(self.count * np.abs(self.stated - self.observed)) / self.count.sum())


def reliability(stated: np.ndarray, outcomes: np.ndarray, bins: int = 15) -> ReliabilityCurve:
    """Statements ``(N,)`` in ``bins`` of equal width.

    >>> reliability(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])).error.__round__(3)
    0.3
    """
    which = np.minimum((stated * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    used = count > 0
    sums = [np.bincount(which, weights=of, minlength=bins)[used] / count[used] for of in (stated, outcomes)]
    return ReliabilityCurve(sums[0], sums[1], count[used])


def confidences_and_outcomes(stated: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What probabilities ``(N, C)`` say, and whether it came true: of the likeliest class, or of every label."""
    if targets.ndim == 2:
        return stated.ravel(), targets.ravel() > 0.5
    return stated.max(axis=1), stated.argmax(axis=1) == targets
