"""Two ways to answer a question over a story: one of the answers that training has seen, or words of the story.

Both read, build a network, and make an answer of what it says; all else is one job (``answerer.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import softmax
from torch import Tensor

from lstmkit.data.batch import Batch, Source
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.text.question_answering import Question, StoryDataset
from lstmkit.data.text.tokenizer import PAD, UNKNOWN, Tokenizer
from lstmkit.jobs.common.token_labels import shown
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceClassifier, SpanModel
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.encoders import QuestionPassageEncoder, StoryEncoder
from lstmkit.modules.pooling import AttentionPool, MultiHopPool
from lstmkit.modules.trunk import build_trunk
from lstmkit.plots.text import shaded_text, story_figure
from lstmkit.progress import Progress

if TYPE_CHECKING:
    from lstmkit.jobs.question_answerer.job import QuestionAnswerer


class Found(NamedTuple):
    """An answer: its text, its probability, and where in the story it stands, in characters, -1 for nowhere."""

    text: str
    probability: float
    start: int = -1


class Way(Protocol):
    """What the job asks of a way to answer."""

    name: ClassVar[str]

    def fit(self, train: Sequence[Question], job: QuestionAnswerer, progress: Progress) -> None:
        """Learn vocabulary and answers from the training part."""
        ...

    def source(self, questions: Sequence[Question], job: QuestionAnswerer) -> tuple[Source, np.ndarray, int]:
        """Those that can be learnt from, their targets, and how many cannot."""
        ...

    def inputs(self, questions: Sequence[Question], job: QuestionAnswerer) -> Source:
        """All of them, to be answered."""
        ...

    def build(self, job: QuestionAnswerer) -> Model:
        """A fresh network."""
        ...

    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        """What the network says of each question, ``(K, C)``: ``K`` choices between ``C``."""
        ...

    def found(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Found:
        """The answer that this amounts to."""
        ...

    def picture(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Figure:
        """Where it looked."""
        ...

    def steps(self, question: Question, job: QuestionAnswerer) -> list[str]:
        """What stands at each step of the recurrent layers."""
        ...

    def state(self) -> dict[str, Any]:
        """What was learnt, ready for JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave; ``ValueError`` where it does not fit together."""
        ...


def said(question: Question, found: Found) -> str:
    """A question and its answer, in a line."""
    return f"{question.question} {found.text or '(nothing)'} ({found.probability:.2f})"


def vocabulary(texts: Sequence[str], job: QuestionAnswerer, progress: Progress) -> Tokenizer:
    """Words and punctuation of the training part; 0 is none."""
    return Tokenizer.fit(
        texts,
        "words",
        at_least=job.at_least,
        lower=job.lower,
        special=(PAD, UNKNOWN),
        progress=progress,
        count=len(texts),
    )


def reader(job: QuestionAnswerer, input_size: int) -> RecurrentLayer:
    """The layer that reads the story, both ways."""
    return build_trunk(
        job.cell,
        input_size,
        job.hidden_size,
        num_layers=job.num_layers,
        dropout=job.dropout,
        variational=True,
        bidirectional=True,
    )


def load_tokenizer(content: str) -> Tokenizer:
    """A saved one.

    Raises:
        ValueError: It is none.
    """
    words = Tokenizer("words", content)
    if PAD not in words or words[PAD] != 0:
        raise ValueError("its vocabulary has no padding")
    return words


@dataclass
class Choice:
    """One of the answers that training has seen: sentences are read one by one, then the question asks them."""

    name: ClassVar[str] = "choice"
    _words: Tokenizer | None = field(default=None, init=False)
    _answers: tuple[str, ...] = field(default=(), init=False)

    def fit(self, train: Sequence[Question], job: QuestionAnswerer, progress: Progress) -> None:
        self._words = vocabulary([text for one in train for text in (one.question, one.story)], job, progress)
        counts = Counter(one.answer for one in train)
        self._answers = tuple(sorted(counts, key=lambda answer: (-counts[answer], answer)))

    def source(self, questions: Sequence[Question], job: QuestionAnswerer) -> tuple[Source, np.ndarray, int]:
        number = {answer: i for i, answer in enumerate(self._answers)}
        kept = [one for one in questions if one.answer in number]
        targets = np.array([number[one.answer] for one in kept], dtype=np.int64)
        return StoryDataset(self._encoded(kept, job), targets), targets[:, None], len(questions) - len(kept)

    def inputs(self, questions: Sequence[Question], job: QuestionAnswerer) -> Source:
        return StoryDataset(self._encoded(questions, job))

    def _encoded(self, questions: Sequence[Question], job: QuestionAnswerer) -> list[list[np.ndarray]]:
        """Of each its sentences by their words' numbers, the question first."""
        assert self._words is not None
        read = [self.steps(one, job) for one in questions]
        texts = list(dict.fromkeys(text for of_one in read for text in of_one))
        blank = [self._words[UNKNOWN]]
        words = zip(texts, self._words.encode(texts), strict=True)
        # A sentence without end would fill up all others of its batch.
        ids = {text: np.array(found[: job.most_words] or blank) for text, found in words}
        return [[ids[text] for text in of_one] for of_one in read]

    def build(self, job: QuestionAnswerer) -> Model:
        assert self._words is not None
        width = job.hidden_size + job.hidden_size % 2
        encoder = StoryEncoder(len(self._words), job.embed_size or width, width, job.input_dropout)
        trunk = reader(job, encoder.output_size)
        pool = MultiHopPool(trunk.output_size, job.hops)
        return SequenceClassifier(
            encoder, trunk, pool, ClassificationHead(pool.output_size, len(self._answers), dropout=job.dropout)
        )

    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        return list(output.float().cpu().numpy()[:, None])

    def found(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Found:
        stated = softmax(logits[0] / job.temperature)
        return Found(self._answers[int(stated.argmax())], float(stated.max()))

    def picture(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Figure:
        """The story's sentences, and what each hop of the first network attended to."""
        network = job.network.eval()
        assert isinstance(network, SequenceClassifier)
        assert isinstance(network.pool, MultiHopPool)
        batch = self.inputs([question], job).batch(np.array([0])).to(next(network.parameters()).device)
        with torch.no_grad():
            steps, _ = network.trunk(network.encoder(batch.inputs), None, batch.lengths)
            weights = network.pool.asked(steps, batch.lengths)[1][0]
        title = said(question, self.found(question, logits, job))
        return story_figure(self.steps(question, job)[1:], weights.float().cpu().numpy(), title)

    def steps(self, question: Question, job: QuestionAnswerer) -> list[str]:
        """The question, and the last sentences of its story."""
        return [question.question, *question.sentences[-job.most_sentences :]]

    def state(self) -> dict[str, Any]:
        assert self._words is not None
        return {"words": self._words.to_json(), "answers": list(self._answers)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._words, names = load_tokenizer(state["words"]), state["answers"]
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("its answers are none")
        self._answers = tuple(names)


@dataclass
class Span:
    """Words of the story: question and passage are read as one, then two steps are pointed at."""

    name: ClassVar[str] = "span"
    _words: Tokenizer | None = field(default=None, init=False)

    def fit(self, train: Sequence[Question], job: QuestionAnswerer, progress: Progress) -> None:
        self._words = vocabulary([*dict.fromkeys(one.story for one in train), *(one.question for one in train)],
                                 job, progress)  # fmt: skip

    def source(self, questions: Sequence[Question], job: QuestionAnswerer) -> tuple[Source, np.ndarray, int]:
        read = [self._encoded(one, job) for one in questions]
        ends = [self._ends(one, job) for one in questions]
        kept = [(steps, where) for steps, where in zip(read, ends, strict=True) if where is not None]
        targets = np.array([where for _, where in kept], dtype=np.int64).reshape(-1, 2)
        return Sequences([steps for steps, _ in kept], targets), targets, len(questions) - len(kept)

    def inputs(self, questions: Sequence[Question], job: QuestionAnswerer) -> Source:
        return Sequences([self._encoded(one, job) for one in questions])

    @property
    def words(self) -> Tokenizer:
        """What cuts texts into words."""
        assert self._words is not None
        return self._words

    def _encoded(self, one: Question, job: QuestionAnswerer) -> np.ndarray:
        """``(T, 3)``: word, whether it is the passage's, and whether the question has it too."""
        blank = [self.words[UNKNOWN]]
        both = self.words.encode([one.question, one.story])
        asked, read = (ids[: job.most_words] or blank for ids in both)
        known = {piece.lower() for piece in self.words.pieces(one.question)}
        same = [piece.lower() in known for piece in self.words.pieces(one.story)[: job.most_words]] or [False]
        passage = np.repeat([0, 1], [len(asked), len(read)])
        return np.stack([[*asked, *read], passage, [*[0] * len(asked), *same]], 1).astype(np.int64)

    def _spans(self, one: Question, job: QuestionAnswerer) -> list[tuple[int, int]]:
        """From where to where each word of the passage that is read stands in it."""
        return self.words.spans(one.story)[: job.most_words]

    def _ends(self, one: Question, job: QuestionAnswerer) -> tuple[int, int] | None:
        """The steps at which the answer begins and ends; None if it does not stand in what is read."""
        start = one.start if one.start >= 0 else one.story.lower().find(one.answer.lower())
        if start < 0 or not one.answer:
            return None
        spans = self._spans(one, job)
        inside = [i for i, (a, b) in enumerate(spans) if b > start and a < start + len(one.answer)]
        if not inside or spans[-1][1] < start + len(one.answer):
            return None
        before = self._asked(one, job)
        return before + inside[0], before + inside[-1]

    def _asked(self, one: Question, job: QuestionAnswerer) -> int:
        """How many steps the question takes."""
        return max(1, len(self.words.pieces(one.question)[: job.most_words]))

    def build(self, job: QuestionAnswerer) -> Model:
        encoder = QuestionPassageEncoder(len(self.words), job.embed_size or job.hidden_size, job.input_dropout)
        trunk = reader(job, encoder.output_size)
        return SpanModel(encoder, trunk, AttentionPool(trunk.output_size), job.dropout)

    def logits(self, output: Tensor, batch: Batch) -> list[np.ndarray]:
        assert batch.lengths is not None
        told = output.double().cpu().numpy()  # the lowest number of single precision can be divided in double
        return [one[:n].T for one, n in zip(told, batch.lengths.tolist(), strict=True)]

    def found(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Found:
        """The most probable span."""
        spans = self._spans(question, job)
        if not spans:
            return Found("", 1.0)
        stated = self._span_probabilities(question, logits, job)
        first, last = np.unravel_index(stated.argmax(), stated.shape)
        start, end = spans[first][0], spans[last][1]
        return Found(question.story[start:end], float(stated[first, last]), start)

    def _span_probabilities(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> np.ndarray:
        """``(n, n)``: how probable it is that the answer goes from one word to another, of at most ``longest``."""
        begins, ends = (logits / job.temperature)[:, self._asked(question, job) :]
        pairs = np.ones((len(begins), len(ends)), dtype=bool)
        allowed = np.triu(pairs) & ~np.triu(pairs, job.longest)
        return softmax(np.where(allowed, begins[:, None] + ends[None, :], -np.inf))

    def picture(self, question: Question, logits: np.ndarray, job: QuestionAnswerer) -> Figure:
        """The passage; dark is what the answer probably covers."""
        stated = self._span_probabilities(question, logits, job)
        until = stated.cumsum(0)[:, ::-1].cumsum(1)[:, ::-1]  # begins at a word or before it, ends at another or later
        words = [shown(word) for word in self.steps(question, job)[self._asked(question, job) :]]
        covers = until.diagonal().tolist()
        title = said(question, self.found(question, logits, job))
        return shaded_text(words, covers, "probability that the answer covers it", max(covers), title)

    def steps(self, question: Question, job: QuestionAnswerer) -> list[str]:
        """The question's words, and the passage's."""
        asked, read = (self.words.pieces(text)[: job.most_words] for text in (question.question, question.story))
        return [*(asked or ["∅"]), *(read or ["∅"])]

    def state(self) -> dict[str, Any]:
        return {"words": self.words.to_json()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._words = load_tokenizer(state["words"])


WAYS: dict[str, type[Choice] | type[Span]] = {Choice.name: Choice, Span.name: Span}


def choose_answer_model(train: Sequence[Question]) -> Way:
    """A span where most answers stand in their story and are not given again, else a choice."""
    counts = Counter(one.answer.lower() for one in train)
    once = sum(counts[one.answer.lower()] == 1 for one in train)
    inside = sum(one.answer.lower() in one.story.lower() for one in train)
    return Span() if 2 * once > len(train) and 2 * inside > len(train) else Choice()
