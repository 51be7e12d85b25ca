"""How forecast errors depend on each other, over the horizon and between series: a Gaussian copula."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from typing_extensions import Self

from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.decoding.window_forecast import WindowForecast

MAX_SERIES = 200  #: With more series than this in validation, all pairs have the same correlation.
MAX_SCORE = 4.0  #: Normal scores of actual values are cut off here: one value far out must not set a correlation.

_MAX_TARGET = 0.99  # the largest correlation of neighboring steps, and of all series, that others are shrunk toward
_SMALLEST_EIGENVALUE = 1e-3
_DECIMALS = 6  # of a saved correlation


def normal_scores(values: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The normal scores of values: the standard normal quantiles of their probabilities. Inverse of :func:`values_at`.

    Args:
        values: ``(..., )``; NaN if unknown.
        quantiles: ``(..., Q)`` ascending, ``Q >= 3``. If some are equal, their value has the score in the middle.
        levels: The ``Q`` quantile levels, ascending, in (0, 1).

    Returns:
        ``(..., )`` in ±:data:`MAX_SCORE`; NaN for unknown values.

    >>> normal_scores(np.array([8.0, 10.0, 14.0]), np.array([8.0, 10.0, 12.0]), [0.1587, 0.5, 0.8413]).round(2)
    array([-1.,  0.,  2.])
    """
    knots = ndtri(levels)
    scores = np.full(np.shape(values), knots[0])
    for k, (step, low, high) in enumerate(_segments(knots)):
        distance, width = values - quantiles[..., k], quantiles[..., k + 1] - quantiles[..., k]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(width > 0, distance / width, np.where(distance == 0, 0.5, np.inf * np.sign(distance)))
        scores = scores + np.clip(step * part, low, high)
    return np.clip(scores, -MAX_SCORE, MAX_SCORE)


def values_at(scores: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """The values with the given normal scores: linear between quantiles, as functions of the score, and beyond them.

    The outermost two quantiles of each side set the slope of its tail, which is that of a normal distribution.

    Args:
        scores: ``(..., )`` normal scores.
        quantiles: ``(..., Q)`` ascending, ``Q >= 3``; broadcast against ``scores``.
        levels: The ``Q`` quantile levels, ascending, in (0, 1).

    >>> values_at(np.array([-1.0, 0.0, 2.0]), np.array([8.0, 10.0, 12.0]), [0.1587, 0.5, 0.8413]).round(2)
    array([ 8., 10., 14.])
    """
    knots = ndtri(levels)
    values = quantiles[..., 0]
    for k, (step, low, high) in enumerate(_segments(knots)):
        slope = (quantiles[..., k + 1] - quantiles[..., k]) / step
        values = values + slope * np.clip(scores - knots[k], low, high)
    return values


def _segments(knots: np.ndarray) -> list[tuple[float, float, float]]:
    """For each pair of neighboring knots their distance, and the bounds of the distance of a score from the first."""
    steps = np.diff(knots)
    low, high = np.zeros(len(steps)), steps.copy()
    low[0], high[-1] = -np.inf, np.inf
    return list(zip(steps.tolist(), low.tolist(), high.tolist(), strict=True))


@dataclass(frozen=True)
class PathCorrelation:
    """A separable correlation of normal scores: that of two steps times that of two series.

    Attributes:
        steps: ``(H, H)`` correlation over the horizon.
        ids: Ids of the ``N`` series whose correlation is known. Other series are independent of all.
        series: ``(N, N)`` correlation between them, or the same one for all pairs.
    """

    steps: np.ndarray
    ids: tuple[str, ...]
    series: np.ndarray | float

    @classmethod
    def of_windows(
        cls, examples: ForecastExamples, forecast: WindowForecast, levels: Sequence[float], independent: np.ndarray
    ) -> Self:
        """The correlation of calibrated forecasts of ``W`` validation windows.

        Args:
            examples: The windows.
            forecast: Their calibrated forecasts, with ``Q`` quantiles.
            levels: The ``Q`` quantile levels, ascending, in (0, 1).
            independent: ``(W,)`` true for windows of a series that do not overlap.
        """
        series, origins = examples.series, examples.origins
        stamps = {i: series.timestamps(i, 0, int(series.lengths[i]) + 1) for i in set(origins[:, 0].tolist())}
        starts = np.array([stamps[i][first] for i, first in origins.tolist()], dtype=object)
        scores = normal_scores(forecast.target, forecast.quantiles, levels)
        return cls.fit(scores, [series.ids[i] for i in origins[:, 0]], pd.factorize(starts)[0], independent)

    @classmethod
    def fit(cls, scores: np.ndarray, ids: Sequence[str], times: np.ndarray, independent: np.ndarray) -> Self:
        """Estimate both correlations from the normal scores of ``W`` validation windows.

        Few windows say little, so each correlation is shrunk toward one with a single parameter, with the weight of
        Schäfer and Strimmer (2005, "A shrinkage approach to large-scale covariance matrix estimation"). Over the steps
        it is that of an autoregressive process of order one. Between series it is a constant one, at least 0 (Ledoit
        and Wolf 2004, "Honey, I shrunk the sample covariance matrix"). Calibrated scores have mean 0: none is
        subtracted.

        Args:
            scores: ``(W, H)`` normal scores; NaN if unknown.
            ids: ``(W,)`` id of each window's series.
            times: ``(W,)`` integers from 0, equal for windows whose horizons start at the same time.
            independent: ``(W,)`` true for windows of a series that do not overlap.
        """
        names = tuple(dict.fromkeys(ids))
        index = {name: i for i, name in enumerate(names)}
        rows = np.array([index[name] for name in ids], dtype=int)
        steps = _step_correlation(scores, int(independent.sum()))
        together = np.bincount(times)[times] > 1  # windows of different series at the same time
        if not together.any():
            return cls(steps, (), 0.0)
        constant = _mean_correlation(scores[together], times[together])
        if len(names) > MAX_SERIES:
            return cls(steps, names, constant)
        n_independent = int(np.bincount(rows[independent]).max(initial=0))
        windows = (scores[together], rows[together], times[together])
        return cls(steps, names, _series_correlation(*windows, len(names), constant, n_independent))

    def sample(self, ids: Sequence[str], num_paths: int, seed: int) -> np.ndarray:
        """Sample normal scores ``(N, num_paths, H)`` of series.

        The order of the series does not matter. A series without known correlations has the same scores beside others
        as alone.
        """
        size = (num_paths, len(self.steps))
        scores = np.stack([np.random.default_rng(seed_of(seed, name)).standard_normal(size) for name in ids])
        position = {name: i for i, name in enumerate(self.ids)}
        known = [i for i, name in enumerate(ids) if name in position]
        if isinstance(self.series, np.ndarray):
            rows = [position[ids[i]] for i in known]
            scores[known] = np.tensordot(_symmetric_root(self.series[np.ix_(rows, rows)]), scores[known], axes=1)
        else:
            shared = np.random.default_rng(seed_of(seed)).standard_normal(size)
            scores[known] = np.sqrt(self.series) * shared + np.sqrt(1 - self.series) * scores[known]
        return scores @ _symmetric_root(self.steps)

    def state(self) -> dict[str, Any]:
        """What :meth:`from_state` reads."""
        series = self.series.tolist() if isinstance(self.series, np.ndarray) else self.series
        return {"steps": self.steps.tolist(), "ids": list(self.ids), "series": series}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], horizon: int) -> Self:
        """From :meth:`state`. Raises ValueError if it is damaged."""
        ids, series = tuple(map(str, state["ids"])), state["series"]
        if len(set(ids)) < len(ids):
            raise ValueError("the series of a correlation must have different ids")
        if isinstance(series, float):
            if not 0 <= series < 1:
                raise ValueError("the correlation of all series must be from 0 to 1")
        else:
            series = _checked(series, len(ids))
        return cls(_checked(state["steps"], horizon), ids, series)


def seed_of(*parts: int | str) -> int:
    """A seed of 63 bits, made from a seed and perhaps the id of a series."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


# ---- estimates -------------------------------------------------------------------------------------------------------


def _step_correlation(scores: np.ndarray, n_independent: int) -> np.ndarray:
    """``(H, H)`` from scores ``(W, H)``, shrunk toward that of an autoregressive process of order one."""
    horizon = scores.shape[1]
    known = ~np.isnan(scores)
    z = np.where(known, scores, 0.0)
    both = known[:, 1:] & known[:, :-1]
    squares = (z[:, 1:] ** 2 + z[:, :-1] ** 2) / 2
    rho = np.clip(_ratio((z[:, 1:] * z[:, :-1]).sum(), squares[both].sum()), -_MAX_TARGET, _MAX_TARGET)
    distance = np.abs(np.arange(horizon)[:, None] - np.arange(horizon))
    z = z * _ratio(1.0, np.sqrt(_ratio((z**2).sum(axis=0), known.sum(axis=0))))
    count = known.T.astype(float) @ known
    return _shrunk(_ratio(z.T @ z, count), _ratio((z**2).T @ z**2, count), rho**distance, n_independent)


def _mean_correlation(scores: np.ndarray, times: np.ndarray) -> float:
    """The mean correlation, at least 0, of two series: from scores ``(W, H)`` of windows at ``times (W,)``."""
    known = ~np.isnan(scores)
    z = np.where(known, scores, 0.0)
    total, energy, count = (np.zeros((times.max() + 1, scores.shape[1])) for _ in range(3))
    for sums, values in ((total, z), (energy, z**2), (count, known)):
        np.add.at(sums, times, values)
    products = (total**2 - energy).sum()  # of all pairs of different series, each taken twice
    squares = (energy * (count - 1).clip(0)).sum()
    return float(np.clip(_ratio(products, squares), 0.0, _MAX_TARGET))


def _series_correlation(
    scores: np.ndarray, rows: np.ndarray, times: np.ndarray, n_series: int, constant: float, n_independent: int
) -> np.ndarray:
    """``(N, N)`` from scores ``(W, H)`` of windows of series ``rows (W,)``, shrunk toward a constant correlation."""
    known = ~np.isnan(scores)
    z = np.where(known, scores, 0.0)
    mean_squares = _ratio(
        np.bincount(rows, (z**2).sum(axis=1), n_series), np.bincount(rows, known.sum(axis=1), n_series)
    )
    z = z * _ratio(1.0, np.sqrt(mean_squares))[rows][:, None]
    products, squares, counts = (np.zeros((n_series, n_series)) for _ in range(3))
    for time in np.unique(times):
        windows = np.flatnonzero(times == time)
        pairs = np.ix_(rows[windows], rows[windows])
        steps = known[windows].astype(float) @ known[windows].T  # at which both series are known
        means = _ratio(z[windows] @ z[windows].T, steps)
        products[pairs] += means
        squares[pairs] += means**2
        counts[pairs] += steps > 0
    target = np.full((n_series, n_series), constant)
    estimate = np.where(counts > 0, _ratio(products, counts), target)
    mean_square = np.where(counts > 0, _ratio(squares, counts), target**2)
    return _shrunk(estimate, mean_square, target, n_independent)


def _shrunk(estimate: np.ndarray, mean_square: np.ndarray, target: np.ndarray, n_independent: int) -> np.ndarray:
    """A correlation shrunk toward a target, with the weight that minimizes the expected squared error.

    Args:
        estimate: Means of products of scores.
        mean_square: Means of the squares of these products, from which the variance of the means follows.
        target: What it is shrunk toward.
        n_independent: Number of independent products in each mean; with one, only the target is left.
    """
    off_diagonal = ~np.eye(len(target), dtype=bool)
    weight = 1.0
    if n_independent > 1:
        variance = (mean_square - estimate**2) / (n_independent - 1)
        weight = min(1.0, _ratio(variance[off_diagonal].sum(), ((estimate - target) ** 2)[off_diagonal].sum()))
    mixed = np.where(off_diagonal, weight * target + (1 - weight) * estimate, 1.0)
    values, vectors = np.linalg.eigh(mixed)
    positive = (vectors * values.clip(_SMALLEST_EIGENVALUE)) @ vectors.T
    deviations = np.sqrt(np.diag(positive))
    correlation = np.round(positive / np.outer(deviations, deviations), _DECIMALS)
    return np.where(off_diagonal, (correlation + correlation.T) / 2, 1.0)


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root, which does not depend on an order of the rows."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _ratio(numerator: Any, denominator: Any) -> Any:
    """The quotient; 0 where the denominator is 0."""
    nowhere = np.zeros(np.broadcast(numerator, denominator).shape)
    return np.divide(numerator, denominator, out=nowhere, where=np.not_equal(denominator, 0))


def _checked(rows: Any, size: int) -> np.ndarray:
    """A saved correlation matrix. Raises ValueError if it is none."""
    matrix = np.array(rows, dtype=float).reshape(size, size)
    if not np.isfinite(matrix).all() or (matrix != matrix.T).any() or (np.diag(matrix) != 1).any():
        raise ValueError("a correlation of paths must be finite and symmetric, with ones on the diagonal")
    if size and np.linalg.eigvalsh(matrix)[0] <= 0:
        raise ValueError("a correlation of paths must be positive definite")
    return matrix
