"""What a transcriber's run shows: the table, what it took for what, its worst texts, where it read each character."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.jobs.common.token_labels import shown as shown_token
from lstmkit.jobs.transcriber.metrics import EPSILON, confusions, edit_distance
from lstmkit.jobs.transcriber.plots import aligned_transcript_figure, ink_transcript_figure
from lstmkit.jobs.transcriber.results import Transcription
from lstmkit.plots.style import shown
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.data.transcripts import Transcripts
    from lstmkit.jobs.transcriber.job import Transcriber

_MOST = 20  # rows of mistakes
_DRAWN = 3  # examples


def sections(job: Transcriber, examples: Transcripts) -> list[Section]:
    """The whole of the report that is about transcripts."""
    found = [] if job.evaluation is not None else [Section("Test", "No part of the data was held out for a test.")]
    if job.evaluation is not None and job.tested is not None:
        test, told = job.tested
        text = " ".join(["Scores on the test part, which nothing was fitted to.", *job.evaluation.notes])
        found = [
            Section("How well it transcribes", text, job.evaluation.table, best=job.evaluation.best),
            _confusions_section(test, told),
            _worst(test, told),
            *(_drawn(job, test, told, i) for i in range(min(_DRAWN, len(test)))),
        ]
    return [*found, _data(job, examples)]


def _confusions_section(test: Transcripts, told: list[Transcription]) -> Section:
    often = confusions([one.text for one in told], test.told()).most_common(_MOST)
    table = pd.DataFrame(
        {
            "is": [_name(a) for (a, _), _ in often],
            "was read as": [_name(b) for (_, b), _ in often],
            "how often": [n for _, n in often],
        }
    )
    text = f"On the test part, most frequent first. {EPSILON} is nothing: a character left out, or put in."
    return Section("What it takes for what", text, table if often else None)


def _name(character: str) -> str:
    return character if character == EPSILON else shown_token(character)


def _worst(test: Transcripts, told: list[Transcription]) -> Section:
    errors = [edit_distance(one.text, text) for one, text in zip(told, test.told(), strict=True)]
    order = [i for i in np.argsort(errors, kind="stable")[::-1] if errors[i]][:_MOST]
    rows = [
        {
            "example": test.ids[i],
            "text": shown(test.told()[i], 100),
            "was read as": shown(told[i].text, 100),
            "errors": errors[i],
            "confidence": told[i].confidence,
        }
        for i in order
    ]
    if not rows:
        return Section("The worst texts", "There is no mistake in the test part.")
    wrong = sum(map(bool, errors))
    return Section("The worst texts", f"{wrong} of {len(test)} have mistakes; most of them first.", pd.DataFrame(rows))


def _drawn(job: Transcriber, test: Transcripts, told: list[Transcription], i: int) -> Section:
    title = f"Where it read {shown(test.ids[i], 50)}"
    text = (
        "Each character over the place where the network is surest of it; pale where it is not sure." if not i else ""
    )
    table = pd.DataFrame([piece._asdict() for piece in told[i].characters])
    return Section(title, text, table if len(table) else None, drawn(job, test, told[i], i), caption=title)


def drawn(job: Transcriber, examples: Transcripts, told: Transcription, i: int) -> Figure:
    """An example, and over it where each character was read."""
    example, title = examples.inputs[i], told.text
    if examples.kind == "strokes":
        return ink_transcript_figure(example, told.characters, title)
    if examples.kind == "lines":
        return aligned_transcript_figure(example[::-1], example.shape[1], told.characters, "dot", title, cmap="gray")
    (encoded,) = job.front_end.encode([example], [examples.ids[i]])
    ends = float(job.front_end.places(example, np.array([len(encoded)]))[0])
    up = "mel band" if examples.kind == "sounds" else "feature"
    return aligned_transcript_figure(encoded.T, ends, told.characters, unit_label(told.unit), title, up=up)


def unit_label(unit: str) -> str:
    """As an axis says it."""
    return {"second": "seconds"}.get(unit, unit)


def _data(job: Transcriber, examples: Transcripts) -> Section:
    texts = [text for text in examples.texts if text is not None]
    characters = sum(map(len, texts))
    text = (
        f"{len(examples):,} examples ({examples.kind}), {characters:,} characters, {len(set(''.join(texts)))} "
        f"different ones; the model writes {len(job.alphabet)}."
    )
    counts = Counter("".join(texts)).most_common()
    table = pd.DataFrame({"character": [shown_token(one) for one, _ in counts], "how often": [n for _, n in counts]})
    return Section("The data", text, table)
