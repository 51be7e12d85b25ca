"""Training windows of rows by entity. A window may begin with context: rows that are read but not scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences


@dataclass(frozen=True, eq=False)
class RowWindows:
    """Dataset of windows: inputs ``(B, W, F)`` and targets ``(B, W)`` or ``(B, W, K)``.

    Attributes:
        features: ``(R, F)`` float32 of all rows, by entity.
        targets: ``(R,)`` or ``(R, K)``; ``no_target`` stands for a row without one.
        bounds: ``(N, 3)`` windows: first row, first scored row, end (exclusive).
        no_target: -1 for classes, NaN for numbers.
    """

    features: np.ndarray
    targets: np.ndarray
    bounds: np.ndarray
    no_target: float

    @property
    def lengths(self) -> np.ndarray:
        return self.bounds[:, 2] - self.bounds[:, 0]

    def __len__(self) -> int:
        return len(self.bounds)

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the windows ``rows``, padded with 0; context and padding have no targets."""
        bounds = self.bounds[rows]
        inputs = pad_sequences([self.features[start:stop] for start, _, stop in bounds], 0.0)
        targets = pad_sequences([self.targets[start:stop] for start, _, stop in bounds], self.no_target)
        for row, (start, scored, _) in zip(targets, bounds, strict=True):
            row[: scored - start] = self.no_target
        return Batch(
            torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), torch.from_numpy(targets), rows=rows
        )


def cut_windows(starts: np.ndarray, has_target: np.ndarray, window: int) -> np.ndarray:
    """Windows ``(N, 3)`` that score each row with a target once, as :attr:`RowWindows.bounds` has them.

    An entity of at most ``window`` rows is one window. In a longer one, the first half of each further window is
    context. Windows without a target are left out.

    Args:
        starts: ``(E + 1,)`` first row of each entity, and ``R``.
        has_target: ``(R,)`` bool.
        window: Most rows of a window, at least 2.

    >>> cut_windows(np.array([0, 3, 10]), np.ones(10, dtype=bool), window=4).tolist()
    [[0, 0, 3], [3, 3, 7], [5, 7, 9], [7, 9, 10]]
    """
    step = window // 2
    bounds = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        bounds.append((start, start, min(start + window, stop)))
        bounds += [(scored - step, scored, min(scored + step, stop)) for scored in range(start + window, stop, step)]
    before = np.concatenate([[0], np.cumsum(has_target)])
    windows = np.array(bounds, dtype=np.int64).reshape(-1, 3)
    return windows[before[windows[:, 2]] > before[windows[:, 1]]]
