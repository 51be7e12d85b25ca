"""Boxes from the outputs of a center-point detector (Zhou et al. 2019, "Objects as points", arXiv:1904.07850)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lstmkit.evaluation.box_overlap import iou_matrix

MIN_SCORE = 0.01  #: Score below which a peak is no detection, whatever the threshold.
MAX_BOXES = 100  #: Detections of a frame, as in COCO's evaluation.
_MAX_LOG_SIZE = 8.0  # of a box in cells: an untrained network may give any number


class FrameBoxes(NamedTuple):
    """Detections of one frame, the highest score first.

    Attributes:
        xywh: ``(N, 4)`` left, top, width and height in pixels of the frame that the network reads.
        classes: ``(N,)`` class numbers.
        scores: ``(N,)`` from 0 to 1.
    """

    xywh: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def above(self, threshold: float) -> FrameBoxes:
        """Those with at least this score."""
        rows = self.scores >= threshold
        return FrameBoxes(self.xywh[rows], self.classes[rows], self.scores[rows])


def decode_centers(outputs: np.ndarray, stride: float, max_boxes: int = MAX_BOXES) -> FrameBoxes:
    """Peaks of the heat maps as boxes.

    A peak is a cell whose score is the largest of its 3 by 3 neighborhood in the heat map of a class. Of two boxes of
    different classes that overlap by more than 70 % (IoU), the one with the lower score is dropped.

    Args:
        outputs: ``(K + 4, h, w)``: logits of ``K`` classes, logarithms of width and height in cells, and the offset of
            the center from the corner of its cell, in cells.
        stride: Pixels per cell.
        max_boxes: Maximum number of boxes.
    """
    outputs = np.asarray(outputs, dtype=np.float64)
    logits, sizes, offsets = outputs[:-4], outputs[-4:-2], outputs[-2:]
    heat = 1 / (1 + np.exp(-logits.clip(-50, 50)))
    peaks = (heat >= _neighborhood_maxima(heat)) & (heat >= MIN_SCORE)
    classes, rows, columns = np.nonzero(peaks)
    scores = heat[classes, rows, columns]
    order = np.argsort(-scores, kind="stable")[:max_boxes]
    classes, rows, columns, scores = classes[order], rows[order], columns[order], scores[order]
    x, y = columns + offsets[0, rows, columns], rows + offsets[1, rows, columns]
    w, h = np.exp(sizes[:, rows, columns].clip(-_MAX_LOG_SIZE, _MAX_LOG_SIZE))
    xywh = stride * np.stack([x - w / 2, y - h / 2, w, h], axis=1)
    kept = _not_suppressed(xywh)
    return FrameBoxes(xywh[kept], classes[kept], scores[kept])


def _neighborhood_maxima(heat: np.ndarray) -> np.ndarray:
    """The maximum of the 3 by 3 neighborhood of each cell, ``(K, h, w)``."""
    padded = np.pad(heat, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    height, width = heat.shape[1:]
    shifts = [padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)]
    return np.max(shifts, axis=0)


def _not_suppressed(xywh: np.ndarray, max_iou: float = 0.7) -> np.ndarray:
    """Indices of the boxes that overlap no kept box before them by more than ``max_iou``."""
    overlaps = iou_matrix(xywh, xywh) > max_iou
    kept: list[int] = []
    for k in range(len(xywh)):
        if not overlaps[k, kept].any():
            kept.append(k)
    return np.array(kept, dtype=np.int64)


def cut_at_border(xywh: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The boxes cut at the border of a frame, and indices of those that are left of ``(N, 4)``."""
    low = np.maximum(xywh[:, :2], 0)
    high = np.minimum(xywh[:, :2] + xywh[:, 2:], (width, height))
    cut = np.concatenate([low, high - low], axis=1)
    kept = np.flatnonzero((cut[:, 2:] > 0).all(1))
    return cut[kept], kept
