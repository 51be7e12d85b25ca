"""Scores of boxes and identities in video: COCO's average precision, MOTA and IDF1."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lstmkit.evaluation.box_overlap import iou_matrix

SIZES = ("small", "medium", "large")  #: COCO's: an area below 32², below 96², and above, in pixels of the file.
_IOU = 0.5  # at which a detection counts as right


class ClipResult(NamedTuple):
    """True boxes and detections of one clip.

    Attributes:
        num_frames: Frames of the clip.
        true_frames, true_classes: ``(N,)`` frame and class number of each true box.
        true_xywh: ``(N, 4)`` left, top, width and height.
        true_ids: ``(N,)`` identities.
        frames, classes: ``(M,)`` of each detection.
        xywh: ``(M, 4)``.
        scores: ``(M,)``.
        tracks: Frames ``(P,)``, boxes ``(P, 4)`` and identities ``(P,)`` that were followed; ``None`` if the true
            identities are not known.
    """

    num_frames: int
    true_frames: np.ndarray
    true_classes: np.ndarray
    true_xywh: np.ndarray
    true_ids: np.ndarray
    frames: np.ndarray
    classes: np.ndarray
    xywh: np.ndarray
    scores: np.ndarray
    tracks: tuple[np.ndarray, np.ndarray, np.ndarray] | None


class Precision(NamedTuple):
    """Average precision from 0 to 1, NaN if there is no such box.

    Attributes:
        ap: Mean over classes and over IoU thresholds from .5 to .95.
        ap50: Mean over classes at an IoU of .5.
        ap50_by_size: For each of :data:`SIZES`.
        ap50_by_class: ``(K,)``.
    """

    ap: float
    ap50: float
    ap50_by_size: tuple[float, ...]
    ap50_by_class: np.ndarray


def average_precision(results: Sequence[ClipResult], num_classes: int) -> Precision:
    """COCO's average precision over all frames of all clips.

    Args:
        results: The clips.
        num_classes: Number of classes.
    """
    starts = np.cumsum([0, *(result.num_frames for result in results)])
    truth, found = [], []
    for start, result in zip(starts, results, strict=False):
        truth += [
            {"image_id": int(frame), "category_id": int(label), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for frame, label, box in zip(
                start + result.true_frames, result.true_classes, result.true_xywh.tolist(), strict=True
            )
        ]
        found += [
            {"image_id": int(frame), "category_id": int(label), "bbox": box, "score": score}
            for frame, label, box, score in zip(
                start + result.frames, result.classes, result.xywh.tolist(), result.scores.tolist(), strict=True
            )
        ]
    nothing = np.full(num_classes, np.nan)
    if not truth:
        return Precision(np.nan, np.nan, (np.nan,) * 3, nothing)
    if not found:
        has_boxes = np.isin(np.arange(num_classes), [each["category_id"] for each in truth])
        return Precision(0.0, 0.0, (0.0,) * 3, np.where(has_boxes, 0.0, np.nan))
    dataset = {
        "info": {},
        "images": [{"id": frame} for frame in range(int(starts[-1]))],
        "annotations": [{"id": k, **each} for k, each in enumerate(truth, 1)],
        "categories": [{"id": k} for k in range(num_classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco: Any = COCO()
        coco.dataset = dataset
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU, recall, class, area, detections); -1 without boxes
    precision = np.where(precision < 0, np.nan, precision)[..., -1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no class
        by_size = tuple(float(np.nanmean(precision[0, :, :, 1 + k])) for k in range(3))
        return Precision(
            float(np.nanmean(precision[..., 0])),
            float(np.nanmean(precision[0, :, :, 0])),
            by_size,
            np.nanmean(precision[0, :, :, 0], axis=0),
        )


def identity_scores(results: Sequence[ClipResult]) -> dict[str, float]:
    """MOTA (Bernardin and Stiefelhagen 2008), IDF1 (Ristani et al. 2016) and :func:`found_again`, at an IoU of .5."""
    import motmetrics

    accumulators = []
    for result in results:
        assert result.tracks is not None
        frames, xywh, ids = result.tracks
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for frame in range(result.num_frames):
            true, own = result.true_frames == frame, frames == frame
            overlaps = iou_matrix(result.true_xywh[true], xywh[own])
            distances = np.where(overlaps >= _IOU, 1 - overlaps, np.nan)
            accumulator.update(result.true_ids[true].tolist(), ids[own].tolist(), distances)
        accumulators.append(accumulator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about motmetrics' own code
        host = motmetrics.metrics.create()
        summary = host.compute_many(accumulators, metrics=["mota", "idf1"], generate_overall=True)
    overall = summary.loc["OVERALL"]
    return {"MOTA": float(overall["mota"]), "IDF1": float(overall["idf1"]), "found again": found_again(results)}


class Matches(NamedTuple):
    """The detections of one clip, matched with its true boxes at an IoU of .5, each box at most once.

    Attributes:
        scores: ``(M,)``.
        classes: ``(M,)``.
        right: ``(M,)`` whether the detection has a true box of its class.
        num_true: ``(K,)`` true boxes by class.
    """

    scores: np.ndarray
    classes: np.ndarray
    right: np.ndarray
    num_true: np.ndarray


def matches_of(result: ClipResult, num_classes: int) -> Matches:
    """Match detections in the order of their scores with the free true box that overlaps most."""
    right = np.zeros(len(result.scores), dtype=bool)
    for frame in np.unique(result.frames):
        own, true = np.flatnonzero(result.frames == frame), np.flatnonzero(result.true_frames == frame)
        overlaps = iou_matrix(result.xywh[own], result.true_xywh[true])
        overlaps *= result.classes[own][:, None] == result.true_classes[true][None]
        for k in np.argsort(-result.scores[own], kind="stable") if len(true) else ():
            best = int(overlaps[k].argmax())
            if overlaps[k, best] >= _IOU:
                right[own[k]] = True
                overlaps[:, best] = 0.0
    counts = np.bincount(result.true_classes, minlength=num_classes)
    return Matches(result.scores, result.classes, right, counts)


def average_precision_of_matches(matches: Sequence[Matches]) -> float:
    """COCO's AP at an IoU of .5 from matched clips, the mean over classes; NaN without true boxes.

    It is :attr:`Precision.ap50`, but much faster for one clip more or less.
    """
    scores, classes, right = (
        np.concatenate([getattr(each, name) for each in matches]) for name in ("scores", "classes", "right")
    )
    totals = np.sum([each.num_true for each in matches], axis=0)
    found = []
    for label in np.flatnonzero(totals):
        own = classes == label
        hits = np.cumsum(right[own][np.argsort(-scores[own], kind="stable")])
        recall, precision = hits / totals[label], hits / np.arange(1, len(hits) + 1)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        found.append(envelope[np.searchsorted(recall, np.linspace(0, 1, 101), side="left")].mean())
    return float(np.mean(found)) if found else np.nan


def best_threshold(matches: Sequence[Matches]) -> float:
    """The score at which the detections at or above it have the best F1; NaN if no detection is right.

    It lies between the last detection that is taken and the next one.
    """
    scores, right = (np.concatenate([getattr(each, name) for each in matches]) for name in ("scores", "right"))
    total = sum(int(each.num_true.sum()) for each in matches)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    if not total or not len(hits) or not hits[-1]:
        return np.nan
    last = int((2 * hits / (np.arange(1, len(hits) + 1) + total)).argmax())
    return float(np.append(scores[order], 0.0)[last : last + 2].mean())


def found_again(results: Sequence[ClipResult], within: int = 3) -> float:
    """Fraction of objects that have their identity of before after frames without them; NaN if there are none.

    Args:
        results: Clips with true identities and tracks.
        within: Frames after the gap in which the object must be found.
    """
    kept = []
    for result in results:
        assert result.tracks is not None
        for identity in np.unique(result.true_ids):
            rows = np.flatnonzero(result.true_ids == identity)
            matched = [_matched_id(result, row) for row in rows]
            for before in np.flatnonzero(np.diff(result.true_frames[rows]) > 1):
                old = next((track for track in reversed(matched[: before + 1]) if track > 0), -1)
                new = next((track for track in matched[before + 1 : before + 1 + within] if track > 0), -2)
                kept.append(old == new)
    return float(np.mean(kept)) if kept else np.nan


def _matched_id(result: ClipResult, row: int) -> int:
    """The identity of the track that overlaps a true box most, at least .5; -1 if there is none."""
    assert result.tracks is not None
    frames, xywh, ids = result.tracks
    own = np.flatnonzero(frames == result.true_frames[row])
    overlaps = iou_matrix(result.true_xywh[row : row + 1], xywh[own])[0]
    return int(ids[own][overlaps.argmax()]) if len(own) and overlaps.max() >= _IOU else -1
