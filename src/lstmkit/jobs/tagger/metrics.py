"""Scores of a tagger and of its baselines on the same sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import eq
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from lstmkit.data.text.conll import TaggedSentences
from lstmkit.data.text.tokenizer import UNKNOWN
from lstmkit.errors import DataError, listing
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.tagger.predictor import TaggerPredictor
from lstmkit.jobs.tagger.spans import span_f1
from lstmkit.progress import Progress

#: F1 of a tag that is never predicted. scikit-learn's types do not allow the number.
_ZERO_DIVISION: Any = 0.0


def evaluate_tagger(predictor: TaggerPredictor, test: TaggedSentences, progress: Progress) -> Evaluation:
    """Score a tagger, the most frequent tag per word and the most frequent tag.

    Raises:
        DataError: The sentences have no tags, or a tag that is not in the training data.
    """
    true_tags = test.require_tags()
    unknown = sorted({tag for tags in true_tags for tag in tags} - set(predictor.tags))
    if unknown:
        raise DataError(
            f"{test.name} has tags that are not in the training data: {listing(unknown)} (its tags: "
            f"{listing(predictor.tags)}): correct them, or fit again with examples of them"
        )
    source, tags, most_frequent = predictor.source(test), predictor.tags, predictor.most_frequent_tags
    ((overall, _),) = Counter(tags[i] for i in most_frequent).most_common(1)
    settings = predictor.settings
    predictions: dict[str, Sequence[Sequence[str]]] = {
        settings.cell.upper() + (" and CRF" if settings.crf else ""): [
            sentence.tags for sentence in predictor.tag(test, progress)
        ],
        "most frequent tag per word": [tuple(tags[most_frequent[i]] for i in ids) for ids in source.words],
        "most frequent tag": [(overall,) * len(own) for own in true_tags],
    }
    out_of_vocabulary = np.concatenate([ids == predictor.word_vocab[UNKNOWN] for ids in source.words])
    rows = [{"model": name, **_scores(true_tags, own, out_of_vocabulary)} for name, own in predictions.items()]
    details = pd.DataFrame(
        {"token": _flatten(test.tokens), "tag": _flatten(true_tags)} | {n: _flatten(p) for n, p in predictions.items()}
    )
    notes = (
        f"{len(details):,} tokens in {len(test):,} sentences; {out_of_vocabulary.mean():.1%} are out-of-vocabulary "
        "words.",
    )
    correct = [sum(map(eq, true, own)) for true, own in zip(true_tags, next(iter(predictions.values())), strict=True)]
    examples = ScoredExamples.ratio("sentences", np.array(correct), np.array([len(tags) for tags in true_tags]))
    directions = dict.fromkeys(list(rows[0])[1:], "high")
    return Evaluation(pd.DataFrame(rows), directions, details, notes, examples=examples)


def _scores(
    true_tags: Sequence[Sequence[str]], predicted_tags: Sequence[Sequence[str]], out_of_vocabulary: np.ndarray
) -> dict[str, float]:
    true, predicted = _flatten(true_tags), _flatten(predicted_tags)
    macro_f1 = f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=_ZERO_DIVISION)
    scores = {"accuracy": float(accuracy_score(true, predicted)), "macro F1": float(macro_f1)}
    if out_of_vocabulary.any():
        correct = np.array(true) == np.array(predicted)
        scores["accuracy, out-of-vocabulary words"] = float(correct[out_of_vocabulary].mean())
    if any(tag.startswith("B-") for tag in true):
        scores["span F1"] = span_f1(true_tags, predicted_tags)
    return scores


def _flatten(sentences: Sequence[Sequence[str]]) -> list[str]:
    return list(chain.from_iterable(sentences))
