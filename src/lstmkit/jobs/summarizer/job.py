"""The summarization job: a pointer-generator, from texts and their summaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.data.text.text_pairs import FORMATS, SUMMARIES, TextPairDataset, TextPairs, filter_by_length
from lstmkit.decoding.beam_search_options import BEAM_SIZE
from lstmkit.errors import DataError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.seq2seq_job import Seq2SeqJob, first_with_tokens
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.summarizer import plots, report
from lstmkit.jobs.summarizer.export import exported_summarizer
from lstmkit.jobs.summarizer.metrics import evaluate_summaries
from lstmkit.jobs.summarizer.predictor import SummarizerPredictor
from lstmkit.jobs.summarizer.settings import SummarizerSettings
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress
from lstmkit.report import Section


class Summarizer(SummarizerSettings, Seq2SeqJob[SummarizerPredictor]):
    """Abstractive summarization with a pointer-generator: headlines, subject lines, abstracts.

    Each word is generated from the vocabulary or copied from the text (See, Liu and Manning 2017).

    Data for ``fit`` and ``evaluate``: a table (.tsv, .csv, .jsonl, gzipped or not, DataFrame) with a column of texts
    and one of summaries, where a text may have many lines; two files with one text per line,
    ``"texts.txt,titles.txt"``; or a list of pairs. For ``predict``: a text file with one text per line, a table with
    texts, or a list of texts.

    >>> pairs = [("Ann, please send me the gas report.", "gas report"), ("The gas deal is off.", "gas deal")] * 20
    >>> summarizer = Summarizer(epochs=1, hidden_size=8).fit(pairs)
    >>> len(summarizer.predict(["Please send the oil report.", ""]))
    2
    """

    predictor_class = SummarizerPredictor
    data_formats = FORMATS
    wording = SUMMARIES

    _num_truncated: int = 0

    @property
    def columns(self) -> tuple[str, str]:
        return self.text_col, self.summary_col

    def prepare(self, train: TextPairs) -> SummarizerPredictor:
        """A predictor with the vocabularies of the training split."""
        self._train_split = train
        return SummarizerPredictor.fitted(self.snapshot(), train, self.progress)

    def source(self, examples: TextPairs) -> TextPairDataset:
        predictor, limit = self.predictor, self.max_summary_tokens
        # Line breaks are read as spaces, as in predict.
        texts, summaries = ([" ".join(text.split()) for text in side] for side in (examples.sources, examples.targets))
        encoded = predictor.encode_pairs(texts, summaries, self.max_tokens)
        dataset, num_too_long = filter_by_length(encoded, self.max_tokens, limit + 1)
        if examples is self._train_split:
            self._num_truncated, self._num_too_long = predictor.count_truncated(examples.sources), num_too_long
        if not len(dataset):
            raise DataError(f"{examples.name}: every summary is above {limit} tokens: raise max_summary_tokens")
        if num_too_long:
            self.progress.say(
                f"{examples.name}: {num_too_long:,} pairs with a summary above {limit} tokens are left out"
            )
        return dataset

    def evaluate_examples(self, test: TextPairs, progress: Progress, beam_size: int = BEAM_SIZE) -> Evaluation:
        return evaluate_summaries(self.predictor, test, self._train_split, progress, beam_size)

    def report_sections(self, examples: TextPairs) -> list[Section]:
        return report.report_sections(
            self.predictor, self.full_evaluation, examples, self._num_too_long, self._num_truncated
        )

    def exported(self) -> JobExport:
        return exported_summarizer(self.predictor)

    def plot(self, data: Any, predictions: Sequence[GeneratedText]) -> Figure:
        """Attention of the first summary."""
        figure = plots.plot_attention(first_with_tokens(predictions))
        return note_selection(figure, len(predictions), "summaries")
