"""The report of the transcriber: results, confusions, the worst texts, alignments, the data."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.text.bidi import from_display, to_display
from lstmkit.data.transcripts import Transcripts
from lstmkit.decoding.transcription import Transcription
from lstmkit.jobs.common.token_labels import visible_token as shown_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.transcriber.metrics import EPSILON, confusions, edit_distance
from lstmkit.jobs.transcriber.plots import aligned_transcript_figure, ink_transcript_figure
from lstmkit.jobs.transcriber.predictor import TranscriberPredictor
from lstmkit.plots.style import truncated
from lstmkit.report import Section

_MAX_ROWS = 20
_MAX_DRAWN = 3  # examples


def sections(predictor: TranscriberPredictor, evaluation: Evaluation | None, examples: Transcripts) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: Fitted.
        evaluation: Its ``outputs`` are the scored examples and their transcriptions; ``None`` if none were held out.
        examples: Everything that was read.
    """
    if evaluation is None:
        nothing = Section("Results", "No examples were held out, so there are no scores.")
        return [nothing, _data_section(predictor, examples)]
    test, transcriptions = evaluation.outputs
    alignments = (_alignment_section(predictor, test, transcriptions[i], i) for i in range(min(_MAX_DRAWN, len(test))))
    return [
        Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions),
        _confusions_section(test, transcriptions),
        _worst_texts_section(test, transcriptions),
        *alignments,
        _data_section(predictor, examples),
    ]


def _confusions_section(test: Transcripts, transcriptions: list[Transcription]) -> Section:
    most_common = confusions(
        [transcription.text for transcription in transcriptions], test.require_texts()
    ).most_common(_MAX_ROWS)
    table = pd.DataFrame(
        {
            "true": [_label(a) for (a, _), _ in most_common],
            "predicted": [_label(b) for (_, b), _ in most_common],
            "count": [n for _, n in most_common],
        }
    )
    text = f"The most frequent first. {EPSILON} marks a deleted or inserted character."
    return Section("Confusions", text, table if most_common else None)


def _label(character: str) -> str:
    return character if character == EPSILON else shown_token(character)


def _worst_texts_section(test: Transcripts, transcriptions: list[Transcription]) -> Section:
    references = test.require_texts()
    errors = [
        edit_distance(transcription.text, text) for transcription, text in zip(transcriptions, references, strict=True)
    ]
    order = [i for i in np.argsort(errors, kind="stable")[::-1] if errors[i]][:_MAX_ROWS]
    rows = [
        {
            "example": test.ids[i],
            "text": truncated(references[i], 100),
            "predicted": truncated(transcriptions[i].text, 100),
            "errors": errors[i],
            "confidence": transcriptions[i].confidence,
        }
        for i in order
    ]
    title = "Texts with the most errors"
    if not rows:
        return Section(title, "There are no errors.")
    return Section(title, f"{sum(map(bool, errors))} of {len(test)} texts have errors.", pd.DataFrame(rows))


def _alignment_section(
    predictor: TranscriberPredictor, test: Transcripts, transcription: Transcription, i: int
) -> Section:
    title = f"Alignment of {truncated(test.ids[i], 50)}"
    text = "Each character is drawn where the network is most certain of it, paler if it is less certain." * (not i)
    table = pd.DataFrame([character._asdict() for character in transcription.characters])
    figure = alignment_figure(predictor, test, transcription, i)
    return Section(title, text, table if len(table) else None, figure, caption=title)


def alignment_figure(
    predictor: TranscriberPredictor, examples: Transcripts, transcription: Transcription, i: int
) -> Figure:
    """Example ``i`` and, above it, the position of each character."""
    example, title, characters = examples.inputs[i], transcription.text, transcription.characters
    if examples.kind == "strokes":
        return ink_transcript_figure(example, characters, title)
    if examples.kind == "images":
        return aligned_transcript_figure(example[::-1], example.shape[1], characters, "pixel", title, cmap="gray")
    (encoded,) = predictor.front_end.encode([example], [examples.ids[i]])
    end = float(predictor.front_end.positions(example, np.array([len(encoded)]))[0])
    y_label = "mel band" if examples.kind == "audio" else "feature"
    return aligned_transcript_figure(encoded.T, end, characters, unit_label(transcription.unit), title, y_label=y_label)


def unit_label(unit: str) -> str:
    """A unit as an axis label."""
    return {"second": "seconds"}.get(unit, unit)


def _reading_order_note(reading_order: str, texts: list[str]) -> str:
    """The direction of the lines, and texts that no image of a line can tell from others; empty for other inputs."""
    if not reading_order:
        return ""
    ambiguous = sum(from_display(to_display(text, reading_order).text, reading_order).text != text for text in texts)
    note = f" Lines are read {reading_order.replace('-', ' ')}."
    if ambiguous:
        note += (
            f" {ambiguous:,} texts mix directions so that another text has the same image: their parts may come out "
            "in another order."
        )
    return note


def _data_section(predictor: TranscriberPredictor, examples: Transcripts) -> Section:
    texts = [text for text in examples.texts if text is not None]
    counts = Counter("".join(texts)).most_common()
    text = (
        f"{len(examples):,} examples ({examples.kind}), {sum(map(len, texts)):,} characters, {len(counts)} different "
        f"ones; the model's alphabet has {len(predictor.alphabet)}."
    )
    text += _reading_order_note(predictor.reading_order, texts)
    table = pd.DataFrame(
        {"character": [shown_token(transcription) for transcription, _ in counts], "count": [n for _, n in counts]}
    )
    return Section("The data", text, table)
