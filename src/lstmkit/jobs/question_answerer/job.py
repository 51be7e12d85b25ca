"""Answers: a story and a question in, an answer out, and where in the story it was found."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.batch import Batch, Loader, Source
from lstmkit.data.sequence_dataset import stratified_split
from lstmkit.data.text.question_answering import Columns, Question, Questions, read_questions
from lstmkit.errors import DataError
from lstmkit.evaluation.calibration import fit_temperature
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.common.token_labels import annotations, shown
from lstmkit.jobs.question_answerer import metrics as scoring
from lstmkit.jobs.question_answerer.methods import WAYS, Found, Span, Way, choose_answer_model
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Model
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class
from lstmkit.training.predict import predict

_MOST_LOOKS = 8  # questions that are looked at
_EXAMPLES = 12  # in the report
_DRAWN = 3  # of them


@settings_class
class QuestionAnswerer(Job):
    """Learn to answer questions over stories, by one of the answers seen in training or by words of the story.

    Data: bAbI's text files, SQuAD's JSON, a table with a column each for stories, questions and answers, or
    ``(story, question, answer)`` triples. See ``read_questions``.

    >>> who, where = ("Mary", "John", "Ann", "Tom", "Sue"), ("garden", "kitchen", "hall", "yard")
    >>> asked = [(f"{name} is in the {place}.", f"Where is {name}?", place) for name in who for place in where]
    >>> answerer = QuestionAnswerer(hidden_size=16, epochs=40, lr=0.02, batch_size=4).fit(asked)
    >>> answerer.predict([("Mary is in the garden.", "Where is Mary?")])["answer"].tolist()
    ['garden']
    """

    name: ClassVar[str] = "question_answerer"
    summary: ClassVar[str] = "Answer questions over a story or passage, with attention over its sentences or words."

    answers: str = setting(
        "one of the answers seen in training (choice), words of the story (span), or by what the data look like",
        default="auto",
        choices=("auto", *WAYS),
    )
    story_col: str = setting("column of the stories, in a table", default="story")
    question_col: str = setting("column of the questions", default="question")
    answer_col: str = setting("column of the answers", default="answer")
    kind_col: str = setting("column that says of what kind a question is, for scores of each", default="kind")
    at_least: int = setting("how often a word must occur in the training part to be kept", default=1, low=1)
    lower: bool = setting("read everything as lower case", default=True)
    most_sentences: int = setting("choice: sentences of a story that are read, its last", default=100, low=1)
    most_words: int = setting("words read of a passage, a sentence or a question, its first", default=400, low=1)
    longest: int = setting("span: most words of an answer", default=15, low=1)
    hops: int = setting("choice: how often the question looks over the story", default=3, low=1, high=20)
    hidden_size: int = setting("units in a layer and direction", default=64, low=1)
    embed_size: int = setting("width of a word's vector; 0 for hidden_size", default=0, low=0)
    input_dropout: float = setting("share of a word's vector hidden", default=0.1, low=0, high=0.95)
    epochs: int = setting("passes at most", default=40, low=1)
    batch_size: int = setting("questions in a step", default=16, low=1)
    lr: float = setting("peak learning rate", default=3e-3, low=0)
    patience: int = setting("epochs without a better validation loss before stopping; 0 for never", default=12, low=0)
    valid_share: float = setting("share of the stories to validate and calibrate on", default=0.1, low=0, high=0.5)
    test_share: float = setting("share of the stories held out for the test", default=0.1, low=0, high=0.5)

    _way: Way | None = field(default=None, init=False, repr=False)
    temperature: float = field(default=1.0, init=False, repr=False)  # of probabilities
    _most_frequent_answer: str = field(default="", init=False, repr=False)
    _left_out: int = field(default=0, init=False, repr=False)
    _train_part: Questions | None = field(default=None, init=False, repr=False)  # not saved
    _tested: Questions | None = field(default=None, init=False, repr=False)  # not saved

    # ---- from file to numbers ------------------------------------------------------------------------------------

    def read(self, data: Any) -> Questions:
        return read_questions(data, Columns(self.story_col, self.question_col, self.answer_col, self.kind_col))

    def split(self, examples: Questions, validation: Questions | None) -> DataSplit:
        """Training, validation and test at random, kinds in proportion; all questions over a text in one part."""
        for given in (examples, validation):
            if given is not None:
                given.require_answers()
        groups: dict[str, list[int]] = {}
        for i, one in enumerate(examples):
            groups.setdefault(one.group, []).append(i)
        shares = (self.test_share, 0.0 if validation is not None else self.valid_share)
        rows = list(groups.values())
        kinds = [tuple({examples.items[i].kind for i in group}) for group in rows]
        train, held = stratified_split(kinds, shares, self.seed)
        parts = [[i for g in part.tolist() for i in rows[g]] for part in (train, *held)]
        for share, part in zip(shares, parts[1:], strict=True):
            if share and not part:
                raise DataError(
                    f"{examples.name} has questions over {len(groups)} texts, too few to hold some back for validation "
                    "and test: give more, or --valid-share 0 --test-share 0"
                )
        tested, held_out = (examples.part(part) if part else None for part in parts[1:])
        return DataSplit(examples.part(parts[0]), held_out or validation, tested)

    def prepare(self, train: Questions) -> None:
        """How to answer, the vocabulary, and the answers, from the training part."""
        items = train.items
        self._way = choose_answer_model(items) if self.answers == "auto" else WAYS[self.answers]()
        self._way.fit(items, self, self._progress)
        self._most_frequent_answer = scoring.most_frequent(items)
        self._train_part = train

    def source(self, examples: Questions) -> Source:
        found, _, left_out = self.way.source(examples.items, self)
        if examples is self._train_part:
            self._left_out = left_out
            if not len(found):
                raise DataError(
                    f"{examples.name}: no answer stands in the first {self.most_words} words of its story: give "
                    "--answers choice, or raise most_words"
                )
        return found

    @property
    def way(self) -> Way:
        """How it answers."""
        assert self._way is not None
        return self._way

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        return self.way.build(self)

    def calibrate(self, valid: Questions | None) -> None:
        """The temperature, on the validation part."""
        self.temperature = 1.0
        if valid is None:
            return
        source, targets, _ = self.way.source(valid.items, self)
        if len(targets):
            logits = self._logits(source, self._progress)
            widest = max(one.shape[1] for one in logits)
            lowest = float(np.finfo(np.float32).min)
            whole = [np.pad(one, ((0, 0), (0, widest - one.shape[1])), constant_values=lowest) for one in logits]
            self.temperature = fit_temperature(np.concatenate(whole), targets.reshape(-1))

    def _logits(self, source: Source, progress: Progress | None = None) -> list[np.ndarray]:
        """Of each question ``(K, C)``, in their order."""

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            return self.way.logits(model(batch.inputs, None, batch.lengths)[0], batch)

        loader = Loader(source, 4 * self.batch_size)
        return predict(self.model, loader, decode, device=self._device(), progress=progress, title="answering")

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, progress: Progress | None = None) -> pd.DataFrame:
        """The answers: ``question, answer, probability``, and of a span where it ``begins``, in characters.

        The probability is that of the answer as it stands, calibrated where fit had validation data.
        """
        self.model  # noqa: B018  (says so if there is none)
        questions = self.read(data)
        found = self._found(questions, progress)
        frame = pd.DataFrame({"question": [one.question for one in questions], "answer": [one.text for one in found]})
        frame["probability"] = [one.probability for one in found]
        if isinstance(self.way, Span):
            frame["begins"] = [one.start for one in found]
        return frame

    def _found(self, questions: Questions, progress: Progress | None = None) -> list[Found]:
        logits = self._logits(self.way.inputs(questions.items, self), progress)
        return [self.way.found(one, said, self) for one, said in zip(questions, logits, strict=True)]

    def text(self, answer: pd.DataFrame) -> str:
        return answer.to_csv(index=False).rstrip("\n")

    def records(self, answer: pd.DataFrame) -> list[dict[str, Any]]:
        return answer.to_dict("records")

    def picture(self, data: Any, answer: pd.DataFrame) -> Figure:
        """Where it looked for the first answer."""
        return self._looked(self.read(data).items[0])

    def _looked(self, one: Question) -> Figure:
        (said,) = self._logits(self.way.inputs([one], self))
        return self.way.picture(one, said, self)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Scores on questions that fit was not given, beside answers that need no story, or no understanding of it.

        Those learn from the questions that this object was fitted to; a loaded model has the most frequent answer only.
        """
        self.model  # noqa: B018
        questions = self.read(data)
        questions.require_answers()
        return self.score(questions, progress or default_progress())

    def score(self, test: Questions, progress: Progress) -> Evaluation:
        self._tested = test
        told = {self.cell.upper(): [one.text for one in self._found(test, progress)]}
        train = () if self._train_part is None else self._train_part.items
        told |= scoring.baselines(self.way.name, train, test.items, self._most_frequent_answer, progress)
        rows = [{"model": name, **scoring.scores(self.way.name, said, test.items)} for name, said in told.items()]
        asked = {"kind": [one.kind for one in test], "question": [one.question for one in test]}
        details = pd.DataFrame({**asked, "right": [one.answer for one in test], **told})
        notes = [f"{len(test):,} questions. Probabilities are at the temperature {self.temperature:.2f}; 1 is none."]
        if self._train_part is None:
            notes.append("A loaded model has not the questions it learnt from: only what needs none stands beside.")
        return Evaluation(pd.DataFrame(rows), scoring.BEST[self.way.name], details, tuple(notes))

    def sections(self, examples: Questions) -> list[Section]:
        found = []
        if self.evaluation is not None:
            found += self._evidence(self.evaluation)
        asked = pd.DataFrame(
            {
                "questions": ["in all", "not trained on: their answers do not stand in what is read", "kinds"],
                "count": [len(examples), self._left_out, len({one.kind for one in examples})],
            }
        )
        looked, of = (examples, "it may have learnt from") if self._tested is None else (self._tested, "of the test")
        for i in np.linspace(0, len(looked) - 1, min(_DRAWN, len(looked))).astype(int):
            one = looked.items[i]
            title = f"Where it looks: {one.question}"
            text = f"A question {of}. Right is: {one.answer}"
            found.append(Section(title, text, figure=self._looked(one), caption=title))
        return [*found, Section("The data", f"Answers are told by {self.way.name}.", asked)]

    def _evidence(self, evaluation: Evaluation) -> list[Section]:
        details = evaluation.details
        models = evaluation.table["model"].tolist()
        found = [
            Section(
                "How well it answers",
                "On questions over stories that fit had held out. " + " ".join(evaluation.notes),
                evaluation.table,
                best=evaluation.best,
            )
        ]
        if details["kind"].nunique() > 1:
            by_kind, best = scoring.by_kind(details, models), dict.fromkeys(models, "high")
            found.append(Section("Kind by kind", "The share that is right.", by_kind, best=best))
        columns = ["question", "right", models[0]]
        return [*found, Section("Examples", "The first of the held-out test.", details.loc[: _EXAMPLES - 1, columns])]

    def example_sequences(self, data: Any, example: int = 1) -> list[ExampleSequence]:
        """Questions with their stories, from number ``example`` (from 1) on."""
        self.model  # noqa: B018
        questions = self.read(data)
        if not 1 <= example <= len(questions):
            raise DataError(f"there is no question {example}: {questions.name} has 1 to {len(questions)}")
        some = questions.items[example - 1 : example - 1 + _MOST_LOOKS]
        source = self.way.inputs(some, self)
        device = next(self.network.parameters()).device
        found = []
        for i, one in enumerate(some):
            labels = [shown(step) for step in self.way.steps(one, self)]
            inputs = source.batch(np.array([i])).inputs.to(device)
            found.append(
                ExampleSequence(inputs, name=f"question {example + i}", labels=labels, annotations=annotations(labels))
            )
        return found

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "way": self.way.name,
            "temperature": self.temperature,
            "most_frequent": self._most_frequent_answer,
            **self.way.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._most_frequent_answer, self.temperature = str(state["most_frequent"]), float(state["temperature"])
        if not np.isfinite(self.temperature) or self.temperature <= 0:
            raise ValueError("its temperature is none")
        self._way = WAYS[state["way"]]()
        self._way.load_state(state)
