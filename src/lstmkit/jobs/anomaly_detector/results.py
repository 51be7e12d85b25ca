"""The result of anomaly detection in one series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.sensor_series import SensorSeries
from lstmkit.decoding.anomaly_scores import anomaly_events


@dataclass(frozen=True)
class AnomalyResult:
    """Scores, thresholds and alarms of one series.

    Attributes:
        series: The series.
        values: ``(T, C)`` of the scored channels, in their own units.
        scores: ``(T,)``: 1 is the mean score of normal data; never NaN.
        channel_scores: ``(T, C)``: the score of each channel, not smoothed.
        thresholds: ``(T,)``: a step is an alarm if its score is above.
        channels: Names of the ``C`` scored channels.
    """

    series: SensorSeries
    values: np.ndarray
    scores: np.ndarray
    channel_scores: np.ndarray
    thresholds: np.ndarray
    channels: tuple[str, ...]

    @property
    def alarms(self) -> np.ndarray:
        """``(T,)`` bool."""
        return self.scores > self.thresholds

    def events(self, merge_gap: int = 0, max_steps: int = 0) -> list[dict[str, Any]]:
        """One row per event: start, end, length, peak, score, threshold, and the channel with the highest score.

        Args:
            merge_gap: Alarms at most this many steps apart are one event.
            max_steps: A longer event is closed after this many steps, and the next one begins; 0 = never.
        """
        return anomaly_events(
            self.series.name,
            self.series.times,
            self.scores,
            self.thresholds,
            self.channel_scores,
            self.channels,
            merge_gap,
            max_steps,
        )

    def frame(self) -> pd.DataFrame:
        """One row per step: score, threshold, alarm, and the score of each channel."""
        columns = {"id": self.series.name, "time": self.series.times, "score": self.scores}
        columns |= {"threshold": self.thresholds, "alarm": self.alarms.astype(int)}
        of_channels = zip(self.channels, self.channel_scores.T, strict=True)
        return pd.DataFrame(columns | {f"score of {name}": scores for name, scores in of_channels})
