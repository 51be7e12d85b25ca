"""The report of a language model: results, surprisal by token, generated text, training text."""

from __future__ import annotations

import math

import pandas as pd

from lstmkit.decoding.sampling_options import SamplingOptions
from lstmkit.jobs.common.token_labels import visible_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.language_model.generation import full_text, generate_continuations
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor, TokenStream
from lstmkit.plots.text import surprisal_figure
from lstmkit.report import Section

_MAX_SURPRISAL_TOKENS = 300  # in the figure
_GENERATED_TOKENS = {"chars": 500, "bpe": 150, "words": 100, "whitespace": 100}  # some hundred characters of each
_TEMPERATURES = (0.5, 0.8, 1.0)


def report_sections(
    predictor: LanguageModelPredictor, evaluation: Evaluation | None, train_stream: TokenStream | None
) -> list[Section]:
    """The job's part of the report.

    Args:
        predictor: The model.
        evaluation: Scores, if there are any.
        train_stream: The training split, if it is at hand.
    """
    sections = [] if evaluation is None else [_results_section(evaluation), _surprisal_section(evaluation)]
    sections.append(_generation_section(predictor))
    if train_stream is not None:
        sections.append(_data_section(predictor, train_stream))
    return sections


def _results_section(evaluation: Evaluation) -> Section:
    return Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)


def _surprisal_section(evaluation: Evaluation) -> Section:
    details = evaluation.details.head(_MAX_SURPRISAL_TOKENS)
    tokens = [visible_token(token) for token in details["token"]]
    bits = (details.iloc[:, 1] / math.log(2)).tolist()
    return Section(
        "Surprisal by token",
        f"The first tokens of {evaluation.part} and their surprisal: 0 bits = certain, 10 bits = one in a thousand.",
        pd.DataFrame({"token": tokens, "bits": bits}),
        surprisal_figure(tokens, bits),
        caption="Surprisal by token",
    )


def _generation_section(predictor: LanguageModelPredictor) -> Section:
    rows, max_tokens = [], _GENERATED_TOKENS[predictor.settings.tokenization]
    for temperature in _TEMPERATURES:
        options = SamplingOptions(max_tokens, temperature, top_k=0, top_p=1.0, seed=predictor.settings.seed, stop="")
        (continuation,) = generate_continuations(predictor, [""], options)
        rows.append({"temperature": temperature, "text": full_text(continuation, predictor.tokenizer)})
    return Section("Generated text", "Text from the start of a line, at three temperatures.", pd.DataFrame(rows))


def _data_section(predictor: LanguageModelPredictor, train_stream: TokenStream) -> Section:
    counts = [len(train_stream.ids), train_stream.characters, predictor.vocab_size]
    table = pd.DataFrame({"training text": ["tokens", "characters", "vocabulary"], "count": counts})
    return Section("Data", f"Tokenization: {predictor.settings.tokenization}.", table)
