"""The equations of ``cells.py``, compared with loops over scalars and with numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cases
from lstmkit.cells import CELLS, CellSpec, Gates, State, project_input

SPECS = pytest.mark.parametrize("spec", cases.cell_specs(), ids=cases.spec_id)

# ---- independent equations in NumPy, one gate and one sequence at a time ---------------------------------------------

Vector = np.ndarray
Weights = dict[str, np.ndarray]


def sigmoid(a: Vector) -> Vector:
    return 1 / (1 + np.exp(-a))


def normalize(a: Vector) -> Vector:
    """Layer normalization without gain and bias (Ba et al. 2016, eq. 3-4)."""
    return (a - a.sum() / a.size) / np.sqrt(((a - a.sum() / a.size) ** 2).sum() / a.size + 1e-5)


def pre_activation(spec: CellSpec, w: Weights, which: str, inputs: Vector) -> Vector:
    """Pre-activations of all gates from the input (``ih``) or the previous output (``hh``), as one vector."""
    a = np.array([sum(row[k] * inputs[k] for k in range(len(inputs))) for row in w[f"weight_{which}"]])
    if spec.layer_norm:
        a = normalize(a) * w[f"weight_ln_{which}"]
    return a + w[f"bias_{which}"] if spec.bias else a


def lstm(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
    h, c = state
    units = spec.hidden_size
    blocks = ["forget", "candidate", "output"] if spec.coupled else ["input", "forget", "candidate", "output"]
    pre_activations = pre_activation(spec, w, "ih", x) + pre_activation(spec, w, "hh", h)
    a = {name: pre_activations[k * units : (k + 1) * units] for k, name in enumerate(blocks)}
    peepholes = [name for name in blocks if name != "candidate"]

    def peep(name: str, cell: Vector) -> Vector:
        return w["weight_peep"][peepholes.index(name)] * cell if spec.peephole else np.zeros(units)

    f = sigmoid(a["forget"] + peep("forget", c))
    i = 1 - f if spec.coupled else sigmoid(a["input"] + peep("input", c))
    g = np.tanh(a["candidate"])
    c_new = np.array([f[k] * c[k] + i[k] * g[k] for k in range(units)])
    o = sigmoid(a["output"] + peep("output", c_new))
    normalized_c = normalize(c_new) * w["weight_ln_c"] + w["bias_ln_c"] if spec.layer_norm else c_new
    h_new = np.array([o[k] * math.tanh(normalized_c[k]) for k in range(units)])
    if spec.proj_size:
        h_new = np.array([sum(row[k] * h_new[k] for k in range(units)) for row in w["weight_hr"]])
    return (h_new, c_new), {"input": i, "forget": f, "candidate": g, "output": o}


def gru(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
    (h,), units = state, spec.hidden_size
    from_x, from_h = pre_activation(spec, w, "ih", x), pre_activation(spec, w, "hh", h)
    r = sigmoid(from_x[:units] + from_h[:units])
    z = sigmoid(from_x[units : 2 * units] + from_h[units : 2 * units])
    n = np.tanh(from_x[2 * units :] + r * from_h[2 * units :])
    return ((1 - z) * n + z * h,), {"reset": r, "update": z, "candidate": n}


def rnn_tanh(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
    return (np.tanh(pre_activation(spec, w, "ih", x) + pre_activation(spec, w, "hh", state[0])),), {}


def rnn_relu(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
    a = pre_activation(spec, w, "ih", x) + pre_activation(spec, w, "hh", state[0])
    return (np.array([max(0.0, value) for value in a]),), {}


def ablated(
    without: str = "", candidate_activation: Any = np.tanh, output_activation: Any = np.tanh
) -> Callable[..., Any]:
    """LSTM without one gate (always 1) or one activation function (Greff et al. 2017, appendix)."""

    def step(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
        h, c = state
        names = [name for name in ("input", "forget", "candidate", "output") if name != without]
        both = pre_activation(spec, w, "ih", x) + pre_activation(spec, w, "hh", h)
        a = dict(zip(names, np.split(both, len(names)), strict=True))
        return _pointwise(spec, w, a, c, candidate_activation, output_activation)

    return step


def _pointwise(
    spec: CellSpec, w: Weights, a: dict[str, Vector], c: Vector, candidate_activation: Any, output_activation: Any
) -> tuple[tuple[Vector, ...], dict]:
    gates = {"candidate": candidate_activation(a["candidate"])}
    rows = iter(w["weight_peep"]) if spec.peephole else iter(())
    new = c
    for name in ("input", "forget", "output"):
        if name == "output":
            new = gates.get("forget", 1) * c + gates.get("input", 1) * gates["candidate"]
        if name in a:
            peep = next(rows) * (new if name == "output" else c) if spec.peephole else 0
            gates[name] = sigmoid(a[name] + peep)
    return (gates.get("output", 1) * output_activation(new), new), gates


def full_gates(spec: CellSpec, w: Weights, x: Vector, state: tuple[Vector, ...]) -> tuple[tuple[Vector, ...], dict]:
    h, c, *previous_gates = state
    blocks_of_rows = np.split(pre_activation(spec, w, "ih", x) + pre_activation(spec, w, "hh", h), 4)
    a = dict(zip(("input", "forget", "candidate", "output"), blocks_of_rows, strict=True))
    blocks = [np.split(rows, 3, axis=1) for rows in np.split(w["weight_gates"], 3)]
    for name, row in zip(("input", "forget", "output"), blocks, strict=True):
        a[name] = a[name] + sum(block @ gate for block, gate in zip(row, previous_gates, strict=True))
    (h, c), gates = _pointwise(spec, w, a, c, np.tanh, np.tanh)
    return (h, c, gates["input"], gates["forget"], gates["output"]), gates


NUMPY: dict[str, Callable[..., Any]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": rnn_tanh,
    "rnn_relu": rnn_relu,
    "lstm_no_input_gate": ablated("input"),
    "lstm_no_forget_gate": ablated("forget"),
    "lstm_no_output_gate": ablated("output"),
    "lstm_linear_input": ablated(candidate_activation=lambda a: a),
    "lstm_linear_output": ablated(output_activation=lambda c: c),
    "lstm_full_gates": full_gates,
}


def test_every_cell_has_its_equation_here() -> None:
    """A cell that is registered without an independent equation in this file fails here."""
    assert NUMPY.keys() == CELLS.keys()


@SPECS
def test_steps_follow_the_equations(spec: CellSpec) -> None:
    """States and gates of four steps of two sequences equal the NumPy equations up to float64 rounding."""
    call = cases.make_call(spec, n_steps=4, batch=2)
    (p,) = call.passes
    w = {name: weight.detach().numpy() for name, weight in p.params.items()}
    state, gx = p.state, project_input(spec, p.params, call.x)
    numpy_states = [tuple(s[b].detach().numpy() for s in p.state) for b in range(2)]
    for t in range(4):
        state, gates = spec.cell.step(spec, p.params, gx[t], state[0], state)
        for b in range(2):
            numpy_states[b], numpy_gates = NUMPY[spec.kind](spec, w, call.x[t, b].detach().numpy(), numpy_states[b])
            actual = [*(s[b] for s in state), *(gates[name][b] for name in numpy_gates)]
            for value, expected in zip(actual, [*numpy_states[b], *numpy_gates.values()], strict=True):
                np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
            assert gates.keys() == numpy_gates.keys()


# ---- numbers worked out by hand --------------------------------------------------------------------------------------
# Logarithms make the gates round numbers: sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(ln 4) = 4/5,
# tanh(ln 3 / 2) = 1/2, tanh(ln 2) = 3/5.

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def one_step(spec: CellSpec, weights: dict[str, list], x: list[float], *state: list[float]) -> tuple[State, Gates]:
    """One step of one sequence; all other weights are zero."""
    params = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in spec.parameter_shapes().items()}
    for name, rows in weights.items():
        params[name] = tensor(rows).reshape(params[name].shape)
    states = tuple(tensor([s]) for s in state)
    return spec.cell.step(spec, params, project_input(spec, params, tensor([x])), states[0], states)


def tensor(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def close(value: Tensor, expected: float | list[float]) -> None:
    np.testing.assert_allclose(value.flatten().numpy(), np.atleast_1d(expected), rtol=0, atol=1e-14)


def test_lstm_by_hand() -> None:
    """i = 3/4, f = 1/2, ĉ = 1/2, o = 4/5; c = (2 ln 2 - 3/4)/2 + 3/8 = ln 2; h = 4/5 · 3/5."""
    # Input gate: 1·x + 2·h + (ln 3 - 3) + 1 = ln 3 with x = 1, h = 1/2. The other gates have only a bias.
    weights = {"weight_ih": [1, 0, 0, 0], "weight_hh": [2, 0, 0, 0]}
    weights |= {"bias_ih": [LN3 - 3, 0, LN3, LN4 - 1], "bias_hh": [1, 0, -LN3 / 2, 1]}
    (h, c), gates = one_step(CellSpec("lstm", 1, 1), weights, [1], [0.5], [2 * LN2 - 0.75])
    for name, expected in {"input": 0.75, "forget": 0.5, "candidate": 0.5, "output": 0.8}.items():
        close(gates[name], expected)
    close(c, LN2)
    close(h, 0.48)


def test_peepholes_by_hand() -> None:
    """Input and forget gates read the old cell state, 1; the output gate the new one, 1/2·1 + 3/4·1/2 = 7/8."""
    weights = {"bias_ih": [0, 0, LN3 / 2, 0], "weight_peep": [LN3, 0, LN4 / 0.875]}
    (_, c), gates = one_step(CellSpec("lstm", 1, 1, peephole=True), weights, [1], [1], [1])
    close(gates["input"], 0.75)
    close(gates["forget"], 0.5)
    close(c, 0.875)
    close(gates["output"], 0.8)
    weights = {"weight_peep": [0, LN3, 0]}
    _, gates = one_step(CellSpec("lstm", 1, 1, peephole=True), weights, [1], [1], [1])
    close(gates["forget"], 0.75)


def test_coupled_gates_by_hand() -> None:
    """f = 3/4, so i = 1/4; ĉ = 1/2; c = 3/4·2 + 1/4·1/2. The blocks are forget, candidate, output."""
    weights = {"bias_ih": [LN3, LN3 / 2, LN4]}
    (_, c), gates = one_step(CellSpec("lstm", 1, 1, coupled=True), weights, [1], [1], [2])
    for name, expected in {"input": 0.25, "forget": 0.75, "candidate": 0.5, "output": 0.8}.items():
        close(gates[name], expected)
    close(c, 1.625)


def test_projection_by_hand() -> None:
    """Two units with h = 1/2·3/5 and 4/5·3/5 are projected to 10·h_1 + 100·h_2; the cell states stay as they are."""
    spec = CellSpec("lstm", 1, 2, proj_size=1)
    # Forget gate 1/2 and cell state 2 ln 2 give c = ln 2 in both units.
    weights = {"bias_ih": [0, 0, 0, 0, 0, 0, 0, LN4], "weight_hr": [10, 100]}
    (h, c), _ = one_step(spec, weights, [1], [1], [2 * LN2, 2 * LN2])
    close(c, [LN2, LN2])
    close(h, 10 * 0.3 + 100 * 0.48)


def test_gru_by_hand() -> None:
    """r = 3/4, z = 1/4, n = tanh(ln 3 - 3/4·(ln 3·2/3)) = 1/2; h = 3/4·1/2 + 1/4·2. The reset gate scales b_hh too."""
    weights = {"bias_ih": [LN3, -LN3, LN3], "bias_hh": [0, 0, LN3 / 3], "weight_hh": [0, 0, -LN3 / 2]}
    (h,), gates = one_step(CellSpec("gru", 1, 1), weights, [1], [2])
    for name, expected in {"reset": 0.75, "update": 0.25, "candidate": 0.5}.items():
        close(gates[name], expected)
    close(h, 0.875)


def test_rnn_by_hand() -> None:
    """max(0, 1·1 - 3·1 + 4 - 1) = 1; max(0, -3) = 0; tanh(ln 3 · 1/2) = 1/2."""
    weights = {"weight_ih": [1], "weight_hh": [3], "bias_ih": [4], "bias_hh": [-1]}
    close(one_step(CellSpec("rnn_relu", 1, 1), weights, [1], [-1])[0][0], 1)
    close(one_step(CellSpec("rnn_relu", 1, 1, bias=False), {"weight_hh": [3]}, [1], [-1])[0][0], 0)
    close(one_step(CellSpec("rnn_tanh", 1, 1), {"weight_ih": [LN3]}, [0.5], [7])[0][0], 0.5)


def test_layer_norm_by_hand() -> None:
    """(5, 1) has mean 3 and variance 4: it becomes ±2/√(4 + 1e-5), then gain and bias; a single unit becomes 0."""
    weights = {
        "weight_ih": [5, 1],
        "weight_ln_ih": [2, 3],
        "weight_ln_hh": [1, 1],
        "bias_ih": [0, 100],
        "bias_hh": [1, 0],
    }
    (h,), _ = one_step(CellSpec("rnn_relu", 1, 2, layer_norm=True), weights, [1], [0, 0])
    scaled = 2 / math.sqrt(4 + 1e-5)
    close(h, [2 * scaled + 1, 100 - 3 * scaled])
    weights = {"weight_ih": [9], "weight_ln_ih": [5], "bias_ih": [LN3], "bias_hh": [-LN3 / 2]}
    close(one_step(CellSpec("rnn_tanh", 1, 1, layer_norm=True), weights, [1], [1])[0][0], 0.5)


# ---- the specification of a cell -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lstn"}, f"unknown cell 'lstn'; known: {', '.join(CELLS)}"),
        ({"input_size": 0}, "input_size and hidden_size must be at least 1, got 0 and 4"),
        ({"hidden_size": -2}, "input_size and hidden_size must be at least 1, got 3 and -2"),
        ({"proj_size": 4}, "proj_size must be in 0..3 (below hidden_size), got 4"),
        ({"proj_size": -1}, "proj_size must be in 0..3 (below hidden_size), got -1"),
        ({"hidden_size": 1, "proj_size": 1}, "proj_size must be in 0..0 (below hidden_size), got 1"),
    ],
)
def test_spec_refuses(settings: dict[str, Any], message: str) -> None:
    """An invalid size or name is an error that says which values are valid."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CellSpec(**({"kind": "lstm", "input_size": 3, "hidden_size": 4} | settings))


@pytest.mark.parametrize("kind", CELLS)
def test_spec_refuses_options_of_other_cells(kind: str) -> None:
    """An option that the cell does not have is refused by name."""
    all_options = frozenset().union(*(cell.options for cell in CELLS.values()))
    for option in all_options - CELLS[kind].options:
        with pytest.raises(ValueError, match=f"^the {kind} cell has no option '{option}'$"):
            CellSpec(kind, 3, 4, **{option: 2 if option == "proj_size" else True})


def test_options_are_fields_of_the_spec() -> None:
    """Every option of a cell is a field of ``CellSpec``."""
    fields = {f.name for f in dataclasses.fields(CellSpec)}
    for cell in CELLS.values():
        assert cell.options <= fields


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        (("lstm",), {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)}),
        (("gru",), {"weight_ih": (15, 3), "weight_hh": (15, 5), "bias_ih": (15,), "bias_hh": (15,)}),
        (("rnn_tanh", False), {"weight_ih": (5, 3), "weight_hh": (5, 5)}),
        (("lstm", False, 2), {"weight_ih": (20, 3), "weight_hh": (20, 2), "weight_hr": (2, 5)}),
        (("lstm", False, 0, True), {"weight_ih": (20, 3), "weight_hh": (20, 5), "weight_peep": (3, 5)}),
        (("lstm", False, 0, True, True), {"weight_ih": (15, 3), "weight_hh": (15, 5), "weight_peep": (2, 5)}),
        (
            ("lstm", False, 0, False, False, True),
            {"weight_ih": (20, 3), "weight_hh": (20, 5), "weight_ln_ih": (20,), "weight_ln_hh": (20,)}
            | {"weight_ln_c": (5,), "bias_ln_c": (5,)},
        ),
        (
            ("gru", False, 0, False, False, True),
            {"weight_ih": (15, 3), "weight_hh": (15, 5), "weight_ln_ih": (15,), "weight_ln_hh": (15,)},
        ),
        (
            ("lstm_no_output_gate", False, 0, True),
            {"weight_ih": (15, 3), "weight_hh": (15, 5), "weight_peep": (2, 5)},
        ),
        (("lstm_full_gates", False), {"weight_ih": (20, 3), "weight_hh": (20, 5), "weight_gates": (15, 15)}),
    ],
    ids=str,
)
def test_parameter_shapes(settings: tuple[Any, ...], shapes: dict[str, tuple[int, ...]]) -> None:
    """Names, shapes and order of the weights of 3 features and 5 units."""
    kind, *options = settings
    assert list(CellSpec(kind, 3, 5, *options).parameter_shapes().items()) == list(shapes.items())


@SPECS
def test_spec_matches_the_shapes_of_a_step(spec: CellSpec) -> None:
    """The states have the widths of ``state_sizes``, the output's first; the gates are ``H`` wide."""
    call = cases.make_call(spec, n_steps=1, batch=2)
    p = call.passes[0]
    state, gates = spec.cell.step(spec, p.params, project_input(spec, p.params, call.x)[0], p.state[0], p.state)
    assert tuple(s.shape for s in state) == tuple((2, size) for size in spec.state_sizes)
    assert spec.state_sizes[0] == spec.output_size
    assert len(spec.state_sizes) == len(spec.cell.states)
    assert all(gate.shape == (2, spec.hidden_size) for gate in gates.values())
    assert {*gates, *spec.cell.states} == {*spec.cell.gates, *spec.cell.states}
