"""Adaptive conformal inference: interval widths follow the coverage of forecasts that newer data have answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_ANSWERED = 500  #: Forecasts of each series, one from every step, that its widths follow at most.


def answered_origins(first: int, origin: int) -> np.ndarray:
    """The origins before ``origin`` whose first step is known: from step ``first`` on, the last 500 at most."""
    return np.arange(max(first, origin - MAX_ANSWERED), origin)


def adapted_widths(scores: np.ndarray, widths: np.ndarray, levels: Sequence[int], rate: float) -> np.ndarray:
    """Widths of the forecast from the step after ``N`` earlier forecasts, one from every step before it.

    After each known value a width grows by ``rate * level`` if the value was outside the interval, and else shrinks by
    ``rate * (1 - level)``. So the coverage of a long series approaches the nominal one, whatever its distribution: the
    quantile tracking of Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control for time series prediction",
    eq. 2, after Gibbs and Candès 2021, "Adaptive conformal inference under distribution shift".

    Args:
        scores: ``(N, H, K)`` of forecasts in order of time: by how much the bounds would have to move outwards to
            include the value, see :meth:`IntervalCalibration.scores`. NaN where a value is unknown. Values that come
            later than the last forecast's first step are not used.
        widths: ``(H, K)`` to begin with.
        levels: Nominal coverage of the ``K`` intervals in percent, ascending.
        rate: Change after a miss of an interval of 100 %, in the unit of widths.

    Returns:
        ``(H, K)``.

    >>> adapted_widths(np.array([[[9.0]], [[9.0]], [[-9.0]]]), np.zeros((1, 1)), levels=[80], rate=0.5).round(2)
    array([[0.7]])
    """
    coverage = np.asarray(levels) / 100
    widths = widths.copy()
    steps = np.arange(widths.shape[0])
    for n, of_forecast in enumerate(scores):
        is_known = (n + steps < len(scores))[:, None] & ~np.isnan(of_forecast)
        is_outside = of_forecast > widths
        widths += np.where(is_known, rate * (is_outside - (1 - coverage)), 0.0)
    return widths
