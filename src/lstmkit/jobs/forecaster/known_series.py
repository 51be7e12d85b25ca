"""What a forecaster knows of the series that it was fitted to: their ends, scales and last values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.history import History
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import Plan
from lstmkit.errors import DataError
from lstmkit.jobs.forecaster.settings import ForecasterSettings

MAX_HISTORY_STEPS = 1500  #: Of each series kept with the model; as many as the baselines are fitted to.
MAX_HISTORY_VALUES = 100_000  #: Of all series together, unless a window and two seasons of each are more.


class KnownSeries:
    """The part of a forecaster's predictor that tells known series from new ones.

    Attributes:
        settings: Those of the predictor.
        window_plan: Frequency, season length and window.
        last_trained_timestamps: By series id the last timestamp of training and validation, as text.
        usual_scales: By series id the scale of windows without a scale of their own; ``None`` in models of version 0.1.
        histories: By series id the last steps of all data that ``fit`` got.
    """

    settings: ForecasterSettings
    window_plan: Plan
    last_trained_timestamps: dict[str, str]
    usual_scales: dict[str, float] | None
    histories: dict[str, History]

    def keep_history(self, series: SeriesSet) -> None:
        """Keep the last steps of each series that goes on until training and validation end, or beyond them.

        These are a window and two seasons before that end, or more if there are few series, and all steps after it.
        """
        plan = self.window_plan
        needed = max(plan.past, 2 * plan.season)
        steps = max(needed, min(MAX_HISTORY_STEPS, MAX_HISTORY_VALUES // len(series)))
        for i, name in enumerate(series.ids):
            timestamps = series.timestamps(i, 0, int(series.lengths[i]))
            trained_until = self.parse_timestamp(self.last_trained_timestamps.get(name, str(timestamps[-1])))
            if timestamps[-1] >= trained_until:
                held_out = int((timestamps > trained_until).sum())
                self.histories[name] = History.of(series, i, steps + held_out)

    def first_unseen_step(self, series: SeriesSet, i: int) -> int:
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

    def usual_scales_of(self, series: SeriesSet) -> np.ndarray | None:
        """``(N,)``; a series that the model was not fitted to has the median of all that it was fitted to."""
        if self.usual_scales is None:
            return None
        known = np.array(list(self.usual_scales.values()))
        typical = float(np.median(known[known > 0])) if known.any() else 0.0
        return np.array([self.usual_scales.get(name, typical) for name in series.ids])

    def short_history(self, series: SeriesSet) -> str:
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

    def parse_timestamp(self, text: str) -> Any:
        """A timestamp of :attr:`last_trained_timestamps`: a date, or a whole number."""
        return int(text) if isinstance(self.window_plan.freq, int) else pd.Timestamp(text)
