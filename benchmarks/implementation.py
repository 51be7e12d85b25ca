"""What is compared: one input, and ways to do the same work on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from numerical_check import Numbers


class Unavailable(Exception):
    """A peer that cannot run here, or not this case; the message says why."""


@dataclass(frozen=True)
class Data:
    """What goes in: time first. ``weighting`` makes the loss, a sum of the outputs so weighted."""

    x: Tensor
    weighting: Tensor
    lengths: Tensor | None
    seed: int

    def to(self, dtype: torch.dtype) -> Data:
        return Data(self.x.to(dtype), self.weighting.to(dtype), self.lengths, self.seed)


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        name: Ours, or a name from layer_cases.py.
        work: What is timed.
        numbers: The same once more, its results by name: ``output``, ``h``, ``c``, ``grad x``, ``grad weight_…``.
        notes: What else there is to say: seconds of compilation, the way of calling that was taken.
    """

    name: str
    work: Callable[[], object]
    numbers: Callable[[], Numbers]
    notes: dict[str, object] = field(default_factory=dict)
