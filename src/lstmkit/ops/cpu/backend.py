"""The back end ``"native"``: C++ kernels for the CPU (``csrc/``), every cell and variant, forward and backward.

``kernels.py`` calls them, ``torch_library.py`` makes them ops for ``torch.compile``. Second derivatives go through the
reference.
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
from lstmkit.ops.cpu import kernels, torch_library
from lstmkit.ops.cpu.kernels import Inputs, NativeLayer
from lstmkit.ops.kernel_limits import kernel_limit_reason

NAME: str = "native"


def unsupported_reason(call: Call) -> str | None:
    if kernels.extension is None:
        if not torch.compiler.is_compiling():
            _warn_once()
        return kernels.import_error
    x = call.x
    if not x.is_cpu:
        return f"the C++ kernels are for the CPU, the input is on {x.device.type}"
    if x.dtype not in kernels.STORAGE:
        return f"the C++ kernels have no {x.dtype}"
    if call.spec.kind not in (*kernels.KINDS, *open_gate.KINDS):
        return f"the C++ kernels have no {call.spec.kind} cell"
    if call.trace:
        return "the C++ kernels do not return gates"
    if call.spec.int8 and x.dtype != torch.float32:
        return f"the C++ kernels multiply 8-bit weights by float32, not {x.dtype}"
    return kernel_limit_reason(call, "C++", int8=True)


@functools.cache
def _warn_once() -> None:
    message = f"lstmkit runs on torch's own layers, several times slower: {kernels.import_error}"
    warnings.warn(message, RuntimeWarning, stacklevel=5)


def run(call: Call) -> Result:
    call = open_gate.as_full_lstm(call)
    spec, reverse = call.spec, tuple(p.reverse for p in call.passes)
    if not kernels.is_plain(call.x):
        inputs = _inputs(call, list(spec.parameter_shapes()))
        output, h, c, _ = torch_library.recurrent(spec, reverse, call.recompute, inputs, _needs_gradients(inputs))
    else:
        layer = kernels.layer_for(spec, reverse, call.recompute, call.x.dtype)
        inputs = _inputs(call, layer.names)
        if _needs_gradients(inputs):
            tensors = (inputs.x, *inputs.weights, *inputs.states)
            output, h, c = _Recurrence.apply(layer, inputs[3:], len(inputs.weights), *tensors)
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
        [probability for p in passes for probability in _zoneout_probabilities(p)],
    )


def _needs_gradients(inputs: Inputs) -> bool:
    """Whether the results may be differentiated."""
    tensors = (inputs.x, *inputs.weights, *inputs.states)
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class _Recurrence(torch.autograd.Function):
    """One layer in eager mode. ``rest`` holds noise, lengths and zoneout probabilities, which have no gradients."""

    @staticmethod
    def forward(ctx: Any, layer: NativeLayer, rest: tuple[Any, ...], n_weights: int, *tensors: Tensor) -> Any:
        inputs = Inputs(tensors[0], tensors[1 : 1 + n_weights], tensors[1 + n_weights :], *rest)
        output, h, c, saved = kernels.forward(layer, inputs, True)
        ctx.layer, ctx.zoneout_probabilities, ctx.n_weights = layer, inputs.zoneout_probabilities, n_weights
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output, saved, inputs.lengths, *inputs.noise, *tensors)
        return output, h, c

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        output, saved, lengths, *others = ctx.saved_tensors
        noise, (x, *others) = others[: 3 * ctx.layer.passes], others[3 * ctx.layer.passes :]
        inputs = Inputs(x, others[: ctx.n_weights], others[ctx.n_weights :], noise, lengths, ctx.zoneout_probabilities)
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return None, None, None, *kernels.gradients_by_reference(ctx.layer, inputs, grads, wanted)
        input_grads = kernels.gradients(ctx.layer, inputs, output, saved, grads, wanted)
        return None, None, None, *(d if want else None for d, want in zip(input_grads, wanted, strict=True))


class Stepper:
    """A stack of layers in one direction that runs one step per call: packs weights once, allocates nothing in a step.

    Args:
        calls: One step of each layer, the bottom layer first, as a call of :func:`run`.
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
        output = torch.empty(self._batch, self._width, dtype=self._dtype) if out is None else out
        return output if self._step(x, output) else None

    def state(self) -> State:
        """A copy of the state after the last step: ``(layers, B, size)`` for each of the cell's states."""
        n_layers, sizes = len(self.layers), self.layers[0].state_sizes
        states = tuple(torch.empty(n_layers, self._batch, size, dtype=self._dtype) for size in sizes)
        for i in range(n_layers):
            self._stack.state(i, *(s[i].data_ptr() for s in states), *([0] * (2 - len(states))))
        return states


def _noise(p: Pass) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The masks of a pass: recurrent dropout, zoneout of the hidden state, zoneout of the cell state."""
    if not p.zoneout:
        return p.recurrent_mask, None, None
    masks = [z if isinstance(z, Tensor) else None for z in p.zoneout]
    return p.recurrent_mask, masks[0], masks[1] if len(masks) > 1 else None


def _zoneout_probabilities(p: Pass) -> tuple[float, float]:
    if not p.zoneout:
        return 0.0, 0.0
    probabilities = [0.0 if isinstance(z, Tensor) else float(z) for z in p.zoneout]
    return probabilities[0], probabilities[1] if len(probabilities) > 1 else 0.0
