"""What handwriting stands beside: one Gaussian, a mixture without memory, a linear autoregression.

Each tells a density of a point's offset, in the data's own unit, and the chance that the pen is lifted after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_COMPONENTS = 20
_MOST_POINTS = 20_000  # that the mixture is fitted to, drawn by the seed
_EACH = 10  # points for each of its components, at least
_WEIGHT = 1.0  # points that the share of all counts as
_BEFORE = 2  # points that the autoregression sees

#: Nats of a drawing's points, ``(T, 2)``: of the offset and of the pen; and ``(T,)`` the chance that it is lifted.
Told = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plain:
    """The three, fitted.

    Attributes:
        lifted: How often the pen is lifted.
        mean: ``(2,)`` of offsets.
        covariance: ``(2, 2)``.
        weights: ``(K,)`` of the mixture.
        means: ``(K, 2)``.
        covariances: ``(K, 2, 2)``.
        linear: ``(7, 2)``: the offset from the two points before, the last one first, each with its pen, and 1.
        noise: ``(2, 2)`` covariance of what the linear map leaves.
        lifted_after: ``(2, 2)``: how often it is lifted, given whether it was after the last point and the one before.
    """

    lifted: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    linear: np.ndarray
    noise: np.ndarray
    pen_up_transitions: np.ndarray

    def single_gaussian(self, points: np.ndarray) -> Told:
        """Every point alike: ``(T, 3)`` to nats and chances."""
        density = log_density(points[:, :2], self.mean, self.covariance)
        return _told(density, np.broadcast_to(self.lifted, len(points)), points)

    def mixture(self, points: np.ndarray) -> Told:
        """The same, the offset by a mixture."""
        each = log_density(points[:, None, :2], self.means, self.covariances) + np.log(self.weights)
        return _told(np.logaddexp.reduce(each, axis=1), np.broadcast_to(self.lifted, len(points)), points)

    def autoregression(self, points: np.ndarray) -> Told:
        """From the two points before, with Gaussian noise; the pen by the two before."""
        seen = _before(points)
        density = log_density(points[:, :2], seen @ self.linear, self.noise)
        pens = seen[:, [2, 5]].astype(int)
        return _told(density, self.pen_up_transitions[pens[:, 0], pens[:, 1]], points)

    def text(self) -> str:
        """All numbers in a row."""
        return " ".join(repr(float(x)) for f in fields(self) for x in np.ravel(getattr(self, f.name)))


def baselines_from_text(text: str) -> Plain:
    """What :meth:`Plain.text` gave.

    Raises:
        ValueError: It is not that.
    """
    numbers = np.array([float(part) for part in text.split()])
    count, left = divmod(len(numbers) - 1 - 2 - 4 - 14 - 4 - 4, 7)
    if left or count < 1 or not np.isfinite(numbers).all():
        raise ValueError("its baselines are not the numbers of three")
    shapes = ((), (2,), (2, 2), (count,), (count, 2), (count, 2, 2), (7, 2), (2, 2), (2, 2))
    pieces = np.split(numbers, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return Plain(*(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)))


def fit_handwriting_baselines(drawings: Sequence[np.ndarray], floor: float, seed: int) -> Plain:
    """Fit the three to drawings ``(T, 3)``.

    Args:
        drawings: Of the training part.
        floor: The smallest deviation that any of them tells.
        seed: Of the mixture: of the points that it is fitted to, and of where it begins.
    """
    points = np.concatenate(drawings).astype(np.float64)
    seen = np.concatenate([_before(one) for one in drawings])
    offsets, least = points[:, :2], floor**2 * np.eye(2)
    share = (points[:, 2].sum() + _WEIGHT / 2) / (len(points) + _WEIGHT)
    linear = np.linalg.lstsq(seen, offsets, rcond=None)[0]
    left = offsets - seen @ linear
    weights, means, covariances = _mixture(offsets, floor, seed)
    after = np.full((2, 2), share)
    for last in (0, 1):
        for other in (0, 1):
            rows = (seen[:, 2] == last) & (seen[:, 5] == other)
            after[last, other] = (points[rows, 2].sum() + _WEIGHT * share) / (rows.sum() + _WEIGHT)
    return Plain(
        np.array(share),
        offsets.mean(axis=0),
        np.cov(offsets.T, bias=True) + least,
        weights,
        means,
        covariances,
        linear,
        left.T @ left / len(left) + least,
        after,
    )


def _mixture(offsets: np.ndarray, floor: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    some = offsets[rng.permutation(len(offsets))[:_MOST_POINTS]]
    found = GaussianMixture(
        max(1, min(_COMPONENTS, len(some) // _EACH)),
        reg_covar=floor**2,
        init_params="random_from_data",
        max_iter=200,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is nearly there will do
        found.fit(some)
    return np.asarray(found.weights_), np.asarray(found.means_), np.asarray(found.covariances_)


def _before(points: np.ndarray) -> np.ndarray:
    """``(T, 7)``: the two points before each, the last one first, nothing before a drawing; and 1."""
    padded = np.concatenate([np.zeros((_BEFORE, 3)), points])
    return np.column_stack([padded[1:-1], padded[:-2], np.ones(len(points))])


def log_density(offsets: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Of a bivariate Gaussian: ``(..., 2)``, ``(..., 2)`` and ``(..., 2, 2)`` to ``(...)`` nats."""
    away = offsets - mean
    distance = np.einsum("...i,...ij,...j->...", away, np.linalg.inv(covariance), away)
    return -0.5 * (distance + np.linalg.slogdet(covariance)[1]) - np.log(2 * np.pi)


def _told(density: np.ndarray, chance: np.ndarray, points: np.ndarray) -> Told:
    pen = -np.log(np.where(points[:, 2] > 0, chance, 1 - chance))
    return np.column_stack([-density, pen]), np.asarray(chance)
