"""Cells side by side: networks of about the same number of parameters, with their memory opened alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lstmkit.cells import CellSpec
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.layers.rnn import GRU, LSTM, RNN
from lstmkit.look.gates import MEMORY_GATES

Layer = Callable[..., RecurrentLayer]


@dataclass(frozen=True)
class Kind:
    """A kind of layer that takes part.

    Attributes:
        name: As tables and pictures name it.
        layer: Its class.
        options: What it is made with, beside its sizes.
    """

    name: str
    layer: Layer
    options: Mapping[str, Any]

    def build(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ) -> RecurrentLayer:
        """A batch-first layer; ``dropout`` acts between layers, where there are several."""
        return self.layer(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
            **self.options,
        )


def _layer_of_cell(kind: str) -> Layer:
    """A cell that no layer class stands for, in a layer of its own."""

    def layer(
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        batch_first: bool,
        bidirectional: bool,
        dropout: float,
        peephole: bool,
    ) -> RecurrentLayer:
        return RecurrentLayer(
            CellSpec(kind, input_size, hidden_size, peephole=peephole), num_layers, batch_first, dropout, bidirectional,
            merge="concat", residual=False, variational=False, recurrent_dropout=0.0, zoneout=0.0, weight_drop=0.0,
            forget_bias=None, recompute=False, backend="auto", device=None, dtype=None,
        )  # fmt: skip

    return layer


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("RNN", RNN, {}),
        Kind("GRU", GRU, {}),
        Kind("LSTM", LSTM, {}),
        Kind("LSTM, peepholes", LSTM, {"peephole": True}),
        Kind("LSTM, coupled", LSTM, {"coupled": True}),
        Kind("LSTM, layer norm", LSTM, {"layer_norm": True}),
        # Greff et al. 2017, "LSTM: A Search Space Odyssey": the vanilla LSTM has peepholes, and eight variants less.
        Kind("no input gate", _layer_of_cell("lstm_no_input_gate"), {"peephole": True}),
        Kind("no forget gate", _layer_of_cell("lstm_no_forget_gate"), {"peephole": True}),
        Kind("no output gate", _layer_of_cell("lstm_no_output_gate"), {"peephole": True}),
        Kind("no input squashing", _layer_of_cell("lstm_linear_input"), {"peephole": True}),
        Kind("no output squashing", _layer_of_cell("lstm_linear_output"), {"peephole": True}),
        Kind("coupled gates", LSTM, {"peephole": True, "coupled": True}),
        Kind("no peepholes", LSTM, {}),
        Kind("full gate recurrence", _layer_of_cell("lstm_full_gates"), {"peephole": True}),
    )
}


def initialize_gate_biases(layer: RecurrentLayer, bias: float) -> None:
    """Start with a memory that keeps: the forget gate at ``sigmoid(bias)``, the input gate at ``sigmoid(-bias)``.

    Of a GRU the update gate, which is both; an RNN has none. The 1997 paper closes the input gates at the start against
    drift; Gers et al. 2000 open the forget gates; Tallec and Ollivier 2018 do both, by the length of the memory wanted.
    """
    starts = dict.fromkeys(MEMORY_GATES, bias) | {"input": -bias}
    with torch.no_grad():
        for k, spec in enumerate(layer.specs):
            for d in range(layer.num_directions):
                weights = layer.weights(k, d)
                for i, gate in enumerate(spec.gates):
                    if gate in starts:
                        block = slice(i * spec.hidden_size, (i + 1) * spec.hidden_size)
                        weights["bias_ih"][block] = starts[gate]
                        weights["bias_hh"][block] = 0.0


def parameters(module: nn.Module) -> int:
    """How many weights."""
    return sum(p.numel() for p in module.parameters())


def hidden_size_for_budget(kind: Kind, input_size: int, budget: int, **shape: Any) -> int:
    """The number of hidden units whose layer (with ``num_layers`` and so on) comes nearest to ``budget`` parameters.

    >>> hidden_size_for_budget(KINDS["LSTM"], 2, parameters(LSTM(2, 16))), hidden_size_for_budget(KINDS["RNN"], 2, parameters(LSTM(2, 16)))
    (16, 34)
    """

    def miss(width: int) -> int:
        return abs(parameters(kind.build(input_size, width, **shape)) - budget)

    low, high = 1, 2
    while parameters(kind.build(input_size, high, **shape)) < budget:
        low, high = high, 2 * high
    while high - low > 1:  # parameters only rise with the width
        middle = (low + high) // 2
        if parameters(kind.build(input_size, middle, **shape)) < budget:
            low = middle
        else:
            high = middle
    return min(low, high, key=miss)
