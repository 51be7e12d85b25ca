"""One pass through time, or both passes of a layer, on a GPU time loop, as a differentiable function of tensors.

The input projection of the gates is an argument: its product needs no loop, and torch differentiates it. The loop
returns the gradients of the gates of every step. The gradients of the weights are sums over all steps, which torch
computes as products after the loop.

Dimensions: ``D`` passes (directions), ``T`` steps, ``B`` batch, ``G`` gates, ``H`` hidden units, ``P`` width of the
hidden state that the gates read.
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
from lstmkit.ops.triton.launch import EPS, NonDifferentiableInputs, Plan, accumulation_dtype
from lstmkit.ops.triton.loop import (
    DifferentiableInputs,
    GateGradients,
    OutputGradients,
    SavedTensors,
    loop_of,
    or_zeros,
)

#: The weights that the loop reads, in the order in which they are passed.
WEIGHTS = ("weight_hh", "bias_hh", "weight_hr", "weight_peep", "weight_ln_hh", "weight_ln_c", "bias_ln_c")


class SavePolicy(NamedTuple):
    """What the forward pass saves.

    Attributes:
        save_steps: Everything that a gradient or a trace needs of each step.
        recompute: Save only the state at the start of each segment; the backward pass recomputes the steps.
    """

    save_steps: bool
    recompute: bool = False


def scan(
    plan: Plan,
    fixed: NonDifferentiableInputs,
    policy: SavePolicy,
    inputs: DifferentiableInputs,
    traced: bool = False,
) -> tuple[Tensor, ...]:
    """Run the passes.

    Returns:
        The output ``(T, B, P)`` of each pass; the final states ``(D, B, size)``; if ``traced`` also ``saved`` and
        ``cs`` of :class:`SavedTensors`.
    """
    return _Scan.apply(plan, fixed, policy, traced, len(inputs.weights), inputs.gx, *inputs.weights, *inputs.state)  # type: ignore[return-value]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        fixed: NonDifferentiableInputs,
        policy: SavePolicy,
        traced: bool,
        n_weights: int,
        *tensors: Tensor,
    ) -> Any:
        inputs = _inputs(n_weights, tensors)
        buffers = run(plan, fixed, policy, inputs)
        ctx.plan, ctx.fixed, ctx.policy, ctx.n_weights = plan, fixed, policy, n_weights
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *buffers)
        results = *outputs_of(plan, fixed, buffers.hs), *last_state(plan, buffers, inputs.gx.dtype)
        return (*results, buffers.saved, buffers.cs) if traced else results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        plan, fixed = ctx.plan, ctx.fixed
        n_inputs = 1 + ctx.n_weights + len(plan.state_widths)
        inputs = _inputs(ctx.n_weights, ctx.saved_tensors[:n_inputs])
        buffers = SavedTensors(*ctx.saved_tensors[n_inputs:])
        wanted = ctx.needs_input_grad[5:]
        outputs, (h, *others) = grads[: len(plan.reverse)], grads[len(plan.reverse) :]
        output_grads = OutputGradients(outputs, h, *(others if len(plan.state_widths) > 1 else (None, *others)))
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            input_grads = gradients_by_reference(plan, fixed, inputs, output_grads, wanted)
        else:
            input_grads = gradients(plan, fixed, ctx.policy, inputs, buffers, output_grads)
        kept = (d if want else None for d, want in zip(input_grads, wanted, strict=True))
        return None, None, None, None, None, *kept


def _inputs(n_weights: int, tensors: Sequence[Tensor]) -> DifferentiableInputs:
    return DifferentiableInputs(tensors[0], tensors[1 : 1 + n_weights], tensors[1 + n_weights :])


# ---- forward ---------------------------------------------------------------------------------------------------------


def run(plan: Plan, fixed: NonDifferentiableInputs, policy: SavePolicy, inputs: DifferentiableInputs) -> SavedTensors:
    """Run all steps from the initial state."""
    gx, weights = inputs.gx.contiguous(), _by_name(plan, inputs.weights)
    buffers = empty_saved_tensors(plan, policy, gx)
    for slots, first in zip((buffers.hs, buffers.cs), inputs.state, strict=False):
        for direction, reverse in enumerate(plan.reverse):
            slots[direction, -1 if reverse else 0] = first[direction]
    loop = loop_of(plan)
    if not (policy.save_steps and policy.recompute):
        loop.run_forward(plan, fixed, gx, weights, buffers)
        return buffers
    (reverse,) = plan.reverse
    for number, steps in enumerate(checkpoint_segments(plan, gx.shape[1])):
        segment = _segment_buffers(plan, SavePolicy(save_steps=False), gx, buffers, number, steps)
        loop.run_forward(plan, fixed.part(steps), gx[:, steps], weights, segment)
        if buffers.cs.numel():
            buffers.cs[:, -2 - number if reverse else number + 1] = segment.cs[:, 0]
    return buffers


def _segment_buffers(
    plan: Plan, policy: SavePolicy, gx: Tensor, buffers: SavedTensors, number: int, steps: slice
) -> SavedTensors:
    """Buffers for one checkpoint segment, with its first state from the checkpoints in ``buffers``."""
    segment = empty_saved_tensors(plan, policy, gx[:, steps], buffers.hs[:, steps.start : steps.stop + 1])
    if segment.cs.numel():
        (reverse,) = plan.reverse
        segment.cs[:, -1 if reverse else 0] = buffers.cs[:, -1 - number if reverse else number]
    return segment


def empty_saved_tensors(plan: Plan, policy: SavePolicy, gx: Tensor, hs: Tensor | None = None) -> SavedTensors:
    """Uninitialized tensors for the forward loop to write to; one that is not needed has no elements."""
    spec, (directions, steps, batch, gates), wide = plan.spec, gx.shape, accumulation_dtype(gx.dtype)
    saves_all = policy.save_steps and not policy.recompute
    n_checkpoints = 1 + len(checkpoint_segments(plan, steps)) if policy.save_steps else 1

    def empty(needed: bool, *shape: int, dtype: torch.dtype = gx.dtype) -> Tensor:
        return gx.new_empty((directions, *shape) if needed else 0, dtype=dtype)

    normalizes, projects, has_cell = spec.layer_norm and saves_all, spec.proj_size > 0, len(plan.state_widths) > 1
    return SavedTensors(
        empty(True, steps + 1, batch, plan.hidden_width) if hs is None else hs,
        empty(has_cell, steps + 1 if saves_all else n_checkpoints, batch, spec.hidden_size, dtype=wide),
        empty(saves_all, steps, batch, 4 * spec.hidden_size if spec.kind == "gru" else gates),
        empty(normalizes, steps, batch, gates),
        empty(normalizes, steps, batch, 3 if has_cell else 1, dtype=wide),
        empty(projects, steps if saves_all else 1, batch, spec.hidden_size),
    )


def outputs_of(plan: Plan, fixed: NonDifferentiableInputs, slots: Tensor) -> list[Tensor]:
    """The state after each step, ``(T, B, size)`` for each pass; zero past the end of a sequence."""
    outputs = [slots[d, :-1] if reverse else slots[d, 1:] for d, reverse in enumerate(plan.reverse)]
    if fixed.lengths is None:
        return outputs
    return [reference.zero_padding(output, fixed.lengths) for output in outputs]


def last_state(plan: Plan, buffers: SavedTensors, dtype: torch.dtype) -> list[Tensor]:
    """The final states, ``(D, B, size)`` each."""
    last_slots = [0 if reverse else -1 for reverse in plan.reverse]
    states = (buffers.hs, buffers.cs)[: len(plan.state_widths)]
    return [torch.stack([slots[d, last] for d, last in enumerate(last_slots)]).to(dtype) for slots in states]


def traces_of(
    plan: Plan, fixed: NonDifferentiableInputs, outputs: Sequence[Tensor], saved: Tensor, cs: Tensor
) -> list[Gates]:
    """For each pass, gates and states of every step by name, ``(T, B, size)`` each; zero past the end of a sequence."""
    cells = outputs_of(plan, fixed, cs) if len(plan.state_widths) > 1 else [None] * len(outputs)
    return [_trace(plan, fixed, *tensors) for tensors in zip(outputs, saved, cells, strict=True)]


def _trace(plan: Plan, fixed: NonDifferentiableInputs, output: Tensor, saved: Tensor, cells: Tensor | None) -> Gates:
    spec = plan.spec
    trace = dict(zip(spec.gates, saved.split(spec.hidden_size, -1), strict=False))  # a GRU saves one more tensor
    if spec.coupled:
        trace["input"] = 1 - trace["forget"]
    if fixed.lengths is not None:
        trace = {name: reference.zero_padding(gate, fixed.lengths) for name, gate in trace.items()}
    trace["hidden"] = output
    if plan.full_gate_recurrence:
        trace |= dict(zip(("hidden", "input", "forget", "output"), output.chunk(4, -1), strict=True))
    if cells is not None:
        trace["cell"] = cells.to(output.dtype)
    return trace


# ---- backward --------------------------------------------------------------------------------------------------------


def gradients(
    plan: Plan,
    fixed: NonDifferentiableInputs,
    policy: SavePolicy,
    inputs: DifferentiableInputs,
    buffers: SavedTensors,
    output_grads: OutputGradients,
) -> list[Tensor]:
    """The gradient of each of the differentiable inputs."""
    gx, weights = inputs.gx.contiguous(), _by_name(plan, inputs.weights)
    dtype = accumulation_dtype(gx.dtype)
    finals = zip((output_grads.h, output_grads.c), inputs.state, strict=False)
    d_state = [or_zeros(d, state, dtype).clone() for d, state in finals]
    d_outputs = [or_zeros(d, hs[1:], gx.dtype) for d, hs in zip(output_grads.outputs, buffers.hs, strict=True)]
    d_output = torch.stack(d_outputs) if len(d_outputs) > 1 else d_outputs[0][None]
    d_weights = {name: torch.zeros_like(weight, dtype=dtype) for name, weight in weights.items()}
    d_gx = torch.empty_like(gx)
    loop = loop_of(plan)
    if not policy.recompute:
        gate_grads = _empty_gate_gradients(plan, d_gx)
        loop.run_backward(plan, fixed, d_output, output_grads, weights, buffers, d_state, gate_grads)
        _accumulate_weight_gradients(plan, fixed, buffers, gate_grads, d_weights)
    else:
        for number, steps in reversed(list(enumerate(checkpoint_segments(plan, gx.shape[1])))):
            fixed_part = fixed.part(steps)
            segment = _segment_buffers(plan, SavePolicy(save_steps=True), gx, buffers, number, steps)
            loop.run_forward(plan, fixed_part, gx[:, steps], weights, segment)
            gate_grads = _empty_gate_gradients(plan, d_gx[:, steps])
            loop.run_backward(
                plan, fixed_part, d_output[:, steps], output_grads, weights, segment, d_state, gate_grads
            )  # fmt: skip
            _accumulate_weight_gradients(plan, fixed_part, segment, gate_grads, d_weights)
    return [d.to(gx.dtype) for d in (d_gx, *(d_weights[name] for name in weights), *d_state)]


def _empty_gate_gradients(plan: Plan, dgx: Tensor) -> GateGradients:
    """Uninitialized tensors for the backward loop; ``dgh`` is ``dgx`` itself if the two gradients are equal."""
    spec, (directions, steps, batch, _) = plan.spec, dgx.shape
    is_separate = spec.kind == "gru" or spec.layer_norm
    return GateGradients(
        dgx,
        torch.empty_like(dgx) if is_separate else dgx,
        dgx.new_empty(directions, steps, batch, spec.proj_size),
        dgx.new_empty(directions, steps, batch, spec.hidden_size if spec.layer_norm else 0),
    )


def _accumulate_weight_gradients(
    plan: Plan,
    fixed: NonDifferentiableInputs,
    buffers: SavedTensors,
    gate_grads: GateGradients,
    d_weights: dict[str, Tensor],
) -> None:
    """Add the weight gradients of these steps, summed over steps and sequences, to ``d_weights``."""
    for direction, reverse in enumerate(plan.reverse):
        mask = None if fixed.mask is None else fixed.mask[direction]
        of_pass = GateGradients(*(d[direction] for d in gate_grads))
        _accumulate_weight_gradients_of_pass(
            plan.spec,
            reverse,
            mask,
            buffers.of_direction(direction),
            of_pass,
            {name: d[direction] for name, d in d_weights.items()},
        )


def _accumulate_weight_gradients_of_pass(
    spec: CellSpec,
    reverse: bool,
    mask: Tensor | None,
    buffers: SavedTensors,
    gate_grads: GateGradients,
    d_weights: dict[str, Tensor],
) -> None:
    dtype = d_weights["weight_hh"].dtype
    previous = slice(1, None) if reverse else slice(0, -1)
    h = buffers.hs[previous]
    if mask is not None:
        h = h * mask
    d_weights["weight_hh"] += gate_grads.dgh.flatten(0, 1).T @ h.flatten(0, 1)
    d_gh = gate_grads.dgh  # gradient of the recurrent projection, after its normalization if there is one
    if spec.layer_norm:
        d_gh = gate_grads.dgx
        if spec.kind == "gru":
            r, z, n = gate_grads.dgx.chunk(3, -1)
            d_gh = torch.cat([r, z, n * buffers.saved[..., : spec.hidden_size]], -1)
        d_weights["weight_ln_hh"] += (d_gh * buffers.normalized).sum((0, 1))
    if spec.bias:
        d_weights["bias_hh"] += d_gh.sum((0, 1), dtype=dtype)
    if spec.proj_size:
        d_weights["weight_hr"] += gate_grads.d_new.flatten(0, 1).T @ buffers.unprojected.flatten(0, 1)
    if not (spec.peephole or (spec.layer_norm and "cell" in spec.cell.states)):
        return
    c = buffers.cs[previous]
    gates = dict(zip(spec.gates, buffers.saved.chunk(len(spec.gates), -1), strict=True))
    f = gates["forget"].to(dtype)
    c_new = f * c + (1 - f if spec.coupled else gates["input"]) * gates["candidate"]
    if spec.peephole:
        d = dict(zip(spec.gates, gate_grads.dgx.chunk(len(spec.gates), -1), strict=True))
        peeps = [(name, c_new if name == "output" else c) for name in spec.gates if name != "candidate"]
        d_weights["weight_peep"] += torch.stack([(d[name] * cell).sum((0, 1)) for name, cell in peeps])
    if spec.layer_norm:
        normalized = torch.nn.functional.layer_norm(c_new, (spec.hidden_size,), eps=EPS)
        d_weights["weight_ln_c"] += (gate_grads.d_cell_out * normalized).sum((0, 1))
        d_weights["bias_ln_c"] += gate_grads.d_cell_out.sum((0, 1), dtype=dtype)


def gradients_by_reference(
    plan: Plan,
    fixed: NonDifferentiableInputs,
    inputs: DifferentiableInputs,
    output_grads: OutputGradients,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients through the reference, which can be differentiated again."""
    n_weights = len(inputs.weights)

    def rerun(tensors: list[Tensor]) -> Sequence[Tensor | None]:
        copies = _inputs(n_weights, tensors)
        passes = [_run_reference(plan, fixed, copies, direction) for direction in range(len(plan.reverse))]
        outputs, *others = zip(*passes, strict=True)
        return *outputs, *(None if tensors[0] is None else torch.stack(tensors) for tensors in others)

    tensors = (inputs.gx, *inputs.weights, *inputs.state)
    return reference.gradients(rerun, tensors, [*output_grads.outputs, *output_grads[1:]], wanted)


def _run_reference(
    plan: Plan, fixed: NonDifferentiableInputs, inputs: DifferentiableInputs, direction: int
) -> tuple[Tensor | None, ...]:
    """What one pass returns, in the order of :class:`OutputGradients`."""
    spec, reverse = plan.spec, plan.reverse[direction]
    params = _by_name(plan, [weight[direction] for weight in inputs.weights])
    state = tuple(tensor[direction] for tensor in inputs.state)
    mask = None if fixed.mask is None else fixed.mask[direction]
    zoneout = tuple(z[direction] if isinstance(z, Tensor) else z for z in (fixed.zoneout_h, fixed.zoneout_c))
    cell = state[1:]
    if plan.full_gate_recurrence:
        params |= full_gates.narrow_weights(params["weight_hh"])
        state = full_gates.narrow_state(state)
        mask, zoneout = full_gates.narrow_noise(mask, zoneout)
    reference_pass = Pass(params, state, reverse, mask, zoneout[: len(state)])
    result = reference.scan(spec, reference_pass, inputs.gx[direction], fixed.lengths, trace=True)
    output, last, trace = result.output, result.state, result.trace or {}
    if plan.full_gate_recurrence:
        output = torch.cat([trace[name] for name in ("hidden", "input", "forget", "output")], -1)
        last = full_gates.wide_state(last)
    gates = [trace[name] for name in spec.gates if name in trace]
    if spec.kind == "gru":
        gates.append(torch.zeros_like(gates[0]))  # no trace shows the recurrent projection of the candidate
    slots = [trace["cell"], cell[0][None]][:: 1 if reverse else -1] if cell else []
    return (
        output,
        last[0],
        last[1] if len(last) > 1 else None,
        torch.cat(gates, -1) if gates else None,
        torch.cat(slots) if slots else None,
    )


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _by_name(plan: Plan, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    shapes = plan.spec.parameter_shapes()
    return dict(zip([name for name in WEIGHTS if name in shapes], (w.contiguous() for w in weights), strict=True))


def checkpoint_segments(plan: Plan, steps: int) -> list[slice]:
    """The steps between checkpoints if the only pass recomputes, in the order of the pass; about √T steps each."""
    size = max(1, math.isqrt(steps))
    segments = [slice(start, min(start + size, steps)) for start in range(0, steps, size)]
    return segments[::-1] if plan.reverse[0] else segments
