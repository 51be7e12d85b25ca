"""The back end ``"reference"``: the recurrence as a plain loop over :mod:`lstmkit.cells`.

Every other back end is tested against it. It runs any cell on any device and dtype, differentiates any number of times,
and returns the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lstmkit.cells import CellSpec, State, project_input
from lstmkit.ops.call import Call, Pass, PassResult, Result, Zoneout

NAME: str = "reference"


def unsupported_reason(call: Call) -> str | None:
    return None


def run(call: Call) -> Result:
    x = call.x
    if call.lengths is not None:
        x = zero_padding(x, call.lengths)  # NaN in the padding must not reach a gradient
    passes = []
    for p in call.passes:
        gx = project_input(call.spec, p.params, x)
        passes.append(scan(call.spec, p._replace(state=call.state_of(p)), gx, call.lengths, call.trace))
    return Result.of(passes)


def scan(spec: CellSpec, p: Pass, gx: Tensor, lengths: Tensor | None, trace: bool = False) -> PassResult:
    """Run one pass from its state.

    Args:
        spec: The cell.
        p: The pass; its state must not be empty.
        gx: The input projection of the gates, ``(T, B, G·H)``.
        lengths: Steps of each sequence, ``(B,)``, or ``None`` for all.
        trace: Whether to return the gates and states of every step.
    """
    n_steps = len(gx)
    active = None if lengths is None else active_steps(n_steps, lengths, gx.device)
    outputs: list[Tensor] = [gx] * n_steps
    traces: list[dict[str, Tensor]] = [{}] * n_steps
    state, steps = p.state, gx.unbind()  # a record of this loop refuses other numbers of steps
    for t in _order(n_steps, p.reverse):
        h = state[0] if p.recurrent_mask is None else state[0] * p.recurrent_mask
        new, gates = spec.cell.step(spec, p.params, steps[t], h, state)
        if p.zoneout is not None:
            new = apply_zoneout(tuple(z[t] if isinstance(z, Tensor) else z for z in p.zoneout), state, new)
        if active is not None:
            new = tuple(torch.where(active[t], n, old) for n, old in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
        if trace:
            traces[t] = gates | dict(zip(spec.cell.states, state, strict=True))
    trace_by_name = None
    if trace:
        sizes = dict.fromkeys(spec.cell.gates, spec.hidden_size)
        sizes |= dict(zip(spec.cell.states, spec.state_sizes, strict=True))
        trace_by_name = {name: _stack([step[name] for step in traces], active, gx, n) for name, n in sizes.items()}
    return PassResult(_stack(outputs, active, gx, spec.output_size), state, trace_by_name)


def active_steps(n_steps: int, lengths: Tensor, device: torch.device) -> Tensor:
    """Mask ``(T, B, 1)`` of the steps before the end of each sequence."""
    return (torch.arange(n_steps, device=device)[:, None] < lengths.to(device)).unsqueeze(-1)


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """``x (T, B, size)`` with zeros past the end of each sequence."""
    return torch.where(active_steps(x.shape[0], lengths, x.device), x, x.new_zeros(()))


def _order(n_steps: int, reverse: bool) -> Iterator[int]:
    return iter(reversed(range(n_steps)) if reverse else range(n_steps))


def apply_zoneout(weights: Zoneout, old: State, new: State) -> State:
    """Zoneout (Krueger et al. 2017): keep old values where the mask is 1, or mix old and new by the probability.

    Args:
        weights: Of one step: for each state a mask ``(B, size)`` or a probability.
        old, new: The states before and after the step.
    """
    return tuple(n + w * (o - n) for w, o, n in zip(weights, old, new, strict=True))


def _stack(steps: list[Tensor], active: Tensor | None, like: Tensor, size: int) -> Tensor:
    if not steps:
        return like.new_zeros(0, like.shape[1], size)
    stacked = torch.stack(steps)
    return stacked if active is None else torch.where(active, stacked, stacked.new_zeros(()))


def gradients(
    run: Callable[[list[Tensor]], Sequence[Tensor | None]],
    inputs: Sequence[Tensor],
    output_grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``run(inputs)`` that can be differentiated again.

    Args:
        run: The pass or layer, on this back end; a result may be ``None``.
        inputs: The tensors to differentiate by.
        output_grads: The gradient of each result; ``None`` for zero.
        wanted: For each input, whether its gradient is needed.
    """
    with torch.enable_grad():
        views = [tensor.view_as(tensor) for tensor in inputs]  # views: one input may have been computed from another
        pairs = [
            (out, d) for out, d in zip(run(views), output_grads, strict=False) if out is not None and d is not None
        ]
        outputs, grads = [out for out, _ in pairs], [d for _, d in pairs]
        needed = [view for view, want in zip(views, wanted, strict=True) if want]
        results = iter(torch.autograd.grad(outputs, needed, grads, create_graph=True, materialize_grads=True))
    return [next(results) if want else None for want in wanted]
