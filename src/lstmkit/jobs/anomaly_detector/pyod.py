"""An anomaly detector with the methods of PyOD's detectors."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from typing_extensions import Self

from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.jobs.anomaly_detector.results import AnomalyResult


class Detector(Protocol):
    """What is adapted: a job that detects anomalies."""

    @property
    def predictor(self) -> AnomalyPredictor: ...
    def fit(self, data: Any) -> Any: ...
    def predict(self, data: Any) -> list[AnomalyResult]: ...


class PyODDetector:
    """``AnomalyDetector.pyod`` makes it. Rows are steps, in order.

    Attributes:
        decision_scores_: ``(N,)`` scores of the training data.
        labels_: ``(N,)`` of the training data, 1 for an alarm.
        threshold_: A score above it is an alarm; NaN if the threshold changes from step to step.
    """

    decision_scores_: np.ndarray
    labels_: np.ndarray
    threshold_: float

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to ``X (N, C)``; ``y`` is ignored."""
        self.detector.fit(X)
        (result,) = self.detector.predict(X)
        self.decision_scores_, self.labels_ = result.scores, result.alarms.astype(int)
        self.threshold_ = self.detector.predictor.constant_threshold
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores ``(N,)``, higher for more abnormal steps."""
        return np.concatenate([result.scores for result in self.detector.predict(X)])

    def predict(self, X: Any) -> np.ndarray:
        """``(N,)``: 1 for an alarm, else 0."""
        return np.concatenate([result.alarms for result in self.detector.predict(X)]).astype(int)
