"""Scores of detections and tracks: COCO's AP, MOTA and IDF1, of the model and the baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from lstmkit.data.vision.boxed_clips import BoxedClip, BoxedClips, Boxes
from lstmkit.data.vision.clip_segments import ClipAugmentation, EncodedClip
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.decoding.center_boxes import FrameBoxes
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.detection_metrics import (
    SIZES,
    ClipResult,
    average_precision,
    average_precision_of_matches,
    best_threshold,
    identity_scores,
    matches_of,
)
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.object_detector.baselines import (
    BACKGROUND,
    PREVIOUS,
    most_frequent_class,
    moving_regions,
    previous_boxes,
)
from lstmkit.jobs.object_detector.predictor import DEFAULT_THRESHOLD, ObjectDetectorPredictor
from lstmkit.progress import Progress

#: Disturbances of the test frames, by the name that columns have.
DISTURBANCES = {
    "blanked": ClipAugmentation(blank_probability=0.2),
    "noise": ClipAugmentation(max_noise=0.1),
}
_NOT_ALTERNATIVES = {PREVIOUS: f"{PREVIOUS} needs the true boxes"}
Detector = Callable[[BoxedClip], list[FrameBoxes]]


def evaluate(
    predictor: ObjectDetectorPredictor,
    test: BoxedClips,
    train: BoxedClips | None,
    progress: Progress,
    disturbed: bool = False,
) -> Evaluation:
    """Score the boxes of the model and of the baselines against the true ones.

    Args:
        predictor: With a trained network.
        test: Held-out clips with boxes of known classes.
        train: The training split, whose most frequent class background subtraction answers; ``None`` for a loaded
            model.
        progress: Where to report progress.
        disturbed: Whether to score the model and the baselines on disturbed frames, too.
    """
    classes = predictor.classes
    detectors: dict[str, Detector] = {model_name(predictor): predictor.detect}
    if train is not None:
        number = classes.index(most_frequent_class(train))
        detectors[BACKGROUND] = lambda each: moving_regions(each, number)
    detectors[PREVIOUS] = lambda each: previous_boxes(each, classes)
    rows, results = [], {}
    with progress.task("scoring", len(detectors)) as task:
        for done, (name, detect) in enumerate(detectors.items(), 1):
            threshold = predictor.threshold if detect == predictor.detect else DEFAULT_THRESHOLD * (name == PREVIOUS)
            results[name] = [clip_result(predictor, each, detect(each), threshold) for each in test.clips]
            rows.append({"model": name, **scores(results[name], len(classes))})
            if disturbed:
                rows[-1] |= _disturbed_scores(predictor, test, detect)
            task.update(done)
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    directions = dict.fromkeys(table.columns.drop("model"), "high")
    matches = [matches_of(result, len(classes)) for result in results[model_name(predictor)]]
    examples = ScoredExamples(
        len(test), "clips", lambda rows: average_precision_of_matches([matches[row] for row in rows])
    )
    missing = () if train is not None else (BACKGROUND,)
    notes = _notes(predictor, test, disturbed)
    return Evaluation(table, directions, by_class(results, classes), notes, test, missing, examples, _NOT_ALTERNATIVES)


def model_name(predictor: ObjectDetectorPredictor) -> str:
    """The name of the model's row."""
    cell = f"Conv{predictor.settings.cell.upper()}"
    if predictor.settings.bottleneck and predictor.settings.cell == "lstm":
        cell = "Bottleneck-LSTM"
    return cell if predictor.settings.recurrent else "frame by frame"


def clip_result(
    predictor: ObjectDetectorPredictor, each: BoxedClip, detections: list[FrameBoxes], threshold: float
) -> ClipResult:
    """True boxes, detections and tracks of a clip, as the scores take them."""
    truth = each.boxes if each.boxes is not None else Boxes.of_rows([])
    number = {label: k for k, label in enumerate(predictor.classes)}
    tracks = predictor.tracked(each, detections, threshold) if truth.has_ids else None
    frames = np.concatenate([np.full(len(found.scores), k) for k, found in enumerate(detections)])
    return ClipResult(
        len(each),
        truth.frames,
        np.array([number[str(label)] for label in truth.labels], dtype=np.int64),
        truth.xywh,
        truth.ids,
        frames.astype(np.int64),
        np.concatenate([found.classes for found in detections]).astype(np.int64),
        np.concatenate([found.xywh for found in detections]).reshape(-1, 4),
        np.concatenate([found.scores for found in detections]),
        None if tracks is None else (tracks.frames, tracks.xywh, tracks.ids),
    )


def scores(results: Sequence[ClipResult], num_classes: int) -> dict[str, float]:
    """AP over all classes, by size of the object, and MOTA and IDF1 if identities are given; NaN if unknown."""
    precision = average_precision(results, num_classes)
    found = {"AP.5": precision.ap50, "AP.5:.95": precision.ap}
    found |= {f"AP.5, {size}": value for size, value in zip(SIZES, precision.ap50_by_size, strict=True)}
    with_ids = [result for result in results if result.tracks is not None]
    if with_ids:
        found |= identity_scores(with_ids)
    return found


def by_class(results: dict[str, list[ClipResult]], classes: Sequence[str]) -> pd.DataFrame:
    """One row per class: the number of true boxes, and AP.5 of each model."""
    first = next(iter(results.values()))
    labels = np.concatenate([result.true_classes for result in first])
    table = pd.DataFrame({"class": list(classes), "boxes": np.bincount(labels, minlength=len(classes))})
    for name, of_model in results.items():
        table[f"AP.5 of {name}"] = average_precision(of_model, len(classes)).ap50_by_class
    return table


def disturbed_clip(each: BoxedClip, disturbance: ClipAugmentation, seed: int) -> BoxedClip:
    """A clip with disturbed frames and the same boxes; noise has the largest deviation."""
    rng = np.random.default_rng(seed)
    frames = each.clip.frames
    if disturbance.max_noise:
        noise = rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(255 * disturbance.max_noise)
        frames = (frames + noise).clip(0, 255).astype(np.uint8)
    else:
        frames = disturbance(EncodedClip(frames, np.zeros((len(frames), 1, 5))), rng).frames
    return BoxedClip(VideoClip(each.name, frames, each.clip.times, each.clip.frame_rate), each.source_size, each.boxes)


def _disturbed_scores(predictor: ObjectDetectorPredictor, test: BoxedClips, detect: Detector) -> dict[str, float]:
    found = {}
    for name, disturbance in DISTURBANCES.items():
        clips = [disturbed_clip(each, disturbance, seed) for seed, each in enumerate(test.clips)]
        results = [clip_result(predictor, each, detect(each), predictor.threshold) for each in clips]
        own = scores(results, len(predictor.classes))
        found |= {f"{score}, {name}": own[score] for score in ("AP.5", "IDF1") if score in own}
    return found


def _notes(predictor: ObjectDetectorPredictor, test: BoxedClips, disturbed: bool) -> tuple[str, ...]:
    boxes = sum(len(each.boxes) for each in test.clips if each.boxes is not None)
    notes = [
        f"{len(test):,} clips, {test.num_frames:,} frames, {boxes:,} boxes. AP as COCO computes it (pycocotools), the "
        "mean over classes."
    ]
    if disturbed:
        notes.append("Blanked: 1 in 5 frames is black. Noise: its standard deviation is 10 % of white.")
    if any(each.boxes is not None and each.boxes.has_ids for each in test.clips):
        notes.append(f"MOTA and IDF1 at an IoU of .5 and a threshold of {predictor.threshold:.3g}.")
    return tuple(notes)


def chosen_threshold(predictor: ObjectDetectorPredictor, valid: BoxedClips) -> float:
    """The score with the best F1 of detections on validation clips, at an IoU of .5."""
    results = [clip_result(predictor, each, predictor.detect(each), DEFAULT_THRESHOLD) for each in valid.clips]
    value = best_threshold([matches_of(result, len(predictor.classes)) for result in results])
    return DEFAULT_THRESHOLD if math.isnan(value) else value
