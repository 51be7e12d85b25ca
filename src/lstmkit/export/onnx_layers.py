"""A recurrent layer as ONNX operators, recorded by ``torch.export``.

:func:`run` takes the place of the back ends while a module is exported. A layer that ONNX has an operator for becomes
that operator: ``LSTM``, ``GRU`` or ``RNN``. Any other cell or option becomes a ``Scan`` whose body is the cell's own
step in :mod:`lstmkit.cells`, so no equation is written twice.

Dimensions: ``T`` steps, ``B`` batch, ``F`` input features, ``H`` hidden units, ``P`` output size, ``G`` gates, ``D``
directions. Source of operators and gate orders: the operator list of ONNX 1.19, "LSTM", "GRU", "RNN" and "Scan".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.onnx.ops
from torch import Tensor

from lstmkit.cells import CellSpec, State
from lstmkit.export.scan import scan_pass
from lstmkit.ops.call import Call, Pass, Result


class _Operator(NamedTuple):
    """An ONNX operator: its name, its gates in order, and its activations if they are not the default ones."""

    name: str
    gates: tuple[str, ...]
    activations: tuple[str, ...] = ()


_OPERATORS = {
    "lstm": _Operator("LSTM", ("input", "output", "forget", "candidate")),
    "gru": _Operator("GRU", ("update", "reset", "candidate")),
    "rnn_tanh": _Operator("RNN", ("hidden",)),
    "rnn_relu": _Operator("RNN", ("hidden",), ("Relu",)),
}
_PEEPHOLE_GATES = ("input", "output", "forget")


def run(call: Call) -> Result:
    """The layer, in evaluation mode, as nodes of the graph that is being recorded."""
    if has_operator(call.spec) and all(p.zoneout is None for p in call.passes):
        return _operator(call)
    return Result.of([scan_pass(call, p) for p in call.passes])


def has_operator(spec: CellSpec) -> bool:
    """Whether ONNX has an operator for the cell with its options."""
    return spec.kind in _OPERATORS and not (spec.proj_size or spec.layer_norm)


# ---- LSTM, GRU, RNN --------------------------------------------------------------------------------------------------


def _operator(call: Call) -> Result:
    spec, operator = call.spec, _OPERATORS[call.spec.kind]
    (steps, batch, _), directions, hidden = call.x.shape, len(call.passes), spec.hidden_size
    lengths = None if call.lengths is None else call.lengths.to(call.x.device, torch.int32)
    initial: list[Tensor | None] = [None, None]
    if any(p.state for p in call.passes):
        states = zip(*(call.state_of(p) for p in call.passes), strict=True)
        initial[: len(spec.state_sizes)] = [torch.stack(parts) for parts in states]
    inputs = [call.x, *_weights(spec, call.passes), lengths, *initial]
    if spec.peephole:
        inputs.append(torch.stack([_peepholes(spec, p.params["weight_peep"]) for p in call.passes]))
    while inputs[-1] is None:
        inputs.pop()
    state_shapes = [[directions, batch, hidden]] * len(spec.state_sizes)
    outputs = torch.onnx.ops.symbolic_multi_out(
        operator.name,
        inputs,
        _attributes(spec, operator, call.passes),
        dtypes=[call.x.dtype] * (1 + len(state_shapes)),
        shapes=[[steps, directions, batch, hidden], *state_shapes],
    )
    output = outputs[0].squeeze(1) if directions == 1 else outputs[0].transpose(1, 2).flatten(2)  # (T, B, D·H)
    state = tuple(outputs[1:])
    if call.lengths is not None:
        output, state = _without_empty(call, output, state)
    return Result(output, state)


def _without_empty(call: Call, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Zeros and the initial state for sequences of length 0; ONNX Runtime 1.23 may return others."""
    assert call.lengths is not None
    empty = (call.lengths == 0).to(output.device).unsqueeze(-1)
    initial = zip(*(call.state_of(p) for p in call.passes), strict=True)
    kept = tuple(torch.where(empty, torch.stack(old), new) for old, new in zip(initial, state, strict=True))
    return torch.where(empty, output.new_zeros(()), output), kept


def _attributes(spec: CellSpec, operator: _Operator, passes: Sequence[Pass]) -> dict[str, Any]:
    directions = "bidirectional" if len(passes) == 2 else "reverse" if passes[0].reverse else "forward"
    attributes: dict[str, Any] = {"hidden_size": spec.hidden_size, "direction": directions}
    if spec.kind == "gru":
        attributes["linear_before_reset"] = 1  # the bias of the candidate's recurrent product is inside the reset gate
    if spec.coupled:
        attributes["input_forget"] = 1
    if operator.activations:
        attributes["activations"] = list(operator.activations * len(passes))
    return attributes


def _weights(spec: CellSpec, passes: Sequence[Pass]) -> list[Tensor | None]:
    """``W (D, G·H, F)``, ``R (D, G·H, H)`` and ``B (D, 2·G·H)``, or ``None`` without biases."""
    found: list[Tensor | None] = [
        torch.stack([_in_order(spec, p.params[name]) for p in passes]) for name in ("weight_ih", "weight_hh")
    ]
    biases = [[_in_order(spec, p.params[name]) for name in ("bias_ih", "bias_hh") if spec.bias] for p in passes]
    return [*found, torch.stack([torch.cat(pair) for pair in biases]) if spec.bias else None]


def _in_order(spec: CellSpec, weight: Tensor) -> Tensor:
    """The blocks of ``weight (G·H, ...)`` in the order of ONNX."""
    rows = range(0, len(spec.gates) * spec.hidden_size, spec.hidden_size)
    blocks = {gate: weight[row : row + spec.hidden_size] for gate, row in zip(spec.gates, rows, strict=True)}
    return torch.cat([_block(spec, blocks, gate) for gate in _OPERATORS[spec.kind].gates])


def _peepholes(spec: CellSpec, weight: Tensor) -> Tensor:
    """``weight (gates, H)`` as ``P (3·H,)``."""
    names = [gate for gate in spec.gates if gate != "candidate"]
    blocks = {gate: weight[row] for row, gate in enumerate(names)}
    return torch.cat([_block(spec, blocks, gate) for gate in _PEEPHOLE_GATES])


def _block(spec: CellSpec, blocks: dict[str, Tensor], gate: str) -> Tensor:
    """The block of a gate. With coupled gates ONNX has ``f = 1 - i``, and ``1 - sigmoid(a) = sigmoid(-a)``."""
    return -blocks["forget"] if spec.coupled and gate == "input" else blocks[gate]
