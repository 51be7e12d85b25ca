"""An LSTM without one of its gates on kernels of ours: as a whole LSTM whose missing gate is held open.

That gate has no weights but a bias at which the sigmoid is 1 to the last digit of a float64, so results are the same.
It costs the missing gate's share of the products, and is still many times faster than the loop.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lstmkit.cells import CELLS, CellSpec, Params
from lstmkit.ops.call import Call

_OPEN_GATE_BIAS = 40.0  # 1 + exp(-40) is 1
_MISSING = {f"lstm_no_{gate}_gate": gate for gate in ("input", "forget", "output")}

KINDS = tuple(_MISSING)  #: The cells that can be so computed.


def whole(spec: CellSpec) -> CellSpec:
    """The whole LSTM that an LSTM without a gate is computed as; any other cell itself."""
    return replace(spec, kind="lstm", bias=True) if spec.kind in _MISSING else spec


def as_full_lstm(call: Call) -> Call:
    """The same call of a whole LSTM, where it is one without a gate; else the call itself."""
    if call.spec.kind not in _MISSING:
        return call
    passes = tuple(p._replace(params=_with_open_gate(call.spec, p.params)) for p in call.passes)
    return call._replace(spec=whole(call.spec), passes=passes)


def _with_open_gate(spec: CellSpec, params: Params) -> dict[str, Tensor]:
    """A whole LSTM's weights: zero rows for the missing gate, and its bias."""
    missing, units = _MISSING[spec.kind], spec.hidden_size
    at = CELLS["lstm"].gates.index(missing) * units
    none = params["weight_ih"].new_zeros(len(spec.gates) * units)
    whole = {name: _insert(params[name], at, units, 0.0) for name in ("weight_ih", "weight_hh")}
    whole["bias_ih"] = _insert(params.get("bias_ih", none), at, units, _OPEN_GATE_BIAS)
    whole["bias_hh"] = _insert(params.get("bias_hh", none), at, units, 0.0)
    if spec.peephole:
        with_weights = [gate for gate in CELLS["lstm"].gates if gate != "candidate"]
        whole["weight_peep"] = _insert(params["weight_peep"], with_weights.index(missing), 1, 0.0)
    return whole


def _insert(weight: Tensor, at: int, rows: int, value: float) -> Tensor:
    return torch.cat([weight[:at], weight.new_full((rows, *weight.shape[1:]), value), weight[at:]])
