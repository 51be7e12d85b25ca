"""The translation job: an encoder-decoder with attention, from sentences and their translations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.data.text.text_pairs import FORMATS, TRANSLATIONS, TextPairDataset, TextPairs, filter_by_length
from lstmkit.decoding.beam_search_options import BEAM_SIZE
from lstmkit.errors import DataError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.seq2seq_job import Seq2SeqJob, first_with_tokens
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.translator import plots, report
from lstmkit.jobs.translator.export import exported_translator
from lstmkit.jobs.translator.metrics import evaluate_translations
from lstmkit.jobs.translator.predictor import TranslatorPredictor
from lstmkit.jobs.translator.settings import TranslatorSettings
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress
from lstmkit.report import Section


class Translator(TranslatorSettings, Seq2SeqJob[TranslatorPredictor]):
    """Machine translation with an LSTM encoder-decoder, attention and beam search.

    Data for ``fit`` and ``evaluate``: two files with one sentence per line, ``"train.en,train.de"``; a table (.tsv,
    .csv, .jsonl, DataFrame) with a column for each language; or a list of pairs. For ``predict``: a text file or a
    list of lines.

    >>> pairs = [("a red dog", "ein roter Hund"), ("a red cat", "eine rote Katze")] * 20
    >>> translator = Translator(epochs=1, hidden_size=8, tokenization="words").fit(pairs)
    >>> len(translator.predict(["a dog", ""]))
    2
    """

    predictor_class = TranslatorPredictor
    data_formats = FORMATS
    wording = TRANSLATIONS

    @property
    def columns(self) -> tuple[str, str]:
        return self.source_col, self.target_col

    def prepare(self, train: TextPairs) -> TranslatorPredictor:
        """A predictor with the vocabularies of the training split."""
        self._train_split = train
        return TranslatorPredictor.fitted(self.snapshot(), train, self.progress)

    def source(self, examples: TextPairs) -> TextPairDataset:
        limit = self.max_tokens
        encoded = self.predictor.encode_pairs(examples.sources, examples.targets)
        dataset, num_too_long = filter_by_length(encoded, limit, limit)
        if examples is self._train_split:
            self._num_too_long = num_too_long
        if not len(dataset):
            raise DataError(f"{examples.name}: every pair has a side above {limit} tokens: raise max_tokens")
        if num_too_long:
            self.progress.say(f"{examples.name}: {num_too_long:,} pairs with a side above {limit} tokens are left out")
        return dataset

    def evaluate_examples(self, test: TextPairs, progress: Progress, beam_size: int = BEAM_SIZE) -> Evaluation:
        return evaluate_translations(self.predictor, test, self._train_split, progress, beam_size)

    def report_sections(self, examples: TextPairs) -> list[Section]:
        return report.report_sections(self.predictor, self.full_evaluation, examples, self._num_too_long)

    def exported(self) -> JobExport:
        return exported_translator(self.predictor)

    def plot(self, data: Any, predictions: Sequence[GeneratedText]) -> Figure:
        """Attention of the first translation."""
        figure = plots.plot_attention(first_with_tokens(predictions))
        return note_selection(figure, len(predictions), "translations")
