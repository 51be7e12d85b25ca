"""Metrics of regression. Arguments are true values and predictions ``(N,)``, all finite."""

from __future__ import annotations

import numpy as np


def rmse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error.

    >>> rmse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.4142135623730951
    """
    return float(np.sqrt(np.mean(np.square(predicted - truth))))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error.

    >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """
    return float(np.mean(np.abs(predicted - truth)))


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Coefficient of determination: one minus squared error over squared deviation from the mean of these values.

    With the values of one entity over time this is the Nash-Sutcliffe efficiency (NSE; Nash and Sutcliffe 1970). NaN if
    the true values are all the same.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.5]))
    0.875
    """
    spread = float(np.sum(np.square(truth - truth.mean()))) if len(truth) else 0.0
    return 1 - float(np.sum(np.square(predicted - truth))) / spread if spread > 0 else np.nan


def kge(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Kling-Gupta efficiency (Gupta et al. 2009, J. Hydrol. 377, eqs. 9 and 10); 1 is perfect.

    One minus the distance of correlation, ratio of deviations and ratio of means from 1. NaN if the true values are all
    the same or have the mean 0; predictions that are all the same have the correlation 0.

    >>> kge(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))
    0.5
    """
    spread, mean = (float(truth.std()), float(truth.mean())) if len(truth) else (0.0, 0.0)
    if spread == 0 or mean == 0:
        return np.nan
    of_predicted = float(predicted.std())
    covariance = float(np.mean((truth - mean) * (predicted - predicted.mean())))
    correlation = covariance / (spread * of_predicted) if of_predicted > 0 else 0.0
    parts = correlation - 1, of_predicted / spread - 1, float(predicted.mean()) / mean - 1
    return 1 - float(np.linalg.norm(parts))


def phm08_score(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Score of the PHM08 challenge for remaining useful life (Saxena et al. 2008, eq. 11); 0 is perfect, a sum.

    A prediction that is ``d`` too high costs ``exp(d / 10) - 1``, one that is ``d`` too low ``exp(d / 13) - 1``.

    >>> round(phm08_score(np.array([50.0, 50.0]), np.array([60.0, 37.0])), 3)
    3.437
    """
    late = np.minimum(predicted - truth, 500.0)  # the sum stays finite
    return float(np.sum(np.where(late < 0, np.expm1(np.minimum(-late, 650.0) / 13), np.expm1(late / 10))))


def interval_coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Fraction of true values within their intervals, bounds included.

    >>> interval_coverage(np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 1.0]))
    0.5
    """
    return float(np.mean((low <= truth) & (truth <= high)))


def error_to_signal_ratio(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Error-to-signal ratio (ESR): energy of the error over energy of the signal; NaN for silence.

    The measure of audio effects (Wright et al. 2019, DAFx, eq. 3), here without pre-emphasis.

    >>> error_to_signal_ratio(np.array([3.0, 4.0]), np.array([3.0, 3.0]))
    0.04
    """
    energy = float(np.sum(np.square(truth)))
    return float(np.sum(np.square(truth - predicted))) / energy if energy > 0 else np.nan
