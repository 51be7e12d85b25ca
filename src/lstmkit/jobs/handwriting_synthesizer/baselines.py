"""Baselines for handwriting: a single Gaussian, a Gaussian mixture without memory, a linear autoregression.

Each predicts a density of a point's offset, in the data's own unit, and the probability of a pen lift after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from lstmkit.jobs.handwriting_synthesizer.results import PointScores

_COMPONENTS = 20
_MAX_FIT_POINTS = 20_000  # random points that the mixture is fitted to
_MIN_POINTS_PER_COMPONENT = 10
_PSEUDO_COUNT = 1.0  # points, of the mean pen-up frequency
_ORDER = 2  # points that the autoregression reads


@dataclass(frozen=True)
class HandwritingBaselines:
    """The fitted baselines.

    Attributes:
        pen_up: Fraction of points after which the pen is lifted.
        mean: ``(2,)`` mean offset.
        covariance: ``(2, 2)`` covariance of the offsets.
        weights: ``(K,)`` component weights of the mixture.
        means: ``(K, 2)``.
        covariances: ``(K, 2, 2)``.
        linear: ``(7, 2)`` coefficients of the autoregression: the two points before, the last one first, each as
            offset and pen, and a constant.
        noise: ``(2, 2)`` covariance of the autoregression's residuals.
        pen_up_transitions: ``(2, 2)`` pen-up probability, given the pen after the last point and the one before it.
    """

    pen_up: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    linear: np.ndarray
    noise: np.ndarray
    pen_up_transitions: np.ndarray

    def single_gaussian(self, points: np.ndarray) -> PointScores:
        """Scores of ``points (T, 3)`` with the same Gaussian at every point."""
        density = log_density(points[:, :2], self.mean, self.covariance)
        return _scores(density, np.broadcast_to(self.pen_up, len(points)), points)

    def mixture(self, points: np.ndarray) -> PointScores:
        """Scores of ``points (T, 3)`` with the same Gaussian mixture at every point."""
        by_component = log_density(points[:, None, :2], self.means, self.covariances) + np.log(self.weights)
        density = np.logaddexp.reduce(by_component, axis=1)
        return _scores(density, np.broadcast_to(self.pen_up, len(points)), points)

    def autoregression(self, points: np.ndarray) -> PointScores:
        """Scores of ``points (T, 3)``, each predicted from the two points before, with Gaussian noise."""
        lagged = _lagged(points)
        density = log_density(points[:, :2], lagged @ self.linear, self.noise)
        pens = lagged[:, [2, 5]].astype(int)
        return _scores(density, self.pen_up_transitions[pens[:, 0], pens[:, 1]], points)

    def to_text(self) -> str:
        """All numbers, separated by spaces."""
        return " ".join(repr(float(x)) for f in fields(self) for x in np.ravel(getattr(self, f.name)))


def baselines_from_text(text: str) -> HandwritingBaselines:
    """The baselines that :meth:`HandwritingBaselines.to_text` wrote.

    Raises:
        ValueError: The text is damaged.
    """
    numbers = np.array([float(part) for part in text.split()])
    components, rest = divmod(len(numbers) - 1 - 2 - 4 - 14 - 4 - 4, 7)
    if rest or components < 1 or not np.isfinite(numbers).all():
        raise ValueError("the baselines do not have the right numbers")
    shapes = ((), (2,), (2, 2), (components,), (components, 2), (components, 2, 2), (7, 2), (2, 2), (2, 2))
    arrays = np.split(numbers, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return HandwritingBaselines(*(array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)))


def fit_handwriting_baselines(drawings: Sequence[np.ndarray], min_std: float, seed: int) -> HandwritingBaselines:
    """Fit the baselines to drawings ``(T, 3)``.

    Args:
        drawings: The training split.
        min_std: Smallest standard deviation that a baseline predicts, in the data's unit.
        seed: Random seed of the mixture: of its training points and its initial means.
    """
    points = np.concatenate(drawings).astype(np.float64)
    lagged = np.concatenate([_lagged(drawing) for drawing in drawings])
    offsets, min_covariance = points[:, :2], min_std**2 * np.eye(2)
    pen_up = (points[:, 2].sum() + _PSEUDO_COUNT / 2) / (len(points) + _PSEUDO_COUNT)
    linear = np.linalg.lstsq(lagged, offsets, rcond=None)[0]
    residuals = offsets - lagged @ linear
    weights, means, covariances = _fit_mixture(offsets, min_std, seed)
    transitions = np.full((2, 2), pen_up)
    for last in (0, 1):
        for other in (0, 1):
            rows = (lagged[:, 2] == last) & (lagged[:, 5] == other)
            lifted = points[rows, 2].sum()
            transitions[last, other] = (lifted + _PSEUDO_COUNT * pen_up) / (rows.sum() + _PSEUDO_COUNT)
    return HandwritingBaselines(
        np.array(pen_up),
        offsets.mean(axis=0),
        np.cov(offsets.T, bias=True) + min_covariance,
        weights,
        means,
        covariances,
        linear,
        residuals.T @ residuals / len(residuals) + min_covariance,
        transitions,
    )


def _fit_mixture(offsets: np.ndarray, min_std: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sample = offsets[rng.permutation(len(offsets))[:_MAX_FIT_POINTS]]
    mixture = GaussianMixture(
        max(1, min(_COMPONENTS, len(sample) // _MIN_POINTS_PER_COMPONENT)),
        reg_covar=min_std**2,
        init_params="random_from_data",
        max_iter=200,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an almost converged baseline is good enough
        mixture.fit(sample)
    return np.asarray(mixture.weights_), np.asarray(mixture.means_), np.asarray(mixture.covariances_)


def _lagged(points: np.ndarray) -> np.ndarray:
    """``(T, 7)``: the two points before each, the last one first, zeros before the drawing; and a constant 1."""
    padded = np.concatenate([np.zeros((_ORDER, 3)), points])
    return np.column_stack([padded[1:-1], padded[:-2], np.ones(len(points))])


def log_density(offsets: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log-density of bivariate Gaussians: ``(..., 2)``, ``(..., 2)`` and ``(..., 2, 2)`` to ``(...)`` in nats."""
    centered = offsets - mean
    distance = np.einsum("...i,...ij,...j->...", centered, np.linalg.inv(covariance), centered)
    return -0.5 * (distance + np.linalg.slogdet(covariance)[1]) - np.log(2 * np.pi)


def _scores(density: np.ndarray, pen_up: np.ndarray, points: np.ndarray) -> PointScores:
    pen = -np.log(np.where(points[:, 2] > 0, pen_up, 1 - pen_up))
    return PointScores(np.column_stack([-density, pen]), np.asarray(pen_up))
