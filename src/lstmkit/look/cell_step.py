"""One step of one unit in numbers: the equations of its cell with the values inserted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.cells import CellSpec, Params, State, project_input, project_output, project_state
from lstmkit.errors import UserError
from lstmkit.layers.recurrent import RecurrentLayer, TraceWindow
from lstmkit.look.traces import ExampleSequence, LayerKey, captured_calls, evaluation_mode


class Equation(NamedTuple):
    """One equation of a cell, for one unit at one step.

    Attributes:
        formula: The equation in matplotlib math text, without dollar signs.
        unicode: The equation in Unicode text.
        numbers: The right-hand side with the numbers inserted.
        value: The result.
    """

    formula: str
    unicode: str
    numbers: str
    value: float


@dataclass(frozen=True)
class CellStep:
    """One step of one unit.

    Attributes:
        kind: Kind of the cell, see :class:`lstmkit.cells.CellSpec`.
        where: Layer, unit and step as text.
        values: Values by symbol; of an LSTM ``f, i, g, o, c, h, c_before, h_before``.
        equations: The equations in the order of computation.
    """

    kind: str
    where: str
    values: dict[str, float]
    equations: list[Equation]


def cell_step(model: nn.Module, example_sequence: ExampleSequence, key: LayerKey, step: int, unit: int) -> CellStep:
    """Compute one unit at one step, equation by equation.

    Args:
        model: Any module with recurrent layers.
        example_sequence: The sequence.
        key: Module, layer and direction, as in the result of :func:`lstmkit.look.traces.trace_layers`.
        step: Step, from 0.
        unit: Unit, from 0.

    Raises:
        UserError: The layer, step or unit does not exist, or the cell is not one of :data:`SUPPORTED_CELLS`.

    >>> from lstmkit.look.traces import LayerKey, ExampleSequence
    >>> result = cell_step(nn.LSTM(3, 5), ExampleSequence(torch.zeros(8, 1, 3)), LayerKey("LSTM", 0, 0), step=7, unit=2)
    >>> [line.unicode.split(" = ")[0] for line in result.equations]
    ['f', 'i', 'ĉ', 'c', 'o', 'h']
    """
    layers = captured_calls(model, example_sequence)
    if key.module not in layers:
        raise UserError(
            f"the recurrent layer {key.module!r} does not exist or did not run: choose one of {', '.join(layers)}"
        )
    layer, calls = layers[key.module]
    if key.layer >= layer.num_layers or key.direction >= layer.num_directions:
        raise UserError(
            f"{key} does not exist: {key.module} has {layer.num_layers} layer(s) of {layer.num_directions} direction(s)"
        )
    spec = layer.specs[key.layer]
    if spec.kind not in SUPPORTED_CELLS:
        raise UserError(f"the cell {spec.kind!r} has no diagram: supported cells are {', '.join(SUPPORTED_CELLS)}")
    if not 0 <= unit < spec.hidden_size:
        raise UserError(f"unit {unit} does not exist in {key}: choose 0 to {spec.hidden_size - 1}")
    time, offset = 1 if layer.batch_first else 0, 0
    with torch.no_grad(), evaluation_mode(layer):
        for call in calls:
            for window in layer.trace_windows(call.x, call.state):
                t = step - offset - window.start
                if window.place == (key.layer, key.direction) and 0 <= t < window.x.shape[1]:
                    return _cell_step_at(layer, key, window, t, unit, step)
            offset += call.x.shape[time]
    raise UserError(f"step {step} does not exist: the sequence has steps 0 to {offset - 1}")


def _cell_step_at(layer: RecurrentLayer, key: LayerKey, window: TraceWindow, t: int, unit: int, step: int) -> CellStep:
    """Step ``t`` of a window, which is ``step`` of the sequence."""
    spec, params = layer.specs[key.layer], layer.weights(key.layer, key.direction)
    t_before = t + 1 if key.direction else t - 1
    in_window = 0 <= t_before < window.x.shape[1]
    before = tuple(window.gates[n][:, t_before] for n in spec.cell.states) if in_window else window.state
    x_projection = project_input(spec, params, window.x[:, t])[0]
    h_projection = project_state(spec, params, before[0])[0]
    rows = {name: i * spec.hidden_size + unit for i, name in enumerate(spec.gates)}
    projections = {name: (float(x_projection[row]), float(h_projection[row])) for name, row in rows.items()}
    computed = {name: float(gate[0, t, unit]) for name, gate in window.gates.items() if unit < gate.shape[2]}
    previous = {name: float(s[0, unit]) for name, s in zip(spec.cell.states, before, strict=True) if unit < s.shape[1]}
    peephole_weights = params["weight_peep"][:, unit].tolist() if spec.peephole else []
    peepholes = dict(zip((n for n in spec.gates if n != "candidate"), peephole_weights, strict=False))
    normalized = projected = None
    if spec.layer_norm or spec.proj_size:
        cell, output = _gated_output(spec, params, {name: gate[0, t] for name, gate in window.gates.items()}, before)
        normalized = float(cell[unit]) if spec.layer_norm and "cell" in previous else None
        projected = float(project_output(params, output)[unit]) if unit < spec.proj_size else None
    unit_values = _UnitValues(spec, projections, computed, previous, peepholes, normalized, projected)
    values, equations = _EQUATION_BUILDERS[spec.kind](unit_values)
    if layer.zoneout:
        equations += _zoneout_equations(layer.zoneout, values, unit_values)
    return CellStep(spec.kind, f"{key}, unit {unit}, step {step}", values, equations)


def _gated_output(spec: CellSpec, params: Params, gates: Params, before: State) -> tuple[Tensor, Tensor]:
    """An LSTM's cell state as the output gate reads it, and the gated output before projection, ``(H,)`` each."""
    if "cell" not in gates:
        return before[0][0], before[0][0]
    cell = gates["forget"] * before[1][0] + gates["input"] * gates["candidate"]
    if spec.layer_norm:
        cell = F.layer_norm(cell, (spec.hidden_size,), params["weight_ln_c"], params["bias_ln_c"])
    return cell, gates["output"] * torch.tanh(cell)


class _UnitValues(NamedTuple):
    """The values of one unit at one step.

    Attributes:
        spec: The cell.
        projections: By gate, the projections of the input and of the previous output, biases included.
        computed: Gates and states of this step.
        previous: States of the previous step.
        peepholes: Peephole weights by gate.
        normalized: The cell state after layer normalization, if the cell has it.
        projected: The projected output of this unit, if the cell has a projection.
    """

    spec: CellSpec
    projections: dict[str, tuple[float, float]]
    computed: dict[str, float]
    previous: dict[str, float]
    peepholes: dict[str, float]
    normalized: float | None
    projected: float | None


def _n(value: float) -> str:
    """A number with two decimals and a typographic minus sign."""
    return f"{value:.2f}".replace("-", "−") if abs(value) < 100 else f"{value:.3g}".replace("-", "−")


def _sum(*terms: str) -> str:
    """A sum of terms, in which "+ −" becomes "−"."""
    return " + ".join(terms).replace("+ −", "− ")


def _factor(value: float) -> str:
    """A factor, in parentheses if it is negative."""
    return f"({_n(value)})" if value < 0 else _n(value)


def _lstm(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    spec, projections, computed, previous, peepholes, normalized, projected = m
    new_c = computed["forget"] * previous["cell"] + computed["input"] * computed["candidate"]
    peephole_inputs = {"forget": previous["cell"], "input": previous["cell"], "output": new_c}

    def gate(name: str, symbol: str) -> Equation:
        terms = [_n(projection) for projection in projections[name]]
        extra_formula, extra_unicode = "", ""
        if peepholes:
            cell = ("c_t", "c") if name == "output" else ("c_{t-1}", "c₋")
            extra_formula, extra_unicode = rf" + p_{symbol} {cell[0]}", f" + p_{symbol}·{cell[1]}"
            terms.append(f"{_factor(peepholes[name])}·{_factor(peephole_inputs[name])}")
        return Equation(
            rf"{symbol}_t = \sigma(W_{symbol}\,x_t + U_{symbol}\,h_{{t-1}}{extra_formula})",
            f"{symbol} = σ(W·x + U·h₋{extra_unicode})",
            f"σ({_sum(*terms)})",
            computed[name],
        )

    f, i, g, o = (computed[name] for name in ("forget", "input", "candidate", "output"))
    equations = [gate("forget", "f")]
    if spec.coupled:
        equations.append(Equation("i_t = 1 - f_t", "i = 1 − f", f"1 − {_n(f)}", i))
    else:
        equations.append(gate("input", "i"))
    equations.append(
        Equation(
            r"\hat{c}_t = \tanh(W_c\,x_t + U_c\,h_{t-1})",
            "ĉ = tanh(W·x + U·h₋)",
            f"tanh({_sum(*map(_n, projections['candidate']))})",
            g,
        )
    )
    c_numbers = _sum(f"{_n(f)}·{_factor(previous['cell'])}", f"{_n(i)}·{_factor(g)}")
    equations.append(Equation(r"c_t = f_t\,c_{t-1} + i_t\,\hat{c}_t", "c = f·c₋ + i·ĉ", c_numbers, new_c))
    equations.append(gate("output", "o"))
    output_c = new_c if normalized is None else normalized
    h = o * float(np.tanh(output_c))
    inner = ("c_t", "c") if normalized is None else (r"\mathrm{LN}(c_t)", "LN(c)")
    name = "m" if spec.proj_size else "h"
    equations.append(
        Equation(
            rf"{name}_t = o_t\,\tanh({inner[0]})",
            f"{name} = o·tanh({inner[1]})",
            f"{_n(o)}·tanh({_n(output_c)})",
            h,
        )
    )
    if projected is not None:
        equations.append(Equation(r"h_t = W_r\,m_t", "h = W·m", f"of all {spec.hidden_size} units", projected))
    values = {"f": f, "i": i, "g": g, "o": o, "c": new_c, "h": h, "c_before": previous["cell"]}
    return values | ({"h_before": previous["hidden"]} if "hidden" in previous else {}), equations


def _gru(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    projections, computed, previous = m.projections, m.computed, m.previous
    r, z, n = (computed[name] for name in ("reset", "update", "candidate"))
    h = (1 - z) * n + z * previous["hidden"]
    from_x, from_h = projections["candidate"]

    def gate(symbol: str, name: str, value: float) -> Equation:
        formula = rf"{symbol}_t = \sigma(W_{symbol}\,x_t + U_{symbol}\,h_{{t-1}})"
        return Equation(formula, f"{symbol} = σ(W·x + U·h₋)", f"σ({_sum(*map(_n, projections[name]))})", value)

    equations = [
        gate("r", "reset", r),
        gate("z", "update", z),
        Equation(
            r"n_t = \tanh(W_n\,x_t + r_t\,U_n\,h_{t-1})",
            "n = tanh(W·x + r·U·h₋)",
            f"tanh({_sum(_n(from_x), f'{_n(r)}·{_factor(from_h)}')})",
            n,
        ),
        Equation(
            r"h_t = (1 - z_t)\,n_t + z_t\,h_{t-1}",
            "h = (1 − z)·n + z·h₋",
            _sum(f"{_n(1 - z)}·{_factor(n)}", f"{_n(z)}·{_factor(previous['hidden'])}"),
            h,
        ),
    ]
    return {"r": r, "z": z, "n": n, "h": h, "h_before": previous["hidden"]}, equations


def _rnn(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    total = sum(m.projections["hidden"])
    name, h = ("tanh", float(np.tanh(total))) if m.spec.kind == "rnn_tanh" else ("relu", max(0.0, total))
    formula = rf"h_t = \mathrm{{{name}}}(W\,x_t + U\,h_{{t-1}})"
    numbers = f"{name}({_sum(*map(_n, m.projections['hidden']))})"
    return {"h": h, "h_before": m.previous["hidden"]}, [Equation(formula, f"h = {name}(W·x + U·h₋)", numbers, h)]


def _zoneout_equations(probability: float, values: dict[str, float], m: _UnitValues) -> list[Equation]:
    """The zoneout of the states, in evaluation mode: the expectation over the noise."""
    equations = []
    for name, symbol in (("cell", "c"), ("hidden", "h")):
        if name in m.computed and symbol in values:
            new = m.projected if name == "hidden" and m.projected is not None else values[symbol]
            numbers = _sum(f"{_n(1 - probability)}·{_factor(new)}", f"{_n(probability)}·{_factor(m.previous[name])}")
            equations.append(
                Equation(
                    rf"{symbol}_t \leftarrow (1 - k)\,{symbol}_t + k\,{symbol}_{{t-1}}",
                    f"{symbol} ← (1 − k)·{symbol} + k·{symbol}₋ (zoneout)",
                    numbers,
                    m.computed[name],
                )
            )
    return equations


_EQUATION_BUILDERS = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _rnn, "rnn_relu": _rnn}
SUPPORTED_CELLS = tuple(_EQUATION_BUILDERS)  #: Cells with equations and a diagram.
