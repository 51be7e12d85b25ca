"""The back end ``"cluster"``: CUDA C++ kernels for thread block clusters of Hopper GPUs.

They run the plain LSTM and the GRU in half precision. ``launch.py`` compiles and launches them; everything around the
loop is that of the Triton back end. They have not run on a GPU yet, so ``"auto"`` prefers the other back ends.
"""

from __future__ import annotations

from torch import Tensor

from lstmkit.ops.call import Call, Result
from lstmkit.ops.hopper import launch
from lstmkit.ops.hopper.launch import ClusterPlan
from lstmkit.ops.kernel_limits import kernel_limit_reason
from lstmkit.ops.triton import backend as triton_backend
from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan, multiprocessor_count
from lstmkit.ops.triton.loop import GateGradients, OutputGradients, SavedTensors, register_loop

NAME: str = "cluster"


def unsupported_reason(call: Call) -> str | None:
    reason = launch.device_limit_reason(call.x.device) or launch.spec_limit_reason(call.spec, call.x.dtype)
    if reason:
        return reason
    if call.trace:
        return "the cluster kernels do not return gates"
    if any(p.recurrent_mask is not None or p.zoneout for p in call.passes):
        return "the cluster kernels have no recurrent dropout and no zoneout"
    return kernel_limit_reason(call, "cluster")


def run(call: Call) -> Result:
    return triton_backend.run(call, loop=NAME)


class ClusterLoop:
    """The :class:`~lstmkit.ops.triton.loop.TimeLoop` on the cluster kernels: one launch per pass."""

    def run_forward(
        self,
        plan: Plan,
        fixed: NonDifferentiableInputs,
        gx: Tensor,
        weights: dict[str, Tensor],
        buffers: SavedTensors,
    ) -> None:
        layout = _layout(plan, gx, backward=False)
        for direction, reverse in enumerate(plan.reverse):
            own, bias = buffers.of_direction(direction), weights["bias_hh"][direction] if plan.spec.bias else None
            cs, saved = (tensor if tensor.numel() else None for tensor in (own.cs, own.saved))
            launch.run_forward(
                layout, gx[direction], weights["weight_hh"][direction], bias, fixed.lengths, own.hs, cs, saved,
                reverse=reverse,
            )  # fmt: skip

    def run_backward(
        self,
        plan: Plan,
        fixed: NonDifferentiableInputs,
        d_output: Tensor,
        output_grads: OutputGradients,
        weights: dict[str, Tensor],
        buffers: SavedTensors,
        d_state: list[Tensor],
        gate_grads: GateGradients,
    ) -> None:
        layout = _layout(plan, gate_grads.dgx, backward=True)
        is_separate = gate_grads.dgh is not gate_grads.dgx
        for direction, reverse in enumerate(plan.reverse):
            own, dgh = buffers.of_direction(direction), gate_grads.dgh[direction] if is_separate else None
            cs, dc = (own.cs, d_state[1][direction]) if len(d_state) > 1 else (None, None)
            launch.run_backward(
                layout, d_output[direction], weights["weight_hh"][direction], fixed.lengths, own.hs, cs, own.saved,
                d_state[0][direction], dc, gate_grads.dgx[direction], dgh, reverse=reverse,
            )  # fmt: skip


def _layout(plan: Plan, gx: Tensor, *, backward: bool) -> ClusterPlan:
    """The layout for ``gx (D, T, B, G·H)`` on the GPU that holds it."""
    return ClusterPlan.of(
        plan.spec, gx.shape[2], gx.dtype, backward=backward, multiprocessor_count=multiprocessor_count(gx.device)
    )


register_loop(NAME, ClusterLoop())
