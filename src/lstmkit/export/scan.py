"""The recurrence as torch's ``scan``: one operator whose body is the cell's own step in :mod:`lstmkit.cells`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

from lstmkit.cells import State, project_input
from lstmkit.ops import reference
from lstmkit.ops.call import Call, Pass, PassResult


def scan_pass(call: Call, p: Pass) -> PassResult:
    """One direction of a layer over all steps, in evaluation mode, for any number of steps."""
    spec, x, active = call.spec, call.x, None
    if call.lengths is not None:
        active = reference.active_steps(x.shape[0], call.lengths, x.device)
        x = reference.zero_padding(x, call.lengths)

    def step(state: State, inputs: tuple[Tensor, ...]) -> tuple[State, Tensor]:
        gx, *is_active = inputs
        new, _ = spec.cell.step(spec, p.params, gx, state[0], tuple(state))
        if p.zoneout is not None:
            new = reference.apply_zoneout(p.zoneout, state, new)
        if not is_active:
            return new, new[0] * 1.0  # one output may not be another one
        output = torch.where(is_active[0], new[0], torch.zeros_like(new[0]))
        return tuple(torch.where(is_active[0], n, old) for n, old in zip(new, state, strict=True)), output

    gx = project_input(spec, p.params, x)
    inputs = (gx,) if active is None else (gx, active)
    state = tuple(s.clone() for s in call.state_of(p))
    final, output = scan(step, state, inputs, dim=0, reverse=p.reverse)
    return PassResult(output, tuple(final))
