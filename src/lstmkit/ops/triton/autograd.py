"""A pass through time, or a layer's two at once, on kernels for GPUs, as a function of tensors with derivatives.

The input's share of the gates comes in: its product has no loop, and its derivatives are torch's own. What the kernels
leave of the weights' gradients are sums over all steps: products that torch makes after the loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import CellSpec, Gates
from lstmkit.ops import reference
from lstmkit.ops.ablations import full_gates
from lstmkit.ops.call import Pass
from lstmkit.ops.hopper import launch as gpu_cluster
from lstmkit.ops.hopper.launch import ClusterPlan
from lstmkit.ops.triton.launch import (
    EPS,
    NonDifferentiableInputs,
    Plan,
    accumulation_dtype,
    launch,
    multiprocessor_count,
    noise,
)

#: What the loop sees of the weights, in the order in which they are handed around.
WEIGHTS = ("weight_hh", "bias_hh", "weight_hr", "weight_peep", "weight_ln_hh", "weight_ln_c", "bias_ln_c")


class DifferentiableInputs(NamedTuple):
    """What passes are differentiated by; of ``D`` passes.

    Attributes:
        gx: ``(D, T, B, G·H)``, the input's share of the gates.
        weights: Those of :data:`WEIGHTS` that the cell has, ``(D, …)`` each.
        state: Initial, ``(D, B, size)`` for each of ``plan.sizes``.
    """

    gx: Tensor
    weights: Sequence[Tensor]
    state: Sequence[Tensor]


class SavePolicy(NamedTuple):
    """What is kept of the steps.

    Attributes:
        steps: What a gradient needs; also all gates and states for who wants to see them.
        recompute: Of every so many steps one instead, and the others are done again for the gradient.
    """

    steps: bool
    recompute: bool = False


class SavedTensors(NamedTuple):
    """What forward leaves: see :func:`lstmkit.ops.triton.kernels.forward`. With ``recompute`` only states."""

    hs: Tensor
    cs: Tensor
    saved: Tensor
    normed: Tensor
    scales: Tensor
    told: Tensor

    def of(self, way: int) -> SavedTensors:
        """One of the passes'."""
        return SavedTensors(*(each[way] if each.numel() else each for each in self))


class Given(NamedTuple):
    """Gradients of what passes give, ``None`` for zero: the last two of what is traced."""

    outputs: Sequence[Tensor | None]
    h: Tensor | None
    c: Tensor | None = None
    saved: Tensor | None = None
    cs: Tensor | None = None


def scan(
    plan: Plan, around: NonDifferentiableInputs, keep: SavePolicy, leaves: DifferentiableInputs, traced: bool = False
) -> tuple[Tensor, ...]:
    """Each pass's output ``(T, B, P)``; final states ``(D, B, size)``; if ``traced`` also ``saved`` and ``cs`` of
    :class:`SavedTensors`.
    """
    return _Scan.apply(plan, around, keep, traced, len(leaves.weights), leaves.gx, *leaves.weights, *leaves.state)  # type: ignore[return-value]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, around: NonDifferentiableInputs, keep: SavePolicy, traced: bool, count: int, *flat: Tensor
    ) -> Any:
        leaves = _leaves(count, flat)
        kept = run(plan, around, keep, leaves)
        ctx.plan, ctx.around, ctx.keep, ctx.count = plan, around, keep, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, *kept)
        found = *outputs_of(plan, around, kept.hs), *last_state(plan, kept, leaves.gx.dtype)
        return (*found, kept.saved, kept.cs) if traced else found

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        plan, around = ctx.plan, ctx.around
        size = 1 + ctx.count + len(plan.sizes)
        leaves, kept = _leaves(ctx.count, ctx.saved_tensors[:size]), SavedTensors(*ctx.saved_tensors[size:])
        wanted = ctx.needs_input_grad[5:]
        outputs, (h, *others) = given[: len(plan.reverse)], given[len(plan.reverse) :]
        told = Given(outputs, h, *(others if len(plan.sizes) > 1 else (None, *others)))
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            found = gradients_by_reference(plan, around, leaves, told, wanted)
        else:
            found = gradients(plan, around, ctx.keep, leaves, kept, told)
        return None, None, None, None, None, *(d if want else None for d, want in zip(found, wanted, strict=True))


def _leaves(count: int, flat: Sequence[Tensor]) -> DifferentiableInputs:
    return DifferentiableInputs(flat[0], flat[1 : 1 + count], flat[1 + count :])


# ---- forward ---------------------------------------------------------------------------------------------------------


def run(plan: Plan, around: NonDifferentiableInputs, keep: SavePolicy, leaves: DifferentiableInputs) -> SavedTensors:
    """All steps, from the initial state."""
    gx, weights = leaves.gx.contiguous(), _named(plan, leaves.weights)
    kept = rooms(plan, keep, gx)
    for slots, first in zip((kept.hs, kept.cs), leaves.state, strict=False):
        for way, back in enumerate(plan.reverse):
            slots[way, -1 if back else 0] = first[way]
    if not (keep.steps and keep.recompute):
        _forward(plan, around, gx, weights, kept)
        return kept
    (back,) = plan.reverse
    for number, steps in enumerate(stretches(plan, gx.shape[1])):
        part = _segment_buffers(plan, SavePolicy(steps=False), gx, kept, number, steps)
        _forward(plan, around.part(steps), gx[:, steps], weights, part)
        if kept.cs.numel():
            kept.cs[:, -2 - number if back else number + 1] = part.cs[:, 0]
    return kept


def _segment_buffers(
    plan: Plan, keep: SavePolicy, gx: Tensor, kept: SavedTensors, number: int, steps: slice
) -> SavedTensors:
    """Rooms for a stretch of steps, with its first state in them, of what ``recompute`` keeps."""
    part = rooms(plan, keep, gx[:, steps], kept.hs[:, steps.start : steps.stop + 1])
    if part.cs.numel():
        (back,) = plan.reverse
        part.cs[:, -1 if back else 0] = kept.cs[:, -1 - number if back else number]
    return part


def rooms(plan: Plan, keep: SavePolicy, gx: Tensor, hs: Tensor | None = None) -> SavedTensors:
    """Where forward writes: nothing is in it yet."""
    spec, (ways, steps, batch, gates), wide = plan.spec, gx.shape, accumulation_dtype(gx.dtype)
    all_of_them = keep.steps and not keep.recompute
    cells = steps + 1 if all_of_them else 1 + len(stretches(plan, steps)) if keep.steps else 1

    def room(there: bool, *shape: int, dtype: torch.dtype = gx.dtype) -> Tensor:
        return gx.new_empty((ways, *shape) if there else 0, dtype=dtype)

    norms, projects = spec.layer_norm and all_of_them, spec.proj_size > 0
    return SavedTensors(
        room(True, steps + 1, batch, plan.seen) if hs is None else hs,
        room(len(plan.sizes) > 1, cells, batch, spec.hidden_size, dtype=wide),
        room(all_of_them, steps, batch, 4 * spec.hidden_size if spec.kind == "gru" else gates),
        room(norms, steps, batch, gates),
        room(norms, steps, batch, 3 if len(plan.sizes) > 1 else 1, dtype=wide),
        room(projects, steps if all_of_them else 1, batch, spec.hidden_size),
    )


def _forward(
    plan: Plan, around: NonDifferentiableInputs, gx: Tensor, weights: dict[str, Tensor], kept: SavedTensors
) -> None:
    """Steps from the state on that stands in the first slots."""
    if plan.clusters:
        layout = _layout(plan, gx, backward=False)
        for way, back in enumerate(plan.reverse):
            own, bias = kept.of(way), weights["bias_hh"][way] if plan.spec.bias else None
            cs, saved = (each if each.numel() else None for each in (own.cs, own.saved))
            gpu_cluster.run_forward(
                layout, gx[way], weights["weight_hh"][way], bias, around.lengths, own.hs, cs, saved, reverse=back
            )
        return
    constants = plan.constants(around, gx.dtype) | {"SAVES": kept.saved.numel() > 0, "BIAS": plan.spec.bias}
    named = {"gx": gx, **_pointers(weights), **noise(around), **kept._asdict()}
    named |= {"b_hh": weights.get("bias_hh", gx)}
    launch("forward", plan, named, constants, *gx.shape[1:3])


def outputs_of(plan: Plan, around: NonDifferentiableInputs, slots: Tensor) -> list[Tensor]:
    """A state after each step, ``(T, B, size)`` for each pass; 0 past a sequence's end."""
    found = [slots[way, :-1] if back else slots[way, 1:] for way, back in enumerate(plan.reverse)]
    return found if around.lengths is None else [reference.within(each, around.lengths) for each in found]


def last_state(plan: Plan, kept: SavedTensors, dtype: torch.dtype) -> list[Tensor]:
    """``(D, B, size)`` each."""
    lasts = [0 if back else -1 for back in plan.reverse]
    slots = (kept.hs, kept.cs)[: len(plan.sizes)]
    return [torch.stack([each[way, last] for way, last in enumerate(lasts)]).to(dtype) for each in slots]


def traces_of(
    plan: Plan, around: NonDifferentiableInputs, outputs: Sequence[Tensor], saved: Tensor, cs: Tensor
) -> list[Gates]:
    """Of each pass, gates and states of every step by name, ``(T, B, size)`` each, 0 past a sequence's end."""
    cells = outputs_of(plan, around, cs) if len(plan.sizes) > 1 else [None] * len(outputs)
    return [_trace(plan, around, *each) for each in zip(outputs, saved, cells, strict=True)]


def _trace(plan: Plan, around: NonDifferentiableInputs, output: Tensor, saved: Tensor, cells: Tensor | None) -> Gates:
    spec = plan.spec
    found = dict(zip(spec.gates, saved.split(spec.hidden_size, -1), strict=False))  # of a GRU one more is saved
    if spec.coupled:
        found["input"] = 1 - found["forget"]
    if around.lengths is not None:
        found = {name: reference.within(gate, around.lengths) for name, gate in found.items()}
    found["hidden"] = output
    if plan.full:
        found |= dict(zip(("hidden", "input", "forget", "output"), output.chunk(4, -1), strict=True))
    if cells is not None:
        found["cell"] = cells.to(output.dtype)
    return found


# ---- backward --------------------------------------------------------------------------------------------------------


class GateGradients(NamedTuple):
    """What the backward kernel leaves: see :func:`lstmkit.ops.triton.kernels.backward`."""

    dgx: Tensor
    dgh: Tensor
    d_new: Tensor
    d_shown: Tensor


def gradients(
    plan: Plan,
    around: NonDifferentiableInputs,
    keep: SavePolicy,
    leaves: DifferentiableInputs,
    kept: SavedTensors,
    given: Given,
) -> list[Tensor]:
    """By each of the leaves."""
    gx, weights = leaves.gx.contiguous(), _named(plan, leaves.weights)
    ends = zip((given.h, given.c), leaves.state, strict=False)
    carried = [_or_zeros(d, state, accumulation_dtype(gx.dtype)).clone() for d, state in ends]
    outputs = [_or_zeros(d, slots[1:], gx.dtype) for d, slots in zip(given.outputs, kept.hs, strict=True)]
    output = torch.stack(outputs) if len(outputs) > 1 else outputs[0][None]
    found = {name: torch.zeros_like(w, dtype=accumulation_dtype(gx.dtype)) for name, w in weights.items()}
    d_gx = torch.empty_like(gx)
    if not keep.recompute:
        left = _backward(plan, around, output, given, weights, kept, carried, d_gx)
        _accumulate_weight_gradients(plan, around, kept, left, found)
    else:
        for number, steps in reversed(list(enumerate(stretches(plan, gx.shape[1])))):
            some = around.part(steps)
            part = _segment_buffers(plan, SavePolicy(steps=True), gx, kept, number, steps)
            _forward(plan, some, gx[:, steps], weights, part)
            left = _backward(plan, some, output[:, steps], given, weights, part, carried, d_gx[:, steps])
            _accumulate_weight_gradients(plan, some, part, left, found)
    return [d.to(gx.dtype) for d in (d_gx, *(found[name] for name in weights), *carried)]


def _or_zeros(d: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient, row by row in memory."""
    return like.new_zeros(like.shape, dtype=dtype) if d is None else d.to(dtype).contiguous()


def _backward(
    plan: Plan,
    around: NonDifferentiableInputs,
    output: Tensor,
    given: Given,
    weights: dict[str, Tensor],
    kept: SavedTensors,
    carried: list[Tensor],
    dgx: Tensor,
) -> GateGradients:
    """Gradients of the gates' shares; ``carried`` goes from the state after these steps to that before."""
    spec, (ways, steps, batch, _) = plan.spec, dgx.shape
    two = spec.kind == "gru" or spec.layer_norm
    left = GateGradients(
        dgx,
        torch.empty_like(dgx) if two else dgx,
        dgx.new_empty(ways, steps, batch, spec.proj_size),
        dgx.new_empty(ways, steps, batch, spec.hidden_size if spec.layer_norm else 0),
    )
    if plan.clusters:
        layout = _layout(plan, dgx, backward=True)
        for way, back in enumerate(plan.reverse):
            own, dgh = kept.of(way), left.dgh[way] if two else None
            cs, dc = (own.cs, carried[1][way]) if len(carried) > 1 else (None, None)
            gpu_cluster.run_backward(
                layout, output[way], weights["weight_hh"][way], around.lengths, own.hs, cs,
                own.saved, carried[0][way], dc, dgx[way], dgh, reverse=back,
            )  # fmt: skip
        return left
    traced = given.saved is not None or given.cs is not None
    constants = plan.constants(around, dgx.dtype) | {"TWO": two, "TRACED": traced}
    named = {**_pointers(weights), **noise(around), **kept._asdict(), **left._asdict()}
    named |= {"d_output": output, "dh": carried[0], "dc": carried[-1]}
    named["d_saved"] = _or_zeros(given.saved, kept.saved, kept.saved.dtype) if traced else None
    named["d_cs"] = _or_zeros(given.cs, kept.cs, kept.cs.dtype) if traced else None
    del named["told"]
    launch("backward", plan, named, constants, steps, batch)
    if not plan.whole:  # what the first step gives to the state before it
        wide = carried[0].dtype
        firsts = torch.stack([left.dgh[way, -1 if back else 0] for way, back in enumerate(plan.reverse)])
        through = firsts.to(wide) @ weights["weight_hh"].to(wide)
        carried[0] += through if around.mask is None else through * around.mask
    return left


def _accumulate_weight_gradients(
    plan: Plan, around: NonDifferentiableInputs, kept: SavedTensors, left: GateGradients, found: dict[str, Tensor]
) -> None:
    """The weights' gradients: sums over steps and sequences."""
    for way, back in enumerate(plan.reverse):
        mask = None if around.mask is None else around.mask[way]
        own = GateGradients(*(each[way] for each in left))
        _accumulate_weight_gradients_of_pass(
            plan.spec, back, mask, kept.of(way), own, {name: d[way] for name, d in found.items()}
        )


def _accumulate_weight_gradients_of_pass(
    spec: CellSpec, back: bool, mask: Tensor | None, kept: SavedTensors, left: GateGradients, found: dict[str, Tensor]
) -> None:
    """Of one pass."""
    wide = found["weight_hh"].dtype
    before = slice(1, None) if back else slice(0, -1)
    seen = kept.hs[before]
    if mask is not None:
        seen = seen * mask
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
    plan: Plan, around: NonDifferentiableInputs, leaves: DifferentiableInputs, given: Given, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The same as functions of everything, so that they have derivatives themselves."""
    count = len(leaves.weights)

    def again(own: list[Tensor]) -> Sequence[Tensor | None]:
        all_of_them = [_by_reference(plan, around, _leaves(count, own), way) for way in range(len(plan.reverse))]
        outputs, *others = zip(*all_of_them, strict=True)
        return *outputs, *(None if each[0] is None else torch.stack(each) for each in others)

    flat = (leaves.gx, *leaves.weights, *leaves.state)
    return reference.gradients(again, flat, [*given.outputs, *given[1:]], wanted)


def _by_reference(
    plan: Plan, around: NonDifferentiableInputs, leaves: DifferentiableInputs, way: int
) -> tuple[Tensor | None, ...]:
    """What one of the passes gives, in the order of its gradients."""
    spec, back = plan.spec, plan.reverse[way]
    params, state = _named(plan, [w[way] for w in leaves.weights]), tuple(each[way] for each in leaves.state)
    mask = None if around.mask is None else around.mask[way]
    zones = tuple(zone[way] if isinstance(zone, Tensor) else zone for zone in (around.zone_h, around.zone_c))
    cell = state[1:]
    if plan.full:
        params |= full_gates.narrow_weights(params["weight_hh"])
        state = full_gates.narrow_state(state)
        mask, zones = full_gates.narrow_noise(mask, zones)
    one = Pass(params, state, back, mask, zones[: len(state)])
    result = reference.scan(spec, one, leaves.gx[way], around.lengths, trace=True)
    output, last, trace = result.output, result.state, result.trace or {}
    if plan.full:
        output = torch.cat([trace[name] for name in ("hidden", "input", "forget", "output")], -1)
        last = full_gates.wide_state(last)
    gates = [trace[name] for name in spec.gates if name in trace]
    if spec.kind == "gru":
        gates.append(torch.zeros_like(gates[0]))  # nobody sees the candidate's share alone
    slots = [trace["cell"], cell[0][None]][:: 1 if back else -1] if cell else []
    return (
        output,
        last[0],
        last[1] if len(last) > 1 else None,
        torch.cat(gates, -1) if gates else None,
        torch.cat(slots) if slots else None,
    )


# ---- small things ----------------------------------------------------------------------------------------------------


def _layout(plan: Plan, gx: Tensor, *, backward: bool) -> ClusterPlan:
    """On clusters."""
    return ClusterPlan.of(
        plan.spec, gx.shape[2], gx.dtype, backward=backward, multiprocessor_count=multiprocessor_count(gx.device)
    )


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
    """Steps between what is kept with ``recompute``, in the order of the pass, which is one."""
    size = max(1, math.isqrt(steps))
    found = [slice(at, min(at + size, steps)) for at in range(0, steps, size)]
    return found[::-1] if plan.reverse[0] else found
