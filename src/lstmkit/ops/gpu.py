"""Our own kernels for GPUs, in Triton: every cell and variant, forward and backward; and what is around any such loop.

``gpu_scan.py`` runs a pass on ``gpu_kernels.py``, ``gpu_library.py`` shows it to ``torch.compile``. Second derivatives
go through the reference.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from lstmkit.cells import project_input
from lstmkit.ops import full_gates, gpu_library, gpu_plan, gpu_scan, open_gate, reference
from lstmkit.ops.call import Call, Pass, PassResult, Result
from lstmkit.ops.gpu_plan import Around, Plan
from lstmkit.ops.gpu_scan import WEIGHTS, Keep, Leaves
from lstmkit.ops.kernel_refusals import of_kernels

NAME: str = "triton"

_MISSING = None if importlib.util.find_spec("triton") else "Triton is missing: install it with the extra 'gpu'"


def refusal(call: Call) -> str | None:
    x, spec = call.x, open_gate.whole(call.spec)
    if not (x.is_cuda or gpu_plan.interpreted()):
        return f"the Triton kernels are for GPUs, the input is on {x.device.type}"
    if _MISSING:
        return _MISSING
    if x.dtype not in gpu_plan.TYPES:
        return f"the Triton kernels have no {x.dtype}"
    if spec.kind not in gpu_plan.KINDS:
        return f"the Triton kernels have no {spec.kind} cell"
    return of_kernels(call, "Triton") or gpu_plan.too_large(spec, x.dtype, x.device)


def run(call: Call, clusters: bool = False) -> Result:
    """All passes, on the Triton kernels or on those for ``clusters``."""
    gates = call.spec.cell.gates
    call = open_gate.as_whole(call)
    x = call.x
    if call.lengths is not None:
        lengths = call.lengths.to(x.device, torch.int64).contiguous()
        call = call._replace(lengths=lengths)
        x = reference.within(x, lengths)  # NaN in the padding must not reach a gradient
    return Result.of([_run(call, p, x, gates, clusters) for p in call.passes])


def _run(call: Call, p: Pass, x: Tensor, gates: Sequence[str], clusters: bool) -> PassResult:
    """One pass; ``gates`` are those that the caller's cell has, which may be fewer than are computed."""
    spec, params, state, mask = call.spec, dict(p.params), call.state_of(p), p.recurrent_mask
    zones = p.zoneout or (0.0,) * len(state)
    if spec.kind == full_gates.KIND:
        zones = full_gates.wide_zoneout(zones, (len(x), x.shape[1], spec.hidden_size), x)
        params["weight_hh"], state = full_gates.wide_weight(params), full_gates.wide_state(state)
        mask = full_gates.wide_mask(mask)
    plan = Plan.on_clusters(spec, p.reverse) if clusters else Plan.of(spec, p.reverse, x.dtype)
    around = Around(call.lengths, mask, *(*zones, 0.0)[:2])
    leaves = Leaves(project_input(spec, params, x), [params[name] for name in WEIGHTS if name in params], state)
    asks = torch.is_grad_enabled() and any(t.requires_grad for t in (leaves.gx, *leaves.weights, *leaves.state))
    keep = Keep(asks or call.trace, call.recompute and not call.trace)
    scan = gpu_library.scan if torch.compiler.is_compiling() else gpu_scan.scan
    output, *last = scan(plan, around, keep, leaves, call.trace)
    trace = None
    if call.trace:
        *last, saved, cells = last
        asked = (*gates, *call.spec.cell.states)
        found = gpu_scan.trace_of(plan, around, output, saved, cells)
        trace = {name: found[name] for name in asked if name in found}
    if spec.kind == full_gates.KIND:
        output, last = output[..., : spec.hidden_size], full_gates.narrow_state(last)
    return PassResult(output, tuple(last), trace)
