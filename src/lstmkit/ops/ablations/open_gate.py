"""An LSTM without one of its gates, computed by the kernels as a full LSTM whose missing gate stays open.

The weights of that gate are zero and its bias is so large that the sigmoid is 1 to the last digit of a float64, so the
results are the same. The products of the missing gate are wasted; this is still many times faster than the loop.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lstmkit.cells import CELLS, CellSpec, Params
from lstmkit.ops.call import Call

_OPEN_GATE_BIAS = 40.0  # 1 + exp(-40) is 1
_MISSING_GATES = {f"lstm_no_{gate}_gate": gate for gate in ("input", "forget", "output")}

KINDS = tuple(_MISSING_GATES)  #: The cells that can be computed this way.


def full_lstm_spec(spec: CellSpec) -> CellSpec:
    """The full LSTM that computes an LSTM without a gate; any other spec unchanged."""
    return replace(spec, kind="lstm", bias=True) if spec.kind in _MISSING_GATES else spec


def as_full_lstm(call: Call) -> Call:
    """The call of a full LSTM with the same results, for an LSTM without a gate; any other call unchanged."""
    if call.spec.kind not in _MISSING_GATES:
        return call
    passes = tuple(p._replace(params=_with_open_gate(call.spec, p.params)) for p in call.passes)
    return call._replace(spec=full_lstm_spec(call.spec), passes=passes)


def _with_open_gate(spec: CellSpec, params: Params) -> dict[str, Tensor]:
    """The weights of a full LSTM: zero rows and the open bias for the missing gate."""
    missing, units = _MISSING_GATES[spec.kind], spec.hidden_size
    row = CELLS["lstm"].gates.index(missing) * units
    no_bias = params["weight_ih"].new_zeros(len(spec.gates) * units)
    weights = {name: _insert(params[name], row, units, 0.0) for name in ("weight_ih", "weight_hh")}
    weights["bias_ih"] = _insert(params.get("bias_ih", no_bias), row, units, _OPEN_GATE_BIAS)
    weights["bias_hh"] = _insert(params.get("bias_hh", no_bias), row, units, 0.0)
    if spec.peephole:
        gates_with_peephole = [gate for gate in CELLS["lstm"].gates if gate != "candidate"]
        weights["weight_peep"] = _insert(params["weight_peep"], gates_with_peephole.index(missing), 1, 0.0)
    return weights


def _insert(weight: Tensor, row: int, n_rows: int, value: float) -> Tensor:
    return torch.cat([weight[:row], weight.new_full((n_rows, *weight.shape[1:]), value), weight[row:]])
