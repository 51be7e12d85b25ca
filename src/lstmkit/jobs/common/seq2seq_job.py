"""The job that translation and summarization share: read one text, generate another one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch

from lstmkit.data.splits import holdout_sizes
from lstmkit.data.text.generated_text import GeneratedText
from lstmkit.data.text.text_pairs import MessageWording, TextPairDataset, TextPairs, read_sources, read_text_pairs
from lstmkit.decoding.beam_search_options import BEAM_SIZE
from lstmkit.errors import DataError
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.seq2seq_predictor import Seq2SeqPredictor
from lstmkit.jobs.common.seq2seq_settings import Seq2SeqSettings
from lstmkit.jobs.common.token_labels import annotations, visible_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.look import ExampleSequence
from lstmkit.progress import Progress, default_progress

P = TypeVar("P", bound=Seq2SeqPredictor[Any])

_MAX_SEQUENCES = 8  # for a look inside


class Seq2SeqJob(Seq2SeqSettings, Job[P]):
    """The base of jobs that read one text and generate another one.

    A job adds its columns, the predictor (``prepare``), the encoded pairs (``source``), the evaluation, the report and
    the plot.
    """

    live_inputs = ("lines",)
    wording: ClassVar[MessageWording]  #: How messages and records name source and target.

    _train_split: TextPairs | None = None  # for the translation memory; not saved
    _num_too_long: int = 0

    @property
    @abstractmethod
    def columns(self) -> tuple[str, str]:
        """Columns of a table: source and target."""

    @abstractmethod
    def source(self, examples: TextPairs) -> TextPairDataset:
        """Token ids of the pairs that are not too long. Raises DataError if there are none."""

    # ---- fit -----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> TextPairs:
        return read_text_pairs(data, *self.columns, wording=self.wording)

    def split(self, examples: TextPairs, validation: TextPairs | None) -> DataSplit:
        """Training, validation and test splits, in the order of the pairs."""
        count = len(examples)
        valid_fraction = self.valid_fraction if validation is None else 0.0
        valid, test = holdout_sizes(count, "pair", examples.name, valid_fraction, self.test_fraction)
        valid_part = examples.slice(count - test - valid, count - test) if valid else validation
        test_part = examples.slice(count - test, count) if test else None
        return DataSplit(examples.slice(0, count - test - valid), valid_part, test_part)

    def calibrate(self, valid: TextPairs | None) -> None:
        """Do nothing: the scores are not probabilities of a correct text."""

    # ---- predictions ---------------------------------------------------------------------------------------------

    def predict(
        self, data: Any, *, beam_size: int = BEAM_SIZE, n_best: int = 1, progress: Progress | None = None
    ) -> list[GeneratedText]:
        """Generate a text for each line of a file or list, or for the source side of pairs.

        A blank line gets an empty text. For a text read in segments, the attention is that of the first segment.

        Args:
            data: What to read.
            beam_size: Number of beam hypotheses; 1 = greedy decoding.
            n_best: Number of texts per line.
            progress: Where to report progress.

        Raises:
            SettingError: ``n_best`` is above ``beam_size`` or below 1.
            DataError: There is no such file, or it is empty.
        """
        predictor = self.predictor
        lines = read_sources(data, self.columns[0], self.wording)
        return predictor.generate(lines, beam_size, n_best, progress)

    def to_text(self, predictions: Sequence[GeneratedText]) -> str:
        """One line per text; n-best texts as ``number ||| text ||| score``, the format of Moses."""
        if all(len(result.n_best) == 1 for result in predictions):
            return "\n".join(result.text for result in predictions)
        rows = [(i, text, score) for i, result in enumerate(predictions) for text, score in result.n_best]
        return "\n".join(f"{i} ||| {text} ||| {score:.4f}" for i, text, score in rows)

    def to_records(self, predictions: Sequence[GeneratedText]) -> list[dict[str, Any]]:
        return [result.record(self.wording.target, self.copy_mechanism) for result in predictions]

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, beam_size: int = BEAM_SIZE, progress: Progress | None = None) -> Evaluation:
        """Score generated texts of pairs that the model was not fitted to, next to baselines.

        A nearest-neighbor baseline needs the training split: load the model with ``train``.

        Args:
            data: Pairs, as for ``fit``.
            beam_size: Number of beam hypotheses; 1 = greedy decoding.
            progress: Where to report progress.
        """
        return self.evaluate_examples(self.read(data), progress or default_progress(), beam_size)

    @abstractmethod
    def evaluate_examples(self, test: TextPairs, progress: Progress, beam_size: int = BEAM_SIZE) -> Evaluation:
        """Score the model, with a beam of ``beam_size``, and the baselines on held-out pairs."""

    def example_sequences(self, data: Any, line: int = 1) -> list[ExampleSequence]:
        """Texts as the encoder reads them, from ``line`` (from 1) on."""
        predictor = self.predictor
        lines = read_sources(data, self.columns[0], self.wording)
        if not 1 <= line <= len(lines):
            raise DataError(f"there is no line {line}: the data have lines 1 to {len(lines)}")
        segments = predictor.segments(lines[line - 1 :])[:_MAX_SEQUENCES]
        if not segments:
            raise DataError(f"all lines from line {line} on are blank: choose an earlier line")
        device = next(predictor.network.parameters()).device
        return [
            ExampleSequence(
                torch.from_numpy(segment.ids).unsqueeze(0).to(device),
                name=f"line {line + segment.line}",
                labels=[visible_token(word) for word in segment.words],
                annotations=annotations(segment.words),
            )
            for segment in segments
        ]


def first_with_tokens(results: Sequence[GeneratedText]) -> GeneratedText:
    """The first result with a generated token, for a plot; else the first one."""
    return next((result for result in results if result.tokens), results[0])
