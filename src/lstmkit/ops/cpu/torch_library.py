"""The C++ kernels as ops of ``torch.library``, so that ``torch.compile`` sees one node per layer.

Only compiled graphs use the ops: the overhead of ``torch.library`` exceeds the time of a small layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.ops import spec_encoding
from lstmkit.ops.cpu import kernels
from lstmkit.ops.cpu.kernels import Inputs, NativeLayer, Outputs

_INPUTS = (
    "Tensor x, Tensor[] weights, Tensor[] states, Tensor?[] noise, Tensor? lengths, "
    "float[] zoneout_probabilities, int[] key"
)

_library = torch.library.Library("lstmkit", "DEF")
_library.define(f"recurrent({_INPUTS}, bool save) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"recurrent_backward(Tensor?[] output_grads, Tensor output, Tensor saved, {_INPUTS}, bool[] wanted) -> Tensor[]"
)


def recurrent(
    spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, inputs: Inputs, save: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`lstmkit.ops.cpu.kernels.forward`, as one differentiable node of a graph."""
    return torch.ops.lstmkit.recurrent(*inputs, _key(spec, reverse, recompute), save)


# A graph holds no objects, so integers encode the layer. The vector size of the CPU is one of them: the size of the
# saved tensor depends on it, and compiled graphs are cached on disk.
_vector_bytes = 0 if kernels.extension is None else 4 * kernels.extension.lanes(0)


def _key(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool) -> list[int]:
    return [_vector_bytes, int(recompute), *spec_encoding.encode_spec(spec), *map(int, reverse)]


def _layer(key: Sequence[int], dtype: torch.dtype) -> NativeLayer:
    _, recompute, *rest = key
    spec, reverse = spec_encoding.decode_spec(rest[: spec_encoding.SPEC_SIZE]), rest[spec_encoding.SPEC_SIZE :]
    return kernels.layer_for(spec, tuple(map(bool, reverse)), bool(recompute), dtype)


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, key, save = arguments
    return _tensors(kernels.forward(_layer(key, inputs[0].dtype), Inputs(*inputs), save))


def _forward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, key, save = arguments
    return _tensors(kernels.empty_outputs(_layer(key, inputs[0].dtype), Inputs(*inputs), save))


def _tensors(outputs: Outputs) -> tuple[Tensor, ...]:
    """The outputs as tensors; an op has no optional results, so an empty tensor stands for ``None``."""
    return tuple(outputs.output.new_empty(0) if t is None else t for t in outputs)


def _backward(output_grads: Any, output: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    *inputs, key, wanted = arguments
    return kernels.gradients(_layer(key, inputs[0].dtype), Inputs(*inputs), output, saved, output_grads, wanted)


def _backward_shapes(output_grads: Any, output: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    *inputs, _, wanted = arguments
    return kernels.empty_gradients(Inputs(*inputs), wanted)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, states, noise, lengths, zoneout_probabilities, key, _ = inputs
    ctx.counts = len(weights), len(states), len(noise)
    ctx.is_present = [t is not None for t in (*noise, lengths)]
    ctx.zoneout_probabilities, ctx.key = zoneout_probabilities, key
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], output[3], x, *weights, *states, *(t for t in (*noise, lengths) if t is not None))
    ctx.mark_non_differentiable(output[3])


def _differentiate(ctx: Any, d_output: Tensor | None, d_h: Tensor | None, d_c: Tensor | None, _: Any) -> tuple:
    output, saved, x, *others = ctx.saved_tensors
    n_weights, n_states, n_noise = ctx.counts
    weights, states = others[:n_weights], others[n_weights : n_weights + n_states]
    rest = iter(others[n_weights + n_states :])
    *noise, lengths = (next(rest) if is_present else None for is_present in ctx.is_present)
    needs = ctx.needs_input_grad
    flags = spec_encoding.gradient_flags
    wanted = [needs[0], *flags(needs[1], n_weights), *flags(needs[2], n_states)]
    inputs, output_grads = Inputs(x, weights, states, noise, lengths, ctx.zoneout_probabilities), [d_output, d_h, d_c]
    if torch.is_grad_enabled():  # the gradient is to be differentiated again
        grads = kernels.gradients_by_reference(_layer(ctx.key, x.dtype), inputs, output_grads, wanted)
    else:
        grads = torch.ops.lstmkit.recurrent_backward(output_grads, output, saved, *inputs, ctx.key, wanted)
        grads = [d if want else None for d, want in zip(grads, wanted, strict=True)]
    # torch.library takes a list for a list of tensors, and a single None for a list in which some are missing.
    no_noise = [None] * n_noise if all(ctx.is_present[:n_noise]) else None
    return grads[0], grads[1 : 1 + n_weights], grads[1 + n_weights :], no_noise, None, None, None, None


_library.impl("recurrent", _forward, "CPU")
_library.impl("recurrent_backward", _backward, "CPU")
torch.library.register_fake("lstmkit::recurrent", _forward_shapes, lib=_library)
torch.library.register_fake("lstmkit::recurrent_backward", _backward_shapes, lib=_library)
torch.library.register_autograd("lstmkit::recurrent", _differentiate, setup_context=_setup_context, lib=_library)
