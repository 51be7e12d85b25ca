"""The dataset of forecast windows, and where windows begin: see :mod:`.window_arrays` for their layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.window_arrays import Origins, WindowEncoder

SeriesSteps = Sequence[int] | np.ndarray  #: One step per series.


class Windows(WindowEncoder):
    """Dataset of the forecast windows at given origins; arguments as of :class:`WindowEncoder`.

    A batch has the inputs, targets, ``extras["base"] (B, H)`` and ``extras["scale"] (B, 1)`` of
    :class:`~lstmkit.data.series.window_arrays.WindowArrays`.
    """

    lengths: np.ndarray | None = None  # all windows have the same length

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the windows ``rows``."""
        inputs, targets, base, scale = map(torch.from_numpy, self.arrays(rows))
        return Batch(inputs=inputs, targets=targets, rows=rows, extras={"base": base, "scale": scale})


def rolling_origins(series: SeriesSet, first: SeriesSteps, last: SeriesSteps, stride: int = 1) -> Origins:
    """Origins ``(N, 2)`` from ``first[i]`` to ``last[i]`` (inclusive), every ``stride`` steps back from the last."""
    blocks = [
        np.stack([np.full(len(steps), i), steps], axis=1)
        for i in range(len(series))
        if len(steps := np.arange(last[i], first[i] - 1, -stride)[::-1])
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), dtype=int)


def without_overlap(origins: Origins, horizon: int) -> Origins:
    """Those of ``origins (N, 2)`` whose horizons do not overlap, from the last of each series backwards; sorted.

    >>> without_overlap(np.array([[0, 3], [0, 4], [0, 5], [1, 5]]), horizon=2)
    array([[0, 3],
           [0, 5],
           [1, 5]])
    """
    kept: list[tuple[int, int]] = []
    for i, step in sorted(map(tuple, origins.tolist()), key=lambda origin: (origin[0], -origin[1])):
        if not kept or kept[-1][0] != i or step + horizon <= kept[-1][1]:
            kept.append((i, step))
    return np.array(sorted(kept), dtype=int).reshape(-1, 2)
