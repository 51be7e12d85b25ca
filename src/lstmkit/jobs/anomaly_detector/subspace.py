"""The principal subspace of training windows: a part of the anomaly score, and the baseline Sub-PCA.

Values are ``(T, C)`` of the scored channels, standardized. Missing ones repeat the last known value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import correlate, find_peaks

from lstmkit.data.series.sensor_values import forward_fill
from lstmkit.modules.principal_subspace import PrincipalSubspace

_MAX_PERIOD_STEPS = 20_000  # that a period is looked for in
_MIN_PERIOD, _MAX_PERIOD, _NO_PERIOD = 3, 300, 125
_MIN_WINDOW = 2
_MAX_WINDOW_VALUES = 1_000  # steps times channels, so that a fit takes seconds


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


def fit_subspace(train: Sequence[np.ndarray], max_window: int | None = None) -> PrincipalSubspace | None:
    """The principal subspace of windows of training series; ``None`` if they are too short or have too many channels.

    A window has as many steps as the period of the longest series, at most half of its length, and at most 1,000
    values.

    Args:
        train: Values of each series.
        max_window: Largest number of steps per window, if there is one.
    """
    series = [forward_fill(values).astype(np.float64) for values in train]
    longest = max(series, key=len)
    limit = min(len(longest) // 2, _MAX_WINDOW_VALUES // longest.shape[1])
    limit = limit if max_window is None else min(limit, max_window)
    return PrincipalSubspace.fitted(series, min(period_of(longest), limit)) if limit >= _MIN_WINDOW else None
