"""A network over tokens as a graph that continues from a state."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.export.graphs import Graph, State, step_graph
from lstmkit.models.base import Model


def token_step_graph(model: Model, tokens: str, outputs: str) -> Graph:
    """Further tokens ``(B, T)`` and the state before them to the outputs after the last one, and the new state.

    Args:
        model: The network, or an ensemble: ids ``(B, T)`` and a state to outputs ``(B, T, V)`` and a state.
        tokens: Name of the input.
        outputs: Name of the output ``(B, V)``.
    """

    def step(ids: Tensor, state: State) -> tuple[Tensor, State]:
        after_each, state = model(ids, state)
        return after_each[:, -1], state

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        ids = torch.zeros(rows, time, dtype=torch.int64)
        with torch.no_grad():
            return {tokens: ids}, model(ids)[1]

    return step_graph(step, example, {"rows": 2, "time": 3}, [outputs], model)
