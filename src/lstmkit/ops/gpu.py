"""Our own kernels for GPUs, in Triton: every cell and variant, forward and backward.

``gpu_scan.py`` lays a pass out and launches ``gpu_kernels.py``. Second derivatives go through the reference.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from lstmkit.cells import project_input
from lstmkit.ops import full_gates, open_gate, reference
from lstmkit.ops.call import Call, Pass, PassResult, Result

NAME: str = "triton"


@functools.cache
def _modules() -> tuple[ModuleType, ModuleType] | str:
    """``gpu_plan`` and ``gpu_scan``, or why they are not there; loaded when a GPU asks: Triton takes long to load."""
    try:
        plan, scan = (importlib.import_module(f"lstmkit.ops.gpu_{name}") for name in ("plan", "scan"))
        return plan, scan
    except ImportError as error:
        return f"Triton is missing ({error}): install it with the extra 'gpu'"


def refusal(call: Call) -> str | None:
    x, spec = call.x, call.spec
    if not (x.is_cuda or interpreted()):
        return f"the Triton kernels are for GPUs, the input is on {x.device.type}"
    modules = _modules()
    if isinstance(modules, str):
        return modules
    plans, _ = modules
    if x.dtype not in plans.TYPES:
        return f"the Triton kernels have no {x.dtype}"
    if spec.kind not in (*plans.KINDS, *open_gate.KINDS):
        return f"the Triton kernels have no {spec.kind} cell"
    if 0 in x.shape[:2]:
        return "there is nothing to compute: no step or no sequence"
    if torch.compiler.is_compiling():
        return "torch.compile does not trace the Triton kernels"
    if torch._C._are_functorch_transforms_active():
        return "the Triton kernels do not go through torch.func (vmap, jvp, ...)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "the Triton kernels have no forward-mode derivatives"
    for p in call.passes:
        if any(t.dtype is not x.dtype or t.device != x.device for t in (*p.params.values(), *p.state)):
            return "input, weights and states differ in dtype or device"
        noise = (p.recurrent_mask, *(p.zoneout or ()))
        if any(isinstance(t, Tensor) and t.requires_grad for t in noise):
            return "the Triton kernels do not differentiate by noise masks"
    return plans.too_large(spec, x.dtype, x.device)


def interpreted() -> bool:
    """Whether Triton's interpreter is on, which runs the kernels on the processor, slowly, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def run(call: Call) -> Result:
    gates = call.spec.cell.gates
    call = open_gate.as_whole(call)
    x = call.x
    if call.lengths is not None:
        lengths = call.lengths.to(x.device)
        call = call._replace(lengths=lengths)
        x = reference.within(x, lengths)  # NaN in the padding must not reach a gradient
    return Result.of([_run(call, p, x, gates) for p in call.passes])


def _run(call: Call, p: Pass, x: Tensor, gates: Sequence[str]) -> PassResult:
    """One pass; ``gates`` are those that the caller's cell has, which may be fewer than are computed."""
    modules = _modules()
    assert not isinstance(modules, str)
    plans, scans = modules
    spec, params, state, mask = call.spec, dict(p.params), call.state_of(p), p.recurrent_mask
    zones = p.zoneout or (0.0,) * len(state)
    if spec.kind == full_gates.KIND:
        zones = full_gates.wide_zoneout(zones, (len(x), x.shape[1], spec.hidden_size), x)
        params["weight_hh"], state = full_gates.wide_weight(params), full_gates.wide_state(state)
        mask = full_gates.wide_mask(mask)
    plan = plans.Plan.of(spec, p.reverse, x.dtype)
    around = plans.Around(call.lengths, mask, *(*zones, 0.0)[:2])
    leaves = scans.Leaves(project_input(spec, params, x), [params[n] for n in scans.WEIGHTS if n in params], state)
    asks = torch.is_grad_enabled() and any(t.requires_grad for t in (leaves.gx, *leaves.weights, *leaves.state))
    keep = scans.Keep(asks or call.trace, call.recompute and not call.trace)
    output, *last = scans.scan(plan, around, keep, leaves, call.trace)
    trace = None
    if call.trace:
        *last, saved, cells = last
        asked = (*gates, *call.spec.cell.states)
        found = scans.trace_of(plan, around, output, saved, cells)
        trace = {name: found[name] for name in asked if name in found}
    if spec.kind == full_gates.KIND:
        output, last = output[..., : spec.hidden_size], full_gates.narrow_state(last)
    return PassResult(output, tuple(last), trace)
