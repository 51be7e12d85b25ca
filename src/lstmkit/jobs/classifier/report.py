"""The report of a classifier: results, confusion matrix, calibration, errors, keyword spotting and attribution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.labeled_examples import LabeledExamples
from lstmkit.data.media_files import MediaItems
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.classifier import plots
from lstmkit.jobs.classifier.attribution import Example, accuracy_by_prefix, occlusion_attribution
from lstmkit.jobs.classifier.keyword_spotting import KeywordDetection, audio_blocks, keyword_spotting_test
from lstmkit.jobs.classifier.metrics import ClassifierOutputs
from lstmkit.jobs.classifier.predictor import ClassifierPredictor
from lstmkit.jobs.common.classification_report import calibration_section, confusion_section, scores_by_class
from lstmkit.jobs.common.token_labels import visible_token as shown_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.plots.classification import (
    AttributedText,
    early_accuracy_figure,
    series_attribution_figure,
    text_attribution_figure,
)
from lstmkit.plots.style import truncated
from lstmkit.plots.video import video_attribution_figure
from lstmkit.report import Section

_NUM_WORST = 20
_NUM_ATTRIBUTIONS = 3
_MAX_PICTURED_TEXTS = 12  # of a picture of predictions
_FIGURE_SECONDS = 24.0  # of a long recording


def classifier_sections(
    predictor: ClassifierPredictor, examples: LabeledExamples, evaluation: Evaluation | None
) -> list[Section]:
    """The sections of the report; ``examples`` are all data of the run."""
    return [*_evaluation_sections(predictor, evaluation), _data_section(predictor, examples)]


def _evaluation_sections(predictor: ClassifierPredictor, evaluation: Evaluation | None) -> list[Section]:
    if evaluation is None:
        return [Section("Results", text="No examples were held out, so there are no scores.")]
    outputs: ClassifierOutputs = evaluation.outputs
    test, probabilities = outputs
    calibrated, targets = probabilities.calibrated, predictor.targets(test)
    sections = [Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)]
    if predictor.multi_label:
        sections.append(_scores_by_label_section(predictor, calibrated, targets))
    else:
        sections.append(confusion_section(targets, calibrated.argmax(axis=1), predictor.classes))
    sections.append(calibration_section(calibrated, probabilities.uncalibrated, targets))
    sections.append(_worst_errors_section(predictor, test, calibrated, targets))
    if test.kind == "audio" and not predictor.multi_label:
        sections.append(_keyword_spotting_section(predictor, test))
    if test.kind == "video" and not predictor.multi_label:
        sections.append(_early_classification_section(predictor, test, targets))
    for i in np.linspace(0, len(test) - 1, min(_NUM_ATTRIBUTIONS, len(test))).astype(int):
        title = f"Attribution for example {test.ids[i]}"
        text = "Decrease of the predicted label's probability if a step is occluded." if i == 0 else ""
        figure = attribution_figure(predictor, test.inputs[i], calibrated[i], test.labels[i])
        sections.append(Section(title, text, figure=figure, caption=title))
    return sections


def _scores_by_label_section(predictor: ClassifierPredictor, calibrated: np.ndarray, targets: np.ndarray) -> Section:
    threshold = predictor.settings.threshold
    table = scores_by_class(targets, calibrated >= threshold, predictor.classes, "label")
    return Section("Results by label", f"A label is predicted if its probability is at least {threshold:g}.", table)


def _worst_errors_section(
    predictor: ClassifierPredictor, test: LabeledExamples, calibrated: np.ndarray, targets: np.ndarray
) -> Section:
    """The errors with the lowest probability of the true label."""
    if predictor.multi_label:
        of_truth = np.where(targets > 0.5, calibrated, 1 - calibrated).min(axis=1)
    else:
        of_truth = calibrated[np.arange(len(targets)), targets]
    predicted = [predictor.to_labels(row) for row in calibrated]
    errors = [int(i) for i in np.argsort(of_truth, kind="stable") if predicted[i] != test.labels[i]]
    rows = [
        {
            "example": test.ids[i],
            **({"text": truncated(test.inputs[i], 160)} if test.kind == "text" else {}),
            "true": ", ".join(test.labels[i] or ()),
            "predicted": ", ".join(predicted[i]),
            "probability of the true label": float(of_truth[i]),
        }
        for i in errors[:_NUM_WORST]
    ]
    if not rows:
        return Section("Largest errors", "There are no errors.")
    text = f"{len(errors)} of {len(test)} examples are wrong. The most confident errors come first."
    return Section("Largest errors", text, pd.DataFrame(rows))


def _early_classification_section(
    predictor: ClassifierPredictor, test: LabeledExamples, targets: np.ndarray
) -> Section:
    table = accuracy_by_prefix(predictor, predictor.front_end.encode(test.inputs), targets)
    majority = float(np.bincount(targets).max() / len(targets))
    fractions, accuracy = table["fraction of frames"].tolist(), table["accuracy"].tolist()
    return Section(
        "Early classification",
        "Accuracy if only the first part of each clip is read.",
        table,
        early_accuracy_figure(fractions, accuracy, majority),
        caption="Accuracy by fraction of frames",
    )


def _keyword_spotting_section(predictor: ClassifierPredictor, test: LabeledExamples) -> Section:
    """Test clips joined to one recording, and the keywords spotted in it."""
    recording, detections, scores = keyword_spotting_test(predictor, test)
    end = min(_FIGURE_SECONDS, recording.audio.seconds)
    keywords = [(keyword.start, keyword.end, keyword.label) for keyword in recording.keywords if keyword.end <= end]
    title = "Keywords and detections"
    figure = _keyword_spectrogram(predictor, (0.0, end), [recording.audio.samples], detections, keywords, title)
    text = (
        f"These clips joined to one recording of {recording.audio.seconds:,.0f} s, with pauses of 0.3 to 1 s and faint "
        f"noise: {scores}. A detection counts if its middle lies within a keyword of the same label."
    )
    return Section("Keyword spotting", text, figure=figure, caption="The first seconds of the recording")


def keyword_figure(predictor: ClassifierPredictor, recordings: Any, predictions: pd.DataFrame) -> Figure:
    """24 seconds of the first recording, from just before its first keyword, and the keywords in it.

    Args:
        predictor: The classifier.
        recordings: Recordings that are not read yet.
        predictions: The keywords in all of them: ``id, start, end, label, probability``.
    """
    assert isinstance(recordings, MediaItems)
    recording = next(recordings.iterate())
    rows = predictions.loc[predictions["id"] == recording.id, list(KeywordDetection._fields)]
    detections = [KeywordDetection(*row) for row in rows.itertuples(index=False)]
    late = bool(detections) and detections[0].start > _FIGURE_SECONDS / 2
    begin = max(0.0, math.floor(detections[0].start - 1)) if late else 0.0
    blocks = audio_blocks(recording, predictor.audio_front_end.mel.sample_rate)
    return _keyword_spectrogram(predictor, (begin, begin + _FIGURE_SECONDS), blocks, detections, (), recording.id)


def _keyword_spectrogram(
    predictor: ClassifierPredictor,
    span: tuple[float, float],
    blocks: Iterable[np.ndarray],
    detections: Sequence[KeywordDetection],
    keywords: Sequence[tuple[float, float, str]],
    title: str,
) -> Figure:
    """The part of ``blocks``, samples at the model's rate, that lies in a ``span`` of seconds."""
    mel = predictor.audio_front_end.mel
    parts, position = [], 0
    first, last = (round(seconds * mel.sample_rate) for seconds in span)
    for block in blocks:
        parts.append(block[max(0, first - position) : max(0, last - position)])
        position += len(block)
        if position >= last:
            break
    samples = np.concatenate([np.zeros(0, dtype=np.float32), *parts])
    decibels = predictor.audio_front_end.decibels(mel.from_samples(samples))
    begin, end = span[0], span[0] + len(samples) / mel.sample_rate
    drawn = [(keyword.start, keyword.end, keyword.label) for keyword in detections if begin <= keyword.start < end]
    return plots.keyword_detections_figure(decibels, mel.center_frequencies, (begin, end), drawn, keywords, title)


def attribution_figure(
    predictor: ClassifierPredictor,
    example: Example,
    probabilities: np.ndarray,
    true_labels: Sequence[str] | None = None,
) -> Figure:
    """One example and the attribution of its most probable label.

    Args:
        predictor: The classifier.
        example: A text, a time series, an audio clip or a video clip.
        probabilities: ``(C,)`` of the example.
        true_labels: Its labels for the title, if they are known.
    """
    best = int(probabilities.argmax())
    title = _prediction_title(predictor, probabilities, true_labels)
    (encoded,) = predictor.front_end.encode([example])
    changes = occlusion_attribution(predictor, encoded, best)
    if isinstance(example, AudioClip):
        mel = predictor.audio_front_end.mel
        decibels = predictor.audio_front_end.decibels(mel.frames(example))
        return plots.audio_attribution_figure(
            example.samples, decibels, mel.center_frequencies, example.seconds, changes.tolist(), title
        )
    if isinstance(example, VideoClip):
        return video_attribution_figure(example.frames, example.times, changes, title)
    if isinstance(example, str):
        tokens = [shown_token(token) for token in predictor.front_end.steps(example)]
        return text_attribution_figure([AttributedText(title, tokens, changes.tolist())])
    return series_attribution_figure(example, changes.tolist(), title)


def text_attributions_figure(predictor: ClassifierPredictor, texts: Sequence[str]) -> Figure:
    """The first texts, each with the attribution of its most probable label.

    Args:
        predictor: The classifier.
        texts: All that were classified; as many are drawn as fit.
    """
    drawn = texts[:_MAX_PICTURED_TEXTS]
    encoded = predictor.front_end.encode(drawn)
    attributed = []
    for text, inputs, probabilities in zip(drawn, encoded, predictor.predict_probabilities(encoded), strict=True):
        changes = occlusion_attribution(predictor, inputs, int(probabilities.argmax()))
        tokens = [shown_token(token) for token in predictor.front_end.steps(text)]
        attributed.append(AttributedText(_prediction_title(predictor, probabilities, None), tokens, changes.tolist()))
    return text_attribution_figure(attributed, len(texts))


def _prediction_title(
    predictor: ClassifierPredictor, probabilities: np.ndarray, true_labels: Sequence[str] | None
) -> str:
    """The most probable label with its probability, and the true ones."""
    best = int(probabilities.argmax())
    true = "" if true_labels is None else f" (true: {', '.join(true_labels) or 'none'})"
    return f"{predictor.classes[best]}: {probabilities[best]:.2f}{true}"


def _data_section(predictor: ClassifierPredictor, examples: LabeledExamples) -> Section:
    counts = [sum(label in (labels or ()) for labels in examples.labels) for label in predictor.classes]
    table = pd.DataFrame({"label": list(predictor.classes), "examples": counts})
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("Data", f"{len(examples)} examples in total. {notes}", table)
