"""Cell variants to compare, with matched parameter counts and gate bias initialization."""

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
class CellVariant:
    """A cell variant.

    Attributes:
        name: Name in tables and figures.
        layer: Layer class.
        options: Keyword arguments of the layer, except its sizes.

    >>> KINDS["GRU"].build(3, 8).output_size
    8
    """

    name: str
    layer: Layer
    options: Mapping[str, Any]

    def build(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ) -> RecurrentLayer:
        """Build a batch-first layer; ``dropout`` is applied between layers."""
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
    """A layer of a cell that has no layer class."""

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


KINDS: dict[str, CellVariant] = {
    variant.name: variant
    for variant in (
        CellVariant("RNN", RNN, {}),
        CellVariant("GRU", GRU, {}),
        CellVariant("LSTM", LSTM, {}),
        CellVariant("LSTM, peepholes", LSTM, {"peephole": True}),
        CellVariant("LSTM, coupled", LSTM, {"coupled": True}),
        CellVariant("LSTM, layer norm", LSTM, {"layer_norm": True}),
        # Greff et al. 2017, "LSTM: A Search Space Odyssey": variants of an LSTM with peepholes.
        CellVariant("no input gate", _layer_of_cell("lstm_no_input_gate"), {"peephole": True}),
        CellVariant("no forget gate", _layer_of_cell("lstm_no_forget_gate"), {"peephole": True}),
        CellVariant("no output gate", _layer_of_cell("lstm_no_output_gate"), {"peephole": True}),
        CellVariant("no input squashing", _layer_of_cell("lstm_linear_input"), {"peephole": True}),
        CellVariant("no output squashing", _layer_of_cell("lstm_linear_output"), {"peephole": True}),
        CellVariant("coupled gates", LSTM, {"peephole": True, "coupled": True}),
        CellVariant("no peepholes", LSTM, {}),
        CellVariant("full gate recurrence", _layer_of_cell("lstm_full_gates"), {"peephole": True}),
    )
}


def initialize_gate_biases(layer: RecurrentLayer, bias: float) -> None:
    """Initialize the forget gate to ``sigmoid(bias)`` and the input gate to ``sigmoid(-bias)``, in place.

    In a GRU the update gate takes both roles; an RNN has no gates. Hochreiter and Schmidhuber 1997 close the input
    gates initially, Gers et al. 2000 open the forget gates. Tallec and Ollivier 2018 do both, depending on the desired
    memory length.
    """
    initial = dict.fromkeys(MEMORY_GATES, bias) | {"input": -bias}
    with torch.no_grad():
        for k, spec in enumerate(layer.specs):
            for d in range(layer.num_directions):
                weights = layer.weights(k, d)
                for i, gate in enumerate(spec.gates):
                    if gate in initial:
                        block = slice(i * spec.hidden_size, (i + 1) * spec.hidden_size)
                        weights["bias_ih"][block] = initial[gate]
                        weights["bias_hh"][block] = 0.0


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def hidden_size_for_budget(kind: CellVariant, input_size: int, budget: int, **shape: Any) -> int:
    """The hidden size whose layer has the number of parameters closest to ``budget``.

    Args:
        kind: The cell variant.
        input_size: Input size of the layer.
        budget: Number of parameters.
        shape: Further arguments of :meth:`CellVariant.build`.

    >>> budget = count_parameters(LSTM(2, 16))
    >>> hidden_size_for_budget(KINDS["LSTM"], 2, budget), hidden_size_for_budget(KINDS["RNN"], 2, budget)
    (16, 34)
    """

    def error(width: int) -> int:
        return abs(count_parameters(kind.build(input_size, width, **shape)) - budget)

    low, high = 1, 2
    while count_parameters(kind.build(input_size, high, **shape)) < budget:
        low, high = high, 2 * high
    while high - low > 1:  # the count increases with the width
        middle = (low + high) // 2
        if count_parameters(kind.build(input_size, middle, **shape)) < budget:
            low = middle
        else:
            high = middle
    return min(low, high, key=error)
