"""Interfaces of models and heads, and ensembles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch

State = Any  #: State that a model carries between calls: tensors in nested tuples.


class Head(Protocol):
    """Interface of a head: maps features to outputs, and computes the loss of a batch.

    All heads have the same signature of ``loss``. Heads with a large output (:class:`lstmkit.modules.heads.TokenHead`,
    :class:`lstmkit.modules.item_head.ItemHead`) take the features in place of the outputs, so that the logits of all
    steps are never in memory together.
    """

    def __call__(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to outputs."""
        ...

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss of the outputs against ``batch.targets``, a scalar; uses lengths and extras of the batch."""
        ...


class Model(nn.Module, ABC):
    """Interface of a model for training, prediction and decoding."""

    @abstractmethod
    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Compute the outputs of a batch of sequences and the final state.

        Args:
            inputs: ``(B, T, F)`` values or ``(B, T)`` ids.
            state: State to continue from; ``None`` to start.
            lengths: ``(B,)`` steps of each sequence; ``None`` if all have ``T``.
        """

    @abstractmethod
    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Compute the mean loss of a batch, a scalar, and the final state."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Compute one decoding step, ``(B, F) -> (B, outputs)``, and the new state."""

    def stream(self) -> Callable[[Tensor], Tensor]:
        """A function that computes the next decoding step, ``(B, F) -> (B, outputs)``, and keeps the state."""
        state: State | None = None

        def step(inputs: Tensor) -> Tensor:
            nonlocal state
            outputs, state = self.step(inputs, state)
            return outputs

        return step


class Ensemble(Model):
    """An ensemble of models trained with different seeds, whose outputs are averaged; itself a model.

    Args:
        members: Models with the same inputs and outputs.

    >>> import torch
    >>> from lstmkit.layers.rnn import LSTM
    >>> from lstmkit.models.sequence import SequenceModel
    >>> from lstmkit.modules.heads import StepRegressionHead
    >>> members = [SequenceModel(nn.Identity(), LSTM(2, 4, batch_first=True), StepRegressionHead(4, 1)) for _ in "ab"]
    >>> Ensemble(members)(torch.zeros(3, 5, 2))[0].shape
    torch.Size([3, 5, 1])
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
        """The mean of the members' outputs at one decoding step, and the tuple of their states."""
        return self._mean([m.step(inputs, s) for m, s in self._with_states(state)])

    def stream(self) -> Callable[[Tensor], Tensor]:
        """The mean of the members' outputs at each call."""
        steps = [member.stream() for member in self.members]  # type: ignore[operator]
        return lambda inputs: torch.stack([step(inputs) for step in steps]).mean(0)

    def _with_states(self, state: State | None) -> list[tuple[Any, State]]:
        return list(zip(self.members, state or [None] * len(self.members), strict=True))

    @staticmethod
    def _mean(results: list[tuple[Tensor, State]]) -> tuple[Tensor, State]:
        return torch.stack([output for output, _ in results]).mean(0), tuple(state for _, state in results)


def map_state(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """Apply ``function`` to every tensor of a nested state."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else function(state)
    return tuple(map_state(part, function) for part in state)


def swap_layers_and_batch(state: State) -> State:
    """Convert a layer's state ``(L, B, H)`` to batch first ``(B, L, H)``, or back."""
    return map_state(state, lambda t: t.transpose(0, 1))
