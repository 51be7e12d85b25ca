"""The kernels as ops of ``torch.library``, so that ``torch.compile`` sees one node a layer.

Only compiled graphs go this way: a call through ``torch.library`` takes longer than a small layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.ops import spec_encoding as graph_key
from lstmkit.ops.cpu import kernels
from lstmkit.ops.cpu.kernels import Inputs, Layer, Outputs

_INPUTS = "Tensor x, Tensor[] weights, Tensor[] states, Tensor?[] noise, Tensor? lengths, float[] shares, int[] key"

_library = torch.library.Library("lstmkit", "DEF")
_library.define(f"recurrent({_INPUTS}, bool saves) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"recurrent_backward(Tensor?[] given, Tensor output, Tensor saved, {_INPUTS}, bool[] wanted) -> Tensor[]"
)


def recurrent(
    spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, inputs: Inputs, saves: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`lstmkit.ops.cpu.kernels.forward`, as one node of a graph, with derivatives."""
    return torch.ops.lstmkit.recurrent(*inputs, _key(spec, reverse, recompute), saves)


# A graph holds no objects: which layer it is goes into it as whole numbers. The processor's vectors are among them, for
# how much is saved depends on them, and compiled graphs are kept on disk.
_vector_bytes = 0 if kernels.extension is None else 4 * kernels.extension.lanes(0)


def _key(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool) -> list[int]:
    return [_vector_bytes, int(recompute), *graph_key.encode_spec(spec), *map(int, reverse)]


def _layer(key: Sequence[int], dtype: torch.dtype) -> Layer:
    _, recompute, *rest = key
    spec, reverse = graph_key.decode_spec(rest[: graph_key.SIZE]), rest[graph_key.SIZE :]
    return kernels.layer_for(spec, tuple(map(bool, reverse)), bool(recompute), dtype)


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, key, saves = arguments
    return _tensors(kernels.forward(_layer(key, inputs[0].dtype), Inputs(*inputs), saves))


def _forward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, key, saves = arguments
    return _tensors(kernels.empty_outputs(_layer(key, inputs[0].dtype), Inputs(*inputs), saves))


def _tensors(outputs: Outputs) -> tuple[Tensor, ...]:
    """An op has no optional results: an empty tensor stands for none."""
    return tuple(outputs.output.new_empty(0) if t is None else t for t in outputs)


def _backward(given: Any, output: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    *inputs, key, wanted = arguments
    return kernels.gradients(_layer(key, inputs[0].dtype), Inputs(*inputs), output, saved, given, wanted)


def _backward_shapes(given: Any, output: Tensor, saved: Tensor, *arguments: Any) -> list[Tensor]:
    *inputs, _, wanted = arguments
    return kernels.empty_gradients(Inputs(*inputs), wanted)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, states, noise, lengths, shares, key, _ = inputs
    ctx.counts = len(weights), len(states), len(noise)
    ctx.there = [t is not None for t in (*noise, lengths)]
    ctx.shares, ctx.key = shares, key
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], output[3], x, *weights, *states, *(t for t in (*noise, lengths) if t is not None))
    ctx.mark_non_differentiable(output[3])


def _differentiate(ctx: Any, d_output: Tensor | None, d_h: Tensor | None, d_c: Tensor | None, _: Any) -> tuple:
    output, saved, x, *others = ctx.saved_tensors
    n_weights, n_states, n_noise = ctx.counts
    weights, states = others[:n_weights], others[n_weights : n_weights + n_states]
    rest = iter(others[n_weights + n_states :])
    *noise, lengths = (next(rest) if there else None for there in ctx.there)
    needs = ctx.needs_input_grad
    wanted = [needs[0], *graph_key.each(needs[1], n_weights), *graph_key.each(needs[2], n_states)]
    inputs, given = Inputs(x, weights, states, noise, lengths, ctx.shares), [d_output, d_h, d_c]
    if torch.is_grad_enabled():  # the gradient is to be differentiated again
        found = kernels.gradients_by_reference(_layer(ctx.key, x.dtype), inputs, given, wanted)
    else:
        found = torch.ops.lstmkit.recurrent_backward(given, output, saved, *inputs, ctx.key, wanted)
        found = [d if want else None for d, want in zip(found, wanted, strict=True)]
    # torch.library takes a list for a list of tensors, and one None for a list in which some are missing.
    no_noise = [None] * n_noise if all(ctx.there[:n_noise]) else None
    return found[0], found[1 : 1 + n_weights], found[1 + n_weights :], no_noise, None, None, None, None


_library.impl("recurrent", _forward, "CPU")
_library.impl("recurrent_backward", _backward, "CPU")
torch.library.register_fake("lstmkit::recurrent", _forward_shapes, lib=_library)
torch.library.register_fake("lstmkit::recurrent_backward", _backward_shapes, lib=_library)
torch.library.register_autograd("lstmkit::recurrent", _differentiate, setup_context=_setup_context, lib=_library)
