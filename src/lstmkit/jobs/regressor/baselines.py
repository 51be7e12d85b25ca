"""Baselines of regression on sequences: mean, last value, and ridge regression and gradient boosting on summaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from lstmkit.data.tables.row_sequences import RowSequences

WINDOWS = (4, 16, 64, 256)  #: Steps of the trailing windows that are summarized.
_MAX_TRAIN_ROWS = 100_000  # rows that a baseline is fitted to, evenly spread
_MAX_SUMMARIZED = 64  # features whose windows are summarized: the first
_ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def previous_values(rows: RowSequences, targets: np.ndarray) -> np.ndarray:
    """The last known target before each row of the same sequence ``(R, K)``; NaN if there is none.

    >>> import pandas as pd
    >>> from lstmkit.data.tables.row_sequences import RowColumns, read_row_sequences
    >>> rows = read_row_sequences(pd.DataFrame({"x": [0.0] * 3, "y": [1.0, None, 2.0]}), RowColumns(targets=("y",)))
    >>> previous_values(rows, rows.targets).ravel().tolist()
    [nan, 1.0, 1.0]
    """
    previous = np.full_like(targets, np.nan)
    for start, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        for k in range(targets.shape[1]):
            column = targets[start:end, k]
            known = np.where(np.isnan(column), -1, np.arange(len(column)))
            last = np.maximum.accumulate(np.concatenate([[-1], known[:-1]]))
            previous[start:end, k] = np.where(last < 0, np.nan, column[last])
    return previous


def window_summaries(features: list[np.ndarray], num_numbers: int) -> np.ndarray:
    """Summaries of the steps up to each row: the features, and mean and deviation of numbers in trailing windows.

    Args:
        features: ``(T, F)`` of each sequence.
        num_numbers: The first features, which are numbers; the others are ids of categories.

    Returns:
        ``(R, F + 2 · windows · numbers + 1)``; the last column is the number of steps so far.
    """
    return np.concatenate([_summaries(sequence, min(num_numbers, _MAX_SUMMARIZED)) for sequence in features])


def _summaries(sequence: np.ndarray, count: int) -> np.ndarray:
    numbers, steps = sequence[:, :count].astype(np.float64), np.arange(1, len(sequence) + 1)
    sums, squares = (_cumulated(values) for values in (numbers, numbers**2))
    parts: list[np.ndarray] = [sequence.astype(np.float64)]
    for window in WINDOWS:
        first = np.maximum(0, steps - window)
        size = (steps - first)[:, None]
        mean = (sums[steps] - sums[first]) / size
        parts += [mean, np.sqrt(np.maximum(0.0, (squares[steps] - squares[first]) / size - mean**2))]
    return np.concatenate([*parts, steps[:, None]], axis=1, dtype=np.float32)


def _cumulated(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])


def fit_ridge(features: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression of one target ``(R,)`` on standardized summaries; its penalty is chosen by cross-validation."""
    kept = _spread(len(features))
    scaler = StandardScaler().fit(features[kept])
    model = RidgeCV(_ALPHAS).fit(scaler.transform(features[kept]), targets[kept])
    return lambda rows: model.predict(scaler.transform(rows))


def fit_gradient_boosting(
    features: np.ndarray, targets: np.ndarray, categorical: np.ndarray, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Gradient boosting of trees (scikit-learn's histograms) of one target ``(R,)`` on summaries.

    Args:
        features: ``(R, F)``.
        targets: ``(R,)``.
        categorical: ``(F,)`` bool: features that are ids of at most 255 categories.
        seed: Random seed.
    """
    kept = _spread(len(features))
    options: Any = {"categorical_features": categorical, "random_state": seed}
    model = HistGradientBoostingRegressor(**options)
    model.fit(features[kept], targets[kept])
    return lambda rows: model.predict(rows)


def _spread(count: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, _MAX_TRAIN_ROWS)).astype(int)
