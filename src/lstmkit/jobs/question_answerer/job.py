"""Question answering: a story and a question in, an answer out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.batch import Source
from lstmkit.data.sequence_dataset import stratified_split
from lstmkit.data.tables.native_frames import as_pandas, records_of, to_native
from lstmkit.data.text.question_answering import FORMATS, Columns, Questions, read_questions
from lstmkit.data.text.questions import Question
from lstmkit.errors import DataError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.token_labels import annotations, visible_token
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.question_answerer import metrics, report
from lstmkit.jobs.question_answerer.baselines import most_frequent_answer
from lstmkit.jobs.question_answerer.export import exported_question_answerer
from lstmkit.jobs.question_answerer.plots import attention_figure
from lstmkit.jobs.question_answerer.predictor import QuestionAnswererPredictor
from lstmkit.jobs.question_answerer.settings import QuestionAnswererSettings
from lstmkit.look import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_MAX_INSPECTED = 8  # questions


class QuestionAnswerer(QuestionAnswererSettings, Job[QuestionAnswererPredictor]):
    """Answer questions about stories: choose one of the training answers, or extract a span of the story.

    Data: bAbI's text files, SQuAD's JSON, a table with columns for stories, questions and answers, or
    ``(story, question, answer)`` triples. See :func:`lstmkit.data.text.question_answering.read_questions`.

    >>> people, places = ("Mary", "John", "Ann", "Tom", "Sue"), ("garden", "kitchen", "hall", "yard")
    >>> data = [(f"{who} is in the {where}.", f"Where is {who}?", where) for who in people for where in places]
    >>> answerer = QuestionAnswerer(hidden_size=16, epochs=40, lr=0.02, batch_size=4).fit(data)
    >>> answerer.predict([("Mary is in the garden.", "Where is Mary?")])["answer"].tolist()
    ['garden']
    """

    predictor_class: ClassVar = QuestionAnswererPredictor
    data_formats = FORMATS
    live_inputs = ("row",)
    answer_suffixes = (".csv",)

    _train_split: Questions | None = None  # for baselines; not saved
    _num_left_out: int = 0  # training questions whose answer cannot be learned

    # ---- data ----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> Questions:
        columns = Columns(self.story_col, self.question_col, self.answer_col, self.question_type_col)
        return read_questions(data, columns)

    def split(self, examples: Questions, validation: Questions | None) -> DataSplit:
        """Split at random, question types in proportion; all questions about one text stay in one part."""
        for questions in (examples, validation):
            if questions is not None:
                questions.require_answers()
        groups: dict[str, list[int]] = {}
        for i, question in enumerate(examples):
            groups.setdefault(question.group, []).append(i)
        fractions = (self.test_fraction, 0.0 if validation is not None else self.valid_fraction)
        rows = list(groups.values())
        types = [tuple({examples.items[i].kind for i in group}) for group in rows]
        train, held_out = stratified_split(types, fractions, self.seed)
        train, test, valid = ([i for g in part.tolist() for i in rows[g]] for part in (train, *held_out))
        for fraction, part in zip(fractions, (test, valid), strict=True):
            if fraction and not part:
                raise DataError(
                    f"{examples.name} has questions about {len(groups)} texts, too few to hold out validation and test "
                    "parts: give more, or give valid_fraction=0 and test_fraction=0"
                )
        return DataSplit(
            examples.subset(train),
            examples.subset(valid) if valid else validation,
            examples.subset(test) if test else None,
        )

    def prepare(self, train: Questions) -> QuestionAnswererPredictor:
        self._train_split = train
        most_frequent = most_frequent_answer(train.items)
        return QuestionAnswererPredictor.fitted(self.snapshot(), train.items, most_frequent, self.progress)

    def source(self, examples: Questions) -> Source:
        source, _, num_left_out = self.predictor.training_data(examples.items)
        if examples is self._train_split:
            self._num_left_out = num_left_out
            if not len(source):
                raise DataError(
                    f"{examples.name}: no answer occurs in the first {self.max_tokens} tokens of its story: "
                    "give answer_type=classification, or a greater max_tokens"
                )
        return source

    def calibrate(self, valid: Questions | None) -> None:
        """Fit the temperature of the probabilities."""
        if valid is not None:
            self.predictor.calibrate(valid.items, self.progress)

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, progress: Progress | None = None) -> Any:
        """Answer questions.

        Args:
            data: Questions with their stories; answers are not needed.
            progress: Where to report progress.

        Returns:
            A frame of the same kind as ``data`` (pandas, Polars, Arrow; pandas for a file). One row per
            question: ``question``, ``answer``, ``probability`` (calibrated if fit had validation data), and
            for spans ``start``, the character of the story at which the answer starts.
        """
        predictor = self.predictor
        questions = self.read(data)
        answers = predictor.answers(questions.items, progress)
        frame = pd.DataFrame(
            {"question": [question.question for question in questions], "answer": [answer.text for answer in answers]}
        )
        frame["probability"] = [answer.probability for answer in answers]
        if predictor.answer_type == "span":
            frame["start"] = [answer.start for answer in answers]
        return to_native(frame, data)

    def to_text(self, predictions: Any) -> str:
        return as_pandas(predictions).to_csv(index=False).rstrip("\n")

    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        return records_of(predictions)

    def exported(self) -> JobExport:
        return exported_question_answerer(self.predictor)

    def plot(self, data: Any, predictions: Any) -> Figure:
        """Attention over the story of the first question."""
        figure = attention_figure(self.predictor, self.read(data).items[0])
        return note_selection(figure, len(predictions), "questions")

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Score the model and baselines that ignore the story or only count its words.

        Baselines that learn need the training data: load the model with ``train``.
        """
        predictor, questions = self.predictor, self.read(data)
        questions.require_answers()
        return metrics.evaluate(predictor, questions, self._training_questions, progress or default_progress())

    def evaluate_examples(self, test: Questions, progress: Progress) -> Evaluation:
        return metrics.evaluate(self.predictor, test, self._training_questions, progress)

    @property
    def _training_questions(self) -> tuple[Question, ...]:
        return () if self._train_split is None else self._train_split.items

    def report_sections(self, examples: Questions) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples, self._num_left_out)

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Questions with their stories, starting with number ``example`` (from 1)."""
        predictor = self.predictor
        questions = self.read(data)
        if not 1 <= example <= len(questions):
            raise DataError(f"there is no question {example}: {questions.name} has 1 to {len(questions)}")
        inspected = questions.items[example - 1 : example - 1 + _MAX_INSPECTED]
        source = predictor.answer_model.source(inspected)
        device = next(predictor.network.parameters()).device
        sequences = []
        for i, question in enumerate(inspected):
            labels = [visible_token(step) for step in predictor.answer_model.codec.step_labels(question)]
            inputs = source.batch(np.array([i])).inputs.to(device)
            name = f"question {example + i}"
            sequences.append(ExampleSequence(inputs, name=name, labels=labels, annotations=annotations(labels)))
        return sequences
