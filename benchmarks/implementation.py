"""Types of the layer benchmarks: the inputs, and an implementation whose work is timed on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from numerical_check import Tensors


class Unavailable(Exception):
    """The peer cannot run on this machine, or not this case; the message says why."""


@dataclass(frozen=True)
class Data:
    """Inputs of a layer.

    Attributes:
        x: ``(T, B, I)``.
        weighting: Weights of the outputs in the loss, which is their weighted sum.
        lengths: ``(B,)``; ``None`` if all sequences have ``T`` steps.
        seed: Seed of the random numbers.
    """

    x: Tensor
    weighting: Tensor
    lengths: Tensor | None
    seed: int

    def to(self, dtype: torch.dtype) -> Data:
        return Data(self.x.to(dtype), self.weighting.to(dtype), self.lengths, self.seed)


@dataclass(frozen=True)
class Implementation:
    """One of the implementations that are compared.

    Attributes:
        name: ``lstmkit`` or the name of a peer from layer_cases.py.
        work: The timed function.
        tensors: Does the same work and returns its results: ``output``, ``h``, ``c``, ``grad x``, ``grad weight_…``.
        notes: Further facts: seconds of compilation, the calling convention.
    """

    name: str
    work: Callable[[], object]
    tensors: Callable[[], Tensors]
    notes: dict[str, object] = field(default_factory=dict)
