"""Anomaly detection in a stream: one step at a time, with the same scores as for the whole series."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmkit.data.arrays import as_array
from lstmkit.errors import DataError
from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor


@dataclass(frozen=True)
class StreamedScore:
    """The score of one step of a stream.

    Attributes:
        score: 1 is the mean score of normal data.
        threshold: The step is an alarm if its score is above.
        channel_scores: ``(C,)`` scores of the scored channels.
    """

    score: float
    threshold: float
    channel_scores: np.ndarray

    @property
    def is_alarm(self) -> bool:
        return self.score > self.threshold


class StreamingDetector:
    """Follows one series; ``AnomalyDetector.stream`` makes it."""

    def __init__(self, predictor: AnomalyPredictor) -> None:
        settings = predictor.settings
        self._predictor, self._scorer = predictor, predictor.scorer.stream(settings, predictor.model)
        self._steps = 0
        self._score: float | None = None  # of the network
        self._past: deque[float] = deque(predictor.validation_scores, maxlen=settings.threshold_window)
        self._last: np.ndarray | None = None  # the last known value of each channel
        self._subspace = predictor.subspace
        self._recent: deque[np.ndarray] = deque(maxlen=self._subspace.window if self._subspace is not None else 1)

    def step(self, values: Any) -> StreamedScore:
        """Score the next step.

        Args:
            values: ``(F,)`` values of all channels, in the order of the training data, NaN where missing.

        Raises:
            DataError: There are not as many numbers as the model has channels, or they are not finite.
        """
        predictor = self._predictor
        names = predictor.channel_names
        try:
            row = as_array(values).astype(np.float64).reshape(-1)
        except (TypeError, ValueError):  # not numbers
            row = np.zeros(0)
        if row.shape != (len(names),) or np.isinf(row).any():
            raise DataError(f"step {self._steps + 1}: give {len(names)} finite numbers ({', '.join(names)})")
        self._last = row if self._last is None else np.where(np.isnan(row), self._last, row)
        inputs, known = predictor.standardize(self._last[None])
        _, targets = predictor.standardize(row[None])
        channel_scores = predictor.channel_scores(self._scorer.step(inputs[0], targets[0]))
        if self._steps >= predictor.settings.burn_in:
            self._score = predictor.aggregate(channel_scores, self._score)
        self._steps += 1
        self._recent.append(np.nan_to_num(known[0]))
        score = self._combined_score()
        threshold = predictor.thresholds(np.array([score]), before=np.array(self._past))[0]
        self._past.append(score)
        return StreamedScore(score, float(threshold), channel_scores)

    def _combined_score(self) -> float:
        """The score of the last step: the network's before the first whole window of the subspace."""
        if self._score is None or self._subspace is None or len(self._recent) < self._subspace.window:
            return self._score or 0.0
        (distance,) = self._subspace.distances(np.stack(self._recent))
        return float(self._predictor.combined(self._score, distance))
