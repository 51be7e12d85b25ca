"""What the question answerer's ``fit`` leaves: vocabulary, answers, network and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader, Source
from lstmkit.data.text.questions import AnswerPrediction, Question
from lstmkit.evaluation.calibration import TemperatureScaling, fit_temperature
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.question_answerer.methods import (
    ANSWER_MODELS,
    AnswerClassifier,
    SpanExtractor,
    TrainingData,
    choose_answer_model,
)
from lstmkit.jobs.question_answerer.settings import QuestionAnswererSettings
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

_OLD_ANSWER_TYPES = {"choice": "classification"}  # as version 0.1 saved them


class QuestionAnswererPredictor(Predictor[QuestionAnswererSettings]):
    """Answers questions about stories.

    Args:
        settings: The settings that it is fitted with.
        answer_model: Encodes questions and decodes answers.
        most_frequent_answer: Of the training split; a baseline.

    Attributes:
        scaling: Calibrates the probabilities.
    """

    def __init__(
        self,
        settings: QuestionAnswererSettings,
        answer_model: AnswerClassifier | SpanExtractor,
        most_frequent_answer: str,
    ) -> None:
        super().__init__(settings)
        self.answer_model = answer_model
        self.most_frequent_answer = most_frequent_answer
        self.scaling = TemperatureScaling()

    @classmethod
    def fitted(
        cls,
        settings: QuestionAnswererSettings,
        train: Sequence[Question],
        most_frequent_answer: str,
        progress: Progress,
    ) -> Self:
        """Choose the answer model and fit vocabulary and answers to the training split."""
        chosen = settings.answer_type
        model_class = choose_answer_model(train) if chosen == "auto" else ANSWER_MODELS[chosen]
        return cls(settings, model_class.fitted(settings, train, progress), most_frequent_answer)

    @property
    def answer_type(self) -> str:
        """``"classification"`` or ``"span"``."""
        return self.answer_model.name

    def build(self) -> Model:
        return self.answer_model.build()

    def training_data(self, questions: Sequence[Question]) -> TrainingData:
        """Encode the questions whose answer can be learned, with their targets."""
        return self.answer_model.training_data(questions)

    def logits(self, questions: Sequence[Question], progress: Progress | None = None) -> list[np.ndarray]:
        """Logits ``(K, C)`` for each question: ``K`` outputs with ``C`` classes or time steps."""
        return self._logits(self.answer_model.source(questions), progress)

    def _logits(self, source: Source, progress: Progress | None) -> list[np.ndarray]:
        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            return self.answer_model.logits(model(batch.inputs, None, batch.lengths)[0], batch)

        loader = Loader(source, 4 * self.settings.batch_size)
        return predict(self.model, loader, decode, device=self.device, progress=progress, title="answering")

    def to_prediction(self, question: Question, logits: np.ndarray) -> AnswerPrediction:
        """The most probable answer, with its calibrated probability."""
        return self.answer_model.codec.to_prediction(question, logits, self.scaling.temperature)

    def answers(self, questions: Sequence[Question], progress: Progress | None = None) -> list[AnswerPrediction]:
        """The most probable answer to each question."""
        pairs = zip(questions, self.logits(questions, progress), strict=True)
        return [self.to_prediction(question, logits) for question, logits in pairs]

    def calibrate(self, valid: Sequence[Question], progress: Progress) -> None:
        """Fit the temperature to the validation split; it stays 1 if no answer of it can be learned."""
        source, targets, _ = self.training_data(valid)
        if len(targets):
            logits = self._logits(source, progress)
            width = max(array.shape[1] for array in logits)
            lowest = float(np.finfo(np.float32).min)
            padded = [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=lowest) for array in logits]
            self.scaling = fit_temperature(np.concatenate(padded), targets.reshape(-1))

    def state(self) -> dict[str, Any]:
        return {
            "way": self.answer_type,
            **self.scaling.state(),
            "most_frequent": self.most_frequent_answer,
            **self.answer_model.state(),
        }

    @classmethod
    def from_state(cls, settings: QuestionAnswererSettings, state: Mapping[str, Any]) -> Self:
        name: Any = _OLD_ANSWER_TYPES.get(state["way"], state["way"])
        answer_model = ANSWER_MODELS[name].from_state(settings, state)
        predictor = cls(settings, answer_model, str(state["most_frequent"]))
        predictor.scaling = TemperatureScaling.from_state(state)
        return predictor
