"""The object detector's part of the report: results, clips with boxes, the memory, the data."""

from __future__ import annotations

import numpy as np

from lstmkit.data.vision.boxed_clips import BoxedClips
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.object_detector.detections import ClipDetections
from lstmkit.jobs.object_detector.memory import memory_maps
from lstmkit.jobs.object_detector.plots import memory_figure, strip_figure
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.report import Section, quantities

_NUM_STRIPS = 3
_MEMORY_FRAMES = 6  # side by side
_MEMORY_STEPS = 30  # frames of the clip that they are taken from

MEMORY_TEXT = (
    "Means over the channels of the last layer. Where the forget gate is high, the memory keeps what it has: there an "
    "object is held while it is hidden. Each row has its own color scale. Boxes are the true ones."
)


def sections(predictor: ObjectDetectorPredictor, evaluation: Evaluation | None, examples: BoxedClips) -> list[Section]:
    """Results, the first clips with their boxes, the memory, and the data.

    Args:
        predictor: With a trained network.
        evaluation: Scores, if there are any.
        examples: Everything that was read.
    """
    page, shown, part = [], examples, "the data"
    if evaluation is not None:
        page.append(Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions))
        page.append(Section("Results by class", table=evaluation.details))
        shown, part = evaluation.outputs, evaluation.part
    for number, each in enumerate(shown.clips[:_NUM_STRIPS]):
        boxes = predictor.tracked(each, predictor.detect(each), predictor.threshold)
        figure = strip_figure(ClipDetections(each, boxes), each.boxes)
        text = f"The first clips of {part}, not selected: class and identity of what was found." if not number else ""
        page.append(Section(f"Clip {each.name}", text, figure=figure, caption=f"Frames of {each.name} with boxes"))
    if predictor.settings.recurrent and shown.clips:
        page.append(memory_section(predictor, shown))
    return [*page, _data(predictor, examples)]


def memory_section(predictor: ObjectDetectorPredictor, shown: BoxedClips, row: int = 0) -> Section:
    """The gates of the memory over the frames of a clip."""
    each = shown.clips[row]
    steps = min(_MEMORY_STEPS, len(each))
    frames = np.unique(np.linspace(0, steps - 1, min(_MEMORY_FRAMES, steps)).round().astype(int))
    figure = memory_figure(each, frames, memory_maps(predictor, each, steps), each.boxes)
    return Section("Memory over the frame", MEMORY_TEXT, figure=figure, caption=f"The memory in {each.name}")


def _data(predictor: ObjectDetectorPredictor, examples: BoxedClips) -> Section:
    boxes = [label for each in examples.clips if each.boxes for label in each.boxes.labels]
    counts = {"clips": len(examples), "frames": examples.num_frames, "boxes": len(boxes)}
    counts |= {f"boxes of {name}": boxes.count(name) for name in predictor.classes}
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("The data", notes, quantities("data", counts))
