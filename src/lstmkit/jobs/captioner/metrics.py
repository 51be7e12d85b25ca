"""Scores of captions: sacreBLEU's BLEU against all references, of the model and the baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from sacrebleu.metrics.bleu import BLEU

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.decoding.beam_search_options import CAPTION_BEAM_SIZE
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.text_metrics import bleu_of_rows, bleu_tokenizer, corpus_bleu
from lstmkit.jobs.captioner.baselines import NearestCaption
from lstmkit.jobs.captioner.generation import beam_search_options, caption_media
from lstmkit.jobs.captioner.predictor import CaptionerPredictor
from lstmkit.jobs.captioner.visual_input import INPUT_KINDS
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.progress import Progress

NGRAM_ORDERS = (1, 2, 3, 4)  #: Longest n-grams of BLEU-1 to BLEU-4.
_TRAINING_BLEU = "BLEU-4 on training data"
_NUM_TRAINING_EXAMPLES = 100  # that this score is computed from


def scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 in lowercase, 0 to 100; with one reference each also the fraction of exact matches, 0 to 1.

    BLEU-n is NaN if all references have fewer than n words.

    >>> scores(["a dog runs fast"], [["A dog runs fast .", "a dog runs fast"]])["BLEU-4"]
    100.0
    """
    transposed = _transpose_references(references)
    scores_by_metric: dict[str, float] = {}
    for order in NGRAM_ORDERS:
        scores_by_metric[f"BLEU-{order}"] = corpus_bleu(_bleu(references, order), captions, transposed)
    if all(len(texts) == 1 for texts in references):
        matches = [_is_match(caption, texts[0]) for caption, texts in zip(captions, references, strict=True)]
        scores_by_metric = {"exact match": float(np.mean(matches)), **scores_by_metric}
    return scores_by_metric


def signature(references: Sequence[Sequence[str]]) -> str:
    """sacreBLEU's signature of the scores."""
    metric = _bleu(references, max(NGRAM_ORDERS))
    metric.corpus_score([""] * len(references), _transpose_references(references))
    return f"BLEU: {metric.get_signature().format()}; BLEU-n uses n-grams of at most n words."


def _bleu(references: Sequence[Sequence[str]], order: int) -> BLEU:
    tokenizer = bleu_tokenizer(text for texts in references for text in texts)
    # force: sacreBLEU tokenizes all captions alike and need not warn about tokenized ones.
    return BLEU(lowercase=True, force=True, max_ngram_order=order, tokenize=tokenizer)


def _transpose_references(references: Sequence[Sequence[str]]) -> list[Any]:
    """References as sacreBLEU takes them: all first ones, all second ones, …; ``None`` if there is none."""
    return [list(texts) for texts in zip_longest(*references)]


def evaluate(
    predictor: CaptionerPredictor,
    test: CaptionedMedia,
    train: CaptionedMedia | None,
    progress: Progress,
    beam_size: int = CAPTION_BEAM_SIZE,
) -> Evaluation:
    """Score the captions of the model and of the baselines against all references.

    Args:
        predictor: With a trained network.
        test: Held-out examples; each has a caption.
        train: The training split, for the baselines; ``None`` for a loaded model.
        progress: Where to report progress.
        beam_size: Number of beam hypotheses.
    """
    options = beam_search_options(predictor.settings, beam_size)
    captions = {
        predictor.settings.cell.upper(): [caption.text for caption in caption_media(predictor, test, options, progress)]
    }
    num_captions = sum(map(len, test.texts))
    notes = [f"{len(test):,} {INPUT_KINDS[test.kind]}s, {num_captions:,} references. {signature(test.texts)}"]
    missing: tuple[str, ...] = ()
    if train is None:
        missing = ("nearest-neighbor caption",)
    else:
        captions["nearest-neighbor caption"] = NearestCaption(train)(test.inputs)
    if predictor.most_frequent_caption:
        captions["most frequent caption"] = [predictor.most_frequent_caption] * len(test)
    else:
        missing = (*missing, "most frequent caption")
    rows = [{"model": model, **scores(texts, test.texts)} for model, texts in captions.items()]
    table = pd.DataFrame(rows)
    if train is not None:
        known = train.subset(np.arange(min(_NUM_TRAINING_EXAMPLES, len(train))))
        texts = [caption.text for caption in caption_media(predictor, known, options, progress)]
        table[_TRAINING_BLEU] = [scores(texts, known.texts)["BLEU-4"], *[math.nan] * (len(rows) - 1)]
        notes.append(
            f"{_TRAINING_BLEU} is computed from the first {len(known)} training examples. If it exceeds BLEU-4 "
            "by far, the model has memorized captions."
        )
    references = [" / ".join(texts) for texts in test.texts]
    details = pd.DataFrame({"name": list(test.ids), "references": references, **captions})
    directions = dict.fromkeys(table.columns.drop("model"), "high")
    examples = _scored_examples(next(iter(captions.values())), test)
    return Evaluation(table, directions, details, tuple(notes), test, missing, examples)


def _scored_examples(captions: Sequence[str], test: CaptionedMedia) -> ScoredExamples:
    """The examples with the first score of any of them: exact matches, or with several references BLEU-1."""
    name = f"{INPUT_KINDS[test.kind]}s"
    if all(len(texts) == 1 for texts in test.texts):
        matches = [_is_match(caption, texts[0]) for caption, texts in zip(captions, test.texts, strict=True)]
        return ScoredExamples.mean(name, np.array(matches, dtype=float), is_fraction=True)
    bleu = bleu_of_rows(_bleu(test.texts, NGRAM_ORDERS[0]), captions, _transpose_references(test.texts))
    return ScoredExamples(len(test), name, bleu)


def _is_match(caption: str, reference: str) -> bool:
    return caption.lower().split() == reference.lower().split()
