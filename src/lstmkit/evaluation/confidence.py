"""Confidence intervals of a test with few examples: Wilson's for a fraction, else the bootstrap over examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

MAX_EXAMPLES = 199  #: Tests with more examples have no interval: it would be narrow beside the differences of models.
_MIN_RESAMPLED = 5  # fewer examples cannot be resampled: the interval would be far too narrow
_RESAMPLES = 1000
_Z = 1.959964  # of a normal distribution: 95 % lie within


@dataclass(frozen=True, eq=False)
class ScoredExamples:
    """The independent examples of a test, and the main score of any of them.

    Attributes:
        count: Number of examples.
        name: What they are, in the plural: ``"questions"``.
        score: The model's main score on the examples of the given rows, from 0; ``None`` if it has no such score.
        is_fraction: Whether the score is the fraction of correct examples.
        saved_interval: The interval, if it was computed before and ``score`` is not at hand.

    >>> seven = ScoredExamples.mean("questions", np.array([1, 1, 1, 1, 1, 1, 0]), is_fraction=True)
    >>> seven.counted, [round(bound, 3) for bound in seven.interval]
    ('7 questions', [0.487, 0.974])
    """

    count: int
    name: str
    score: Callable[[np.ndarray], float] | None = field(default=None, repr=False)
    is_fraction: bool = False
    saved_interval: tuple[float, float] | None = None

    @classmethod
    def mean(cls, name: str, values: np.ndarray, *, is_fraction: bool = False) -> ScoredExamples:
        """Examples whose score is the mean of ``values (N,)``; of zeros and ones if it is a fraction."""
        return cls(len(values), name, lambda rows: float(values[rows].mean()), is_fraction)

    @classmethod
    def ratio(cls, name: str, values: np.ndarray, weights: np.ndarray) -> ScoredExamples:
        """Examples whose score is the sum of ``values (N,)`` divided by that of ``weights (N,)``."""

        def score(rows: np.ndarray) -> float:
            total = float(weights[rows].sum())
            return float(values[rows].sum()) / total if total else math.nan

        return cls(len(values), name, score)

    @property
    def counted(self) -> str:
        """Number and name: "7 questions", "1 question"."""
        name = self.name.removesuffix("s") if self.count == 1 and self.name != "series" else self.name
        return f"{self.count:,} {name}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the score, if there are fewer than 200 examples and enough to compute one.

        ``None`` if all examples have the same score: a resample of them has no other one.
        """
        return None if self.have_same_score else self._interval

    @cached_property
    def have_same_score(self) -> bool:
        """Whether all examples have the same score, so that a bootstrap interval has no width.

        >>> ScoredExamples.mean("texts", np.ones(35)).have_same_score
        True
        """
        return self._interval is not None and math.isclose(*self._interval, rel_tol=1e-9, abs_tol=1e-12)

    @cached_property
    def _interval(self) -> tuple[float, float] | None:
        if self.score is None or not 0 < self.count <= MAX_EXAMPLES:
            return self.saved_interval
        if self.is_fraction:
            return wilson_interval(self.score(np.arange(self.count)), self.count)
        return bootstrap_interval(self.score, self.count) if self.count >= _MIN_RESAMPLED else None


def wilson_interval(fraction: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a fraction of ``count`` independent examples (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson_interval(1.0, 7)]
    [0.646, 1.0]
    >>> wilson_interval(0.0, 3)[0]
    0.0
    """
    center = (fraction + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(fraction * (1 - fraction) / count + _Z**2 / (4 * count**2))
    low = 0.0 if fraction == 0 else max(0.0, center - half)  # in floating point center - half is about 1e-17
    return low, 1.0 if fraction == 1 else min(1.0, center + half)


def bootstrap_interval(score: Callable[[np.ndarray], float], count: int) -> tuple[float, float] | None:
    """The 95 % percentile interval of a score over 1,000 resamples of the examples (Efron 1979).

    Args:
        score: The score of the examples of given rows, ``(N,)`` with repetitions.
        count: Number of examples.

    Returns:
        The interval; ``None`` if the score is not finite for some resample.

    >>> bootstrap_interval(lambda rows: float(rows.mean()), 9)
    (2.3333333333333335, 5.555555555555555)
    """
    rng = np.random.default_rng(0)
    scores = [score(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
    if not np.isfinite(scores).all():
        return None
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)
