"""The loop over time of a GPU back end: its interface, its tensors, and the loop on the Triton kernels.

``autograd.py`` works with any :class:`TimeLoop`. A back end with kernels of its own registers its loop by a name, which
:class:`~lstmkit.ops.triton.launch.Plan` refers to.

Dimensions: ``D`` passes (directions), ``T`` steps, ``B`` batch, ``G`` gates, ``H`` hidden units, ``P`` width of the
hidden state that the gates read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lstmkit.ops.triton.launch import NonDifferentiableInputs, Plan, launch, noise_arguments


class DifferentiableInputs(NamedTuple):
    """The inputs of the passes that have gradients.

    Attributes:
        gx: ``(D, T, B, G·H)``, the input projection of the gates.
        weights: Those of :data:`~lstmkit.ops.triton.autograd.WEIGHTS` that the cell has, ``(D, …)`` each.
        state: Initial state, ``(D, B, size)`` for each of ``plan.state_widths``.
    """

    gx: Tensor
    weights: Sequence[Tensor]
    state: Sequence[Tensor]


class SavedTensors(NamedTuple):
    """What the forward loop writes: see :func:`lstmkit.ops.triton.kernels.forward`. With ``recompute`` only states.

    The names are those of kernel parameters.
    """

    hs: Tensor
    cs: Tensor
    saved: Tensor
    normalized: Tensor
    norm_stats: Tensor
    unprojected: Tensor

    def of_direction(self, direction: int) -> SavedTensors:
        """The tensors of one pass."""
        return SavedTensors(*(tensor[direction] if tensor.numel() else tensor for tensor in self))


class OutputGradients(NamedTuple):
    """Gradients of what the passes return, ``None`` for zero; the last two are those of a trace."""

    outputs: Sequence[Tensor | None]
    h: Tensor | None
    c: Tensor | None = None
    saved: Tensor | None = None
    cs: Tensor | None = None


class GateGradients(NamedTuple):
    """What the backward loop writes: see :func:`lstmkit.ops.triton.kernels.backward`."""

    dgx: Tensor
    dgh: Tensor
    d_new: Tensor
    d_cell_out: Tensor


class TimeLoop(Protocol):
    """All steps of one or two passes, forward and backward."""

    def run_forward(
        self,
        plan: Plan,
        fixed: NonDifferentiableInputs,
        gx: Tensor,
        weights: dict[str, Tensor],
        buffers: SavedTensors,
    ) -> None:
        """Run all steps from the state in the first slots of ``buffers``, and write what comes out to the others."""
        ...

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
        """Run all steps backward and write ``gate_grads``.

        ``d_state`` holds the gradients of the final state and is overwritten with those of the initial state.
        """
        ...


_LOOPS: dict[str, TimeLoop] = {}


def register_loop(name: str, loop: TimeLoop) -> None:
    """Make ``loop`` the one that plans refer to as ``name``."""
    _LOOPS[name] = loop


def loop_of(plan: Plan) -> TimeLoop:
    """The loop that runs ``plan``."""
    return _LOOPS[plan.loop]


def or_zeros(gradient: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous gradient of ``dtype``; zeros shaped as ``like`` if it is ``None``."""
    return like.new_zeros(like.shape, dtype=dtype) if gradient is None else gradient.to(dtype).contiguous()


class TritonLoop:
    """The :class:`TimeLoop` on the kernels of ``kernels.py``."""

    def run_forward(
        self,
        plan: Plan,
        fixed: NonDifferentiableInputs,
        gx: Tensor,
        weights: dict[str, Tensor],
        buffers: SavedTensors,
    ) -> None:
        constants = plan.constants(fixed, gx.dtype) | {"SAVES": buffers.saved.numel() > 0, "BIAS": plan.spec.bias}
        arguments = {"gx": gx, **_weight_arguments(weights), **noise_arguments(fixed), **buffers._asdict()}
        arguments |= {"b_hh": weights.get("bias_hh", gx)}
        launch("forward", plan, arguments, constants, *gx.shape[1:3])

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
        dgx, dgh = gate_grads.dgx, gate_grads.dgh
        is_traced = output_grads.saved is not None or output_grads.cs is not None
        constants = plan.constants(fixed, dgx.dtype) | {"SEPARATE_DGH": dgh is not dgx, "TRACED": is_traced}
        arguments: dict[str, Any] = {
            **_weight_arguments(weights),
            **noise_arguments(fixed),
            **buffers._asdict(),
            **gate_grads._asdict(),
        }
        arguments |= {"d_output": d_output, "dh": d_state[0], "dc": d_state[-1], "d_saved": None, "d_cs": None}
        if is_traced:
            arguments["d_saved"] = or_zeros(output_grads.saved, buffers.saved, buffers.saved.dtype)
            arguments["d_cs"] = or_zeros(output_grads.cs, buffers.cs, buffers.cs.dtype)
        del arguments["unprojected"]
        launch("backward", plan, arguments, constants, *dgx.shape[1:3])
        if not plan.single_block:  # the recurrent gradient of the first step, which no block has added
            dtype = d_state[0].dtype
            first = torch.stack([dgh[d, -1 if reverse else 0] for d, reverse in enumerate(plan.reverse)])
            recurrent = first.to(dtype) @ weights["weight_hh"].to(dtype)
            d_state[0] += recurrent if fixed.mask is None else recurrent * fixed.mask


def _weight_arguments(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of the kernel parameters; a missing one is replaced by a pointer that is never read."""
    unused = weights["weight_hh"]
    names = {"w_hh": "weight_hh", "w_hr": "weight_hr", "w_peep": "weight_peep", "gain": "weight_ln_hh"}
    names |= {"gain_c": "weight_ln_c", "bias_c": "bias_ln_c"}
    return {parameter: weights.get(name, unused) for parameter, name in names.items()}


register_loop("triton", TritonLoop())
