"""Anomaly detection in a stream: one step at a time, with the same scores as for the whole series."""

from __future__ import annotations

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
        self._past = predictor.validation_scores[-settings.threshold_window :]
        self._last: np.ndarray | None = None  # the last known value of each channel
        self._subspace = predictor.subspace
        self._recent = np.zeros((0, len(predictor.scored_columns)))  # the last window of the subspace

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
        inputs, targets = predictor.standardize(np.stack([self._last, row]))
        channel_scores = predictor.channel_scores(self._scorer.step(inputs[0], targets[1]))
        if self._steps >= predictor.settings.burn_in:
            self._score = predictor.aggregate(channel_scores, self._score)
        self._steps += 1
        score = self._combined_score(np.nan_to_num(targets[0]))
        threshold = predictor.thresholds(np.array([score]), before=self._past)[0]
        self._past = np.append(self._past, score)[-predictor.settings.threshold_window :]
        return StreamedScore(score, float(threshold), channel_scores)

    def _combined_score(self, known: np.ndarray) -> float:
        """The score of the last step: the network's before the first whole window of the subspace.

        Args:
            known: ``(C,)`` the last known target of each channel.
        """
        if self._subspace is not None:
            self._recent = np.concatenate([self._recent, known[None]])[-self._subspace.window :]
        if self._score is None or self._subspace is None or len(self._recent) < self._subspace.window:
            return self._score or 0.0
        (distance,) = self._subspace.distances(self._recent)
        return float(self._predictor.combined(self._score, distance))
