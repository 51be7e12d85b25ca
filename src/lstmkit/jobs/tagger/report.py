"""The report of a tagger: results, results by tag, confusions, confidence and vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from lstmkit.data.text.conll import TaggedSentences
from lstmkit.jobs.common.classification_report import scores_by_class
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.tagger.plots import tags_figure
from lstmkit.jobs.tagger.predictor import TaggerPredictor
from lstmkit.report import Section

_NUM_SENTENCES = 6


def tagger_sections(
    predictor: TaggerPredictor, examples: TaggedSentences, evaluation: Evaluation | None
) -> list[Section]:
    """The sections of the report; ``examples`` are all data of the run."""
    vocabulary = Section("Vocabulary", "", _vocabulary_table(predictor))
    if evaluation is None:
        return [Section("Results", "No sentences were held out, so there are no scores."), vocabulary]
    table = evaluation.details
    true, predicted = table["tag"].tolist(), table[table.columns[2]].tolist()
    first = predictor.tag(examples.subset(range(min(_NUM_SENTENCES, len(examples)))))
    tokens = pd.DataFrame([asdict(sentence) for sentence in first]).explode(["tokens", "tags", "probabilities"])
    return [
        Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions),
        Section("Results by tag", f"On {evaluation.part}.", scores_by_class(true, predicted, predictor.tags, "tag")),
        Section("Confusions", f"Errors on {evaluation.part}, most frequent first.", _confusions(true, predicted)),
        Section(
            "Confidence",
            "The first sentences of the data. The darker a tag, the lower its probability.",
            tokens,
            tags_figure(first),
            caption="Tags and their surprisal",
        ),
        vocabulary,
    ]


def _confusions(true: Sequence[str], predicted: Sequence[str]) -> pd.DataFrame:
    errors = Counter((a, b) for a, b in zip(true, predicted, strict=True) if a != b)
    rows = [(a, b, count) for (a, b), count in errors.most_common()]
    return pd.DataFrame(rows, columns=pd.Index(["true tag", "predicted", "count"]))


def _vocabulary_table(predictor: TaggerPredictor) -> pd.DataFrame:
    counts = [len(predictor.word_vocab), len(predictor.char_vocab), len(predictor.tags)]
    return pd.DataFrame({"vocabulary": ["words", "characters", "tags"], "count": counts})
