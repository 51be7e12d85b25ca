"""Baselines of detection: background subtraction, and the boxes of the frame before."""

from __future__ import annotations

from collections import Counter
from typing import cast

import numpy as np
from scipy import ndimage

from lstmkit.data.vision.boxed_clips import BoxedClip, BoxedClips, Boxes
from lstmkit.decoding.center_boxes import MAX_BOXES, FrameBoxes

BACKGROUND, PREVIOUS = "background subtraction", "true boxes of the frame before"
_STEP = 2  # by which the running median approaches the frame, in levels of 255
_MIN_DIFFERENCE = 20.0  # from the background, in levels of 255
_MIN_PIXELS = 3  # of a component


def most_frequent_class(train: BoxedClips) -> str:
    """The class of most boxes; the first by name in a tie."""
    counts = Counter(str(label) for each in train.clips if each.boxes for label in each.boxes.labels)
    return min(counts, key=lambda label: (-counts[label], label))


def moving_regions(each: BoxedClip, class_number: int) -> list[FrameBoxes]:
    """What differs from the background in each frame, in pixels of the file.

    The background is a running median: each pixel moves by a fixed step towards the frame (McFarlane and Schofield
    1995). Neighboring pixels that differ from it are joined after one closing; the score of a region grows with its
    mean difference.
    """
    found = []
    background = each.clip.frames[0].mean(-1)
    for frame in each.clip.frames:
        pixels = frame.mean(-1)
        difference = np.abs(pixels - background)
        background = background + np.clip(pixels - background, -_STEP, _STEP)
        mask = ndimage.binary_closing(difference > _MIN_DIFFERENCE, iterations=1)
        labeled, count = cast("tuple[np.ndarray, int]", ndimage.label(mask))
        boxes, scores = [], []
        for number, slices in enumerate(ndimage.find_objects(labeled, count), 1):
            rows, columns = slices[0], slices[1]
            inside = labeled[slices] == number
            if inside.sum() >= _MIN_PIXELS:
                boxes.append((columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start))
                scores.append(float(difference[slices][inside].mean()) / 255)
        order = np.argsort(-np.array(scores), kind="stable")[:MAX_BOXES]
        xywh = each.placement.to_file(np.array(boxes, dtype=float).reshape(-1, 4)[order])
        found.append(FrameBoxes(xywh, np.full(len(order), class_number), np.array(scores)[order]))
    return found


def previous_boxes(each: BoxedClip, classes: tuple[str, ...]) -> list[FrameBoxes]:
    """The true boxes of the frame before; none in the first frame."""
    boxes = each.boxes if each.boxes is not None else Boxes.of_rows([])
    found = []
    for frame in range(len(each)):
        before = boxes.of_frame(frame - 1)
        numbers = np.array([classes.index(str(label)) for label in before.labels], dtype=np.int64)
        found.append(FrameBoxes(before.xywh, numbers, np.ones(len(before))))
    return found
