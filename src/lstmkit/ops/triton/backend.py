"""The back end ``"triton"``: kernels for GPUs, every cell and variant, forward and backward.

:func:`run` prepares a call for any :class:`~lstmkit.ops.triton.loop.TimeLoop`. ``autograd.py`` runs a pass,
``torch_library.py`` makes it an op for ``torch.compile``. Second derivatives go through the reference.
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
from lstmkit.ops.recording import is_recorded
from lstmkit.ops.triton import autograd, launch, torch_library
from lstmkit.ops.triton.autograd import WEIGHTS, SavePolicy
from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan
from lstmkit.ops.triton.loop import DifferentiableInputs

NAME: str = "triton"

_TRITON_MISSING = None if importlib.util.find_spec("triton") else "Triton is missing: pip install 'lstmkit[gpu]'"


def unsupported_reason(call: Call) -> str | None:
    x, spec = call.x, open_gate.full_lstm_spec(call.spec)
    if not (x.is_cuda or launch.interpreted()):
        return f"the Triton kernels are for GPUs, the input is on {x.device.type}"
    if _TRITON_MISSING:
        return _TRITON_MISSING
    if x.dtype not in launch.DTYPES:
        return f"the Triton kernels have no {x.dtype}"
    if spec.kind not in launch.KINDS:
        return f"the Triton kernels have no {spec.kind} cell"
    return kernel_limit_reason(call, "Triton") or launch.size_limit_reason(spec, x.dtype, x.device)


def run(call: Call, loop: str = "triton") -> Result:
    """Run all passes on the registered time loop ``loop``."""
    gates = call.spec.cell.gates
    call = open_gate.as_full_lstm(call)
    x = call.x
    if call.lengths is not None:
        lengths = call.lengths.to(x.device, torch.int64).contiguous()
        call = call._replace(lengths=lengths)
        x = reference.zero_padding(x, lengths)  # NaN in the padding must not reach a gradient
    launches = [call.passes] if _can_run_directions_together(call) else [(p,) for p in call.passes]
    return Result.of([result for passes in launches for result in _run(call, passes, x, gates, loop)])


def _can_run_directions_together(call: Call) -> bool:
    """Whether the passes are both directions of a layer, with noise of the same kind."""
    noise = [(p.recurrent_mask is None, *(isinstance(z, Tensor) or z for z in p.zoneout or ())) for p in call.passes]
    both = tuple(p.reverse for p in call.passes) == (False, True)
    return both and noise[0] == noise[1] and not call.recompute


def _run(call: Call, passes: tuple[Pass, ...], x: Tensor, gates: Sequence[str], loop: str) -> Iterator[PassResult]:
    """Run passes together; ``gates`` are those of the caller's cell, which may be fewer than are computed."""
    spec, reverse = call.spec, tuple(p.reverse for p in passes)
    plan = Plan.of(spec, reverse, x.dtype) if loop == NAME else Plan.for_loop(loop, spec, reverse)
    per_pass = [_pass_inputs(call, p, x) for p in passes]
    inputs = DifferentiableInputs(
        _stacked([own.gx for own in per_pass]),
        [_stacked(weights) for weights in zip(*(own.weights for own in per_pass), strict=True)],
        [_stacked(states) for states in zip(*(own.state for own in per_pass), strict=True)],
    )
    masks = [own.mask for own in per_pass if own.mask is not None]
    zoneout = (_stack_zoneout(values) for values in zip(*(own.zoneout for own in per_pass), strict=True))
    fixed = NonDifferentiableInputs(call.lengths, _stacked(masks) if masks else None, *zoneout)
    tensors = (inputs.gx, *inputs.weights, *inputs.state)
    needs_gradients = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    policy = SavePolicy(needs_gradients or call.trace, call.recompute and not call.trace)
    scan = torch_library.scan if is_recorded() else autograd.scan
    results = scan(plan, fixed, policy, inputs, call.trace)
    outputs, rest = results[: len(passes)], results[len(passes) :]
    states, rest = rest[: len(plan.state_widths)], rest[len(plan.state_widths) :]
    traces = autograd.traces_of(plan, fixed, outputs, *rest) if call.trace else None
    for direction, output in enumerate(outputs):
        last = tuple(state[direction] for state in states)
        if spec.kind == full_gates.KIND:
            output, last = output[..., : spec.hidden_size], full_gates.narrow_state(last)
        trace = None
        if traces is not None:
            names = (*gates, *spec.cell.states)
            trace = {name: traces[direction][name] for name in names if name in traces[direction]}
        yield PassResult(output, last, trace)


class _PassInputs(NamedTuple):
    """The inputs of one pass."""

    gx: Tensor
    weights: list[Tensor]
    state: State
    mask: Tensor | None
    zoneout: Zoneout


def _pass_inputs(call: Call, p: Pass, x: Tensor) -> _PassInputs:
    spec, params, state, mask = call.spec, dict(p.params), call.state_of(p), p.recurrent_mask
    zoneout = p.zoneout or (0.0,) * len(state)
    gx = project_input(spec, params, x)
    if spec.kind == full_gates.KIND:
        zoneout = full_gates.wide_zoneout(zoneout, (len(x), x.shape[1], spec.hidden_size), x)
        params["weight_hh"], state = full_gates.wide_weight(params), full_gates.wide_state(state)
        mask = full_gates.wide_mask(mask)
    weights = [params[name] for name in WEIGHTS if name in params]
    return _PassInputs(gx, weights, state, mask, (*zoneout, 0.0)[:2])


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)


def _stack_zoneout(zoneout: Sequence[Tensor | float]) -> Tensor | float:
    """Zoneout of all passes: stacked masks, or the probability that all share."""
    masks = [z for z in zoneout if isinstance(z, Tensor)]
    return _stacked(masks) if masks else zoneout[0]
