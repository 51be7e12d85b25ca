"""A detector of anomalies that is fed step by step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmkit.errors import DataError

if TYPE_CHECKING:
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector


@dataclass(frozen=True)
class StreamedScore:
    """What a detector says of one step as it comes in.

    Attributes:
        score: 1 is what is usual.
        level: Above which it is an alarm.
        by_channel: ``(C,)`` scores of the watched channels.
    """

    score: float
    level: float
    by_channel: np.ndarray

    @property
    def is_alarm(self) -> bool:
        return self.score > self.level


class StreamingDetector:
    """Follows one recording; ``AnomalyDetector.live`` makes it."""

    def __init__(self, job: AnomalyDetector) -> None:
        self._job, self._errors = job, job.way.live(job)
        self._steps = 0
        self._score: float | None = None
        self._past = deque(job.past, maxlen=job.history)
        self._values: np.ndarray | None = None  # the last that was not missing, of each channel

    def step(self, values: Any) -> StreamedScore:
        """``(C,)`` values of all channels, in the order of the training data, NaN where missing.

        Raises:
            DataError: They are not as many numbers as the model was fitted to.
        """
        job = self._job
        try:
            given = np.asarray(values, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):  # words
            given = np.zeros(0)
        if given.shape != (len(job.names),) or np.isinf(given).any():
            raise DataError(f"step {self._steps + 1}: give {len(job.names)} finite numbers ({', '.join(job.names)})")
        before = given if self._values is None else self._values
        self._values = np.where(np.isnan(given), before, given)
        read, _ = job.encode(self._values[None])
        _, watched = job.encode(given[None])
        by_channel = job.by_channel(self._errors.step(read[0], watched[0]))
        if self._steps >= job.warm_up:
            self._score = job.aggregate(by_channel, self._score)
        self._steps += 1
        score = self._score or 0.0
        level = job.levels(np.array([score]), past=np.array(self._past))[0]
        self._past.append(score)
        return StreamedScore(score, float(level), by_channel)
