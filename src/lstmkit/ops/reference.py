"""The recurrence as a plain loop over :mod:`lstmkit.cells`: the oracle for every other back end.

Runs any cell on any device and dtype, differentiates any number of times, and hands out its gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lstmkit.cells import CellSpec, State, project_input
from lstmkit.ops.call import Call, Pass, PassResult, Result

NAME: str = "reference"


def unsupported_reason(call: Call) -> str | None:
    return None


def run(call: Call) -> Result:
    x = call.x
    if call.lengths is not None:
        x = within(x, call.lengths)  # NaN in the padding must not reach a gradient
    passes = []
    for p in call.passes:
        gx = project_input(call.spec, p.params, x)
        passes.append(scan(call.spec, p._replace(state=call.state_of(p)), gx, call.lengths, call.trace))
    return Result.of(passes)


def scan(spec: CellSpec, p: Pass, gx: Tensor, lengths: Tensor | None, trace: bool = False) -> PassResult:
    """One pass, of the input's share of the gates, ``(T, B, G·H)``, from the state that the pass has."""
    n_steps = len(gx)
    active = None if lengths is None else active_steps(n_steps, lengths, gx.device)
    outputs: list[Tensor] = [gx] * n_steps
    traces: list[dict[str, Tensor]] = [{}] * n_steps
    state = p.state
    for t in _order(n_steps, p.reverse):
        h = state[0] if p.recurrent_mask is None else state[0] * p.recurrent_mask
        new, gates = spec.cell.step(spec, p.params, gx[t], h, state)
        if p.zoneout is not None:
            new = _apply_zoneout(p, t, state, new)
        if active is not None:
            new = tuple(torch.where(active[t], n, old) for n, old in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
        if trace:
            traces[t] = gates | dict(zip(spec.cell.states, state, strict=True))
    found = None
    if trace:
        sizes = dict.fromkeys(spec.cell.gates, spec.hidden_size)
        sizes |= dict(zip(spec.cell.states, spec.state_sizes, strict=True))
        found = {name: _stack([step[name] for step in traces], active, gx, size) for name, size in sizes.items()}
    return PassResult(_stack(outputs, active, gx, spec.output_size), state, found)


def active_steps(n_steps: int, lengths: Tensor, device: torch.device) -> Tensor:
    """``(T, B, 1)``: which steps each sequence has."""
    return (torch.arange(n_steps, device=device)[:, None] < lengths.to(device)).unsqueeze(-1)


def within(x: Tensor, lengths: Tensor) -> Tensor:
    """``(T, B, size)``, 0 past each sequence's end."""
    return torch.where(active_steps(len(x), lengths, x.device), x, x.new_zeros(()))


def _order(n_steps: int, reverse: bool) -> Iterator[int]:
    return iter(reversed(range(n_steps)) if reverse else range(n_steps))


def _apply_zoneout(p: Pass, t: int, old: State, new: State) -> State:
    """Krueger et al. 2017: each unit keeps its old value, at random in training, by that share otherwise."""
    kept = (k[t] if isinstance(k, Tensor) else k for k in p.zoneout or ())
    return tuple(n + k * (o - n) for k, o, n in zip(kept, old, new, strict=True))


def _stack(steps: list[Tensor], active: Tensor | None, like: Tensor, size: int) -> Tensor:
    if not steps:
        return like.new_zeros(0, like.shape[1], size)
    stacked = torch.stack(steps)
    return stacked if active is None else torch.where(active, stacked, stacked.new_zeros(()))


def gradients(
    run: Callable[[list[Tensor]], Sequence[Tensor | None]],
    leaves: Sequence[Tensor],
    given: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of what ``run`` makes of the leaves, as functions of everything, so that they have derivatives.

    Args:
        run: The pass or layer, on this back end; ``None`` for a result that there is not.
        leaves: What is differentiated by.
        given: The gradient of each result; ``None`` for zero.
        wanted: Of which leaves.
    """
    with torch.enable_grad():
        own = [leaf.view_as(leaf) for leaf in leaves]  # by other names: one may have been computed from another
        results = zip(run(own), given, strict=False)
        pairs = [(out, d) for out, d in results if out is not None and d is not None]
        asked = [leaf for leaf, want in zip(own, wanted, strict=True) if want]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs], asked, [d for _, d in pairs], create_graph=True, materialize_grads=True
            )
        )
    return [next(found) if want else None for want in wanted]
