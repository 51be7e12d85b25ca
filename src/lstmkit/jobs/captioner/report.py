"""The captioner's part of the report: results, example captions, attention, the data."""

from __future__ import annotations

import pandas as pd

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.jobs.captioner.generation import beam_search_options, caption_media
from lstmkit.jobs.captioner.plots import caption_attention_figure, captions_figure
from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.captioner.visual_input import INPUT_KINDS
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.report import Section, quantities

_NUM_EXAMPLES = 9
_NUM_ATTENTION_FIGURES = 3

_ATTENTION_TEXT = "The picture fades where a token has little attention. Each is scaled to the largest weight in it."


def sections(predictor: CaptionerPredictor, evaluation: Evaluation | None, examples: CaptionedMedia) -> list[Section]:
    """Results, example captions with their attention, and the data.

    Args:
        predictor: With a trained network.
        evaluation: Scores, if there are any.
        examples: Everything that was read.
    """
    results, shown, part = [], examples, "the data"
    if evaluation is not None:
        results.append(Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions))
        shown, part = evaluation.outputs, evaluation.part
    return [*results, *_example_sections(predictor, shown, part), _data(predictor, examples)]


def _example_sections(predictor: CaptionerPredictor, examples: CaptionedMedia, part: str) -> list[Section]:
    first = examples.subset(range(min(_NUM_EXAMPLES, len(examples))))
    captions = caption_media(predictor, first, beam_search_options(predictor.settings))
    pairs = zip(captions, first.texts, strict=True)
    rows = [(caption.name, caption.text, " / ".join(references)) for caption, references in pairs]
    table = pd.DataFrame(rows, columns=pd.Index(["input", "caption", "reference captions"]))
    figure = None if first.kind == "features" else captions_figure(first.inputs, [caption.text for caption in captions])
    text = f"The first examples of {part}, not selected."
    sections = [Section("Example captions", text, table, figure=figure, caption="Captions of the model")]
    for item, caption in list(zip(first.inputs, captions, strict=True))[:_NUM_ATTENTION_FIGURES]:
        figure = caption_attention_figure(item, caption.tokens, caption.attention, caption.text)
        alt = f"Attention of each token of “{caption.text}”"
        text = "" if len(sections) > 1 or first.kind == "features" else _ATTENTION_TEXT
        sections.append(Section(f"Attention: {caption.name}", text, figure=figure, caption=alt))
    return sections


def _data(predictor: CaptionerPredictor, examples: CaptionedMedia) -> Section:
    counts = {
        f"{INPUT_KINDS[examples.kind]}s": len(examples),
        "captions": sum(map(len, examples.texts)),
        "tokens in the vocabulary": len(predictor.tokenizer),
    }
    notes = " ".join(f"{note}." for note in examples.notes)
    return Section("The data", notes, quantities("data", counts))
