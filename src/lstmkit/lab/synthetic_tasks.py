"""The long-lag tasks: sequences drawn at will, whose answer hangs on something seen long before.

Their rules, and when an answer counts as right, are those of Hochreiter and Schmidhuber 1997, "Long Short-Term Memory",
Neural Computation 9(8), section 5; copy memory is Arjovsky, Shah and Bengio's (2016, "Unitary Evolution Recurrent
Neural Networks", section 4.1). Every example follows from a seed and its number alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch, beside
from lstmkit.modules.heads import LastStepRegressionHead, StepClassificationHead, last_step


class Example(NamedTuple):
    """One sequence.

    Attributes:
        steps: ``(T, input_size)``.
        target: A number, a class, or a class for each step ``(T,)``, -1 where none is asked for.
        legal: ``(T, classes)`` which answers are legal, for tasks with several.
    """

    steps: np.ndarray
    target: float | int | np.ndarray
    legal: np.ndarray | None = None


@dataclass(frozen=True)
class Task(ABC):
    """One kind of sequence and its answer.

    Attributes:
        length: About how many steps: the paper's T, or its lag.
    """

    length: int

    title: ClassVar[str]
    input_size: ClassVar[int]

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Example:
        """One sequence and its answer."""

    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """What answers from features ``(B, T, width)``."""

    @abstractmethod
    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Which of the head's answers ``(B, T, outputs)`` count as right, ``(B,)``."""

    def __post_init__(self) -> None:
        if self.length < self.shortest:
            raise ValueError(f"{self.title}: length must be at least {self.shortest}, got {self.length}")

    shortest: ClassVar[int] = 1


class _RegressionTask(Task):
    """A number to be told at the end; right within 0.04."""

    def head(self, width: int) -> nn.Module:
        return LastStepRegressionHead(width)

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return (last_step(outputs, batch.lengths)[:, 0] - batch.targets).abs() < 0.04


class _ClassificationTask(Task):
    """A class to be told at the end; right if the error of every output is below ``tolerance``."""

    classes: ClassVar[int]
    tolerance: ClassVar[float] = 0.3

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        wanted = torch.nn.functional.one_hot(batch.targets, self.classes)
        return ((last_step(outputs, batch.lengths).softmax(-1) - wanted).abs() < self.tolerance).all(-1)


class Adding(_RegressionTask):
    """Experiment 4: two of the numbers, uniform in -1…1, are marked; the answer is ``0.5 + (X1 + X2) / 4``."""

    title = "adding"
    input_size = 2
    shortest = 20

    def draw(self, rng: np.random.Generator) -> Example:
        steps, first, second = self._marked(rng, -1.0)
        x1 = 0.0 if first == 0 else steps[first, 0]
        x2 = 0.0 if second == 0 else steps[second, 0]
        return Example(steps, float(0.5 + (x1 + x2) / 4))

    def _marked(self, rng: np.random.Generator, low: float) -> tuple[np.ndarray, int, int]:
        """Numbers beside marks: 1 at one of the first ten and at another before the middle, -1 at either end."""
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        steps = np.zeros((n, 2), dtype=np.float32)
        steps[:, 0] = rng.uniform(low, 1.0, n)
        first = int(rng.integers(10))
        second = int(rng.integers(self.length // 2 - 2))
        second += second >= first
        steps[[first, second], 1] = 1.0
        steps[[0, -1], 1] = -1.0  # a first pair that was marked is so no more: its X counts as nothing
        return steps, first, second


class Multiplication(Adding):
    """Experiment 5: as adding, of numbers in 0…1; the answer is their product."""

    title = "multiplication"

    def draw(self, rng: np.random.Generator) -> Example:
        steps, first, second = self._marked(rng, 0.0)
        x1 = 1.0 if first == 0 else steps[first, 0]
        x2 = 1.0 if second == 0 else steps[second, 0]
        return Example(steps, float(x1 * x2))


class TemporalOrder(_ClassificationTask):
    """Experiment 6a: an X or Y stands at one of the steps 10…20, another at 50…60; which came in which order?

    The eight symbols are one-hot: E at the start, B at the end, X, Y, and the distractors a, b, c, d. The windows are
    for T = 100; of another length they are the same shares of it.
    """

    title = "temporal order of two"
    input_size = 8
    classes = 4
    shortest = 20
    windows: ClassVar[tuple[tuple[int, int], ...]] = ((10, 20), (50, 60))  # percent of T

    def draw(self, rng: np.random.Generator) -> Example:
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        symbols = rng.integers(4, 8, n)
        symbols[0], symbols[-1] = 0, 1
        answer = 0
        for low, high in self.windows:
            which = int(rng.integers(2))
            symbols[rng.integers(self.length * low // 100, self.length * high // 100, endpoint=True)] = 2 + which
            answer = 2 * answer + which
        return Example(np.eye(8, dtype=np.float32)[symbols], answer)


class TemporalOrder3(TemporalOrder):
    """Experiment 6b: three such symbols, at steps 10…20, 33…43 and 66…76."""

    title = "temporal order of three"
    classes = 8
    windows = ((10, 20), (33, 43), (66, 76))


class NoisyLag(_ClassificationTask):
    """Experiment 3a: the first three steps are all 1 or all -1; the rest is noise of variance 0.2. Which was it?"""

    title = "two-sequence problem with noise"
    input_size = 1
    classes = 2
    tolerance = 0.2
    shortest = 10

    def draw(self, rng: np.random.Generator) -> Example:
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        answer = int(rng.integers(2))
        steps = rng.normal(0.0, np.sqrt(0.2), (n, 1)).astype(np.float32)
        steps[:3] = 1.0 if answer else -1.0
        return Example(steps, answer)


class LongLag(_ClassificationTask):
    """Experiment 2c: b, then x or y, then at least ``length`` distractors, then e: was it x or y?

    There are 100 distractors. After the lag each step ends the wait with probability 1/10.
    """

    title = "long time lag without local regularities"
    distractors: ClassVar[int] = 100
    input_size = 104
    classes = 2
    tolerance = 0.2

    def draw(self, rng: np.random.Generator) -> Example:
        wait = self.length + int(rng.geometric(0.1)) - 1
        answer = int(rng.integers(2))
        p = self.distractors
        symbols = np.concatenate([[p], [p + 1 + answer], rng.integers(0, p, wait), [p + 3]])
        return Example(np.eye(self.input_size, dtype=np.float32)[symbols], answer)


#: Reber's grammar: from each state, what may come and where it leads; 6 is its end.
_REBER = {
    0: ((0, 1),),
    1: ((1, 2), (2, 3)),
    2: ((3, 2), (4, 4)),
    3: ((1, 3), (5, 5)),
    4: ((3, 6), (4, 3)),
    5: ((2, 4), (5, 6)),
    6: ((6, 7),),
}
_REBER_SYMBOLS = "BTPSXVE"


class EmbeddedReber(Task):
    """Experiment 1: a string of Reber's grammar between two T or two P: which symbols may come next, at every step?

    A sequence is right if at each step every legal symbol has more activation than every illegal one; the last symbol
    but one asks for the second of the whole string. ``length`` plays no part.
    """

    title = "embedded Reber grammar"
    input_size = 7
    classes: ClassVar[int] = 7

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def draw(self, rng: np.random.Generator) -> Example:
        symbol = {name: i for i, name in enumerate(_REBER_SYMBOLS)}
        outer = int(rng.choice([symbol["T"], symbol["P"]]))
        string, legal = [symbol["B"], outer], [[symbol["T"], symbol["P"]]]
        state = 0
        while state != 7:
            ways = _REBER[state]
            legal.append([way for way, _ in ways])
            way, state = ways[int(rng.integers(len(ways)))]
            string.append(way)
        string += [outer, symbol["E"]]
        legal += [[outer], [symbol["E"]]]
        allowed = np.zeros((len(string) - 1, self.classes), dtype=bool)
        for t, ways in enumerate(legal):
            allowed[t, ways] = True
        steps = np.eye(self.input_size, dtype=np.float32)[string[:-1]]
        return Example(steps, np.array(string[1:]), allowed)

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        legal, asked = batch.extras["legal"], batch.targets >= 0
        least = torch.where(legal, outputs, torch.inf).amin(-1)
        most = torch.where(legal, -torch.inf, outputs).amax(-1)
        return ((least > most) | ~asked).all(-1)


class CopyMemory(Task):
    """Ten of eight symbols, ``length`` blanks, a mark: then the ten are to be said again, in order.

    Only those ten steps are scored. In the original the blanks are scored too, and as there are many of them and they
    are easily said, the ten hardly count: after 120,000 sequences of T = 20 no cell had one of them right.
    """

    title = "copy memory"
    input_size = 10
    classes: ClassVar[int] = 8
    said: ClassVar[int] = 10

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def draw(self, rng: np.random.Generator) -> Example:
        symbols = rng.integers(0, 8, self.said)
        blanks = np.full(self.length + 2 * self.said, 8)
        read, answer = blanks.copy(), np.full_like(blanks, -1)
        read[: self.said], read[-self.said - 1] = symbols, 9
        answer[-self.said :] = symbols
        return Example(np.eye(self.input_size, dtype=np.float32)[read], answer)

    def right(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return (outputs.argmax(-1) == batch.targets)[:, -self.said :].all(-1)


TASKS: dict[str, type[Task]] = {
    "adding": Adding,
    "multiplication": Multiplication,
    "temporal_order": TemporalOrder,
    "temporal_order_3": TemporalOrder3,
    "noisy_lag": NoisyLag,
    "long_lag": LongLag,
    "reber": EmbeddedReber,
    "copy": CopyMemory,
}


@dataclass(frozen=True)
class GeneratedSequences:
    """So many examples of a task, drawn when they are asked for.

    Attributes:
        task: The task.
        count: Examples.
        seed: Of all of them.
        lengths: ``None``: alike, so that nothing is gained by sorting.
    """

    task: Task
    count: int
    seed: int
    lengths: np.ndarray | None = field(default=None, init=False)

    def __len__(self) -> int:
        return self.count

    def batch(self, rows: np.ndarray) -> Batch:
        """The examples of these numbers side by side."""
        examples = [self.task.draw(np.random.default_rng((self.seed, int(row)))) for row in rows]
        lengths = [len(example.steps) for example in examples]
        targets = torch.from_numpy(beside([np.asarray(e.target) for e in examples], fill=-1))
        legal = [e.legal for e in examples if e.legal is not None]
        return Batch(
            torch.from_numpy(beside([e.steps for e in examples], fill=0)),
            torch.tensor(lengths),
            targets.float() if targets.is_floating_point() else targets,
            rows=rows,
            extras={"legal": torch.from_numpy(beside(legal, fill=0))} if legal else {},
        )
