"""What a detector answers: boxes with class, score and identity in each frame of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmkit.data.vision.box_files import NamedBoxes
from lstmkit.data.vision.boxed_clips import BoxedClip, Boxes, BoxRow


@dataclass(frozen=True)
class Detection:
    """One object in one frame.

    Attributes:
        label: Its class.
        score: Confidence from 0 to 1.
        x, y: Left and top, in pixels of the frame as it was given.
        w, h: Width and height in pixels.
        id: Identity in this video, from 1; -1 if the detection continues no track.
    """

    label: str
    score: float
    x: float
    y: float
    w: float
    h: float
    id: int

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        box = {name: getattr(self, name) for name in "xywh"}
        return {"class": self.label, "score": self.score, **box, "id": self.id}


@dataclass(frozen=True, eq=False)
class ClipDetections:
    """The objects in a clip.

    Attributes:
        clip: The clip that was searched, without true boxes.
        boxes: Boxes with scores and identities, in pixels of the frames as they are in the file.
    """

    clip: BoxedClip
    boxes: Boxes

    @property
    def name(self) -> str:
        """Name of the clip."""
        return self.clip.name

    @property
    def named_boxes(self) -> NamedBoxes:
        """As the writers of :mod:`lstmkit.data.vision.box_files` take them."""
        return NamedBoxes(self.name, self.boxes, len(self.clip), self.clip.source_size)

    def record(self) -> dict[str, Any]:
        """Ready for JSON: name, number of frames, and the boxes with frame and time in seconds."""
        times = self.clip.clip.times
        boxes = [
            {"frame": row[0], "time": round(float(times[row[0]]), 4), **_detection(row).record()}
            for row in self.boxes.rows()
        ]
        return {"clip": self.name, "frames": len(self.clip), "boxes": boxes}


def detections_of(boxes: Boxes) -> list[Detection]:
    """The boxes of one frame, the highest score first."""
    rows = sorted(boxes.rows(), key=lambda row: -row[-1])
    return [_detection(row) for row in rows]


def _detection(row: BoxRow) -> Detection:
    _, label, x, y, w, h, track, score = row
    return Detection(label, score, x, y, w, h, track)
