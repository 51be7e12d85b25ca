"""The recurrence as a plain loop over :mod:`lstmkit.cells`: the oracle for every other back end.

Runs any cell on any device and dtype, differentiates any number of times, and hands out its gates.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lstmkit.cells import State, project_input
from lstmkit.ops.call import Call, Pass, PassResult, Result

NAME: str = "reference"


def refusal(call: Call) -> str | None:
    return None


def run(call: Call) -> Result:
    active = None
    x = call.x
    if call.lengths is not None:
        steps = torch.arange(x.shape[0], device=x.device)
        active = (steps[:, None] < call.lengths.to(x.device)).unsqueeze(-1)  # (T, B, 1)
        x = torch.where(active, x, x.new_zeros(()))  # NaN in the padding must not reach a gradient
    return Result.of([_scan(call, p, x, active) for p in call.passes])


def _scan(call: Call, p: Pass, x: Tensor, active: Tensor | None) -> PassResult:
    n_steps = x.shape[0]
    outputs: list[Tensor] = [x] * n_steps
    traces: list[dict[str, Tensor]] = [{}] * n_steps
    state = call.state_of(p)
    gx = project_input(call.spec, p.params, x)
    for t in _order(n_steps, p.reverse):
        h = state[0] if p.recurrent_mask is None else state[0] * p.recurrent_mask
        new, gates = call.spec.cell.step(call.spec, p.params, gx[t], h, state)
        if p.zoneout is not None:
            new = _zone_out(p, t, state, new)
        if active is not None:
            new = tuple(torch.where(active[t], n, old) for n, old in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
        if call.trace:
            traces[t] = gates | dict(zip(call.spec.cell.states, state, strict=True))
    trace = None
    if call.trace:
        sizes = dict.fromkeys(call.spec.cell.gates, call.spec.hidden_size)
        sizes |= dict(zip(call.spec.cell.states, call.spec.state_sizes, strict=True))
        trace = {name: _stack([step[name] for step in traces], active, x, size) for name, size in sizes.items()}
    return PassResult(_stack(outputs, active, x, call.spec.output_size), state, trace)


def _order(n_steps: int, reverse: bool) -> Iterator[int]:
    return iter(reversed(range(n_steps)) if reverse else range(n_steps))


def _zone_out(p: Pass, t: int, old: State, new: State) -> State:
    """Krueger et al. 2017: each unit keeps its old value, at random in training, by that share otherwise."""
    kept = (k[t] if isinstance(k, Tensor) else k for k in p.zoneout or ())
    return tuple(n + k * (o - n) for k, o, n in zip(kept, old, new, strict=True))


def _stack(steps: list[Tensor], active: Tensor | None, x: Tensor, size: int) -> Tensor:
    if not steps:
        return x.new_zeros(0, x.shape[1], size)
    stacked = torch.stack(steps)
    return stacked if active is None else torch.where(active, stacked, stacked.new_zeros(()))
