"""One step of one unit in numbers: each equation of its cell with the values that it had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.cells import CellSpec, Params, State, project_input, project_state
from lstmkit.errors import UserError
from lstmkit.layers.recurrent import RecurrentLayer, TraceWindow
from lstmkit.look.traces import ExampleSequence, LayerKey, caught, evaluating


class Equation(NamedTuple):
    """One equation of a cell, for one unit at one step.

    Attributes:
        formula: In mathtext, without the dollar signs.
        plain: The same in plain text.
        numbers: Its right-hand side with the numbers in it.
        value: What came out.
    """

    formula: str
    plain: str
    numbers: str
    value: float


@dataclass(frozen=True)
class CellStep:
    """One step of one unit.

    Attributes:
        kind: The cell, as :class:`lstmkit.cells.CellSpec` has it.
        where: Layer, unit and step in words.
        values: Numbers by symbol: ``f, i, g, o, c, h, c_before, h_before`` and so on, as the cell has them.
        equations: In the order in which they are computed.
    """

    kind: str
    where: str
    values: dict[str, float]
    equations: list[Equation]


def cell_step(model: nn.Module, example_sequence: ExampleSequence, place: LayerKey, step: int, unit: int) -> CellStep:
    """What one unit computed at one step.

    Args:
        model: Any module with recurrent layers.
        specimen: The sequence.
        place: Module, layer and direction, as :func:`lstmkit.look.traces.trace_layers` names them.
        step: From 0.
        unit: From 0.

    Raises:
        UserError: There is no such place, step or unit, or the cell has no equations here.

    >>> from lstmkit.look.traces import LayerKey, ExampleSequence
    >>> found = cell_step(nn.LSTM(3, 5), ExampleSequence(torch.zeros(8, 1, 3)), LayerKey("LSTM", 0, 0), step=7, unit=2)
    >>> [line.plain.split(" = ")[0] for line in found.equations]
    ['f', 'i', 'ĉ', 'c', 'o', 'h']
    """
    layers = caught(model, example_sequence)
    if place.module not in layers:
        raise UserError(f"there is no recurrent layer {place.module!r} that ran; these did: {', '.join(layers)}")
    layer, calls = layers[place.module]
    if place.layer >= layer.num_layers or place.direction >= layer.num_directions:
        raise UserError(f"there is no {place}: it has {layer.num_layers} x {layer.num_directions}")
    spec = layer.specs[place.layer]
    if spec.kind not in SUPPORTED_CELLS:
        raise UserError(f"the {spec.kind} cell is not drawn; these are: {', '.join(SUPPORTED_CELLS)}")
    if not 0 <= unit < spec.hidden_size:
        raise UserError(f"there is no unit {unit} in {place}: it has 0 to {spec.hidden_size - 1}")
    time, first = 1 if layer.batch_first else 0, 0
    with torch.no_grad(), evaluating(layer):
        for given in calls:
            for piece in layer.trace_windows(given.x, given.state):
                here = step - first - piece.start
                if piece.place == (place.layer, place.direction) and 0 <= here < piece.x.shape[1]:
                    return _at(layer, place, piece, here, unit, step)
            first += given.x.shape[time]
    raise UserError(f"there is no step {step}: the sequence has 0 to {first - 1}")


def _at(layer: RecurrentLayer, place: LayerKey, piece: TraceWindow, here: int, unit: int, step: int) -> CellStep:
    spec, params = layer.specs[place.layer], layer.weights(place.layer, place.direction)
    back = here + 1 if place.direction else here - 1
    inside = 0 <= back < piece.x.shape[1]
    before = tuple(piece.gates[n][:, back] for n in spec.cell.states) if inside else piece.state
    x_share = project_input(spec, params, piece.x[:, here])[0]
    h_share = project_state(spec, params, before[0])[0]
    rows = {name: i * spec.hidden_size + unit for i, name in enumerate(spec.gates)}
    shares = {name: (float(x_share[row]), float(h_share[row])) for name, row in rows.items()}
    came = {name: float(gate[0, here, unit]) for name, gate in piece.gates.items() if unit < gate.shape[2]}
    old = {name: float(s[0, unit]) for name, s in zip(spec.cell.states, before, strict=True) if unit < s.shape[1]}
    peep = params["weight_peep"][:, unit].tolist() if spec.peephole else []
    peep_of = dict(zip((n for n in spec.gates if n != "candidate"), peep, strict=False))
    normalised = projected = None
    if spec.layer_norm or spec.proj_size:
        shown, out = _gated_output(spec, params, {name: gate[0, here] for name, gate in piece.gates.items()}, before)
        normalised = float(shown[unit]) if spec.layer_norm and "cell" in old else None
        projected = float(params["weight_hr"][unit] @ out) if unit < spec.proj_size else None
    measured = _UnitValues(spec, shares, came, old, peep_of, normalised, projected)
    values, equations = _EQUATION_BUILDERS[spec.kind](measured)
    if layer.zoneout:
        equations += _zoned_out(layer.zoneout, values, measured)
    return CellStep(spec.kind, f"{place}, unit {unit}, step {step}", values, equations)


def _gated_output(spec: CellSpec, params: Params, gates: Params, before: State) -> tuple[Tensor, Tensor]:
    """What an LSTM's output gate sees of all units' memory, and what it lets out of it, ``(H,)`` each."""
    if "cell" not in gates:
        return before[0][0], before[0][0]
    cell = gates["forget"] * before[1][0] + gates["input"] * gates["candidate"]
    if spec.layer_norm:
        cell = F.layer_norm(cell, (spec.hidden_size,), params["weight_ln_c"], params["bias_ln_c"])
    return cell, gates["output"] * torch.tanh(cell)


class _UnitValues(NamedTuple):
    """One unit at one step.

    Attributes:
        spec: The cell.
        shares: What input and previous output add to each gate, biases among them.
        came: Gates and states of this step.
        old: States of the step before.
        peep: Peephole weights by gate.
        normalised: The cell state after layer normalisation, where there is one.
        projected: The projected output with this unit's number, where there is one.
    """

    spec: CellSpec
    shares: dict[str, tuple[float, float]]
    came: dict[str, float]
    old: dict[str, float]
    peep: dict[str, float]
    normalised: float | None
    projected: float | None


def _n(value: float) -> str:
    """A number in an equation, with its sign as print has it."""
    return f"{value:.2f}".replace("-", "−") if abs(value) < 100 else f"{value:.3g}".replace("-", "−")


def _sum(*terms: str) -> str:
    """Terms, with a minus in place of "+ −"."""
    return " + ".join(terms).replace("+ −", "− ")


def _in(value: float) -> str:
    """A factor: in brackets if it is negative."""
    return f"({_n(value)})" if value < 0 else _n(value)


def _lstm(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    spec, shares, came, old, peep, normalised, projected = m
    new_c = came["forget"] * old["cell"] + came["input"] * came["candidate"]
    seen = {"forget": old["cell"], "input": old["cell"], "output": new_c}

    def gate(name: str, symbol: str) -> Equation:
        terms = [_n(share) for share in shares[name]]
        extra_formula, extra_plain = "", ""
        if peep:
            cell = ("c_t", "c") if name == "output" else ("c_{t-1}", "c₋")
            extra_formula, extra_plain = rf" + p_{symbol} {cell[0]}", f" + p_{symbol}·{cell[1]}"
            terms.append(f"{_in(peep[name])}·{_in(seen[name])}")
        return Equation(
            rf"{symbol}_t = \sigma(W_{symbol}\,x_t + U_{symbol}\,h_{{t-1}}{extra_formula})",
            f"{symbol} = σ(W·x + U·h₋{extra_plain})",
            f"σ({_sum(*terms)})",
            came[name],
        )

    f, i, g, o = (came[name] for name in ("forget", "input", "candidate", "output"))
    equations = [gate("forget", "f")]
    if spec.coupled:
        equations.append(Equation("i_t = 1 - f_t", "i = 1 − f", f"1 − {_n(f)}", i))
    else:
        equations.append(gate("input", "i"))
    equations.append(
        Equation(
            r"\hat{c}_t = \tanh(W_c\,x_t + U_c\,h_{t-1})",
            "ĉ = tanh(W·x + U·h₋)",
            f"tanh({_sum(*map(_n, shares['candidate']))})",
            g,
        )
    )
    c_numbers = _sum(f"{_n(f)}·{_in(old['cell'])}", f"{_n(i)}·{_in(g)}")
    equations.append(Equation(r"c_t = f_t\,c_{t-1} + i_t\,\hat{c}_t", "c = f·c₋ + i·ĉ", c_numbers, new_c))
    equations.append(gate("output", "o"))
    shown_c = new_c if normalised is None else normalised
    h = o * float(np.tanh(shown_c))
    inner = ("c_t", "c") if normalised is None else (r"\mathrm{LN}(c_t)", "LN(c)")
    name = "m" if spec.proj_size else "h"
    equations.append(
        Equation(
            rf"{name}_t = o_t\,\tanh({inner[0]})",
            f"{name} = o·tanh({inner[1]})",
            f"{_n(o)}·tanh({_n(shown_c)})",
            h,
        )
    )
    if projected is not None:
        equations.append(Equation(r"h_t = W_r\,m_t", "h = W·m", f"of all {spec.hidden_size} units", projected))
    values = {"f": f, "i": i, "g": g, "o": o, "c": new_c, "h": h, "c_before": old["cell"]}
    return values | ({"h_before": old["hidden"]} if "hidden" in old else {}), equations


def _gru(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    shares, came, old = m.shares, m.came, m.old
    r, z, n = (came[name] for name in ("reset", "update", "candidate"))
    h = (1 - z) * n + z * old["hidden"]
    from_x, from_h = shares["candidate"]

    def gate(symbol: str, name: str, value: float) -> Equation:
        formula = rf"{symbol}_t = \sigma(W_{symbol}\,x_t + U_{symbol}\,h_{{t-1}})"
        return Equation(formula, f"{symbol} = σ(W·x + U·h₋)", f"σ({_sum(*map(_n, shares[name]))})", value)

    equations = [
        gate("r", "reset", r),
        gate("z", "update", z),
        Equation(
            r"n_t = \tanh(W_n\,x_t + r_t\,U_n\,h_{t-1})",
            "n = tanh(W·x + r·U·h₋)",
            f"tanh({_sum(_n(from_x), f'{_n(r)}·{_in(from_h)}')})",
            n,
        ),
        Equation(
            r"h_t = (1 - z_t)\,n_t + z_t\,h_{t-1}",
            "h = (1 − z)·n + z·h₋",
            _sum(f"{_n(1 - z)}·{_in(n)}", f"{_n(z)}·{_in(old['hidden'])}"),
            h,
        ),
    ]
    return {"r": r, "z": z, "n": n, "h": h, "h_before": old["hidden"]}, equations


def _rnn(m: _UnitValues) -> tuple[dict[str, float], list[Equation]]:
    total = sum(m.shares["hidden"])
    name, h = ("tanh", float(np.tanh(total))) if m.spec.kind == "rnn_tanh" else ("relu", max(0.0, total))
    formula = rf"h_t = \mathrm{{{name}}}(W\,x_t + U\,h_{{t-1}})"
    numbers = f"{name}({_sum(*map(_n, m.shares['hidden']))})"
    return {"h": h, "h_before": m.old["hidden"]}, [Equation(formula, f"h = {name}(W·x + U·h₋)", numbers, h)]


def _zoned_out(share: float, values: dict[str, float], m: _UnitValues) -> list[Equation]:
    """What zoneout makes of the states, out of training."""
    found = []
    for name, symbol in (("cell", "c"), ("hidden", "h")):
        if name in m.came and symbol in values:
            new = m.projected if name == "hidden" and m.projected is not None else values[symbol]
            numbers = _sum(f"{_n(1 - share)}·{_in(new)}", f"{_n(share)}·{_in(m.old[name])}")
            found.append(
                Equation(
                    rf"{symbol}_t \leftarrow (1 - k)\,{symbol}_t + k\,{symbol}_{{t-1}}",
                    f"{symbol} ← (1 − k)·{symbol} + k·{symbol}₋ (zoneout)",
                    numbers,
                    m.came[name],
                )
            )
    return found


_EQUATION_BUILDERS = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _rnn, "rnn_relu": _rnn}
SUPPORTED_CELLS = tuple(_EQUATION_BUILDERS)  #: The cells whose equations are written out.
