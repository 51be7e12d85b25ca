"""What a classifier's run shows: the table, what it took for what, its probabilities, its worst mistakes.

Confusion, scores class by class and reliability serve whatever else tells classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.classifier import attribution as looking
from lstmkit.jobs.classifier import keyword_spotting as hearing
from lstmkit.jobs.classifier import plots as pictures
from lstmkit.jobs.classifier.keyword_spotting import KeywordDetection
from lstmkit.jobs.common.classification_report import by_class, calibration_section, confusion_section
from lstmkit.jobs.common.token_labels import shown as shown_token
from lstmkit.plots.classification import early_accuracy_figure, series_attribution_figure, text_attribution_figure
from lstmkit.plots.style import shown
from lstmkit.plots.video import video_attribution_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lstmkit.data.labeled_examples import LabeledExamples
    from lstmkit.data.media_files import MediaItem
    from lstmkit.jobs.classifier.job import Classifier, Told

_NUM_WORST = 20
_NUM_ATTRIBUTIONS = 3  # examples whose words are shown
_DRAWN = 24.0  # seconds of a long recording


def sections(job: Classifier, examples: LabeledExamples) -> list[Section]:
    """The whole of the report that is about classes."""
    return [*_evidence(job), _classes(job, examples)]


def _evidence(job: Classifier) -> list[Section]:
    if job.evaluation is None or job.tested is None:
        return [Section("Test", text="No part of the data was held out (test_share=0), so there is no test.")]
    test, told = job.tested
    targets = job.targets(test)
    hears = test.kind == "sound" and not job.several
    found = [
        Section(
            "How well it tells the classes apart", _results_text(job), job.evaluation.table, best=job.evaluation.best
        ),
        _by_label(job, told, targets)
        if job.several
        else confusion_section(targets, told.stated.argmax(axis=1), job.classes),
        calibration_section(told.stated, told.raw, targets),
        _worst_errors_section(job, test, told, targets),
        *([_keyword_spotting_section(job, test)] if hears else []),
        *([_early(job, test, targets)] if test.kind == "video" and not job.several else []),
    ]
    for i in np.linspace(0, len(test) - 1, min(_NUM_ATTRIBUTIONS, len(test))).astype(int):
        figure = attribution_figure(job, test.inputs[i], told.stated[i])
        title = f"What decided example {test.ids[i]}"
        text = "By how much the answer's probability falls where a step is left out." if i == 0 else ""
        found.append(Section(title, text, figure=figure, caption=title))
    return found


def _results_text(job: Classifier) -> str:
    assert job.evaluation is not None
    return "Scores on the test part, which nothing was fitted to. " + " ".join(job.evaluation.notes)


def _by_label(job: Classifier, told: Told, targets: np.ndarray) -> Section:
    table = by_class(targets, told.stated >= job.threshold, job.classes, "label")
    return Section("Label by label", f"A label is said to hold from a probability of {job.threshold:g} on.", table)


def _worst_errors_section(job: Classifier, test: LabeledExamples, told: Told, targets: np.ndarray) -> Section:
    """Where the truth was given the least probability."""
    several = targets.ndim == 2
    of_truth = told.stated[np.arange(len(targets)), targets] if not several else None
    if of_truth is None:
        of_truth = np.where(targets > 0.5, told.stated, 1 - told.stated).min(axis=1)
    wrong = [i for i in np.argsort(of_truth, kind="stable") if job.said(told.stated[i]) != test.labels[i]]
    rows = [
        {
            "example": test.ids[i],
            **({"text": shown(test.inputs[i], 160)} if test.kind == "text" else {}),
            "true": ", ".join(test.labels[i] or ()),
            "said": ", ".join(job.said(told.stated[i])),
            "probability of the truth": float(of_truth[i]),
        }
        for i in wrong[:_NUM_WORST]
    ]
    if not rows:
        return Section("The worst mistakes", "There are none in the test part.")
    return Section(
        "The worst mistakes", f"{len(wrong)} of {len(test)} are wrong; the most certain first.", pd.DataFrame(rows)
    )


def _early(job: Classifier, test: LabeledExamples, targets: np.ndarray) -> Section:
    """How soon it knows."""
    table = looking.early(job, job.front_end.encode(test.inputs), targets)
    chance = float(np.bincount(targets).max() / len(targets))
    return Section(
        "How soon it knows",
        "Clips of the test part, cut off after a share of their frames, and how often the answer was right by then.",
        table,
        early_accuracy_figure(table["share seen"].tolist(), table["accuracy"].tolist(), chance),
        caption="Accuracy by the share of a clip that was seen",
    )


def _keyword_spotting_section(job: Classifier, test: LabeledExamples) -> Section:
    """Examples of the test part as one long recording, and what was heard in it."""
    whole, found, met = hearing.keyword_spotting_test(job, test)
    begin, end = 0.0, min(_DRAWN, whole.sound.seconds)
    said = [(one.start, one.end, one.label) for one in whole.said if one.end <= end]
    figure = _heard(job, (begin, end), [whole.sound.samples], found, said, "What was said and heard")
    text = (
        "Examples of the test part, one after another with pauses of 0.3 to 1 s and faint noise, "
        f"{whole.sound.seconds:,.0f} s in all: {met}. "
        "What is heard counts where its middle lies in a command of the same label."
    )
    return Section("Commands in a long recording", text, figure=figure, caption="The first seconds of it")


def keyword_detections_figure(job: Classifier, take: MediaItem, found: Sequence[KeywordDetection]) -> Figure:
    """A recording of any length, from just before the first command, and what was heard in it."""
    begin = max(0.0, math.floor(found[0].start - 1)) if found and found[0].start > _DRAWN / 2 else 0.0
    return _heard(job, (begin, begin + _DRAWN), hearing.blocks(take, job.audio_frontend.mel.rate), found, (), take.id)


def _heard(
    job: Classifier,
    span: tuple[float, float],
    blocks: Iterable[np.ndarray],
    found: Sequence[KeywordDetection],
    said: Sequence[tuple[float, float, str]],
    title: str,
) -> Figure:
    """The samples of ``blocks``, at the model's rate, in a ``span`` of seconds."""
    front_end, pieces, now = job.audio_frontend, [], 0
    first, last = (round(time * front_end.mel.rate) for time in span)
    for block in blocks:
        pieces.append(block[max(0, first - now) : max(0, last - now)])
        now += len(block)
        if now >= last:
            break
    samples = np.concatenate([np.zeros(0, dtype=np.float32), *pieces])
    frames = front_end.mel.from_samples(samples)
    begin, end = span[0], span[0] + len(samples) / front_end.mel.rate
    drawn = [(one.start, one.end, one.label) for one in found if begin <= one.start < end]
    return pictures.keyword_detections_figure(
        front_end.decibels(frames), front_end.mel.pitches, (begin, end), drawn, said, title
    )


def attribution_figure(
    job: Classifier, example: str | np.ndarray | AudioClip | VideoClip, stated: np.ndarray
) -> Figure:
    """What decided one answer."""
    which = int(stated.argmax())
    title = f"{job.classes[which]}: {stated[which]:.2f}"
    steps, changes = job.decided(example, job.classes[which])
    if isinstance(example, AudioClip):
        mel = job.audio_frontend.mel
        decibels = job.audio_frontend.decibels(mel.frames(example))
        return pictures.audio_attribution_figure(
            example.samples, decibels, mel.pitches, example.seconds, changes.tolist(), title
        )
    if isinstance(example, VideoClip):
        return video_attribution_figure(example.frames, example.times, changes, title)
    if isinstance(example, str):
        return text_attribution_figure([shown_token(token) for token in steps], changes.tolist(), title)
    return series_attribution_figure(example, changes.tolist(), title)


def _classes(job: Classifier, examples: LabeledExamples) -> Section:
    counts = [sum(label in (labels or ()) for labels in examples.labels) for label in job.classes]
    table = pd.DataFrame({"label": list(job.classes), "examples": counts})
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("The data", f"{len(examples)} examples in all. {notes}", table)
