"""What a detector has found in a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.sensor_series import Recording
from lstmkit.evaluation.anomaly_thresholds import stretches


@dataclass(frozen=True)
class AnomalyResult:
    """What was found in a recording.

    Attributes:
        recording: It.
        values: ``(T, C)`` of the watched channels, in their own units.
        scores: ``(T,)``: 1 is what is usual, NaN never.
        by_channel: ``(T, C)`` the same of each watched channel, not smoothed.
        levels: ``(T,)``: a step is an alarm if its score is above.
        channels: ``C`` names.
    """

    recording: Recording
    values: np.ndarray
    scores: np.ndarray
    by_channel: np.ndarray
    levels: np.ndarray
    channels: tuple[str, ...]

    @property
    def alarms(self) -> np.ndarray:
        """``(T,)`` bool."""
        return self.scores > self.levels

    def rows(self, gap: int = 0) -> list[dict[str, Any]]:
        """A row for each stretch of alarms: from when to when, how high, and the channel that stands out most.

        Args:
            gap: Steps without alarm that a stretch may have.
        """
        found = []
        for start, stop in stretches(self.alarms, gap):
            peak = start + int(self.scores[start:stop].argmax())
            cause = int(self.by_channel[start:stop].max(axis=0).argmax())
            times = self.recording.times
            found.append(
                {
                    "id": self.recording.name,
                    "start": times[start],
                    "end": times[stop - 1],
                    "steps": stop - start,
                    "peak": times[peak],
                    "score": float(self.scores[peak]),
                    "level": float(self.levels[peak]),
                    "cause": self.channels[cause],
                }
            )
        return found

    def frame(self) -> pd.DataFrame:
        """A row a step: score, level, alarm, and the score of each channel."""
        of_steps = {"id": self.recording.name, "time": self.recording.times, "score": self.scores}
        of_steps |= {"level": self.levels, "alarm": self.alarms.astype(int)}
        return pd.DataFrame(
            of_steps | {f"score of {c}": v for c, v in zip(self.channels, self.by_channel.T, strict=True)}
        )
