"""Baselines for anomaly detection. Values are ``(T, C)``, scores ``(T,)``; all are causal."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import correlate, find_peaks
from sklearn.decomposition import PCA

_MAX_WINDOWS = 20_000  # that components are fitted to
_MIN_STD = 1e-3
_EXPLAINED_VARIANCE = 0.999
_MAX_PERIOD_STEPS = 20_000  # that a period is looked for in
_MIN_PERIOD, _MAX_PERIOD, _NO_PERIOD = 3, 300, 125


def moving_z_score(values: np.ndarray, window: int) -> np.ndarray:
    """Distance of each step from the mean of the ``window`` steps before, in their standard deviations, channel mean.

    The standard deviation is at least 0.001; channels are standardized.
    """
    frame = pd.DataFrame(values)
    before = frame.shift(1).rolling(window, min_periods=2)
    off = (frame - before.mean()).abs() / before.std().clip(lower=_MIN_STD)
    return np.nan_to_num(off.to_numpy()).mean(axis=1)


def period_of(values: np.ndarray) -> int:
    """The lag of the highest peak of the autocorrelation of ``values (T, C)``, 125 without one from 3 to 300 steps.

    That is the window of the baselines of TSB-AD (Liu and Paparrizos 2024). Of several channels it is the median.

    >>> period_of(np.sin(np.arange(400) * 2 * np.pi / 25)[:, None])
    25
    """
    return int(np.median([_period_of_channel(channel) for channel in values[:_MAX_PERIOD_STEPS].T]))


def _period_of_channel(values: np.ndarray) -> int:
    centered = values - values.mean()
    autocorrelation = correlate(centered, centered, method="fft")[len(values) - 1 :][: _MAX_PERIOD + 2]
    peaks, _ = find_peaks(autocorrelation)
    peaks = peaks[peaks >= _MIN_PERIOD]
    return int(peaks[autocorrelation[peaks].argmax()]) if len(peaks) else _NO_PERIOD


class SubPCA:
    """Distance of windows of a series from the principal components of training windows.

    After the Sub-PCA of TSB-AD (Liu and Paparrizos 2024), with scikit-learn's PCA: the score is the squared Mahalanobis
    distance within the components that hold 99.9 % of the variance, plus what lies outside of them over its own mean.

    Args:
        window: Steps per window.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._pca = PCA(n_components=_EXPLAINED_VARIANCE, svd_solver="full")

    def fit(self, values: np.ndarray) -> SubPCA:
        """Fit the components to values ``(T, C)``, ``T`` at least ``window``."""
        windows = _windows(values, self.window)
        windows = windows[:: -(-len(windows) // _MAX_WINDOWS)]
        with np.errstate(invalid="ignore"):  # the variance ratio if nothing varies
            self._pca.fit(windows)
        self._deviations = np.sqrt(self._pca.explained_variance_).clip(min=_MIN_STD)
        self._rest = max(1e-12, float(self._outside(windows).mean()))
        return self

    def score(self, values: np.ndarray) -> np.ndarray:
        """Scores ``(T,)`` of the window that ends with each step; 0 before the first whole window."""
        if len(values) < self.window:
            return np.zeros(len(values))
        windows = _windows(values, self.window)
        inside = np.square(self._pca.transform(windows) / self._deviations).sum(axis=1)
        return np.concatenate([np.zeros(self.window - 1), inside + self._outside(windows) / self._rest])

    def _outside(self, windows: np.ndarray) -> np.ndarray:
        projected = self._pca.inverse_transform(self._pca.transform(windows))
        return np.square(windows - projected).sum(axis=1)


def _windows(values: np.ndarray, window: int) -> np.ndarray:
    """``(T - window + 1, window * C)``."""
    return sliding_window_view(values, window, axis=0).reshape(len(values) - window + 1, -1)
