"""Objects in video: boxes with class, score and identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.vision.frame_rate import DEFAULT_FRAME_RATE
from lstmkit.decoding.center_boxes import FrameBoxes, cut_at_border, decode_centers
from lstmkit.decoding.tracking import Tracker
from lstmkit.errors import DataError, SettingError
from lstmkit.runtime.base import ExportedJob


class ObjectDetector(ExportedJob):
    """Finds and follows the objects of clips; :meth:`live` does so frame by frame."""

    def predict(
        self, data: Any, *, threshold: float = -1.0, frame_rate: float = DEFAULT_FRAME_RATE
    ) -> list[dict[str, Any]]:
        """Find and follow the objects of clips.

        Files are not read, and frames are not resized: give arrays in the model's size, with its number of channels.

        Args:
            data: A list of clips ``(T, H, W, C)`` uint8, or an array of all.
            threshold: Score of a detection that may start a track, from 0 to 1; -1 = chosen on the validation split.
            frame_rate: Frames per second, for the times in records.

        Returns:
            For each clip a record with the keys that ``to_records`` of the job gives: ``clip`` (its number),
            ``frames``, and ``boxes`` in pixels of these frames.

        Raises:
            SettingError: An option is out of range.
            DataError: There is no clip, or one has another shape.
        """
        if not 0 < frame_rate < math.inf:
            raise SettingError(f"frame_rate must be above 0, got {frame_rate:g}")
        if isinstance(data, str) or not isinstance(data, (Sequence, np.ndarray)) or not len(data):
            raise DataError(f"give at least one clip as an array, not {type(data).__name__} {data!r:.40}")
        records = []
        for number, clip in enumerate(data, 1):
            frames, live = self._checked(clip, 4, f"clip {number}"), self.live(threshold=threshold)
            boxes = [
                {"frame": t, "time": round(t / frame_rate, 4), **box}
                for t, frame in enumerate(frames)
                for box in live.step(frame)
            ]
            records.append({"clip": f"clip {number}", "frames": len(frames), "boxes": boxes})
        return records

    def live(self, *, threshold: float = -1.0) -> LiveDetector:
        """A detector of one video, frame by frame.

        Args:
            threshold: As of :meth:`predict`.
        """
        if threshold != -1 and not 0 < threshold <= 1:
            raise SettingError(f"threshold must be above 0 and at most 1, or -1, got {threshold:g}")
        return LiveDetector(self, self.settings["threshold"] if threshold == -1 else threshold)

    def _checked(self, frames: Any, dimensions: int, name: str) -> np.ndarray:
        """A frame or a clip as the graph reads it."""
        shape = tuple(self.settings["shape"])
        try:
            array = np.asarray(frames)
        except ValueError:
            raise DataError(f"{name} is not an array: its parts have different sizes") from None
        if array.ndim == dimensions - 1 and shape[-1] == 1:
            array = array[..., None]
        if array.ndim != dimensions or array.shape[-3:] != shape or array.dtype != np.uint8 or not array.size:
            expected = ", ".join(map(str, ("T", *shape)[-dimensions:]))
            raise DataError(f"{name} has shape {array.shape}, {array.dtype}: give ({expected}) of uint8")
        return array


class LiveDetector:
    """Follows one video; ``ObjectDetector.live`` makes it. Its memory does not grow with the number of frames."""

    def __init__(self, job: ObjectDetector, threshold: float) -> None:
        settings = job.settings
        self._job, self._states = job, job.network.zero_states(rows=1)
        self._tracker = Tracker(threshold, threshold / 2, settings["max_unseen"], settings["max_distance"])

    def step(self, frame: Any) -> list[dict[str, Any]]:
        """The objects in the next frame ``(H, W, C)`` uint8, the order of the job's records.

        Raises:
            DataError: The frame has another shape.
        """
        settings = self._job.settings
        pixels = self._job._checked(frame, 3, "the frame")
        (outputs,), self._states = self._job.network.step(self._states, frames=pixels[None])
        found = decode_centers(outputs[0], settings["stride"])
        xywh, kept = cut_at_border(found.xywh, *settings["shape"][:2])
        found = FrameBoxes(xywh, found.classes[kept], found.scores[kept])
        ids = self._tracker.step(*found)
        return [
            {
                "class": settings["classes"][label],
                "score": score,
                **dict(zip("xywh", box, strict=True)),
                "id": track,
            }
            for box, label, score, track in zip(
                found.xywh.tolist(), found.classes.tolist(), found.scores.tolist(), ids.tolist(), strict=True
            )
            if track > 0
        ]
