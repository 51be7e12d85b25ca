"""Calibrated prediction intervals of a forecast: the network's widths, combined with usual ones, and widened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.decoding.window_forecast import WindowForecast


@dataclass(frozen=True)
class IntervalWidths:
    """Calibrated widths of ``K`` intervals over ``H`` steps.

    The network's widths are in the unit of each window's scale, which grows with the trend and with the steps that a
    window has. So they are combined with widths that are constant in the unit of seasonal differences, that of MASE.

    Attributes:
        widths: ``(H, K)`` conformal widths, by which both bounds are moved outwards; in scaled units if
            ``usual_offsets`` is ``None``, else in the unit of seasonal differences.
        usual_offsets: ``(H, Q)`` median distance of each quantile from the median forecast, in the unit of seasonal
            differences; ``None`` if the network alone sets the shape of the intervals, as in models of version 0.1.
        usual_weight: Weight of ``usual_offsets`` beside the network's own, from 0 to 1.
    """

    widths: np.ndarray
    usual_offsets: np.ndarray | None = None
    usual_weight: float = 0.0

    def apply(
        self, forecast: WindowForecast, differences: np.ndarray, widths: np.ndarray | None = None
    ) -> WindowForecast:
        """The calibrated forecast of ``N`` windows.

        Args:
            forecast: The network's, combined with exponential smoothing.
            differences: ``(N, 1)`` mean absolute seasonal difference of each window, in scaled units.
            widths: ``(N, H, K)`` widths of each window, as of :func:`adapted_widths`, in the place of :attr:`widths`.
        """
        widths = self.widths if widths is None else widths
        if self.usual_offsets is None:
            return forecast.widened(widths)
        unit = differences[..., None]
        return self._combined(forecast, unit).widened(widths * unit)

    def scores(self, forecast: WindowForecast, differences: np.ndarray) -> np.ndarray:
        """By how much bounds would have to move outwards to include the target: ``(N, H, K)``, in the unit of widths.

        Arguments as of :meth:`apply`. NaN where the target is unknown.
        """
        unit = np.ones_like(differences)[..., None] if self.usual_offsets is None else differences[..., None]
        lower, upper = self._combined(forecast, unit).bounds
        target = forecast.target[..., None]
        return np.maximum(lower - target, target - upper) / unit

    def _combined(self, forecast: WindowForecast, unit: np.ndarray) -> WindowForecast:
        if self.usual_offsets is None:
            return forecast
        return forecast.with_offsets_toward(self.usual_offsets * unit, self.usual_weight)

    def state(self) -> dict[str, Any]:
        """What :meth:`from_state` reads."""
        usual_offsets = None if self.usual_offsets is None else self.usual_offsets.tolist()
        return {
            "widths": self.widths.tolist(),
            "usual_offsets": usual_offsets,
            "usual_width_weight": self.usual_weight,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], horizon: int, n_levels: int) -> Self:
        """From :meth:`state`. Raises ValueError if it is damaged."""
        widths = np.array(state["widths"], dtype=float).reshape(horizon, n_levels)
        if not np.isfinite(widths).all():
            raise ValueError("interval widths must be finite numbers")
        if state.get("usual_offsets") is None:
            return cls(widths)
        usual_offsets = np.array(state["usual_offsets"], dtype=float).reshape(horizon, 2 * n_levels + 1)
        weight = float(state["usual_width_weight"])
        if not np.isfinite(usual_offsets).all() or not 0 <= weight <= 1:
            raise ValueError("usual_offsets must be finite numbers, and usual_width_weight from 0 to 1")
        return cls(widths, usual_offsets, weight)
