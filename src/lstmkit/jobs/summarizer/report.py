"""The report of a summarizer: results, examples, attention, data."""

from __future__ import annotations

import statistics

import pandas as pd

from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.data.text.text_pairs import TextPairs
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.summarizer.plots import MAX_ATTENTION_COLUMNS, plot_attention
from lstmkit.jobs.summarizer.predictor import SummarizerPredictor
from lstmkit.report import Section, quantities

_NUM_EXAMPLES = 8
_MAX_CHARACTERS = 200  # of a text


def report_sections(
    predictor: SummarizerPredictor,
    evaluation: Evaluation | None,
    examples: TextPairs,
    num_too_long: int,
    num_truncated: int,
) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: The model.
        evaluation: Scores, if there are any.
        examples: All pairs of the data.
        num_too_long: Number of training pairs left out because the summary is too long.
        num_truncated: Number of training texts that were cut off.
    """
    sections = [] if evaluation is None else _evaluation_sections(evaluation)
    source = examples.sources[0] if evaluation is None else str(evaluation.details["source"].iloc[0])
    return [
        *sections,
        attention_section(predictor, source),
        _data_section(predictor, examples, num_too_long, num_truncated),
    ]


def _evaluation_sections(evaluation: Evaluation) -> list[Section]:
    model = evaluation.table["model"].iloc[0]
    examples = evaluation.details.loc[: _NUM_EXAMPLES - 1, ["source", "reference", model]]
    return [
        Section(
            "Results",
            evaluation.introduction,
            evaluation.table,
            best=evaluation.directions,
        ),
        Section(
            "Examples",
            f"The first pairs of {evaluation.part}; {_MAX_CHARACTERS} characters of each text.",
            examples.assign(source=[_truncate(text) for text in examples["source"]]),
        ),
    ]


def attention_section(predictor: SummarizerPredictor, source: str) -> Section:
    """Attention of the summary of one text."""
    (summary,) = predictor.generate([source])
    return Section(
        "Attention",
        f"The summary, from top to bottom, of: {_truncate(summary.source)}\n\nDarker = more attention to that source "
        f"token.{_copy_rate_text(summary)}",
        _token_table(summary),
        figure=plot_attention(summary),
        caption=f"Attention of each generated token over the {MAX_ATTENTION_COLUMNS} source tokens with the most "
        "attention, in the order of the text",
    )


def _data_section(
    predictor: SummarizerPredictor, examples: TextPairs, num_too_long: int, num_truncated: int
) -> Section:
    settings = predictor.settings
    counts = {
        "pairs": len(examples),
        "left out: a side is blank": examples.num_blank,
        "left out of training: the summary is too long": num_too_long,
        "cut off for training: the text is too long": num_truncated,
        "vocabulary": len(predictor.source_tokenizer),
    }
    table = quantities("texts and summaries", counts)
    text = (
        f"Tokenization: {settings.tokenization}. The first {settings.max_tokens} tokens of a text are read; a summary "
        f"has at most {settings.max_summary_tokens}."
    )
    return Section("Data", text, table)


def _truncate(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"


def _copy_rate_text(summary: GeneratedText) -> str:
    """How much of a summary is copied, in a sentence; empty without the copy mechanism."""
    if not summary.generation_probabilities:
        return ""
    copy_rate = 1 - statistics.fmean(summary.generation_probabilities)
    return f" {copy_rate:.0%} of the summary was copied (mean of 1 - p_gen)."


def _token_table(summary: GeneratedText) -> pd.DataFrame | None:
    """Each generated token, its most attended source token, and with the copy mechanism p_gen."""
    if not summary.tokens:
        return None
    attended = [summary.source_tokens[i] for i in summary.attention.argmax(1)]
    table = pd.DataFrame(
        {"generated token": summary.tokens, "most attended token": attended, "weight": summary.attention.max(1)}
    )
    return table.assign(p_gen=summary.generation_probabilities) if summary.generation_probabilities else table
