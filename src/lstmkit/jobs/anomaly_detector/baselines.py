"""What detectors of anomalies stand beside. Values are ``(T, C)``, scores ``(T,)``; none looks ahead."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.decomposition import PCA

_MOST_WINDOWS = 20_000  # that components are fitted to
_MIN_STD = 1e-3
_EXPLAINED_VARIANCE = 0.999  # share of the variance


def moving_z_score(values: np.ndarray, window: int) -> np.ndarray:
    """By how many deviations of the ``window`` steps before it a step is off their mean; the mean over the channels.

    A deviation is at least .001: channels come standardised.
    """
    frame = pd.DataFrame(values)
    before = frame.shift(1).rolling(window, min_periods=2)
    off = (frame - before.mean()).abs() / before.std().clip(lower=_MIN_STD)
    return np.nan_to_num(off.to_numpy()).mean(axis=1)


class SubPCA:
    """How far stretches of a series are from those it was fitted to, in units of each principal component's deviation.

    After the Sub-PCA of TSB-AD (Liu and Paparrizos 2024), with scikit-learn's PCA: the score is the squared Mahalanobis
    distance within the components that hold 99.9 % of the variance, plus what lies outside of them over its own mean.

    Args:
        window: Steps of a stretch.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._pca = PCA(n_components=_EXPLAINED_VARIANCE, svd_solver="full")

    def fit(self, values: np.ndarray) -> SubPCA:
        """``(T, C)`` with ``T`` at least ``window``."""
        stretches = _stretches(values, self.window)
        stretches = stretches[:: -(-len(stretches) // _MOST_WINDOWS)]
        with np.errstate(invalid="ignore"):  # the share of each component where nothing varies
            self._pca.fit(stretches)
        self._deviations = np.sqrt(self._pca.explained_variance_).clip(min=_MIN_STD)
        self._rest = max(1e-12, float(self._outside(stretches).mean()))
        return self

    def score(self, values: np.ndarray) -> np.ndarray:
        """``(T,)``: of the stretch that ends with each step, 0 before the first is whole."""
        if len(values) < self.window:
            return np.zeros(len(values))
        stretches = _stretches(values, self.window)
        inside = np.square(self._pca.transform(stretches) / self._deviations).sum(axis=1)
        return np.concatenate([np.zeros(self.window - 1), inside + self._outside(stretches) / self._rest])

    def _outside(self, stretches: np.ndarray) -> np.ndarray:
        told = self._pca.inverse_transform(self._pca.transform(stretches))
        return np.square(stretches - told).sum(axis=1)


def _stretches(values: np.ndarray, window: int) -> np.ndarray:
    """``(T - window + 1, window * C)``."""
    return sliding_window_view(values, window, axis=0).reshape(len(values) - window + 1, -1)
