"""Synthetic long time lag tasks: generated sequences whose target depends on inputs long before.

The tasks and their success criteria are those of Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", Neural
Computation 9(8), section 5. The copy memory task is that of Arjovsky, Shah and Bengio 2016, "Unitary Evolution
Recurrent Neural Networks", section 4.1. An example is determined by the seed and its number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences
from lstmkit.modules.heads import LastStepRegressionHead, StepClassificationHead, last_step


class Example(NamedTuple):
    """One sequence and its target.

    Attributes:
        steps: ``(T, input_size)`` inputs.
        target: A value, a class, or a class for each step ``(T,)``, -1 to ignore.
        allowed: ``(T, classes)`` mask of allowed classes, for tasks with several.
    """

    steps: np.ndarray
    target: float | int | np.ndarray
    allowed: np.ndarray | None = None


@dataclass(frozen=True)
class Task(ABC):
    """A task: generates sequences and judges outputs.

    Attributes:
        length: Approximate number of steps, the paper's T, or its lag.
    """

    length: int

    title: ClassVar[str]
    input_size: ClassVar[int]

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Example:
        """Generate one sequence and its target."""

    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """Build the head for features ``(B, T, width)``."""

    @abstractmethod
    def is_correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Whether the head's outputs ``(B, T, outputs)`` are correct, ``(B,)``."""

    def __post_init__(self) -> None:
        if self.length < self.min_length:
            raise ValueError(f"{self.title}: length must be at least {self.min_length}, got {self.length}")

    min_length: ClassVar[int] = 1


class _RegressionTask(Task):
    """Regression at the last step; correct within 0.04."""

    def head(self, width: int) -> nn.Module:
        return LastStepRegressionHead(width)

    def is_correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return (last_step(outputs, batch.lengths)[:, 0] - batch.targets).abs() < 0.04


class _ClassificationTask(Task):
    """Classification at the last step; correct if the error of every output is below ``tolerance``."""

    classes: ClassVar[int]
    tolerance: ClassVar[float] = 0.3

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def is_correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        one_hot = torch.nn.functional.one_hot(batch.targets, self.classes)
        return ((last_step(outputs, batch.lengths).softmax(-1) - one_hot).abs() < self.tolerance).all(-1)


class Adding(_RegressionTask):
    """Experiment 4, adding problem: two values are marked; the target is ``0.5 + (X1 + X2) / 4``.

    The values are uniform in -1…1.
    """

    title = "adding"
    input_size = 2
    min_length = 20

    def sample(self, rng: np.random.Generator) -> Example:
        steps, first, second = self._marked(rng, -1.0)
        x1 = 0.0 if first == 0 else steps[first, 0]
        x2 = 0.0 if second == 0 else steps[second, 0]
        return Example(steps, float(0.5 + (x1 + x2) / 4))

    def _marked(self, rng: np.random.Generator, low: float) -> tuple[np.ndarray, int, int]:
        """Values with marks: 1 at one of the first ten steps and at one before the middle, -1 at both ends."""
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        steps = np.zeros((n, 2), dtype=np.float32)
        steps[:, 0] = rng.uniform(low, 1.0, n)
        first = int(rng.integers(10))
        second = int(rng.integers(self.length // 2 - 2))
        second += second >= first
        steps[[first, second], 1] = 1.0
        steps[[0, -1], 1] = -1.0  # overwrites a mark at step 0, whose value then counts as 0 or 1
        return steps, first, second


class Multiplication(Adding):
    """Experiment 5, multiplication problem: as :class:`Adding` with values in 0…1; the target is their product."""

    title = "multiplication"

    def sample(self, rng: np.random.Generator) -> Example:
        steps, first, second = self._marked(rng, 0.0)
        x1 = 1.0 if first == 0 else steps[first, 0]
        x2 = 1.0 if second == 0 else steps[second, 0]
        return Example(steps, float(x1 * x2))


class TemporalOrder(_ClassificationTask):
    """Experiment 6a, temporal order: X or Y occurs once at steps 10…20 and once at 50…60; classify their order.

    The eight symbols are one-hot: E at the start, B at the end, X, Y, and the distractors a, b, c, d. The windows are
    for T = 100 and scale with the length.
    """

    title = "temporal order of two"
    input_size = 8
    classes = 4
    min_length = 20
    windows: ClassVar[tuple[tuple[int, int], ...]] = ((10, 20), (50, 60))  # percent of T

    def sample(self, rng: np.random.Generator) -> Example:
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        symbols = rng.integers(4, 8, n)
        symbols[0], symbols[-1] = 0, 1
        target = 0
        for low, high in self.windows:
            symbol = int(rng.integers(2))
            symbols[rng.integers(self.length * low // 100, self.length * high // 100, endpoint=True)] = 2 + symbol
            target = 2 * target + symbol
        return Example(np.eye(8, dtype=np.float32)[symbols], target)


class TemporalOrder3(TemporalOrder):
    """Experiment 6b, temporal order of three symbols, at steps 10…20, 33…43 and 66…76."""

    title = "temporal order of three"
    classes = 8
    windows = ((10, 20), (33, 43), (66, 76))


class NoisyLag(_ClassificationTask):
    """Experiment 3a, two-sequence problem: classify the first three steps, all 1 or all -1.

    The other steps are noise of variance 0.2.
    """

    title = "two-sequence problem with noise"
    input_size = 1
    classes = 2
    tolerance = 0.2
    min_length = 10

    def sample(self, rng: np.random.Generator) -> Example:
        n = int(rng.integers(self.length, self.length + self.length // 10, endpoint=True))
        target = int(rng.integers(2))
        steps = rng.normal(0.0, np.sqrt(0.2), (n, 1)).astype(np.float32)
        steps[:3] = 1.0 if target else -1.0
        return Example(steps, target)


class LongLag(_ClassificationTask):
    """Experiment 2c, long time lag: b, then x or y, then at least ``length`` distractors, then e; classify x or y.

    There are 100 distractor symbols. After ``length`` steps, each step ends the sequence with probability 1/10.
    """

    title = "long time lag without local regularities"
    distractors: ClassVar[int] = 100
    input_size = 104
    classes = 2
    tolerance = 0.2

    def sample(self, rng: np.random.Generator) -> Example:
        lag = self.length + int(rng.geometric(0.1)) - 1
        target = int(rng.integers(2))
        p = self.distractors
        symbols = np.concatenate([[p], [p + 1 + target], rng.integers(0, p, lag), [p + 3]])
        return Example(np.eye(self.input_size, dtype=np.float32)[symbols], target)


#: Reber grammar: for each state, the allowed symbols and the states they lead to; 7 is the final state.
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
    """Experiment 1, embedded Reber grammar: predict the allowed next symbols at every step.

    A string of the Reber grammar is enclosed by two T or two P. A sequence is correct if at each step every allowed
    symbol has a larger output than every other one. The last symbol but one repeats the second one. ``length`` has no
    effect.
    """

    title = "embedded Reber grammar"
    input_size = 7
    classes: ClassVar[int] = 7

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def sample(self, rng: np.random.Generator) -> Example:
        symbol = {name: i for i, name in enumerate(_REBER_SYMBOLS)}
        outer = int(rng.choice([symbol["T"], symbol["P"]]))
        string, next_symbols = [symbol["B"], outer], [[symbol["T"], symbol["P"]]]
        state = 0
        while state != 7:
            transitions = _REBER[state]
            next_symbols.append([name for name, _ in transitions])
            emitted, state = transitions[int(rng.integers(len(transitions)))]
            string.append(emitted)
        string += [outer, symbol["E"]]
        next_symbols += [[outer], [symbol["E"]]]
        allowed = np.zeros((len(string) - 1, self.classes), dtype=bool)
        for t, symbols in enumerate(next_symbols):
            allowed[t, symbols] = True
        steps = np.eye(self.input_size, dtype=np.float32)[string[:-1]]
        return Example(steps, np.array(string[1:]), allowed)

    def is_correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        allowed, scored = batch.extras["allowed"], batch.targets >= 0
        min_allowed = torch.where(allowed, outputs, torch.inf).amin(-1)
        max_other = torch.where(allowed, -torch.inf, outputs).amax(-1)
        return ((min_allowed > max_other) | ~scored).all(-1)


class CopyMemory(Task):
    """Copy memory: repeat ten symbols out of eight after ``length`` blanks and a delimiter.

    Only the last ten steps are scored. The original task scores the blanks too, which dominate the loss: after 120,000
    sequences with T = 20 no cell had a single symbol right.
    """

    title = "copy memory"
    input_size = 10
    classes: ClassVar[int] = 8
    n_symbols: ClassVar[int] = 10

    def head(self, width: int) -> nn.Module:
        return StepClassificationHead(width, self.classes)

    def sample(self, rng: np.random.Generator) -> Example:
        symbols = rng.integers(0, 8, self.n_symbols)
        blanks = np.full(self.length + 2 * self.n_symbols, 8)
        inputs, targets = blanks.copy(), np.full_like(blanks, -1)
        inputs[: self.n_symbols], inputs[-self.n_symbols - 1] = symbols, 9
        targets[-self.n_symbols :] = symbols
        return Example(np.eye(self.input_size, dtype=np.float32)[inputs], targets)

    def is_correct(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return (outputs.argmax(-1) == batch.targets)[:, -self.n_symbols :].all(-1)


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
    """A source of ``count`` examples of a task, generated on demand.

    Attributes:
        task: The task.
        count: Number of examples.
        seed: Random seed.
        lengths: ``None``, since all examples have about the same length and need no sorting.
    """

    task: Task
    count: int
    seed: int
    lengths: np.ndarray | None = field(default=None, init=False)

    def __len__(self) -> int:
        return self.count

    def batch(self, rows: np.ndarray) -> Batch:
        """A padded batch of the examples ``rows``."""
        examples = [self.task.sample(np.random.default_rng((self.seed, int(row)))) for row in rows]
        lengths = [len(example.steps) for example in examples]
        targets = torch.from_numpy(pad_sequences([np.asarray(e.target) for e in examples], fill=-1))
        allowed = [e.allowed for e in examples if e.allowed is not None]
        return Batch(
            torch.from_numpy(pad_sequences([e.steps for e in examples], fill=0)),
            torch.tensor(lengths),
            targets.float() if targets.is_floating_point() else targets,
            rows=rows,
            extras={"allowed": torch.from_numpy(pad_sequences(allowed, fill=0))} if allowed else {},
        )
