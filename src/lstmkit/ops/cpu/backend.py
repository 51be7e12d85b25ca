"""Our own C++ kernels for the CPU (``csrc/``): every cell and variant, forward and backward.

``native_kernels.py`` calls them, ``native_library.py`` shows them to ``torch.compile``. Second derivatives go
through the reference.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.cells import State
from lstmkit.ops.ablations import open_gate
from lstmkit.ops.call import Call, Pass, Result
from lstmkit.ops.cpu import kernels
from lstmkit.ops.cpu import torch_library as native_library
from lstmkit.ops.cpu.kernels import Inputs, Layer
from lstmkit.ops.kernel_limits import kernel_limit_reason

NAME: str = "native"


def unsupported_reason(call: Call) -> str | None:
    if kernels.extension is None:
        if not torch.compiler.is_compiling():
            _warn_once()
        return kernels.missing
    x = call.x
    if not x.is_cpu:
        return f"the C++ kernels are for the CPU, the input is on {x.device.type}"
    if x.dtype not in kernels.STORAGE:
        return f"the C++ kernels have no {x.dtype}"
    if call.spec.kind not in (*kernels.KINDS, *open_gate.KINDS):
        return f"the C++ kernels have no {call.spec.kind} cell"
    if call.trace:
        return "the C++ kernels do not hand out gates"
    return kernel_limit_reason(call, "C++")


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        f"lstmkit runs on torch's own layers, several times slower: {kernels.missing}", RuntimeWarning, stacklevel=5
    )


def run(call: Call) -> Result:
    call = open_gate.as_full_lstm(call)
    spec, reverse = call.spec, tuple(p.reverse for p in call.passes)
    if not kernels.is_plain(call.x):
        inputs = _inputs(call, list(spec.parameter_shapes()))
        output, h, c, _ = native_library.recurrent(spec, reverse, call.recompute, inputs, _needs_gradients(inputs))
    else:
        layer = kernels.layer_for(spec, reverse, call.recompute, call.x.dtype)
        inputs = _inputs(call, layer.names)
        if _needs_gradients(inputs):
            leaves = (inputs.x, *inputs.weights, *inputs.states)
            output, h, c = _Recurrence.apply(layer, inputs[3:], len(inputs.weights), *leaves)
        else:
            output, h, c, _ = kernels.forward(layer, inputs, False)
    return Result(output, (h,) if c is None or spec.kind != "lstm" else (h, c))


def _inputs(call: Call, names: Sequence[str]) -> Inputs:
    passes = call.passes
    return Inputs(
        call.x,
        [p.params[name] for p in passes for name in names],
        [s for p in passes for s in call.state_of(p)] if any(p.state for p in passes) else [],
        [t for p in passes for t in _noise(p)],
        call.lengths,
        [share for p in passes for share in _zoneout_probabilities(p)],
    )


def _needs_gradients(inputs: Inputs) -> bool:
    """Whether anybody may ask for gradients."""
    leaves = (inputs.x, *inputs.weights, *inputs.states)
    return torch.is_grad_enabled() and any(t.requires_grad for t in leaves)


class _Recurrence(torch.autograd.Function):
    """One layer, eager, with its derivatives. ``rest``: noise, lengths and shares, which have none."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, rest: tuple[Any, ...], count: int, *leaves: Tensor) -> Any:
        inputs = Inputs(leaves[0], leaves[1 : 1 + count], leaves[1 + count :], *rest)
        output, h, c, saved = kernels.forward(layer, inputs, True)
        ctx.layer, ctx.shares, ctx.count = layer, inputs.shares, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output, saved, inputs.lengths, *inputs.noise, *leaves)
        return output, h, c

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> Any:
        output, saved, lengths, *others = ctx.saved_tensors
        noise, (x, *others) = others[: 3 * ctx.layer.passes], others[3 * ctx.layer.passes :]
        inputs = Inputs(x, others[: ctx.count], others[ctx.count :], noise, lengths, ctx.shares)
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return None, None, None, *kernels.gradients_by_reference(ctx.layer, inputs, given, wanted)
        found = kernels.gradients(ctx.layer, inputs, output, saved, given, wanted)
        return None, None, None, *(d if want else None for d, want in zip(found, wanted, strict=True))


class Stepper:
    """A stack of layers, one direction, that runs step by step: weights packed once, nothing allocated in a step.

    Args:
        calls: One step of each layer, bottom first, as it would be asked of :func:`run`.
        residual: Every layer after the first adds its input to its output.
    """

    def __init__(self, calls: Sequence[Call], residual: bool) -> None:
        assert kernels.extension is not None
        x, calls = calls[0].x, [open_gate.as_full_lstm(call) for call in calls]
        self.layers = [kernels.layer_for(call.spec, (False,), False, x.dtype) for call in calls]
        inputs = [_inputs(call, layer.names) for layer, call in zip(self.layers, calls, strict=True)]
        natives = [layer.native for layer in self.layers]
        self._stack = kernels.extension.Stack(natives, inputs, torch.get_num_threads(), residual)
        self._step = self._stack.step
        self._batch, self._dtype, self._width = x.shape[1], x.dtype, self.layers[-1].output_size

    def __call__(self, x: Tensor, out: Tensor | None) -> Tensor | None:
        room = torch.empty(self._batch, self._width, dtype=self._dtype) if out is None else out
        return room if self._step(x, room) else None

    def state(self) -> State:
        """A copy of the state after the last step: ``(layers, B, size)`` for each of the cell's states."""
        count, sizes = len(self.layers), self.layers[0].state_sizes
        states = tuple(torch.empty(count, self._batch, size, dtype=self._dtype) for size in sizes)
        for i in range(count):
            self._stack.state(i, *(s[i].data_ptr() for s in states), *([0] * (2 - len(states))))
        return states


def _noise(p: Pass) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The pass's masks: recurrent dropout, zoneout of the hidden and of the cell state."""
    if not p.zoneout:
        return p.recurrent_mask, None, None
    masks = [z if isinstance(z, Tensor) else None for z in p.zoneout]
    return p.recurrent_mask, masks[0], masks[1] if len(masks) > 1 else None


def _zoneout_probabilities(p: Pass) -> tuple[float, float]:
    if not p.zoneout:
        return 0.0, 0.0
    shares = [0.0 if isinstance(z, Tensor) else float(z) for z in p.zoneout]
    return shares[0], shares[1] if len(shares) > 1 else 0.0
