"""What a captioner's run shows: its table, sentences under their pictures, where each word looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.data.text.tokenizer import BEGIN, END
from lstmkit.jobs.captioner.plots import caption_attention_figure, captions_figure
from lstmkit.jobs.captioner.results import Caption
from lstmkit.jobs.common.token_labels import shown
from lstmkit.look import ExampleSequence
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.jobs.captioner.job import Captioner

_SHOWN = 9  # with their sentences
_NUM_ATTENTION_FIGURES = 3  # word by word


def lines(answer: Sequence[Caption]) -> str:
    """A line for each: of one the sentence alone, of several with their names, of stretches of time with these."""
    if len(answer) == 1:
        return answer[0].text
    several = len({one.name for one in answer}) > 1
    timed = any(one.start for one in answer)
    return "\n".join(
        (f"{one.name}\t" if several else "")
        + (f"{one.start:.1f}–{one.end:.1f} s\t" if timed else "")
        + one.text
        for one in answer
    )  # fmt: skip


def sections(job: Captioner, examples: CaptionedMedia) -> list[Section]:
    """The whole of the report that is about captions."""
    test = job.tested or examples.part(range(min(_SHOWN, len(examples))))
    some = test.part(range(min(_SHOWN, len(test))))
    told = job.predict(some)
    found = []
    if job.evaluation is not None:
        words = "Of the test part, which nothing was fitted to. " + " ".join(job.evaluation.notes)
        found.append(Section("How well it says what is seen", words, job.evaluation.table, best=job.evaluation.best))
    names = ["seen", "said", "what people said"]
    rows = [(one.name, one.text, " / ".join(texts)) for one, texts in zip(told, some.texts, strict=True)]
    figure = None if some.kind == "features" else captions_figure(some.seen, [one.text for one in told])
    text = "The first of the test part, not chosen among others."
    found.append(Section("What it says", text, pd.DataFrame(rows, columns=pd.Index(names)), figure=figure,
                         caption="Sentences it wrote"))  # fmt: skip
    for seen, one in list(zip(some.seen, told, strict=True))[:_NUM_ATTENTION_FIGURES]:
        figure = caption_attention_figure(seen, one.tokens, one.attention, one.text)
        caption = f"Where each word of “{one.text}” looked"
        found.append(Section(f"Where it looked: {one.name}", figure=figure, caption=caption))
    return [*found, _data(job, examples)]


def _data(job: Captioner, examples: CaptionedMedia) -> Section:
    counts = {
        examples.kind: len(examples),
        "sentences": sum(map(len, examples.texts)),
        "tokens known": len(job.writes),
    }
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("The data", notes, pd.DataFrame({"all data": list(counts), "count": list(counts.values())}))


def example_sequence(job: Captioner, seen: Any, told: Caption) -> ExampleSequence:
    """One picture or clip, and the sentence for it as the decoder writes it, word by word."""
    network = job.network
    device = next(network.parameters()).device
    batch = TextPairDataset(job.views.encode([seen])).batch([0]).to(device)  # type: ignore[arg-type]
    with torch.no_grad():
        _, begun = network.eval()(batch.inputs, None, batch.lengths)
    ids = [job.writes[BEGIN], *(job.writes.number(token) for token in told.tokens)]
    return ExampleSequence(
        (torch.tensor([ids], device=device), begun),
        name=told.name,
        labels=[shown(token) for token in (*told.tokens, END)],
    )
