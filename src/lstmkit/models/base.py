"""What training, prediction and decoding ask of a model; ensembles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch

State = Any  #: What a model carries from call to call: tensors, in tuples.


class Head(Protocol):
    """What a model asks of its head."""

    def __call__(self, features: Tensor) -> Tensor: ...
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor: ...


class Model(nn.Module, ABC):
    """What training, prediction and decoding ask of a model."""

    @abstractmethod
    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs, and the state to go on from."""

    @abstractmethod
    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean loss of a batch, and the state it ends in."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step of decoding: ``(B, F) -> (B, outputs)``, and the state."""


class Ensemble(Model):
    """Models trained alike, from other seeds; their outputs are averaged. Stands wherever one of them would.

    Args:
        members: Models with the three methods of :class:`SequenceModel`.
    """

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """The mean of the members' outputs, and the tuple of their states."""
        return self._mean([m(inputs, s, lengths) for m, s in self._with_states(state)])

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """The mean of the members' losses."""
        return self._mean([m.loss(batch, s) for m, s in self._with_states(state)])

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step of decoding, each member with its own state."""
        return self._mean([m.step(inputs, s) for m, s in self._with_states(state)])

    def _with_states(self, state: State | None) -> list[tuple[Any, State]]:
        return list(zip(self.members, state or [None] * len(self.members), strict=True))

    @staticmethod
    def _mean(answers: list[tuple[Tensor, State]]) -> tuple[Tensor, State]:
        return torch.stack([output for output, _ in answers]).mean(0), tuple(state for _, state in answers)


def map_state(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """``function`` over every tensor of a state, nested as it is."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else function(state)
    return tuple(map_state(part, function) for part in state)


def turned(state: State) -> State:
    """A recurrent layer's state with the batch first, or such a state as the layer has it."""
    return map_state(state, lambda t: t.transpose(0, 1))
