"""Calibration of intervals and probabilities on the validation set: conformal widths and temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from typing_extensions import Self

_PRIOR_DEVIATION = 0.5  # of the logarithm of the temperature
_SIGNIFICANT = 3.84  # 95 % quantile of the chi-squared distribution with one degree of freedom

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


_WEIGHTS = np.linspace(0, 1, 21)  # of the second model in a combination


def combination_weight(
    y: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    independent: np.ndarray,
    quantile_levels: Sequence[float] | None = None,
) -> float:
    """The weight ``w`` of the second forecast in the combination ``(1 - w) * first + w * second``.

    Of the weights whose mean loss is within one standard error of the smallest, the one nearest to equal weights: the
    one-standard-error rule (Breiman et al. 1984), since equal weights are hard to beat (Clemen 1989).

    Args:
        y: ``(N, H)`` true values; NaN if unknown.
        first, second: ``(N, H)`` forecasts; ``(N, H, Q)`` if they are quantiles.
        independent: ``(N,)`` true for windows that do not overlap: the standard error is over these.
        quantile_levels: The ``Q`` levels of quantiles, in (0, 1): the loss is then the mean pinball loss, else the
            absolute error.

    Returns:
        One of 0, 0.05, … 1; one half for a single independent window.

    >>> y = np.arange(12.0).reshape(4, 3)
    >>> combination_weight(y, y + 1, y, np.ones(4, dtype=bool)), combination_weight(y, y, y, np.ones(4, dtype=bool))
    (1.0, 0.5)
    """
    if quantile_levels is None:  # the absolute error is twice the pinball loss of the median
        first, second, quantile_levels = first[..., None], second[..., None], (0.5,)
    levels = np.asarray(quantile_levels)
    known = ~np.isnan(y)
    scored = known.any(axis=1)
    y, first, second, known = y[scored], first[scored], second[scored], known[scored]
    errors = np.zeros((len(y), len(_WEIGHTS)))
    for i, weight in enumerate(_WEIGHTS):
        over = y[..., None] - first - weight * (second - first)
        losses = np.where(known, np.maximum(levels * over, (levels - 1) * over).mean(axis=-1), 0.0)
        errors[:, i] = losses.sum(axis=1) / known.sum(axis=1)
    return _weight_within_one_standard_error(errors, independent[scored])


def mixture_weight(targets: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The weight ``w`` of the second model in the mixture of probabilities ``(1 - w) * first + w * second``.

    The rule is that of :func:`combination_weight`, with the log loss of each example.

    Args:
        targets: ``(N,)`` true classes.
        first, second: ``(N, C)`` probabilities.

    Returns:
        One of 0, 0.05, … 1; one half for a single example.

    >>> sure, wrong = np.array([[0.9, 0.1]] * 4), np.array([[0.1, 0.9]] * 4)
    >>> mixture_weight(np.zeros(4, dtype=int), wrong, sure), mixture_weight(np.zeros(4, dtype=int), sure, sure)
    (1.0, 0.5)
    """
    rows = np.arange(len(targets))
    a, b = first[rows, targets], second[rows, targets]
    losses = np.stack([-np.log(np.maximum(a + w * (b - a), 1e-12)) for w in _WEIGHTS], axis=1)
    return _weight_within_one_standard_error(losses, np.ones(len(targets), dtype=bool))


def _weight_within_one_standard_error(losses: np.ndarray, independent: np.ndarray) -> float:
    """From losses ``(N, weights)``: of the weights within one standard error of the best, the nearest to one half."""
    loss = losses.mean(axis=0)
    best = loss.argmin()
    differences = (losses - losses[:, [best]])[independent]
    if len(differences) < 2:
        return 0.5
    near = _WEIGHTS[loss <= loss[best] + differences.std(axis=0, ddof=1) / np.sqrt(len(differences))]
    return round(float(near[np.abs(near - 0.5).argmin()]), 2)


def probabilities(logits: np.ndarray, multi_label: bool, temperature: float = 1.0) -> np.ndarray:
    """Convert logits ``(N, C)`` to probabilities: softmax, or sigmoid if an example may have several labels.

    >>> probabilities(np.log([[1.0, 3.0]]), multi_label=False)
    array([[0.25, 0.75]])
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return expit(scaled) if multi_label else softmax(scaled, axis=1)


@dataclass(frozen=True)
class TemperatureScaling:
    """Temperature scaling, and what it was fitted to.

    Attributes:
        temperature: The logits are divided by it; 1 leaves probabilities as they are.
        num_examples: Number of validation examples; 0 if there were none, ``None`` if unknown (models of version 0.1).

    Raises:
        ValueError: The temperature is not a positive number.
    """

    temperature: float = 1.0
    num_examples: int | None = 0

    def __post_init__(self) -> None:
        if not np.isfinite(self.temperature) or self.temperature <= 0:
            raise ValueError("the temperature is not a positive number")

    def describe(self, unit: str = "validation examples") -> str:
        """What was done to the probabilities, without a full stop.

        >>> TemperatureScaling(1.47, 500).describe()
        'Probabilities are calibrated on 500 validation examples, with temperature 1.47'
        """
        if self.num_examples == 0:
            return "Probabilities are not calibrated"
        examples = "" if self.num_examples is None else f" on {self.num_examples:,} {unit}"
        if self.temperature != 1:
            return f"Probabilities are calibrated{examples}, with temperature {self.temperature:.2f}"
        return (
            f"Probabilities are calibrated{examples}, which do not show that another temperature is better: it was "
            "left at 1 (unchanged)"
        )

    def state(self) -> dict[str, float | int | None]:
        """What :meth:`from_state` reads."""
        return {"temperature": self.temperature, "calibrated_on": self.num_examples}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """From :meth:`state`. Raises ValueError if it is damaged."""
        count = state.get("calibrated_on")
        if count is not None and (not isinstance(count, int) or count < 0):
            raise ValueError("the number of validation examples is not a whole number from 0 up")
        return cls(float(state["temperature"]), count)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> TemperatureScaling:
    """Temperature scaling: the divisor of the logits that minimizes the log loss on the validation set.

    Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks". The ranking of classes does not
    change. A few examples say little about the temperature, and a wrong one makes calibration worse. So:

    - log T has a normal prior with mean 0 and standard deviation 0.5 (maximum a posteriori);
    - T stays 1 if it does not raise the likelihood significantly: twice the gain in log-likelihood must exceed 3.84,
      the 5 % point of the likelihood-ratio test with one parameter.

    Args:
        logits: ``(N, C)``; minus infinity excludes a class.
        targets: Classes ``(N,)``, or binary labels ``(N, C)``, each of which counts as an observation.

    >>> rng = np.random.default_rng(0)
    >>> logits = 3 * rng.normal(size=(9000, 3))
    >>> targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> round(fit_temperature(2 * logits, targets).temperature, 1)
    2.0
    >>> fit_temperature(logits[:20], targets[:20])
    TemperatureScaling(temperature=1.0, num_examples=20)
    """
    observations = targets.size

    def loss(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / _PRIOR_DEVIATION) ** 2
        return observations * log_loss(logits / np.exp(log_temperature), targets) + prior

    result: Any = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    fitted = float(np.exp(result.x))
    gain = observations * (log_loss(logits, targets) - log_loss(logits / fitted, targets))
    return TemperatureScaling(fitted if 2 * gain > _SIGNIFICANT else 1.0, len(targets))


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
