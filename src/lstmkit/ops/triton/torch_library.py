"""Passes on kernels for GPUs as an op of ``torch.library``, so that ``torch.compile`` sees one node a layer.

Only compiled graphs go this way, as with ``native_library.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.ops import spec_encoding as graph_key
from lstmkit.ops.triton import autograd as gpu_scan
from lstmkit.ops.triton.autograd import DifferentiableInputs, Given, SavedTensors, SavePolicy
from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan

_DIFFERENTIABLE_SCHEMA = "Tensor gx, Tensor[] weights, Tensor[] state"
_AROUND = "Tensor?[] around, float[] shares, int[] key"

_library = torch.library.Library("lstmkit", "FRAGMENT")
_library.define(
    f"gpu_scan({_DIFFERENTIABLE_SCHEMA}, {_AROUND}, bool keeps) -> (Tensor h, Tensor c, Tensor hs, Tensor cs, Tensor saved,"
    " Tensor normed, Tensor scales, Tensor told)"
)
_library.define(f"gpu_scan_backward(Tensor?[] given, Tensor[] kept, {_DIFFERENTIABLE_SCHEMA}, {_AROUND}) -> Tensor[]")


def scan(
    plan: Plan, around: NonDifferentiableInputs, keep: SavePolicy, leaves: DifferentiableInputs, traced: bool = False
) -> tuple[Tensor, ...]:
    """:func:`lstmkit.ops.triton.autograd.scan` as one node of a graph, with derivatives."""
    key = [*graph_key.encode_spec(plan.spec), plan.units, *map(int, (plan.clusters, keep.recompute, *plan.reverse))]
    tensors = [each if isinstance(each, Tensor) else None for each in around]
    shares = [0.0 if isinstance(each, Tensor) else float(each) for each in around[2:]]
    h, c, *kept = torch.ops.lstmkit.gpu_scan(*leaves, tensors, shares, key, keep.steps)
    hs, cs, saved, *_ = kept
    found = *gpu_scan.outputs_of(plan, around, hs), *(h, c)[: len(plan.sizes)]
    return (*found, saved, cs) if traced else found


def _read(
    around: Sequence[Tensor | None], shares: Sequence[float], key: Sequence[int]
) -> tuple[Plan, NonDifferentiableInputs, bool]:
    """What a graph holds of a pass; last, whether it recomputes."""
    units, clusters, recompute, *reverse = key[graph_key.SIZE :]
    plan = Plan(graph_key.decode_spec(key[: graph_key.SIZE]), tuple(map(bool, reverse)), units, bool(clusters))
    lengths, mask, *zones = around
    shared = (share if zone is None else zone for zone, share in zip(zones, shares, strict=True))
    return plan, NonDifferentiableInputs(lengths, mask, *shared), bool(recompute)


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    gx, weights, state, around, shares, key, keeps = arguments
    plan, read, recompute = _read(around, shares, key)
    kept = gpu_scan.run(plan, read, SavePolicy(keeps, recompute), DifferentiableInputs(gx, weights, state))
    return *_states(plan, kept, gx), *kept


def _forward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    gx, _, _, around, shares, key, keeps = arguments
    plan, _, recompute = _read(around, shares, key)
    kept = gpu_scan.rooms(plan, SavePolicy(keeps, recompute), gx)
    return *_states(plan, kept, gx), *kept


def _states(plan: Plan, kept: SavedTensors, gx: Tensor) -> tuple[Tensor, Tensor]:
    """The last ones; an op has no optional results: an empty tensor stands for none."""
    states = [*gpu_scan.last_state(plan, kept, gx.dtype), gx.new_empty(0)]
    return states[0], states[1]


def _backward(given: Any, kept: Any, *arguments: Any) -> list[Tensor]:
    gx, weights, state, around, shares, key = arguments
    plan, read, recompute = _read(around, shares, key)
    leaves = DifferentiableInputs(gx, weights, state)
    outputs, others = given[: len(plan.reverse)], given[len(plan.reverse) :]
    return gpu_scan.gradients(
        plan, read, SavePolicy(True, recompute), leaves, SavedTensors(*kept), Given(outputs, *others)
    )


def _backward_shapes(given: Any, kept: Any, *arguments: Any) -> list[Tensor]:
    gx, weights, state, *_ = arguments
    return [t.new_empty(t.shape) for t in (gx, *weights, *state)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gx, weights, state, around, shares, key, _ = inputs
    ctx.counts = len(weights), len(state)
    ctx.there = [t is not None for t in around]
    ctx.shares, ctx.key = shares, key
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gx, *weights, *state, *output[2:], *(t for t in around if t is not None))
    _, _, recompute = _read(around, shares, key)
    ctx.mark_non_differentiable(*output[3 if recompute else 5 :])


def _differentiate(ctx: Any, d_h: Any, d_c: Any, d_hs: Any, d_cs: Any, d_saved: Any, *none: Any) -> tuple[Any, ...]:
    n_weights, n_states = ctx.counts
    gx, *others = ctx.saved_tensors
    weights, others = others[:n_weights], others[n_weights:]
    state, kept, others = others[:n_states], others[n_states : n_states + 6], others[n_states + 6 :]
    around = [others.pop(0) if there else None for there in ctx.there]
    leaves, needs = DifferentiableInputs(gx, weights, state), ctx.needs_input_grad
    plan, read, _ = _read(around, ctx.shares, ctx.key)
    ways = enumerate(plan.reverse)
    outputs = [None if d_hs is None else d_hs[way, :-1] if back else d_hs[way, 1:] for way, back in ways]
    given = Given(outputs, d_h, d_c if n_states > 1 else None, d_saved, d_cs)
    wanted = [needs[0], *graph_key.each(needs[1], n_weights), *graph_key.each(needs[2], n_states)]
    if torch.is_grad_enabled():  # the gradient is to be differentiated again
        found = gpu_scan.gradients_by_reference(plan, read, leaves, given, wanted)
    else:
        found = torch.ops.lstmkit.gpu_scan_backward([*outputs, *given[1:]], kept, *leaves, around, ctx.shares, ctx.key)
        found = [d if want else None for d, want in zip(found, wanted, strict=True)]
    # torch.library takes a list for a list of tensors, and one None for a list in which some are missing.
    no_noise = [None] * len(around) if all(ctx.there) else None
    return found[0], found[1 : 1 + n_weights], found[1 + n_weights :], no_noise, None, None, None


for _name, _run, _shapes in (
    ("gpu_scan", _forward, _forward_shapes),
    ("gpu_scan_backward", _backward, _backward_shapes),
):
    for _device in ("CUDA", "CPU"):  # on the processor for Triton's interpreter
        _library.impl(_name, _run, _device)
    torch.library.register_fake(f"lstmkit::{_name}", _shapes, lib=_library)
torch.library.register_autograd("lstmkit::gpu_scan", _differentiate, setup_context=_setup_context, lib=_library)
