"""One pass through time on kernels for GPUs, as a function of tensors with derivatives.

The input's share of the gates comes in: its product has no loop, and its derivatives are torch's own. What the kernels
leave of the weights' gradients are sums over all steps: products that torch makes after the loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import Gates
from lstmkit.ops import full_gates, gpu_cluster, reference
from lstmkit.ops.call import Pass
from lstmkit.ops.gpu_cluster import ClusterPlan
from lstmkit.ops.gpu_plan import EPS, Around, Plan, computed_in, launch, noise, processors

#: What the loop sees of the weights, in the order in which they are handed around.
WEIGHTS = ("weight_hh", "bias_hh", "weight_hr", "weight_peep", "weight_ln_hh", "weight_ln_c", "bias_ln_c")


class Leaves(NamedTuple):
    """What a pass is differentiated by.

    Attributes:
        gx: ``(T, B, G·H)``, the input's share of the gates.
        weights: Those of :data:`WEIGHTS` that the cell has.
        state: Initial, ``(B, size)`` for each of ``plan.sizes``.
    """

    gx: Tensor
    weights: Sequence[Tensor]
    state: Sequence[Tensor]


class Keep(NamedTuple):
    """What is kept of the steps.

    Attributes:
        steps: What a gradient needs; also all gates and states for who wants to see them.
        recompute: Of every so many steps one instead, and the others are done again for the gradient.
    """

    steps: bool
    recompute: bool = False


class Kept(NamedTuple):
    """What forward leaves: see :func:`lstmkit.ops.gpu_kernels.forward`. With ``recompute`` only states."""

    hs: Tensor
    cs: Tensor
    saved: Tensor
    normed: Tensor
    scales: Tensor
    told: Tensor


class Given(NamedTuple):
    """Gradients of what a pass gives, ``None`` for zero: the last two of what is traced."""

    output: Tensor | None
    h: Tensor | None
    c: Tensor | None = None
    saved: Tensor | None = None
    cs: Tensor | None = None


def scan(plan: Plan, around: Around, keep: Keep, leaves: Leaves, traced: bool = False) -> tuple[Tensor, ...]:
    """Output ``(T, B, P)`` and the final state; if ``traced`` also ``saved`` and ``cs`` as in :class:`Kept`."""
    return _Scan.apply(plan, around, keep, traced, len(leaves.weights), leaves.gx, *leaves.weights, *leaves.state)  # type: ignore[return-value]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, around: Around, keep: Keep, traced: bool, count: int, *flat: Tensor) -> Any:
        leaves = _leaves(count, flat)
        kept = run(plan, around, keep, leaves)
        ctx.plan, ctx.around, ctx.keep, ctx.count = plan, around, keep, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, *kept)
        found = output_of(plan, around, kept.hs), *last_state(plan, kept, leaves.gx.dtype)
        return (*found, kept.saved, kept.cs) if traced else found

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        plan, around = ctx.plan, ctx.around
        size = 1 + ctx.count + len(plan.sizes)
        leaves, kept = _leaves(ctx.count, ctx.saved_tensors[:size]), Kept(*ctx.saved_tensors[size:])
        wanted = ctx.needs_input_grad[5:]
        of_cell = given[2:] if len(plan.sizes) > 1 else (None, *given[2:])
        told = Given(*given[:2], *of_cell)
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            found = gradients_by_reference(plan, around, leaves, told, wanted)
        else:
            found = gradients(plan, around, ctx.keep, leaves, kept, told)
        return None, None, None, None, None, *(d if want else None for d, want in zip(found, wanted, strict=True))


def _leaves(count: int, flat: Sequence[Tensor]) -> Leaves:
    return Leaves(flat[0], flat[1 : 1 + count], flat[1 + count :])


# ---- forward ---------------------------------------------------------------------------------------------------------


def run(plan: Plan, around: Around, keep: Keep, leaves: Leaves) -> Kept:
    """All steps, from the initial state."""
    gx, weights = leaves.gx.contiguous(), _named(plan, leaves.weights)
    kept = rooms(plan, keep, gx)
    kept.hs[-1 if plan.reverse else 0] = leaves.state[0]
    if kept.cs.numel():
        kept.cs[-1 if plan.reverse else 0] = leaves.state[1]
    if not (keep.steps and keep.recompute):
        _forward(plan, around, gx, weights, kept)
        return kept
    for number, steps in enumerate(stretches(plan, len(gx))):
        part = _begun(plan, Keep(steps=False), gx, kept, number, steps)
        _forward(plan, around.part(steps), gx[steps], weights, part)
        if kept.cs.numel():
            kept.cs[-2 - number if plan.reverse else number + 1] = part.cs[0]
    return kept


def _begun(plan: Plan, keep: Keep, gx: Tensor, kept: Kept, number: int, steps: slice) -> Kept:
    """Rooms for a stretch of steps, with its first state in them, of what ``recompute`` keeps."""
    part = rooms(plan, keep, gx[steps], kept.hs[steps.start : steps.stop + 1])
    if part.cs.numel():
        part.cs[-1 if plan.reverse else 0] = kept.cs[-1 - number if plan.reverse else number]
    return part


def rooms(plan: Plan, keep: Keep, gx: Tensor, hs: Tensor | None = None) -> Kept:
    """Where forward writes: nothing is in it yet."""
    spec, (steps, batch, gates), wide = plan.spec, gx.shape, computed_in(gx.dtype)
    all_of_them = keep.steps and not keep.recompute
    cells = steps + 1 if all_of_them else 1 + len(stretches(plan, steps)) if keep.steps else 1

    def room(there: bool, *shape: int, dtype: torch.dtype = gx.dtype) -> Tensor:
        return gx.new_empty(shape if there else 0, dtype=dtype)

    norms, projects = spec.layer_norm and all_of_them, spec.proj_size > 0
    return Kept(
        room(True, steps + 1, batch, plan.seen) if hs is None else hs,
        room(len(plan.sizes) > 1, cells, batch, spec.hidden_size, dtype=wide),
        room(all_of_them, steps, batch, 4 * spec.hidden_size if spec.kind == "gru" else gates),
        room(norms, steps, batch, gates),
        room(norms, steps, batch, 3 if len(plan.sizes) > 1 else 1, dtype=wide),
        room(projects, steps if all_of_them else 1, batch, spec.hidden_size),
    )


def _forward(plan: Plan, around: Around, gx: Tensor, weights: dict[str, Tensor], kept: Kept) -> None:
    """Steps from the state on that stands in the first slots."""
    if plan.clusters:
        layout = _layout(plan, gx, backward=False)
        rooms = (room if room.numel() else None for room in (kept.cs, kept.saved))
        weight, bias = weights["weight_hh"], weights.get("bias_hh")
        gpu_cluster.run_forward(layout, gx, weight, bias, around.lengths, kept.hs, *rooms, reverse=plan.reverse)
        return
    constants = plan.constants(around, gx.dtype) | {"SAVES": kept.saved.numel() > 0, "BIAS": plan.spec.bias}
    named = {"gx": gx, **_pointers(weights), **noise(around), **kept._asdict()}
    named |= {"b_hh": weights.get("bias_hh", gx)}
    launch("forward", plan, named, constants, len(gx), gx.shape[1])


def output_of(plan: Plan, around: Around, slots: Tensor) -> Tensor:
    """A state after each step, ``(T, B, size)``; 0 past a sequence's end."""
    found = slots[:-1] if plan.reverse else slots[1:]
    return found if around.lengths is None else reference.within(found, around.lengths)


def last_state(plan: Plan, kept: Kept, dtype: torch.dtype) -> list[Tensor]:
    slots = (kept.hs, kept.cs)[: len(plan.sizes)]
    return [each[0 if plan.reverse else -1].to(dtype, copy=True) for each in slots]


def trace_of(plan: Plan, around: Around, output: Tensor, saved: Tensor, cs: Tensor) -> Gates:
    """Gates and states of every step by name, ``(T, B, size)`` each, 0 past a sequence's end."""
    spec = plan.spec
    found = dict(zip(spec.gates, saved.split(spec.hidden_size, -1), strict=False))  # of a GRU one more is saved
    if spec.coupled:
        found["input"] = 1 - found["forget"]
    if around.lengths is not None:
        found = {name: reference.within(gate, around.lengths) for name, gate in found.items()}
    found["hidden"] = output
    if plan.full:
        found |= dict(zip(("hidden", "input", "forget", "output"), output.chunk(4, -1), strict=True))
    if len(plan.sizes) > 1:
        found["cell"] = output_of(plan, around, cs).to(output.dtype)
    return found


# ---- backward --------------------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What the backward kernel leaves: see :func:`lstmkit.ops.gpu_kernels.backward`."""

    dgx: Tensor
    dgh: Tensor
    d_new: Tensor
    d_shown: Tensor


def gradients(plan: Plan, around: Around, keep: Keep, leaves: Leaves, kept: Kept, given: Given) -> list[Tensor]:
    """By each of the leaves."""
    gx, weights = leaves.gx.contiguous(), _named(plan, leaves.weights)
    ends = zip((given.h, given.c), leaves.state, strict=False)
    carried = [_or_zeros(d, state, computed_in(gx.dtype)).clone() for d, state in ends]
    output = _or_zeros(given.output, kept.hs[1:], gx.dtype)
    found = {name: torch.zeros_like(w, dtype=computed_in(gx.dtype)) for name, w in weights.items()}
    d_gx = torch.empty_like(gx)
    if not keep.recompute:
        left = _backward(plan, around, given._replace(output=output), weights, kept, carried, d_gx)
        _add_up(plan, around, weights, kept, left, found)
    else:
        for number, steps in reversed(list(enumerate(stretches(plan, len(gx))))):
            some = around.part(steps)
            part = _begun(plan, Keep(steps=True), gx, kept, number, steps)
            _forward(plan, some, gx[steps], weights, part)
            left = _backward(plan, some, given._replace(output=output[steps]), weights, part, carried, d_gx[steps])
            _add_up(plan, some, weights, part, left, found)
    return [d.to(gx.dtype) for d in (d_gx, *(found[name] for name in weights), *carried)]


def _or_zeros(d: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient, row by row in memory."""
    return like.new_zeros(like.shape, dtype=dtype) if d is None else d.to(dtype).contiguous()


def _backward(
    plan: Plan,
    around: Around,
    given: Given,
    weights: dict[str, Tensor],
    kept: Kept,
    carried: list[Tensor],
    dgx: Tensor,
) -> Left:
    """Gradients of the gates' shares; ``carried`` goes from the state after these steps to that before."""
    spec, (steps, batch, _) = plan.spec, dgx.shape
    two = spec.kind == "gru" or spec.layer_norm
    left = Left(
        dgx,
        torch.empty_like(dgx) if two else dgx,
        dgx.new_empty(steps, batch, spec.proj_size),
        dgx.new_empty(steps, batch, spec.hidden_size if spec.layer_norm else 0),
    )
    assert given.output is not None
    if plan.clusters:
        cell = (kept.cs, carried[1]) if len(carried) > 1 else (None, None)
        gpu_cluster.run_backward(
            _layout(plan, dgx, backward=True), given.output, weights["weight_hh"], around.lengths, kept.hs, cell[0],
            kept.saved, carried[0], cell[1], dgx, left.dgh if two else None, reverse=plan.reverse,
        )  # fmt: skip
        return left
    traced = given.saved is not None or given.cs is not None
    constants = plan.constants(around, dgx.dtype) | {"TWO": two, "TRACED": traced}
    named = {**_pointers(weights), **noise(around), **kept._asdict(), **left._asdict()}
    named |= {"d_output": given.output, "dh": carried[0], "dc": carried[-1]}
    named["d_saved"] = _or_zeros(given.saved, kept.saved, kept.saved.dtype) if traced else None
    named["d_cs"] = _or_zeros(given.cs, kept.cs, kept.cs.dtype) if traced else None
    del named["told"]
    launch("backward", plan, named, constants, steps, batch)
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


def gradients_by_reference(
    plan: Plan, around: Around, leaves: Leaves, given: Given, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The same as functions of everything, so that they have derivatives themselves."""
    count = len(leaves.weights)

    def again(own: list[Tensor]) -> Sequence[Tensor | None]:
        return _by_reference(plan, around, _leaves(count, own))

    flat = (leaves.gx, *leaves.weights, *leaves.state)
    return reference.gradients(again, flat, given, wanted)


def _by_reference(plan: Plan, around: Around, leaves: Leaves) -> Given:
    """What a pass gives, in the order of its gradients."""
    spec, params, state = plan.spec, _named(plan, leaves.weights), tuple(leaves.state)
    mask, zones = around.mask, (around.zone_h, around.zone_c)
    if plan.full:
        params |= full_gates.narrow_weights(params["weight_hh"])
        state = full_gates.narrow_state(state)
        mask, zones = full_gates.narrow_noise(mask, zones)
    one = Pass(params, state, plan.reverse, mask, zones[: len(state)])
    result = reference.scan(spec, one, leaves.gx, around.lengths, trace=True)
    output, last, trace = result.output, result.state, result.trace or {}
    if plan.full:
        output = torch.cat([trace[name] for name in ("hidden", "input", "forget", "output")], -1)
        last = full_gates.wide_state(last)
    gates = [trace[name] for name in spec.gates if name in trace]
    if spec.kind == "gru":
        gates.append(torch.zeros_like(gates[0]))  # nobody sees the candidate's share alone
    steps = [trace["cell"], leaves.state[1][None]][:: 1 if plan.reverse else -1] if len(plan.sizes) > 1 else []
    return Given(
        output,
        last[0],
        last[1] if len(last) > 1 else None,
        torch.cat(gates, -1) if gates else None,
        torch.cat(steps) if steps else None,
    )


# ---- small things ----------------------------------------------------------------------------------------------------


def _layout(plan: Plan, gx: Tensor, *, backward: bool) -> ClusterPlan:
    """On clusters."""
    return ClusterPlan.of(plan.spec, gx.shape[1], gx.dtype, backward=backward, processors=processors(gx.device))


def _pointers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the kernels' names; one that there is not is never read."""
    none = weights["weight_hh"]
    names = {"w_hh": "weight_hh", "w_hr": "weight_hr", "w_peep": "weight_peep", "gain": "weight_ln_hh"}
    names |= {"gain_c": "weight_ln_c", "bias_c": "bias_ln_c"}
    return {name: weights.get(of, none) for name, of in names.items()}


def _named(plan: Plan, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    shapes = plan.spec.parameter_shapes()
    return dict(zip([name for name in WEIGHTS if name in shapes], (w.contiguous() for w in weights), strict=True))


def stretches(plan: Plan, steps: int) -> list[slice]:
    """Steps between what is kept with ``recompute``, in the order of the pass."""
    size = max(1, math.isqrt(steps))
    found = [slice(at, min(at + size, steps)) for at in range(0, steps, size)]
    return found[::-1] if plan.reverse else found
