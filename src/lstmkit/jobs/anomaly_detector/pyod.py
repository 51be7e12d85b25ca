"""A detector with the verbs of PyOD, so that it can stand where one of PyOD's does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

if TYPE_CHECKING:
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector


class PyODDetector:
    """``AnomalyDetector.pyod`` makes it. Rows are steps, in order.

    Attributes:
        decision_scores_: ``(N,)`` scores of what it was fitted to.
        labels_: ``(N,)`` of it, 1 for an alarm.
        threshold_: Above which a score is an alarm; NaN where it hangs on the step.
    """

    decision_scores_: np.ndarray
    labels_: np.ndarray
    threshold_: float

    def __init__(self, job: AnomalyDetector) -> None:
        self.job = job

    def fit(self, X: Any, y: Any = None) -> Self:
        """``X (N, C)``; ``y`` is not looked at."""
        self.job.fit(X)
        (found,) = self.job.predict(X)
        self.decision_scores_, self.labels_ = found.scores, found.alarms.astype(int)
        self.threshold_ = self.job.constant_threshold
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """``(N,)``, higher for more unusual."""
        return self.job.decision_function(X)

    def predict(self, X: Any) -> np.ndarray:
        """``(N,)``: 1 for an alarm, else 0."""
        return np.concatenate([found.alarms for found in self.job.predict(X)]).astype(int)
