"""Two answer models: classification among the training answers, and extraction of a span of the story.

An answer model encodes questions, builds the network and decodes its outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from lstmkit.data.batch import Batch, Source
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.text.question_answering import StoryDataset
from lstmkit.data.text.questions import ClassificationCodec, Question, SpanCodec
from lstmkit.data.text.tokenizer import PAD, UNKNOWN, Tokenizer
from lstmkit.jobs.question_answerer.settings import QuestionAnswererSettings
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceClassifier, SpanModel
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.encoders import QuestionPassageEncoder, StoryEncoder
from lstmkit.modules.pooling import AttentionPool, MultiHopPool
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

C = TypeVar("C", ClassificationCodec, SpanCodec)


class TrainingData(NamedTuple):
    """Questions with an answer that the model can learn.

    Attributes:
        source: The encoded questions with their targets.
        targets: ``(N, K)``: the right one of ``C`` classes or steps, for each of ``K`` outputs.
        num_left_out: How many other questions there are.
    """

    source: Source
    targets: np.ndarray
    num_left_out: int


class AnswerModel(ABC, Generic[C]):
    """Encodes questions, builds the network and decodes its outputs.

    Args:
        settings: The job's.
        codec: Encodes questions and decodes logits.
    """

    name: ClassVar[str]

    def __init__(self, settings: QuestionAnswererSettings, codec: C) -> None:
        self.settings = settings
        self.codec = codec

    @property
    def tokenizer(self) -> Tokenizer:
        """Splits stories and questions into tokens."""
        return self.codec.tokenizer

    @classmethod
    @abstractmethod
    def fitted(cls, settings: QuestionAnswererSettings, train: Sequence[Question], progress: Progress) -> Self:
        """The model with vocabulary and classes of the training split."""

    @abstractmethod
    def training_data(self, questions: Sequence[Question]) -> TrainingData:
        """Encode the questions whose answer can be learned."""

    @abstractmethod
    def source(self, questions: Sequence[Question]) -> Source:
        """Encode all questions, without targets."""

    @abstractmethod
    def build(self) -> Model:
        """Create an untrained network."""

    @abstractmethod
    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        """The network's output as logits ``(K, C)`` for each question: ``K`` outputs with ``C`` classes or steps."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was fitted, ready for JSON."""

    @classmethod
    @abstractmethod
    def from_state(cls, settings: QuestionAnswererSettings, state: Mapping[str, Any]) -> Self:
        """The model that :meth:`state` describes. Raises ValueError if the state is damaged."""


def build_tokenizer(texts: Sequence[str], settings: QuestionAnswererSettings, progress: Progress) -> Tokenizer:
    """The vocabulary of words and punctuation of the training split; id 0 is padding."""
    return Tokenizer.fit(
        texts,
        "words",
        min_count=settings.min_count,
        lowercase=settings.lowercase,
        special_tokens=(PAD, UNKNOWN),
        progress=progress,
        num_lines=len(texts),
    )


def load_tokenizer(content: str) -> Tokenizer:
    """A saved tokenizer.

    Raises:
        ValueError: The vocabulary has no padding token with id 0.
    """
    tokenizer = Tokenizer("words", content)
    if PAD not in tokenizer or tokenizer[PAD] != 0:
        raise ValueError("the vocabulary has no padding token")
    return tokenizer


def build_story_encoder(settings: QuestionAnswererSettings, input_size: int) -> RecurrentLayer:
    """The bidirectional recurrent layers that read the story."""
    return build_trunk(
        settings.cell,
        input_size,
        settings.hidden_size,
        num_layers=settings.num_layers,
        dropout=settings.dropout,
        variational=True,
        bidirectional=True,
    )


class AnswerClassifier(AnswerModel[ClassificationCodec]):
    """Classifies a question into one of the training answers.

    The network encodes each sentence, then attends to the sentences in several hops, starting from the question.

    Args:
        settings: The job's.
        tokenizer: Splits stories and questions into tokens.
        answers: The classes.
    """

    name: ClassVar[str] = "classification"

    def __init__(self, settings: QuestionAnswererSettings, tokenizer: Tokenizer, answers: Sequence[str]) -> None:
        super().__init__(settings, ClassificationCodec(tokenizer, answers, settings.max_tokens, settings.max_sentences))
        self.answers = self.codec.answers

    @classmethod
    def fitted(cls, settings: QuestionAnswererSettings, train: Sequence[Question], progress: Progress) -> Self:
        texts = [text for question in train for text in (question.question, question.story)]
        counts = Counter(question.answer for question in train)
        answers = sorted(counts, key=lambda answer: (-counts[answer], answer))
        return cls(settings, build_tokenizer(texts, settings, progress), answers)

    def training_data(self, questions: Sequence[Question]) -> TrainingData:
        class_ids = {answer: i for i, answer in enumerate(self.answers)}
        known = [question for question in questions if question.answer in class_ids]
        targets = np.array([class_ids[question.answer] for question in known], dtype=np.int64)
        source = StoryDataset(self.codec.encode(known), targets)
        return TrainingData(source, targets[:, None], len(questions) - len(known))

    def source(self, questions: Sequence[Question]) -> Source:
        return StoryDataset(self.codec.encode(questions))

    def build(self) -> Model:
        settings = self.settings
        width = settings.hidden_size + settings.hidden_size % 2
        encoder = StoryEncoder(len(self.tokenizer), settings.embedding_size or width, width, settings.input_dropout)
        trunk = build_story_encoder(settings, encoder.output_size)
        pool = MultiHopPool(trunk.output_size, settings.hops)
        head = ClassificationHead(pool.output_size, len(self.answers), dropout=settings.dropout)
        return SequenceClassifier(encoder, trunk, pool, head)

    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        return list(output.float().cpu().numpy()[:, None])

    def hop_weights(self, network: Model, question: Question) -> np.ndarray:
        """``(hops, N)``: the attention of each hop to each sentence of the story."""
        network.eval()
        assert isinstance(network, SequenceClassifier)
        assert isinstance(network.pool, MultiHopPool)
        batch = self.source([question]).batch(np.array([0])).to(next(network.parameters()).device)
        with torch.no_grad():
            steps, _ = network.trunk(network.encoder(batch.inputs), None, batch.lengths)
            return network.pool.attend(steps, batch.lengths)[1][0].float().cpu().numpy()

    def state(self) -> dict[str, Any]:
        return {"words": self.tokenizer.to_json(), "answers": list(self.answers)}

    @classmethod
    def from_state(cls, settings: QuestionAnswererSettings, state: Mapping[str, Any]) -> Self:
        tokenizer, answers = load_tokenizer(state["words"]), state["answers"]
        if not answers or not all(isinstance(answer, str) for answer in answers):
            raise ValueError("the answers are not a list of texts")
        return cls(settings, tokenizer, answers)


class SpanExtractor(AnswerModel[SpanCodec]):
    """Extracts a span of the passage.

    The network reads question and passage as one sequence and points at the first and the last token of the answer.
    """

    name: ClassVar[str] = "span"

    def __init__(self, settings: QuestionAnswererSettings, tokenizer: Tokenizer) -> None:
        super().__init__(settings, SpanCodec(tokenizer, settings.max_tokens, settings.max_answer_tokens))

    @classmethod
    def fitted(cls, settings: QuestionAnswererSettings, train: Sequence[Question], progress: Progress) -> Self:
        texts = [*dict.fromkeys(question.story for question in train), *(question.question for question in train)]
        return cls(settings, build_tokenizer(texts, settings, progress))

    def training_data(self, questions: Sequence[Question]) -> TrainingData:
        steps = [self._answer_steps(question) for question in questions]
        known = [
            (self.codec.encode(question), ends)
            for question, ends in zip(questions, steps, strict=True)
            if ends is not None
        ]
        targets = np.array([ends for _, ends in known], dtype=np.int64).reshape(-1, 2)
        source = Sequences([inputs for inputs, _ in known], targets)
        return TrainingData(source, targets, len(questions) - len(known))

    def source(self, questions: Sequence[Question]) -> Source:
        return Sequences([self.codec.encode(question) for question in questions])

    def _answer_steps(self, question: Question) -> tuple[int, int] | None:
        """The first and last time step of the answer; ``None`` if it does not occur in what is read."""
        answer = question.answer
        start = question.start if question.start >= 0 else question.story.lower().find(answer.lower())
        if start < 0 or not answer:
            return None
        spans = self.codec.token_spans(question)
        inside = [i for i, (first, end) in enumerate(spans) if end > start and first < start + len(answer)]
        if not inside or spans[-1][1] < start + len(answer):
            return None
        offset = self.codec.question_length(question)
        return offset + inside[0], offset + inside[-1]

    def build(self) -> Model:
        settings = self.settings
        encoder = QuestionPassageEncoder(
            len(self.tokenizer), settings.embedding_size or settings.hidden_size, settings.input_dropout
        )
        trunk = build_story_encoder(settings, encoder.output_size)
        return SpanModel(encoder, trunk, AttentionPool(trunk.output_size), settings.dropout)

    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        assert batch.lengths is not None
        logits = output.double().cpu().numpy()  # the lowest number of single precision can be divided in double
        return [question[:n].T for question, n in zip(logits, batch.lengths.tolist(), strict=True)]

    def state(self) -> dict[str, Any]:
        return {"words": self.tokenizer.to_json()}

    @classmethod
    def from_state(cls, settings: QuestionAnswererSettings, state: Mapping[str, Any]) -> Self:
        return cls(settings, load_tokenizer(state["words"]))


ANSWER_MODELS: dict[str, type[AnswerClassifier | SpanExtractor]] = {
    cls.name: cls for cls in (AnswerClassifier, SpanExtractor)
}


def choose_answer_model(train: Sequence[Question]) -> type[AnswerClassifier | SpanExtractor]:
    """Span extraction if most answers occur in their story and only once in the data, else classification."""
    counts = Counter(question.answer.lower() for question in train)
    num_unique = sum(counts[question.answer.lower()] == 1 for question in train)
    num_in_story = sum(question.answer.lower() in question.story.lower() for question in train)
    return SpanExtractor if 2 * num_unique > len(train) and 2 * num_in_story > len(train) else AnswerClassifier
