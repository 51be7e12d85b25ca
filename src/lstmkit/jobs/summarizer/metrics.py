"""ROUGE (Lin 2004) of summaries, computed by Google's rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from lstmkit.data.text.lines import split_sentences
from lstmkit.data.text.text_pairs import TextPairs
from lstmkit.decoding.beam_search_options import BEAM_SIZE
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.text_metrics import is_ascii_text, words
from lstmkit.jobs.common.text_retrieval import TranslationMemory
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.summarizer.baselines import lead, leading_words
from lstmkit.jobs.summarizer.predictor import SummarizerPredictor
from lstmkit.progress import Progress

_ROUGE_TYPES = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
DIRECTIONS = dict.fromkeys(_ROUGE_TYPES, "high")


def evaluate_summaries(
    predictor: SummarizerPredictor,
    test: TextPairs,
    train: TextPairs | None,
    progress: Progress,
    beam_size: int = BEAM_SIZE,
) -> Evaluation:
    """Scores of the model and of the baselines.

    Args:
        predictor: The model.
        test: Pairs that the model was not fitted to.
        train: The training split, for the nearest-neighbor baseline; ``None`` leaves that baseline out.
        progress: Where to report progress.
        beam_size: Number of beam hypotheses.
    """
    settings, words = predictor.settings, predictor.median_summary_words
    sources = test.sources
    summaries: dict[str, Sequence[str]] = {
        settings.cell.upper(): [result.text for result in predictor.generate(sources, beam_size, progress=progress)],
        f"first {words} words": leading_words(sources, words),
        "Lead-1": lead([split_sentences(text) for text in sources], settings.max_summary_tokens),
    }
    if train is not None:
        summaries["nearest-neighbor summary"] = TranslationMemory(train.sources, train.targets)(sources)
    missing = ("nearest-neighbor summary",) if train is None else ()
    rows = [{"model": name, **scores(texts, test.targets)} for name, texts in summaries.items()]
    details = pd.DataFrame({"source": sources, "reference": test.targets, **summaries})
    notes = [
        f"{len(test):,} texts; beam size {beam_size}, length penalty {settings.length_penalty:g}.",
        f"{predictor.count_truncated(sources):,} texts have more than {settings.max_tokens} tokens; only their first "
        f"{settings.max_tokens} are read.",
        f"The median summary of the training split has {words} words.",
        signature(test.targets),
    ]
    own = scores_by_summary(next(iter(summaries.values())), test.targets)["ROUGE-1"]
    examples = ScoredExamples.mean("texts", own)
    return Evaluation(pd.DataFrame(rows), DIRECTIONS, details, tuple(notes), None, missing, examples)


def scores(summaries: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 over all summaries, 0 to 100; see :func:`scores_by_summary`.

    >>> scores(["the red dogs"], ["a red dog"])
    {'ROUGE-1': 66.67, 'ROUGE-2': 50.0, 'ROUGE-L': 66.67}
    """
    return {name: round(float(own.mean()), 2) for name, own in scores_by_summary(summaries, references).items()}


def scores_by_summary(summaries: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """By metric the F1 of each summary ``(N,)``, 0 to 100.

    English is tokenized and stemmed as published scores are. For other languages all letters count, without stemming.
    """
    if is_ascii_text(references):
        scorer = RougeScorer(list(_ROUGE_TYPES.values()), use_stemmer=True)
    else:
        scorer = RougeScorer(list(_ROUGE_TYPES.values()), tokenizer=_UnicodeTokenizer())
    by_summary = [scorer.score(reference, text) for text, reference in zip(summaries, references, strict=True)]
    return {name: 100 * np.array([s[kind].fmeasure for s in by_summary]) for name, kind in _ROUGE_TYPES.items()}


def signature(references: Sequence[str]) -> str:
    """Library, version and options of the scores."""
    tokens = "lowercased letters and digits, Porter stemmer"
    if not is_ascii_text(references):
        tokens = "lowercased words of any script, without stemming; scripts without spaces by characters"
    return f"ROUGE: mean F1, one reference each; rouge-score {version('rouge-score')}, {tokens}."


class _UnicodeTokenizer(Tokenizer):
    def tokenize(self, text: str) -> list[str]:
        return words(text)
