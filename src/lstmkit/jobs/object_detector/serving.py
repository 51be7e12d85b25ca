"""How an object detector is served."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.jobs.object_detector.streaming import LiveDetector
from lstmkit.jobs.serving import JsonForm, Live, Serving, array_of, arrays_form

Frame = list[list[list[int]]]  # (H, W, 3), or (H, W, 1)


def serving(predictor: ObjectDetectorPredictor) -> Serving:
    """Clips as nested lists, and a live stream of frames."""
    channels = 3 if predictor.settings.color else 1
    frame = np.zeros((predictor.settings.height, predictor.settings.width, channels), dtype=int).tolist()
    live = Live(partial(_LiveFrames, predictor), JsonForm(Frame, frame))
    return Serving(arrays_form(list[list[Frame]], [[frame, frame]] * 3, np.uint8), live=live)


class _LiveFrames:
    """Finds objects in the frames of one connection."""

    def __init__(self, predictor: ObjectDetectorPredictor) -> None:
        self._detector = LiveDetector(predictor, predictor.threshold)

    def step(self, message: Any) -> list[dict[str, Any]]:
        return [found.record() for found in self._detector.step(array_of(message, np.uint8))]

    def finish(self) -> None:
        return None
