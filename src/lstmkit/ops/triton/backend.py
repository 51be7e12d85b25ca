"""Our own kernels for GPUs, in Triton: every cell and variant, forward and backward; and what is around any such loop.

``gpu_scan.py`` runs a pass on ``gpu_kernels.py``, ``gpu_library.py`` shows it to ``torch.compile``. Second derivatives
go through the reference.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import State, project_input
from lstmkit.ops import reference
from lstmkit.ops.ablations import full_gates, open_gate
from lstmkit.ops.call import Call, Pass, PassResult, Result, Zoneout
from lstmkit.ops.kernel_limits import kernel_limit_reason
from lstmkit.ops.triton import autograd as gpu_scan
from lstmkit.ops.triton import launch as gpu_plan
from lstmkit.ops.triton import torch_library as gpu_library
from lstmkit.ops.triton.autograd import WEIGHTS, DifferentiableInputs, SavePolicy
from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan

NAME: str = "triton"

_MISSING = None if importlib.util.find_spec("triton") else "Triton is missing: install it with the extra 'gpu'"


def unsupported_reason(call: Call) -> str | None:
    x, spec = call.x, open_gate.whole(call.spec)
    if not (x.is_cuda or gpu_plan.interpreted()):
        return f"the Triton kernels are for GPUs, the input is on {x.device.type}"
    if _MISSING:
        return _MISSING
    if x.dtype not in gpu_plan.TYPES:
        return f"the Triton kernels have no {x.dtype}"
    if spec.kind not in gpu_plan.KINDS:
        return f"the Triton kernels have no {spec.kind} cell"
    return kernel_limit_reason(call, "Triton") or gpu_plan.size_limit_reason(spec, x.dtype, x.device)


def run(call: Call, clusters: bool = False) -> Result:
    """All passes, on the Triton kernels or on those for ``clusters``."""
    gates = call.spec.cell.gates
    call = open_gate.as_full_lstm(call)
    x = call.x
    if call.lengths is not None:
        lengths = call.lengths.to(x.device, torch.int64).contiguous()
        call = call._replace(lengths=lengths)
        x = reference.within(x, lengths)  # NaN in the padding must not reach a gradient
    together = [call.passes] if _can_run_directions_together(call) else [(p,) for p in call.passes]
    return Result.of([found for passes in together for found in _run(call, passes, x, gates, clusters)])


def _can_run_directions_together(call: Call) -> bool:
    """Whether the passes are both directions of a layer, with noise of the same kind."""
    noise = [(p.recurrent_mask is None, *(isinstance(z, Tensor) or z for z in p.zoneout or ())) for p in call.passes]
    both = tuple(p.reverse for p in call.passes) == (False, True)
    return both and noise[0] == noise[1] and not call.recompute


def _run(call: Call, passes: tuple[Pass, ...], x: Tensor, gates: Sequence[str], clusters: bool) -> Iterator[PassResult]:
    """Passes at once; ``gates`` are those that the caller's cell has, which may be fewer than are computed."""
    spec, reverse = call.spec, tuple(p.reverse for p in passes)
    plan = Plan.on_clusters(spec, reverse) if clusters else Plan.of(spec, reverse, x.dtype)
    parts = [_pass_inputs(call, p, x) for p in passes]
    leaves = DifferentiableInputs(
        _stacked([part.gx for part in parts]),
        [_stacked(each) for each in zip(*(part.weights for part in parts), strict=True)],
        [_stacked(each) for each in zip(*(part.state for part in parts), strict=True)],
    )
    masks = [part.mask for part in parts if part.mask is not None]
    zones = (_stack_zoneout(each) for each in zip(*(part.zones for part in parts), strict=True))
    around = NonDifferentiableInputs(call.lengths, _stacked(masks) if masks else None, *zones)
    asks = torch.is_grad_enabled() and any(t.requires_grad for t in (leaves.gx, *leaves.weights, *leaves.state))
    keep = SavePolicy(asks or call.trace, call.recompute and not call.trace)
    scan = gpu_library.scan if torch.compiler.is_compiling() else gpu_scan.scan
    found = scan(plan, around, keep, leaves, call.trace)
    outputs, found = found[: len(passes)], found[len(passes) :]
    states = found[: len(plan.sizes)]
    traces = gpu_scan.traces_of(plan, around, outputs, *found[len(plan.sizes) :]) if call.trace else None
    for way, output in enumerate(outputs):
        last = tuple(state[way] for state in states)
        if spec.kind == full_gates.KIND:
            output, last = output[..., : spec.hidden_size], full_gates.narrow_state(last)
        trace = None
        if traces is not None:
            names = (*gates, *spec.cell.states)
            trace = {name: traces[way][name] for name in names if name in traces[way]}
        yield PassResult(output, last, trace)


class _PassInputs(NamedTuple):
    """What one pass brings."""

    gx: Tensor
    weights: list[Tensor]
    state: State
    mask: Tensor | None
    zones: Zoneout


def _pass_inputs(call: Call, p: Pass, x: Tensor) -> _PassInputs:
    spec, params, state, mask = call.spec, dict(p.params), call.state_of(p), p.recurrent_mask
    zones = p.zoneout or (0.0,) * len(state)
    gx = project_input(spec, params, x)
    if spec.kind == full_gates.KIND:
        zones = full_gates.wide_zoneout(zones, (len(x), x.shape[1], spec.hidden_size), x)
        params["weight_hh"], state = full_gates.wide_weight(params), full_gates.wide_state(state)
        mask = full_gates.wide_mask(mask)
    return _PassInputs(gx, [params[name] for name in WEIGHTS if name in params], state, mask, (*zones, 0.0)[:2])


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)


def _stack_zoneout(zones: Sequence[Tensor | float]) -> Tensor | float:
    """Zoneout of all passes: masks of each, or the share of all."""
    masks = [zone for zone in zones if isinstance(zone, Tensor)]
    return _stacked(masks) if masks else zones[0]
