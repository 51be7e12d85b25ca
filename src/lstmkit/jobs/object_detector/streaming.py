"""Detection in a stream: one frame at a time, with the memory and the identities of the frames before."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.vision.boxed_clips import BoxedClip, Boxes
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, video_from_array
from lstmkit.errors import DataError
from lstmkit.jobs.object_detector.detections import Detection, detections_of
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.models.base import State


class LiveDetector:
    """Follows one video; ``ObjectDetector.live`` makes it. Its memory does not grow with the number of frames."""

    def __init__(self, predictor: ObjectDetectorPredictor, threshold: float) -> None:
        self._predictor, self._tracker = predictor, predictor.tracker(threshold)
        self._state: State = None
        self._size: tuple[int, int] | None = None
        self._frames = 0

    def step(self, frame: Any) -> list[Detection]:
        """The objects in the next frame, the highest score first.

        Args:
            frame: ``(H, W)`` or ``(H, W, 3)``, integers from 0 to 255, or floats from 0 to 1. All frames of a video
                have one size.

        Raises:
            DataError: It is not such an array, or its size changes.
        """
        settings, predictor = self._predictor.settings, self._predictor
        name = f"frame {self._frames + 1}"
        shape = np.shape(frame)
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
            raise DataError(f"{name} has shape {shape}: give a frame as (H, W), or (H, W, 3) for RGB")
        size = (shape[0], shape[1])
        if self._size is not None and size != self._size:
            expected = " x ".join(map(str, self._size))
            raise DataError(f"{name} has {size[0]} x {size[1]} pixels, those before {expected}: start a new stream")
        clip_format = ClipFormat(settings.height, settings.width, settings.color)
        clip: VideoClip = video_from_array([frame] if len(shape) == 2 else np.asarray(frame)[None], clip_format, name)
        outputs, self._state = predictor.run(clip.frames, self._state)
        found = predictor.decode(outputs[0], BoxedClip(clip, size))
        rows = predictor.tracked_rows(self._frames, found, self._tracker)
        self._size, self._frames = size, self._frames + 1
        return detections_of(Boxes.of_rows(rows))
