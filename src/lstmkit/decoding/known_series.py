"""What a fitted forecaster knows of the series that it was fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from lstmkit.data.series.regular_series import RegularSeries
from lstmkit.errors import DataError


class KnownSeries(ABC):
    """Tells series that a forecaster was fitted to from new ones.

    Attributes:
        settings: Settings of the forecaster.
        window_plan: Sizes of windows: ``season`` and ``past``, in steps.
        last_trained_timestamps: By series id the last timestamp of training and validation, as text.
        usual_scales: By series id the scale of windows without a scale of their own; ``None`` in models of version 0.1.
    """

    settings: Any
    window_plan: Any
    last_trained_timestamps: dict[str, str]
    usual_scales: dict[str, float] | None

    @abstractmethod
    def parse_timestamp(self, text: str) -> Any:
        """A timestamp of :attr:`last_trained_timestamps`, as the series have them."""

    def first_unseen_step(self, series: RegularSeries, i: int) -> int:
        """The first step of series ``i`` after training and validation; a new series starts after two windows.

        Raises:
            DataError: Of series and training data only one has a time zone.
        """
        trained_until = self.last_trained_timestamps.get(series.ids[i])
        if trained_until is None:
            enough_past = min(2 * self.window_plan.past, int(series.lengths[i]) - self.settings.horizon)
            return max(1, enough_past)
        timestamps = series.timestamps(i, 0, int(series.lengths[i]))
        try:
            return max(1, int((timestamps <= self.parse_timestamp(trained_until)).sum()))
        except TypeError as err:
            raise DataError(
                f"series {series.ids[i]!r} and the training data must both have a time zone, or neither"
            ) from err

    def usual_scales_of(self, series: RegularSeries) -> np.ndarray | None:
        """``(N,)``; a series that the model was not fitted to has the median of all that it was fitted to."""
        if self.usual_scales is None:
            return None
        known = np.array(list(self.usual_scales.values()))
        typical = float(np.median(known[known > 0])) if known.any() else 0.0
        return np.array([self.usual_scales.get(name, typical) for name in series.ids])

    def short_history(self, series: RegularSeries) -> str:
        """A warning if series have less history than the model needs: a season, or two in a series new to it."""
        season, two_seasons = self.window_plan.season, min(self.window_plan.past, 2 * self.window_plan.season)
        needed = [
            min(two_seasons, season + 1) if n in self.last_trained_timestamps else two_seasons for n in series.ids
        ]
        steps = [int((~np.isnan(y[-self.window_plan.past :])).sum()) for y in series.y]
        short = [i for i, (has, need) in enumerate(zip(steps, needed, strict=True)) if has < need]
        if not short:
            return ""
        i = min(short, key=lambda i: steps[i])
        others = f" (and {len(short) - 1} more)" if len(short) > 1 else ""
        return (
            f"series {series.ids[i]!r}{others} has {steps[i]} values in its last {self.window_plan.past} steps, the "
            f"model needs {needed[i]} (season: {season} steps): its forecasts are rough and its intervals, as wide "
            "as is usual in training, may be too narrow: give more history"
        )
