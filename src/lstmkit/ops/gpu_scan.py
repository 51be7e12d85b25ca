"""One pass through time on the Triton kernels, as a function of tensors with derivatives.

The input's share of the gates comes in: its product has no loop, and its derivatives are torch's own. What the kernels
leave of the weights' gradients are sums over all steps: products that torch makes after the loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import Gates, State
from lstmkit.ops import gpu_kernels as kernels
from lstmkit.ops import reference
from lstmkit.ops.call import Pass
from lstmkit.ops.gpu_plan import EPS, Around, Plan, launch, noise

#: What the loop sees of the weights, in the order in which they are handed around.
WEIGHTS = ("weight_hh", "bias_hh", "weight_hr", "weight_peep", "weight_ln_hh", "weight_ln_c", "bias_ln_c")


class Kept(NamedTuple):
    """What forward leaves for backward: see :func:`lstmkit.ops.gpu_kernels.forward`."""

    hs: Tensor
    cs: Tensor
    saved: Tensor
    normed: Tensor
    scales: Tensor
    told: Tensor


def scan(
    plan: Plan, around: Around, recompute: bool, gx: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor]
) -> Any:
    """Output ``(T, B, P)`` and the final state, of ``gx (T, B, G·H)``.

    Args:
        plan: How.
        around: Lengths and noise.
        recompute: Keep one step of every so many, and do the others again for the gradient.
        gx: The input's share of the gates.
        weights: Those of :data:`WEIGHTS` that the cell has.
        state: Initial, ``(B, size)`` each.
    """
    leaves = (gx, *weights, *state)
    saves = torch.is_grad_enabled() and any(t.requires_grad for t in leaves)
    return _Scan.apply(plan, around, saves, recompute and saves, len(weights), *leaves)


def traced(
    plan: Plan, around: Around, gx: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor]
) -> tuple[Tensor, State, Gates]:
    """As :func:`scan`, with gates and states of every step, and without derivatives."""
    spec = plan.spec
    hs, c = _begun(plan, gx, state)
    kept = _forward(plan, around, gx.contiguous(), _named(plan, weights), hs, c, True)
    gates = {}
    if spec.kind == "gru" or len(spec.state_sizes) > 1:
        gates = dict(zip(spec.gates, kept.saved.split(spec.hidden_size, -1), strict=False))  # of a GRU one more is kept
    if spec.coupled:
        gates["input"] = 1 - gates["forget"]
    states = [hs, kept.cs.to(gx.dtype)][: len(spec.state_sizes)]
    found = {name: _there(around, gates[name]) for name in spec.cell.gates if name in gates}
    found |= {name: _written(plan, around, each) for name, each in zip(spec.cell.states, states, strict=True)}
    last = 0 if plan.reverse else -1
    return found["hidden"], tuple(each[last] for each in states), found


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, around: Around, saves: bool, recompute: bool, count: int, *leaves: Tensor) -> Any:
        gx, weights, state = leaves[0].contiguous(), _named(plan, leaves[1 : 1 + count]), leaves[1 + count :]
        hs, c = _begun(plan, gx, state)
        stretches = _stretches(len(gx), plan.reverse) if recompute else [slice(0, len(gx))]
        firsts, kept = [], None
        for steps in stretches:
            firsts.append(c.clone() if recompute else c)
            some = hs[steps.start : steps.stop + 1]
            kept = _forward(plan, around.part(steps), gx[steps], weights, some, c, saves and not recompute)
            c = kept.cs[0 if plan.reverse else -1] if len(kept.cs) else c
        assert kept is not None
        output = _written(plan, around, hs)
        last = hs[0 if plan.reverse else -1]
        ctx.plan, ctx.around, ctx.count, ctx.recompute = plan, around, count, recompute
        ctx.stretches = stretches
        ctx.set_materialize_grads(False)
        if saves:
            more = [hs, *firsts] if recompute else list(kept)
            ctx.save_for_backward(*leaves, *more)
        if len(state) == 1:
            return output, last.clone()
        return output, last.clone(), c.to(gx.dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        plan, around, count = ctx.plan, ctx.around, ctx.count
        size = 1 + count + len(plan.spec.state_sizes)
        leaves, more = ctx.saved_tensors[:size], ctx.saved_tensors[size:]
        wanted = ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return None, None, None, None, None, *_by_reference(plan, around, leaves, count, given, wanted)
        gx, weights = leaves[0].contiguous(), _named(plan, leaves[1 : 1 + count])
        carried = _carried(plan, gx, given[1:])
        d_output = torch.zeros_like(more[0][1:]) if given[0] is None else given[0].contiguous()
        found, dgx = {name: torch.zeros_like(w, dtype=_computed_in(w)) for name, w in weights.items()}, []
        for number, steps in reversed(list(enumerate(ctx.stretches))):
            some = around.part(steps)
            if ctx.recompute:
                hs, first = more[0][steps.start : steps.stop + 1], more[1 + number]
                kept = _forward(plan, some, gx[steps], weights, hs, first, True)
            else:
                kept = Kept(*more)
            left = _backward(plan, some, d_output[steps], weights, kept, carried)
            _add_up(plan, some, weights, kept, left, found)
            dgx.append((steps.start, left.dgx))
        d_gx = torch.cat([d for _, d in sorted(dgx, key=lambda one: one[0])]) if len(dgx) > 1 else dgx[0][1]
        grads = [d_gx.view_as(gx), *(found[name] for name in weights), *carried[: len(plan.spec.state_sizes)]]
        told = (d.to(gx.dtype) if want else None for d, want in zip(grads, wanted, strict=True))
        return None, None, None, None, None, *told


# ---- forward ---------------------------------------------------------------------------------------------------------


def _begun(plan: Plan, gx: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Slots for the hidden state of all steps, with the first in its place; the first cell state."""
    hs = gx.new_empty(len(gx) + 1, gx.shape[1], plan.spec.output_size)
    hs[-1 if plan.reverse else 0] = state[0]
    return hs, state[1].to(_computed_in(gx)) if len(state) > 1 else gx.new_empty(0)


def _written(plan: Plan, around: Around, slots: Tensor) -> Tensor:
    """A state after each step, ``(T, B, size)``; 0 past a sequence's end."""
    return _there(around, slots[:-1] if plan.reverse else slots[1:])


def _there(around: Around, x: Tensor) -> Tensor:
    return x if around.lengths is None else reference.within(x, around.lengths)


def _forward(
    plan: Plan, around: Around, gx: Tensor, weights: dict[str, Tensor], hs: Tensor, c: Tensor, saves: bool
) -> Kept:
    """Steps from a state in ``hs`` and ``c`` on; the cell state after them stands in the last slot of ``cs``."""
    spec, steps, batch = plan.spec, len(gx), gx.shape[1]
    gates = 4 * spec.hidden_size if spec.kind == "gru" else gx.shape[2]
    wide = _computed_in(gx)
    has_cell = len(spec.state_sizes) > 1

    def room(there: bool, *shape: int, dtype: torch.dtype = gx.dtype) -> Tensor:
        return torch.empty(shape if there else 0, dtype=dtype, device=gx.device)

    cs = room(has_cell, steps + 1 if saves else 1, batch, spec.hidden_size, dtype=wide)
    if has_cell:
        cs[-1 if plan.reverse else 0] = c
    kept = Kept(
        hs,
        cs,
        room(saves, steps, batch, gates),
        room(saves and spec.layer_norm, steps, batch, gx.shape[2]),
        room(saves and spec.layer_norm, steps, batch, dtype=wide),
        room(saves and spec.proj_size > 0, steps, batch, spec.hidden_size),
    )
    constants = plan.constants(around, gx.dtype) | {"SAVES": int(saves), "BIAS": spec.bias}
    named = {"gx": gx, **_pointers(weights), **noise(around), **kept._asdict()}
    named |= {"b_hh": weights.get("bias_hh", gx)}
    launch(kernels.forward, plan, named, constants, steps, batch, back=False)
    return kept


# ---- backward --------------------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What the backward kernel leaves: see :func:`lstmkit.ops.gpu_kernels.backward`."""

    dgx: Tensor
    dgh: Tensor
    d_new: Tensor
    d_shown: Tensor


def _carried(plan: Plan, gx: Tensor, given: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients of the final state, to be carried to the first one."""
    sizes = (*plan.spec.state_sizes, 0)[:2]
    wide = _computed_in(gx)
    both = zip((*given, None), sizes, strict=False)
    return [
        torch.zeros(gx.shape[1], size, dtype=wide, device=gx.device)
        if d is None
        else d.to(wide).clone(memory_format=torch.contiguous_format)
        for d, size in both
    ]


def _backward(
    plan: Plan, around: Around, d_output: Tensor, weights: dict[str, Tensor], kept: Kept, carried: list[Tensor]
) -> Left:
    """Gradients of the gates' shares; ``carried`` goes from the state after these steps to that before."""
    spec, (steps, batch, _) = plan.spec, d_output.shape
    like = kept.saved
    two = spec.kind == "gru" or spec.layer_norm
    shape = steps, batch, weights["weight_hh"].shape[0]
    dgx = like.new_empty(shape)
    left = Left(
        dgx,
        like.new_empty(shape) if two else dgx,
        like.new_empty(steps, batch, spec.proj_size),
        like.new_empty(steps, batch, spec.hidden_size if spec.layer_norm else 0),
    )
    constants = plan.constants(around, like.dtype) | {"TWO": two}
    named = {"d_output": d_output, **_pointers(weights), **noise(around), **kept._asdict(), **left._asdict()}
    named |= {"dh": carried[0], "dc": carried[1]}
    del named["told"]
    launch(kernels.backward, plan, named, constants, steps, batch, back=True)
    if not plan.whole:  # what the first step gives to the state before it
        through = left.dgh[-1 if plan.reverse else 0].to(carried[0].dtype) @ weights["weight_hh"].to(carried[0].dtype)
        carried[0] += through if around.mask is None else through * around.mask
    return left


def _add_up(
    plan: Plan, around: Around, weights: dict[str, Tensor], kept: Kept, left: Left, found: dict[str, Tensor]
) -> None:
    """The weights' gradients: sums over steps and sequences."""
    spec, wide = plan.spec, found["weight_hh"].dtype
    before = slice(1, None) if plan.reverse else slice(0, -1)
    seen = kept.hs[before]
    if around.mask is not None:
        seen = seen * around.mask
    found["weight_hh"] += left.dgh.flatten(0, 1).T @ seen.flatten(0, 1)
    of_share = left.dgh  # gradient of the state's share, after the norm if there is one
    if spec.layer_norm:
        of_share = left.dgx
        if spec.kind == "gru":
            r, z, n = left.dgx.chunk(3, -1)
            of_share = torch.cat([r, z, n * kept.saved[..., : spec.hidden_size]], -1)
        found["weight_ln_hh"] += (of_share * kept.normed).sum((0, 1))
    if spec.bias:
        found["bias_hh"] += of_share.sum((0, 1), dtype=wide)
    if spec.proj_size:
        found["weight_hr"] += left.d_new.flatten(0, 1).T @ kept.told.flatten(0, 1)
    if not (spec.peephole or (spec.layer_norm and "cell" in spec.cell.states)):
        return
    c = kept.cs[before]
    by_name = dict(zip(spec.gates, kept.saved.chunk(len(spec.gates), -1), strict=True))
    f = by_name["forget"].to(wide)
    c_new = f * c + (1 - f if spec.coupled else by_name["input"]) * by_name["candidate"]
    if spec.peephole:
        d = dict(zip(spec.gates, left.dgx.chunk(len(spec.gates), -1), strict=True))
        looks = [(name, c_new if name == "output" else c) for name in spec.gates if name != "candidate"]
        found["weight_peep"] += torch.stack([(d[name] * cell).sum((0, 1)) for name, cell in looks])
    if spec.layer_norm:
        normed = torch.nn.functional.layer_norm(c_new, (spec.hidden_size,), eps=EPS)
        found["weight_ln_c"] += (left.d_shown * normed).sum((0, 1))
        found["bias_ln_c"] += left.d_shown.sum((0, 1), dtype=wide)


def _by_reference(
    plan: Plan,
    around: Around,
    leaves: Sequence[Tensor],
    count: int,
    given: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients as functions of everything, so that they have derivatives themselves."""
    zones = (around.zone_h, around.zone_c)[: len(plan.spec.state_sizes)]

    def run(own: list[Tensor]) -> Sequence[Tensor]:
        params = _named(plan, own[1 : 1 + count])
        one = Pass(params, tuple(own[1 + count :]), plan.reverse, around.mask, zones)
        result = reference.scan(plan.spec, one, own[0], around.lengths)
        return result.output, *result.state

    return reference.gradients(run, leaves, given, wanted)


# ---- small things ----------------------------------------------------------------------------------------------------


def _pointers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the kernels' names; one that there is not is never read."""
    none = weights["weight_hh"]
    names = {"w_hh": "weight_hh", "w_hr": "weight_hr", "w_peep": "weight_peep", "gain": "weight_ln_hh"}
    names |= {"gain_c": "weight_ln_c", "bias_c": "bias_ln_c"}
    return {name: weights.get(of, none) for name, of in names.items()}


def _named(plan: Plan, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    shapes = plan.spec.parameter_shapes()
    return dict(zip([name for name in WEIGHTS if name in shapes], (w.contiguous() for w in weights), strict=True))


def _stretches(steps: int, reverse: bool) -> list[slice]:
    """Steps between what is kept with ``recompute``, in the order of the pass."""
    size = max(1, math.isqrt(steps))
    found = [slice(at, min(at + size, steps)) for at in range(0, steps, size)]
    return found[::-1] if reverse else found


def _computed_in(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
