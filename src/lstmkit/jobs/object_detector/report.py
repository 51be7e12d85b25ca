"""The object detector's part of the report: results, clips with boxes, the memory, the data."""

from __future__ import annotations

from lstmkit.data.vision.boxed_clips import BoxedClips
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.object_detector.detections import ClipDetections
from lstmkit.jobs.object_detector.example_sequences import example_sequence
from lstmkit.jobs.object_detector.plots import strip_figure
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor
from lstmkit.look.inspection_page import map_sections
from lstmkit.report import Section, quantities

_NUM_STRIPS = 3


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
        page += map_sections(predictor.network, example_sequence(predictor, shown.clips[0]))
    return [*page, _data(predictor, examples)]


def _data(predictor: ObjectDetectorPredictor, examples: BoxedClips) -> Section:
    boxes = [label for each in examples.clips if each.boxes for label in each.boxes.labels]
    counts = {"clips": len(examples), "frames": examples.num_frames, "boxes": len(boxes)}
    counts |= {f"boxes of {name}": boxes.count(name) for name in predictor.classes}
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("The data", notes, quantities("data", counts))
