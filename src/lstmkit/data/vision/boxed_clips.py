"""Video clips with boxes around objects: where each object is in each frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.vision.video_io import VideoClip
from lstmkit.errors import DataError, listing

#: Frame, class, left, top, width, height, identity and score of a box.
BoxRow = tuple[int, str, float, float, float, float, int, float]
UNKNOWN_ID = -1  #: Identity of an object whose identity is not given.
_UNEVEN = 1.5  # longest frame, relative to the median, of a clip whose frame rate is called constant
_ROUNDING = 1.0  # pixels by which a box may leave the frame without a note


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one clip, in the order of its frames. Coordinates are pixels of the frames as they are in the file.

    Attributes:
        frames: ``(N,)`` frame of each box, from 0.
        labels: ``(N,)`` class of each box, text.
        xywh: ``(N, 4)`` left, top, width and height; the top left corner of the frame is (0, 0).
        ids: ``(N,)`` identity of the object in the clip, :data:`UNKNOWN_ID` if it is not given.
        scores: ``(N,)`` confidence from 0 to 1; 1 for true boxes.

    >>> boxes = Boxes.of_rows([(0, "bird", 4, 4, 2, 2), (3, "bird", 6, 4, 2, 2)])
    >>> len(boxes), boxes.of_frame(3).xywh.tolist()
    (2, [[6.0, 4.0, 2.0, 2.0]])
    """

    frames: np.ndarray
    labels: np.ndarray
    xywh: np.ndarray
    ids: np.ndarray
    scores: np.ndarray

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> Boxes:
        """Boxes of rows ``(frame, class, x, y, w, h)``, optionally followed by identity and score."""
        rows = sorted((tuple(row) for row in rows), key=lambda row: row[0])
        return cls(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([str(row[1]) for row in rows], dtype=object),
            np.array([row[2:6] for row in rows], dtype=np.float64).reshape(-1, 4),
            np.array([row[6] if len(row) > 6 else UNKNOWN_ID for row in rows], dtype=np.int64),
            np.array([row[7] if len(row) > 7 else 1.0 for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def has_ids(self) -> bool:
        """Whether every box has an identity."""
        return len(self) > 0 and bool((self.ids != UNKNOWN_ID).all())

    def subset(self, rows: np.ndarray) -> Boxes:
        """The boxes of a mask or of indices."""
        return Boxes(self.frames[rows], self.labels[rows], self.xywh[rows], self.ids[rows], self.scores[rows])

    def of_frame(self, frame: int) -> Boxes:
        """The boxes of one frame."""
        return self.subset(self.frames == frame)

    def rows(self) -> list[BoxRow]:
        """Rows as :meth:`of_rows` takes them."""
        columns = zip(self.frames.tolist(), self.labels, self.xywh.tolist(), self.ids, self.scores, strict=True)
        return [(frame, str(label), *box, int(i), float(score)) for frame, label, box, i, score in columns]


class Placement(NamedTuple):
    """Where a frame of the file lies in the frame that the model reads: resized, and padded with black.

    Attributes:
        scale_x, scale_y: Width and height after resizing, relative to the file.
        left, top: Padding in pixels.
    """

    scale_x: float
    scale_y: float
    left: int
    top: int

    @classmethod
    def of(cls, source_size: tuple[int, int], size: tuple[int, int]) -> Placement:
        """Of frames of the height and width ``source_size`` in frames of ``size``, as they are resized with padding.

        >>> Placement.of((100, 50), (50, 50))
        Placement(scale_x=0.5, scale_y=0.5, left=12, top=0)
        """
        (height, width), (new_height, new_width) = source_size, size
        scale = min(new_height / height, new_width / width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        return cls(columns / width, rows / height, (new_width - columns) // 2, (new_height - rows) // 2)

    def to_model(self, xywh: np.ndarray) -> np.ndarray:
        """Boxes ``(N, 4)`` of the file in the model's frame."""
        factors = np.array([self.scale_x, self.scale_y] * 2)
        return xywh * factors + np.array([self.left, self.top, 0, 0])

    def to_file(self, xywh: np.ndarray) -> np.ndarray:
        """Boxes ``(N, 4)`` of the model's frame in the file."""
        factors = np.array([self.scale_x, self.scale_y] * 2)
        return (xywh - np.array([self.left, self.top, 0, 0])) / factors


@dataclass(frozen=True, eq=False)
class BoxedClip:
    """A video clip, and what is in it.

    Attributes:
        clip: The frames that the model reads.
        source_size: Height and width of a frame in the file, to which boxes refer.
        boxes: Boxes of all frames; ``None`` if the clip is not annotated. An annotated clip may have no box at all.
    """

    clip: VideoClip
    source_size: tuple[int, int]
    boxes: Boxes | None = None

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def name(self) -> str:
        """Name of the clip."""
        return self.clip.name

    @property
    def placement(self) -> Placement:
        """Where the frames of the file lie in those that the model reads."""
        return Placement.of(self.source_size, self.clip.frames.shape[1:3])

    def every_nth(self, step: int) -> BoxedClip:
        """Each ``step``-th frame with its boxes; the frames are numbered anew."""
        if step == 1:
            return self
        clip = VideoClip(self.name, self.clip.frames[::step], self.clip.times[::step], self.clip.frame_rate / step)
        boxes = self.boxes
        if boxes is not None:
            boxes = boxes.subset(boxes.frames % step == 0)
            boxes = replace(boxes, frames=boxes.frames // step)
        return BoxedClip(clip, self.source_size, boxes)


@dataclass(frozen=True, eq=False)
class BoxedClips:
    """Clips with boxes.

    Attributes:
        clips: The clips.
        name: Name of the data in messages.
        notes: What was done to read them.
    """

    clips: Sequence[BoxedClip]
    name: str
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of all boxes, sorted."""
        return tuple(sorted({str(label) for clip in self.clips if clip.boxes for label in clip.boxes.labels}))

    @property
    def num_frames(self) -> int:
        """Frames of all clips."""
        return sum(map(len, self.clips))

    def subset(self, rows: Sequence[int] | np.ndarray) -> BoxedClips:
        """The clips ``rows``."""
        return replace(self, clips=[self.clips[i] for i in rows])

    def annotated(self) -> BoxedClips:
        """The clips that are annotated; the number of the others is noted.

        Raises:
            DataError: None is.
        """
        rows = [i for i, clip in enumerate(self.clips) if clip.boxes is not None]
        if not rows:
            raise DataError(f'{self.name} has no boxes: give them with the clips, as "clips,boxes.csv"')
        if len(rows) == len(self):
            return self
        others = len(self) - len(rows)
        note = f"{others} of {len(self)} clips of {self.name} have no boxes in the table and are left out"
        return replace(self.subset(rows), notes=(*self.notes, note))

    def digest(self) -> str:
        """SHA-256 of frames and boxes."""
        digest = hashlib.sha256()
        for each in self.clips:
            rows = None if each.boxes is None else each.boxes.rows()
            digest.update(f"{each.clip.frames.shape}{rows!r}".encode("utf-8", "replace") + each.clip.frames.tobytes())
        return digest.hexdigest()


def checked_boxes(boxes: Boxes, clip: VideoClip, source_size: tuple[int, int]) -> tuple[Boxes, int]:
    """The boxes cut at the border of the frame, and how many were cut by more than a pixel.

    Raises:
        DataError: A box has a size that is not above 0, or a coordinate that is not a number; lies wholly outside the
            frame; or belongs to a frame that the clip does not have.
    """
    height, width = source_size
    last = len(clip) - 1

    def fail(bad: Any, problem: str, advice: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            x, y, w, h = boxes.xywh[row]
            box = f"x={x:g}, y={y:g}, w={w:g}, h={h:g}"
            raise DataError(f"{clip.name}, frame {boxes.frames[row]}: the box {box} {problem}: {advice}")

    fail(~np.isfinite(boxes.xywh).all(1), "is not four numbers", "correct it, or remove its row")
    fail((boxes.xywh[:, 2:] <= 0).any(1), "has a width or height that is not above 0", "correct it, or remove its row")
    outside = (boxes.frames < 0) | (boxes.frames > last)
    if outside.any():
        frame = int(boxes.frames[outside][0])
        raise DataError(
            f"{clip.name} has {len(clip)} frames, 0 to {last}, but a box is in frame {frame}: check that the video is "
            "complete, and that frames count from 0"
        )
    low = boxes.xywh[:, :2]
    high = low + boxes.xywh[:, 2:]
    size = f"the frame of {width} x {height} pixels"
    fail(((high <= 0) | (low >= (width, height))).any(1), f"lies outside {size}", "correct it, or remove its row")
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, (width, height))
    cut = int(((inside_low - low > _ROUNDING) | (high - inside_high > _ROUNDING)).any(1).sum())
    return replace(boxes, xywh=np.concatenate([inside_low, inside_high - inside_low], 1)), cut


def notes_on_clip(clip: VideoClip, cut: int) -> list[str]:
    """Notes on boxes that were cut at the border, and on a frame rate that varies."""
    notes = []
    if cut:
        notes.append(f"{cut} boxes of {clip.name} leave the frame and are cut at its border")
    steps = np.diff(clip.times)
    if len(steps) and steps.max() > _UNEVEN * np.median(steps):
        notes.append(f"the frame rate of {clip.name} varies: boxes belong to frames by their number, not by their time")
    return notes


def check_known_classes(boxed: BoxedClips, classes: Sequence[str]) -> None:
    """Raise DataError if boxes have classes that training had not."""
    unseen = [label for label in boxed.classes if label not in classes]
    if unseen:
        raise DataError(
            f"{boxed.name} has classes that training had not: {listing(unseen)}: rename or remove their boxes, or "
            "train with them"
        )


def table_of_boxes(clips: Iterable[tuple[str, Boxes]]) -> pd.DataFrame:
    """One row per box: ``clip,frame,class,x,y,w,h,id,score``."""
    columns = pd.Index(["clip", "frame", "class", "x", "y", "w", "h", "id", "score"])
    return pd.DataFrame([(name, *row) for name, boxes in clips for row in boxes.rows()], columns=columns)
