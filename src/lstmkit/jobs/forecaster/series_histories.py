"""The last values of the series that a forecaster was fitted to."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lstmkit.data.series.history import History
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import Plan
from lstmkit.decoding.known_series import KnownSeries

MAX_HISTORY_STEPS = 1500  #: Of each series kept with the model; as many as the baselines are fitted to.
MAX_HISTORY_VALUES = 100_000  #: Of all series together, unless a window and two seasons of each are more.


class SeriesHistories(KnownSeries):
    """The part of a forecaster's predictor that keeps the end of the series that it was fitted to.

    Attributes:
        window_plan: Frequency, season length and window.
        histories: By series id the last steps of all data that ``fit`` got.
    """

    window_plan: Plan
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

    def parse_timestamp(self, text: str) -> Any:
        """A date, or a whole number."""
        return int(text) if isinstance(self.window_plan.freq, int) else pd.Timestamp(text)
