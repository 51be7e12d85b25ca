"""The report of a translator: results, examples, BLEU by length, attention, data."""

from __future__ import annotations

from lstmkit.data.text.text_pairs import TextPairs
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.translator.metrics import bleu_by_length
from lstmkit.jobs.translator.plots import plot_attention
from lstmkit.jobs.translator.predictor import TranslatorPredictor
from lstmkit.report import Section, quantities

_NUM_EXAMPLES = 8


def report_sections(
    predictor: TranslatorPredictor, evaluation: Evaluation | None, examples: TextPairs, num_too_long: int
) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: The model.
        evaluation: Scores, if there are any.
        examples: All pairs of the data.
        num_too_long: Number of training pairs left out because a side is too long.
    """
    sections = [] if evaluation is None else _evaluation_sections(evaluation)
    source = examples.sources[0] if evaluation is None else str(evaluation.details["source"].iloc[0])
    return [
        *sections,
        attention_section(predictor, source),
        _data_section(predictor, examples, num_too_long),
    ]


def _evaluation_sections(evaluation: Evaluation) -> list[Section]:
    details = evaluation.details
    translations = {name: details[name].tolist() for name in evaluation.table["model"]}
    model = next(iter(translations))
    by_length = bleu_by_length(details["source"].tolist(), details["reference"].tolist(), translations)
    return [
        Section(
            "Results",
            evaluation.introduction,
            evaluation.table,
            best=evaluation.directions,
        ),
        Section(
            "Examples",
            f"The first pairs of {evaluation.part}.",
            details.loc[: _NUM_EXAMPLES - 1, ["source", "reference", model]],
        ),
        Section(
            "BLEU by length",
            "Sentences grouped by the number of words of the source.",
            by_length,
            best=dict.fromkeys(translations, "high"),
            best_in_rows=True,
        ),
    ]


def attention_section(predictor: TranslatorPredictor, source: str) -> Section:
    """Attention of the translation of one sentence."""
    (translation,) = predictor.generate([source])
    return Section(
        "Attention",
        f"The translation, from top to bottom, of: {translation.source}\n\nDarker = more attention to that source "
        "token.",
        figure=plot_attention(translation),
        caption="Attention of each generated token over the source tokens",
    )


def _data_section(predictor: TranslatorPredictor, examples: TextPairs, num_too_long: int) -> Section:
    settings = predictor.settings
    counts = {
        "pairs": len(examples),
        "left out: a side is blank": examples.num_blank,
        "left out of training: a side is too long": num_too_long,
        "source vocabulary": len(predictor.source_tokenizer),
        "target vocabulary": len(predictor.target_tokenizer),
    }
    table = quantities("parallel text", counts)
    text = f"Tokenization: {settings.tokenization}; at most {settings.max_tokens} tokens per line."
    return Section("Data", text, table)
