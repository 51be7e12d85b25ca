"""The GPU passes as an op of ``torch.library``, so that ``torch.compile`` sees one node per layer.

Only compiled graphs use the op, as on the CPU: eager calls avoid its overhead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.ops import spec_encoding
from lstmkit.ops.triton import autograd
from lstmkit.ops.triton.autograd import SavePolicy
from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan
from lstmkit.ops.triton.loop import DifferentiableInputs, OutputGradients, SavedTensors

_DIFFERENTIABLE_SCHEMA = "Tensor gx, Tensor[] weights, Tensor[] state"
_NON_DIFFERENTIABLE_SCHEMA = "Tensor?[] fixed, float[] zoneout_probabilities, int[] key, str loop"

_library = torch.library.Library("lstmkit", "FRAGMENT")
_library.define(
    f"gpu_scan({_DIFFERENTIABLE_SCHEMA}, {_NON_DIFFERENTIABLE_SCHEMA}, bool save_steps) -> "
    "(Tensor h, Tensor c, Tensor hs, Tensor cs, Tensor saved, Tensor normalized, Tensor norm_stats, Tensor unprojected)"
)
_library.define(
    f"gpu_scan_backward(Tensor?[] output_grads, Tensor[] buffers, {_DIFFERENTIABLE_SCHEMA}, "
    f"{_NON_DIFFERENTIABLE_SCHEMA}) -> Tensor[]"
)


def scan(
    plan: Plan,
    fixed: NonDifferentiableInputs,
    policy: SavePolicy,
    inputs: DifferentiableInputs,
    traced: bool = False,
) -> tuple[Tensor, ...]:
    """:func:`lstmkit.ops.triton.autograd.scan` as one differentiable node of a graph."""
    key = [*spec_encoding.encode_spec(plan.spec), plan.units, *map(int, (policy.recompute, *plan.reverse))]
    tensors = [value if isinstance(value, Tensor) else None for value in fixed]
    probabilities = [0.0 if isinstance(value, Tensor) else float(value) for value in fixed[2:]]
    h, c, *buffers = torch.ops.lstmkit.gpu_scan(*inputs, tensors, probabilities, key, plan.loop, policy.save_steps)
    hs, cs, saved, *_ = buffers
    results = *autograd.outputs_of(plan, fixed, hs), *(h, c)[: len(plan.state_widths)]
    return (*results, saved, cs) if traced else results


def _decode(
    fixed: Sequence[Tensor | None], probabilities: Sequence[float], key: Sequence[int], loop: str
) -> tuple[Plan, NonDifferentiableInputs, bool]:
    """The plan, the non-differentiable inputs, and whether the pass recomputes, from the arguments of the op."""
    units, recompute, *reverse = key[spec_encoding.SPEC_SIZE :]
    spec = spec_encoding.decode_spec(key[: spec_encoding.SPEC_SIZE])
    plan = Plan(spec, tuple(map(bool, reverse)), units, loop)
    lengths, mask, *masks = fixed
    zoneout = (probability if z is None else z for z, probability in zip(masks, probabilities, strict=True))
    return plan, NonDifferentiableInputs(lengths, mask, *zoneout), bool(recompute)


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    gx, weights, state, *encoded, save_steps = arguments
    plan, fixed, recompute = _decode(*encoded)
    policy = SavePolicy(save_steps, recompute)
    buffers = autograd.run(plan, fixed, policy, DifferentiableInputs(gx, weights, state))
    return *_states(plan, buffers, gx), *buffers


def _forward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    gx, _, _, *encoded, save_steps = arguments
    plan, _, recompute = _decode(*encoded)
    buffers = autograd.empty_saved_tensors(plan, SavePolicy(save_steps, recompute), gx)
    return *_states(plan, buffers, gx), *buffers


def _states(plan: Plan, buffers: SavedTensors, gx: Tensor) -> tuple[Tensor, Tensor]:
    """The final states; an op has no optional results, so an empty tensor stands for a missing cell state."""
    states = [*autograd.last_state(plan, buffers, gx.dtype), gx.new_empty(0)]
    return states[0], states[1]


def _backward(output_grads: Any, buffers: Any, *arguments: Any) -> list[Tensor]:
    gx, weights, state, *encoded = arguments
    plan, fixed, recompute = _decode(*encoded)
    outputs, others = output_grads[: len(plan.reverse)], output_grads[len(plan.reverse) :]
    inputs, policy = DifferentiableInputs(gx, weights, state), SavePolicy(True, recompute)
    return autograd.gradients(
        plan, fixed, policy, inputs, SavedTensors(*buffers), OutputGradients(outputs, *others)
    )  # fmt: skip


def _backward_shapes(output_grads: Any, buffers: Any, *arguments: Any) -> list[Tensor]:
    gx, weights, state, *_ = arguments
    return [t.new_empty(t.shape) for t in (gx, *weights, *state)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gx, weights, state, fixed, *encoded, _ = inputs
    ctx.counts = len(weights), len(state)
    ctx.is_present = [t is not None for t in fixed]
    ctx.encoded = encoded
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gx, *weights, *state, *output[2:], *(t for t in fixed if t is not None))
    _, _, recompute = _decode(fixed, *encoded)
    ctx.mark_non_differentiable(*output[3 if recompute else 5 :])


def _differentiate(ctx: Any, d_h: Any, d_c: Any, d_hs: Any, d_cs: Any, d_saved: Any, *unused: Any) -> tuple[Any, ...]:
    n_weights, n_states = ctx.counts
    gx, *others = ctx.saved_tensors
    weights, others = others[:n_weights], others[n_weights:]
    state, buffers, others = others[:n_states], others[n_states : n_states + 6], others[n_states + 6 :]
    tensors = [others.pop(0) if is_present else None for is_present in ctx.is_present]
    inputs, needs = DifferentiableInputs(gx, weights, state), ctx.needs_input_grad
    plan, fixed, _ = _decode(tensors, *ctx.encoded)
    directions = enumerate(plan.reverse)
    outputs = [None if d_hs is None else d_hs[d, :-1] if reverse else d_hs[d, 1:] for d, reverse in directions]
    output_grads = OutputGradients(outputs, d_h, d_c if n_states > 1 else None, d_saved, d_cs)
    flags = spec_encoding.gradient_flags
    wanted = [needs[0], *flags(needs[1], n_weights), *flags(needs[2], n_states)]
    if torch.is_grad_enabled():  # the gradient is to be differentiated again
        grads = autograd.gradients_by_reference(plan, fixed, inputs, output_grads, wanted)
    else:
        grads = torch.ops.lstmkit.gpu_scan_backward(
            [*outputs, *output_grads[1:]], buffers, *inputs, tensors, *ctx.encoded
        )
        grads = [d if want else None for d, want in zip(grads, wanted, strict=True)]
    # torch.library takes a list for a list of tensors, and a single None for a list in which some are missing.
    no_noise = [None] * len(tensors) if all(ctx.is_present) else None
    return grads[0], grads[1 : 1 + n_weights], grads[1 + n_weights :], no_noise, None, None, None, None


for _name, _run, _shapes in (
    ("gpu_scan", _forward, _forward_shapes),
    ("gpu_scan_backward", _backward, _backward_shapes),
):
    for _device in ("CUDA", "CPU"):  # on the CPU for the interpreter of Triton
        _library.impl(_name, _run, _device)
    torch.library.register_fake(f"lstmkit::{_name}", _shapes, lib=_library)
torch.library.register_autograd("lstmkit::gpu_scan", _differentiate, setup_context=_setup_context, lib=_library)
