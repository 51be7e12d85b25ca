"""BLEU and chrF of translations, computed by sacreBLEU, overall and by source length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lstmkit.data.text.text_pairs import TextPairs
from lstmkit.decoding.beam_search_options import BEAM_SIZE
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.text_metrics import bleu_of_rows, bleu_tokenizer, corpus_bleu
from lstmkit.jobs.common.text_retrieval import TranslationMemory
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.translator.predictor import TranslatorPredictor
from lstmkit.progress import Progress

_LENGTHS = (8, 12, 16, 24)  # upper limits, in words of the source, of the rows by length

#: By metric. Published scores of tokenized, lowercased text are close to the last one.
DIRECTIONS: dict[str, str] = dict.fromkeys(("BLEU", "chrF", "BLEU, lower-cased"), "high")


def evaluate_translations(
    predictor: TranslatorPredictor,
    test: TextPairs,
    train: TextPairs | None,
    progress: Progress,
    beam_size: int = BEAM_SIZE,
) -> Evaluation:
    """Scores of the model and of the baselines.

    Args:
        predictor: The model.
        test: Pairs that the model was not fitted to.
        train: The training split, for the translation memory; ``None`` leaves that baseline out.
        progress: Where to report progress.
        beam_size: Number of beam hypotheses.
    """
    settings = predictor.settings
    translations: dict[str, Sequence[str]] = {
        settings.cell.upper(): [
            result.text for result in predictor.generate(test.sources, beam_size, progress=progress)
        ]
    }
    if train is not None:
        translations["translation memory"] = TranslationMemory(train.sources, train.targets)(test.sources)
    translations["copy of the source"] = test.sources
    missing = ("translation memory",) if train is None else ()
    rows = [{"model": name, **scores(texts, test.targets)} for name, texts in translations.items()]
    details = pd.DataFrame({"source": test.sources, "reference": test.targets, **translations})
    notes = [
        f"{len(test):,} sentences, one reference each; beam size {beam_size}, length penalty "
        f"{settings.length_penalty:g}.",
        *signatures(test.targets),
    ]
    bleu = bleu_of_rows(BLEU(tokenize=bleu_tokenizer(test.targets)), next(iter(translations.values())), [test.targets])
    examples = ScoredExamples(len(test), "sentences", None if math.isnan(rows[0]["BLEU"]) else bleu)
    return Evaluation(pd.DataFrame(rows), DIRECTIONS, details, tuple(notes), None, missing, examples)


def scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus scores, 0 to 100; BLEU is NaN if all references have fewer than four words.

    >>> scores(["ein Hund läuft im Park"], ["Ein Hund läuft im Park"])["BLEU, lower-cased"]
    100.0
    """
    metrics = _metrics(references)
    return {
        name: corpus_bleu(metric, translations, [references])
        if isinstance(metric, BLEU)
        else round(metric.corpus_score(translations, [references]).score, 2)
        for name, metric in metrics.items()
    }


def _metrics(references: Sequence[str]) -> dict[str, BLEU | CHRF]:
    tokenizer = bleu_tokenizer(references)
    bleu, lowercased = BLEU(tokenize=tokenizer), BLEU(tokenize=tokenizer, lowercase=True)
    return dict(zip(DIRECTIONS, (bleu, CHRF(), lowercased), strict=True))


def signatures(references: Sequence[str]) -> list[str]:
    """sacreBLEU's signature of each metric; BLEU's tokenizer fits the script of the references."""
    lines = []
    for name, metric in _metrics(references).items():
        metric.corpus_score(["a"], [["a"]])
        lines.append(f"{name}: {metric.get_signature().format()}")
    return lines


def bleu_by_length(
    sources: Sequence[str], references: Sequence[str], translations: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """BLEU of each model for sentences grouped by source length."""
    lengths = [len(source.split()) for source in sources]
    rows = []
    for low, high in zip((0, *_LENGTHS), (*_LENGTHS, None), strict=True):
        group = [i for i, length in enumerate(lengths) if length > low and (high is None or length <= high)]
        if not group:
            continue
        label = f"over {low}" if high is None else f"{low + 1} to {high}"
        row: dict[str, object] = {"source words": label, "sentences": len(group)}
        for model, texts in translations.items():
            row[model] = scores([texts[i] for i in group], [references[i] for i in group])["BLEU"]
        rows.append(row)
    return pd.DataFrame(rows)
