"""Forecasts of windows in scaled units, and what is done to them before they are values of the series."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class WindowForecast(NamedTuple):
    """The forecast of one window in scaled units: quantiles ``(H, Q)``, and what turns them back into values.

    Stacked, all have a leading ``N``.

    Attributes:
        quantiles: ``(H, Q)`` quantiles, ascending: lower bounds from the widest interval inwards, the median, and upper
            bounds outwards.
        base: ``(H,)`` the value that was subtracted at each step.
        scale: ``(1,)`` the value that was divided by.
        target: ``(H,)`` scaled actual values; NaN if unknown.
    """

    quantiles: np.ndarray
    base: np.ndarray
    scale: np.ndarray
    target: np.ndarray

    @property
    def median(self) -> np.ndarray:
        """``(H,)``, the quantile in the middle."""
        return self.quantiles[..., self._middle]

    @property
    def offsets(self) -> np.ndarray:
        """``(H, Q)``: the quantiles less the median."""
        return self.quantiles - self.median[..., None]

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, ``(H, K)`` each, from the narrowest interval outwards."""
        return self.quantiles[..., : self._middle][..., ::-1], self.quantiles[..., self._middle + 1 :]

    @property
    def _middle(self) -> int:
        return self.quantiles.shape[-1] // 2

    def moved_toward(self, values: np.ndarray, weight: float) -> WindowForecast:
        """All quantiles moved so that the median is ``1 - weight`` of itself and ``weight`` of scaled ``values``."""
        return self._replace(quantiles=self.quantiles + weight * (values - self.median)[..., None])

    def in_unit(self, unit: np.ndarray) -> WindowForecast:
        """The same forecast with ``unit (1,)``, a scaled value, as the unit of quantiles and targets."""
        base, scale = self.base, self.scale * unit
        return WindowForecast(self.quantiles / unit[..., None], base, scale, self.target / unit)

    def with_offsets_toward(self, offsets: np.ndarray, weight: float) -> WindowForecast:
        """The quantiles less the median become ``1 - weight`` of themselves and ``weight`` of ``offsets (H, Q)``."""
        return self._replace(quantiles=self.quantiles + weight * (offsets - self.offsets))

    def widened(self, widths: np.ndarray) -> WindowForecast:
        """Both bounds of each interval moved outwards by ``widths (H, K)``, which may be negative.

        All intervals still contain the median, and a wider interval still contains the narrower ones.
        """
        median, (lower, upper) = self.median[..., None], self.bounds
        lower = np.minimum.accumulate(np.minimum(lower - widths, median), axis=-1)
        upper = np.maximum.accumulate(np.maximum(upper + widths, median), axis=-1)
        return self._replace(quantiles=np.concatenate([lower[..., ::-1], median, upper], axis=-1))
