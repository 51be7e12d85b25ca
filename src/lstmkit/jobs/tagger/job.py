"""Tagging: a tag for every token of a sentence."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from lstmkit.data.text.conll import FORMATS, TaggedDataset, TaggedSentences, read_sentences, read_tagged_sentences
from lstmkit.errors import SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import inspection_rows, most_likely_class, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.tagger import report
from lstmkit.jobs.tagger.export import exported_tagger
from lstmkit.jobs.tagger.metrics import evaluate_tagger
from lstmkit.jobs.tagger.plots import tags_figure
from lstmkit.jobs.tagger.predictor import TaggedSentence, TaggerPredictor
from lstmkit.jobs.tagger.settings import TaggerSettings
from lstmkit.look.traces import ExampleSequence
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class Tagger(TaggerSettings, Job[TaggerPredictor]):
    """Tag every token of a sentence: parts of speech, named entities, slots.

    Data: a file in CoNLL format, one token and its tag per line and a blank line between sentences; or
    ``(tokens, tags)`` pairs.

    >>> data = [("the cat sat".split(), ["DET", "NOUN", "VERB"]), ("a dog ran".split(), ["DET", "NOUN", "VERB"])] * 20
    >>> tagger = Tagger(epochs=10, hidden_size=8, embedding_size=8, batch_size=4, lr=0.02).fit(data)
    >>> tagger.predict(["a cat ran"])[0].tags
    ('DET', 'NOUN', 'VERB')
    """

    predictor_class: ClassVar = TaggerPredictor
    data_formats = FORMATS
    live_inputs = ("lines",)

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> TaggedSentences:
        if self.crf and self.ensemble_size > 1:
            raise SettingError("a CRF decodes with the transitions of one model: give ensemble_size=1 or crf=False")
        if self.char_feature_size % 2:
            raise SettingError(f"char_feature_size must be even, half for each direction, got {self.char_feature_size}")
        return read_tagged_sentences(data, self.token_col, self.tag_col)

    def split(self, examples: TaggedSentences, validation: TaggedSentences | None) -> DataSplit:
        """Random training, validation and test splits."""
        examples.require_tags()
        if validation is not None:
            validation.require_tags()
        return random_split(examples, validation, "sentence", self.valid_fraction, self.test_fraction, self.seed)

    def prepare(self, train: TaggedSentences) -> TaggerPredictor:
        """Vocabularies, tags and each word's most frequent tag, from the training split."""
        return TaggerPredictor.fitted(self.snapshot(), train)

    def source(self, examples: TaggedSentences) -> TaggedDataset:
        return self.predictor.source(examples)

    def calibrate(self, valid: TaggedSentences | None) -> None:
        """Nothing is calibrated; the probabilities are those of the network."""

    # ---- predictions ---------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> list[TaggedSentence]:
        """The tags of sentences. A sentence without tokens gets an answer without tags.

        Args:
            data: A file in CoNLL format (tags may be missing) or plain text with a sentence per line, lists of tokens,
                or texts. Texts are split at spaces.
        """
        predictor = self.predictor
        return predictor.tag(read_sentences(data, predictor.tags, self.token_col, self.tag_col))

    def exported(self) -> JobExport:
        return exported_tagger(self.predictor)

    def to_text(self, predictions: list[TaggedSentence]) -> str:
        """CoNLL format: one token and its tag per line, a blank line between sentences."""
        sentences = (zip(prediction.tokens, prediction.tags, strict=True) for prediction in predictions)
        return "\n\n".join("\n".join(f"{token}\t{tag}" for token, tag in sentence) for sentence in sentences)

    def to_records(self, predictions: list[TaggedSentence]) -> list[dict[str, Any]]:
        return [asdict(sentence) for sentence in predictions]

    def plot(self, data: Any, predictions: list[TaggedSentence]) -> Figure:
        """The first sentences with their tags; the darker a tag, the lower its probability."""
        return tags_figure(predictions)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Accuracy and F1 over tokens, compared with the most frequent tag per word and the most frequent tag.

        Raises:
            DataError: The data have no tags, or a tag that is not in the training data.
        """
        predictor = self.predictor
        return evaluate_tagger(predictor, self.read(data), progress or default_progress())

    def evaluate_examples(self, test: TaggedSentences, progress: Progress) -> Evaluation:
        return evaluate_tagger(self.predictor, test, progress)

    def report_sections(self, examples: TaggedSentences) -> list[Section]:
        return report.tagger_sections(self.predictor, examples, self.full_evaluation)

    def example_sequences(self, data: Any, sentence: int = 1) -> list[ExampleSequence]:
        """Sentences of ``data``, number ``sentence`` (1 = the first) first."""
        predictor = self.predictor
        sentences = read_sentences(data, predictor.tags, self.token_col, self.tag_col)
        sentences = sentences.subset([row for row, tokens in enumerate(sentences.tokens) if tokens])
        source = predictor.source(sentences)
        rows = inspection_rows(sentence, sentences, "sentence")
        return [_example_sequence(predictor, sentences, source, row) for row in rows]


def _example_sequence(
    predictor: TaggerPredictor, sentences: TaggedSentences, source: TaggedDataset, row: int
) -> ExampleSequence:
    network = predictor.network
    inputs = source.batch(np.array([row])).inputs.to(next(network.parameters()).device)
    tag, logit = most_likely_class(network, inputs, -1, predictor.tags)
    annotations = {} if sentences.tags is None else {"tag": np.array(sentences.tags[row])}
    return ExampleSequence(
        inputs,
        name=f"sentence {row + 1}",
        labels=sentences.tokens[row],
        annotations=annotations,
        answers={f"logit of {tag} for the last token": logit},
    )
