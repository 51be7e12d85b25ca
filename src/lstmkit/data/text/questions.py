"""Questions about texts, encoded for a network, and answers, decoded from its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.text.lines import split_sentences
from lstmkit.data.text.tokenizer import UNKNOWN, Tokenizer
from lstmkit.errors import DataError, one_line


@dataclass(frozen=True)
class Question:
    """One question about a text.

    Attributes:
        story: The text; it may have several lines.
        question: The question.
        answers: Correct answers, the first for training; empty if unknown.
        start: Character offset of the first answer in the text; -1 if unknown.
        kind: Type of question, for separate scores; may be empty.
        group: Questions of one group are never split between training, validation and test.

    >>> Question("Mary left. Tom stayed.", "Who left?", ("Mary",)).sentences
    ['Mary left.', 'Tom stayed.']
    """

    story: str
    question: str
    answers: tuple[str, ...] = ()
    start: int = -1
    kind: str = ""
    group: str = ""

    @property
    def answer(self) -> str:
        """The answer for training; empty if unknown."""
        return self.answers[0] if self.answers else ""

    @property
    def sentences(self) -> list[str]:
        """Sentences of the text."""
        return split_sentences(self.story)


def question_from_entry(entry: Any, number: int) -> Question:
    """A question of ``(story, question)`` or ``(story, question, answer)``; ``number`` counts from 1 in messages.

    Raises:
        DataError: The entry is something else.
    """
    if isinstance(entry, Question):
        return entry
    if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3) or not all(isinstance(e, str) for e in entry):
        raise DataError(f"question {number} is {one_line(repr(entry))}: give each as (story, question, answer)")
    story, question, *answer = entry
    return Question(story, question.strip(), tuple(a.strip() for a in answer if a.strip()), group=story)


class AnswerPrediction(NamedTuple):
    """A predicted answer.

    Attributes:
        text: The answer.
        probability: Its calibrated probability.
        start: The character of the story at which it starts; -1 if it is not a span.
    """

    text: str
    probability: float
    start: int = -1


class ClassificationCodec:
    """Encodes questions for a network that classifies them into known answers, and decodes its logits.

    Args:
        tokenizer: Splits stories and questions into tokens; id 0 is padding.
        answers: The ``C`` classes.
        max_tokens: Maximum number of tokens of a sentence.
        max_sentences: Maximum number of sentences of a story; the last ones are read.
    """

    def __init__(self, tokenizer: Tokenizer, answers: Sequence[str], max_tokens: int, max_sentences: int) -> None:
        self.tokenizer, self.answers = tokenizer, tuple(answers)
        self.max_tokens, self.max_sentences = max_tokens, max_sentences

    def step_labels(self, question: Question) -> list[str]:
        """The question, then the last sentences of its story."""
        return [question.question, *question.sentences[-self.max_sentences :]]

    def encode(self, questions: Sequence[Question]) -> list[list[np.ndarray]]:
        """The token ids ``(W,)`` of every sentence, for each question; the question is the first sentence."""
        stories = [self.step_labels(question) for question in questions]
        texts = list(dict.fromkeys(text for story in stories for text in story))
        encoded = zip(texts, self.tokenizer.encode(texts), strict=True)
        # One sentence of any length would pad all others of its batch.
        ids = {text: np.array(tokens[: self.max_tokens] or [self.tokenizer[UNKNOWN]]) for text, tokens in encoded}
        return [[ids[text] for text in story] for story in stories]

    def to_prediction(self, question: Question, logits: np.ndarray, temperature: float) -> AnswerPrediction:
        """The most probable answer, from logits ``(1, C)``."""
        probabilities = _softmax(logits[0] / temperature)
        return AnswerPrediction(self.answers[int(probabilities.argmax())], float(probabilities.max()))


class SpanCodec:
    """Encodes questions for a network that points at the answer's first and last token, and decodes its logits.

    Args:
        tokenizer: Splits stories and questions into tokens; id 0 is padding.
        max_tokens: Maximum number of tokens of a question, and of a passage.
        max_answer_tokens: Maximum number of tokens of an answer.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, max_answer_tokens: int) -> None:
        self.tokenizer, self.max_tokens, self.max_answer_tokens = tokenizer, max_tokens, max_answer_tokens

    def step_labels(self, question: Question) -> list[str]:
        """The tokens of the question, then those of the passage."""
        texts = (question.question, question.story)
        of_question, of_story = (self.tokenizer.tokenize(text)[: self.max_tokens] for text in texts)
        return [*(of_question or ["∅"]), *(of_story or ["∅"])]

    def encode(self, question: Question) -> np.ndarray:
        """``(T, 3)``: token id, whether the token is of the passage, and whether the question has the same token."""
        longest = self.max_tokens
        both = self.tokenizer.encode([question.question, question.story])
        question_ids, story_ids = (ids[:longest] or [self.tokenizer[UNKNOWN]] for ids in both)
        question_tokens = {token.lower() for token in self.tokenizer.tokenize(question.question)}
        matches = [token.lower() in question_tokens for token in self.tokenizer.tokenize(question.story)[:longest]]
        is_passage = np.repeat([0, 1], [len(question_ids), len(story_ids)])
        columns = [[*question_ids, *story_ids], is_passage, [*[0] * len(question_ids), *(matches or [False])]]
        return np.stack(columns, 1).astype(np.int64)

    def token_spans(self, question: Question) -> list[tuple[int, int]]:
        """First and last character of each token of the passage that is read."""
        return self.tokenizer.spans(question.story)[: self.max_tokens]

    def question_length(self, question: Question) -> int:
        """The number of time steps before the passage."""
        return max(1, len(self.tokenizer.tokenize(question.question)[: self.max_tokens]))

    def to_prediction(self, question: Question, logits: np.ndarray, temperature: float) -> AnswerPrediction:
        """The most probable answer, from logits ``(2, T)`` of its first and last token."""
        spans = self.token_spans(question)
        if not spans:
            return AnswerPrediction("", 1.0)
        probabilities = self.span_probabilities(question, logits, temperature)
        first, last = np.unravel_index(probabilities.argmax(), probabilities.shape)
        start, end = spans[first][0], spans[last][1]
        return AnswerPrediction(question.story[start:end], float(probabilities[first, last]), start)

    def span_probabilities(self, question: Question, logits: np.ndarray, temperature: float) -> np.ndarray:
        """``(N, N)``: the probability of every span of at most ``max_answer_tokens``, by its first and last token."""
        starts, ends = (logits / temperature)[:, self.question_length(question) :]
        pairs = np.ones((len(starts), len(ends)), dtype=bool)
        allowed = np.triu(pairs) & ~np.triu(pairs, self.max_answer_tokens)
        return _softmax(np.where(allowed, starts[:, None] + ends[None, :], -np.inf))

    def token_probabilities(self, question: Question, logits: np.ndarray, temperature: float) -> np.ndarray:
        """``(N,)``: the probability that the answer covers each token of the passage."""
        spans = self.span_probabilities(question, logits, temperature)
        return spans.cumsum(0)[:, ::-1].cumsum(1)[:, ::-1].diagonal()  # starts there or before, ends there or later


def pad_stories(stories: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Sentences ``(W,)`` of each story as one array ``(B, N, W)``, padded with 0.

    >>> pad_stories([[np.array([3, 4]), np.array([5])], [np.array([6])]]).tolist()
    [[[3, 4], [5, 0]], [[6, 0], [0, 0]]]
    """
    max_sentences, max_words = max(map(len, stories)), max(len(sentence) for story in stories for sentence in story)
    padded = np.zeros((len(stories), max_sentences, max_words), dtype=np.int64)
    for row, story in zip(padded, stories, strict=True):
        for i, sentence in enumerate(story):
            row[i, : len(sentence)] = sentence
    return padded


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over all values."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
