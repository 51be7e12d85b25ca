"""How an anomaly detector is served."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.jobs.anomaly_detector.streaming import StreamingDetector
from lstmkit.jobs.serving import JsonForm, Live, Row, Serving, rows_form

_EXAMPLE_STEPS = 8  # beyond those before the first score


def serving(predictor: AnomalyPredictor) -> Serving:
    """Rows of a table, one per step; a live series is scored step by step."""
    mean = np.asarray(predictor.mean).ravel().round(4).tolist()
    row: Row = dict(zip(predictor.channel_names, mean, strict=True))
    steps = predictor.settings.burn_in + _EXAMPLE_STEPS
    return Serving(
        rows_form([row] * steps),
        live=Live(partial(_LiveDetector, predictor), JsonForm(list[float | None], mean)),
    )


class _LiveDetector:
    """Scores the steps of one connection."""

    def __init__(self, predictor: AnomalyPredictor) -> None:
        self._detector = StreamingDetector(predictor)

    def step(self, message: Any) -> dict[str, Any]:
        scored = self._detector.step([np.nan if value is None else value for value in message])
        return {
            "score": scored.score,
            "threshold": scored.threshold,
            "is_alarm": scored.is_alarm,
            "channel_scores": scored.channel_scores.tolist(),
        }

    def finish(self) -> None:
        return None
