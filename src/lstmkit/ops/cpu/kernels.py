"""The C++ extension as Python functions of tensors: forward and all gradients of one layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstmkit.cells import CELLS, CellSpec
from lstmkit.ops import reference
from lstmkit.ops.call import Call, Pass

extension: ModuleType | None = None
missing = ""
try:
    from lstmkit import _native
except ImportError as error:  # no compiler when it was installed, or one without vector extensions
    missing = f"the C++ extension is missing ({error})"
else:
    extension = _native
    _STORED = (torch.float32, torch.float64, torch.bfloat16, torch.int64)  # the order of Type in csrc/tensor.h
    _native.know_tensors(
        Tensor,
        _STORED,
        lambda t, dtype: t.to("cpu", dtype).resolve_neg().clone(memory_format=torch.contiguous_format),
    )
    # torch's threads rather than more of them: on Linux its wheels bring their own OpenMP.
    for _runtime in Path(torch.__file__).parent.glob("lib/libgomp*"):
        _native.share_openmp(str(_runtime))

STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
#: The order of the weights in csrc/problem.h.
_WEIGHTS = (
    "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr",
    "weight_peep", "weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c",
)  # fmt: skip
#: Numbers from which on memory comes from the extension: fewer lie in pages that the process has anyway.
_BUFFER_POOL_MIN_SIZE = 1 << 18


# ---- layers ----------------------------------------------------------------------------------------------------------


class Layer:
    """One layer as the extension knows it: cell, directions, dtype."""

    def __init__(self, spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype) -> None:
        assert extension is not None
        self.spec, self.reverse, self.recompute = spec, reverse, recompute
        self.passes = len(reverse)
        self.states = len(CELLS[spec.kind].states)
        self.output_size, self.state_sizes = spec.output_size, spec.state_sizes
        #: Weights of a pass in the order in which they are handed around.
        self.names = tuple(spec.parameter_shapes())
        self.native = extension.Layer(
            KINDS.index(spec.kind), STORAGE[dtype], spec.input_size, spec.hidden_size, spec.proj_size,
            spec.peephole, spec.coupled, spec.layer_norm, recompute, list(reverse),
            [_WEIGHTS.index(name) for name in self.names],
        )  # fmt: skip
        self.accumulation_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._saved = [self.native.saved(zones) for zones in (False, True)]

    def saved_size(self, steps: Any, batch: Any, zones_cell: bool) -> Any:
        """Numbers that forward leaves for backward, a pass."""
        head, row = self._saved[zones_cell]
        kept = -(-steps // max(1, math.ceil(math.sqrt(steps)))) if self.recompute else steps
        return head + row * kept * batch


@functools.lru_cache(maxsize=1024)
def _cached(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype, isa: str) -> Layer:
    return Layer(spec, reverse, recompute, dtype)


def layer_for(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype) -> Layer:
    assert extension is not None
    return _cached(spec, reverse, recompute, dtype, extension.name())


class Inputs(NamedTuple):
    """Everything a layer is computed from.

    Attributes:
        x: ``(T, B, F)``, any strides.
        weights: Pass after pass, in the order of :attr:`Layer.names`.
        states: Pass after pass, ``(B, size)`` each; empty for zero.
        noise: Three of each pass: the recurrent mask, the zoneout masks of hidden and cell state.
        lengths: ``(B,)`` or ``None``.
        shares: Two of each pass: zoneout by one number, of hidden and cell state; 0 for none.
    """

    x: Tensor
    weights: Sequence[Tensor]
    states: Sequence[Tensor]
    noise: Sequence[Tensor | None]
    lengths: Tensor | None
    shares: Sequence[float]


class Outputs(NamedTuple):
    """Output ``(T, B, D·P)``, final states ``(D, B, size)``, what backward needs; ``None`` where there is none."""

    output: Tensor
    h: Tensor
    c: Tensor | None
    saved: Tensor | None


# ---- forward ---------------------------------------------------------------------------------------------------------


def forward(layer: Layer, inputs: Inputs, saves: bool) -> Outputs:
    outputs = empty_outputs(layer, inputs, saves)
    layer.native.forward(inputs, torch.get_num_threads(), *outputs)
    return outputs


def empty_outputs(layer: Layer, inputs: Inputs, saves: bool) -> Outputs:
    x = inputs.x
    steps, batch, _ = x.shape
    output = x.new_empty(steps, batch, layer.passes * layer.output_size)
    h = x.new_empty(layer.passes, batch, layer.output_size)
    c = x.new_empty(layer.passes, batch, layer.state_sizes[1]) if layer.states == 2 else None
    if not saves:
        return Outputs(output, h, c, None)
    zones_cell = any(inputs.shares[1::2]) or any(mask is not None for mask in inputs.noise[2::3])
    size = layer.saved_size(steps, batch, zones_cell)
    return Outputs(output, h, c, _saved_buffer(x, layer.passes, size, layer.accumulation_dtype))


def _saved_buffer(x: Tensor, passes: int, size: Any, dtype: torch.dtype) -> Tensor:
    """What is only kept from forward to backward: where it is much, in memory that is used again and again."""
    if is_plain(x) and passes * size >= _BUFFER_POOL_MIN_SIZE:
        assert extension is not None
        return extension.borrowed(passes, size, dtype == torch.float64)
    return x.new_empty((passes, size), dtype=dtype)


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is numbers in memory rather than what torch.compile and the like put in its place."""
    return type(x) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()


# ---- backward --------------------------------------------------------------------------------------------------------


def gradients(
    layer: Layer, inputs: Inputs, output: Tensor, saved: Tensor, given: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor]:
    """Gradients of ``x``, each weight and each state; an empty tensor for one that is not wanted.

    ``given``: the gradients of output, ``h`` and ``c``; ``None`` for zero.
    """
    found = empty_gradients(inputs, wanted)
    count = 1 + len(inputs.weights)
    dxs = [found[0] if i == 0 else torch.empty_like(found[0]) for i in range(layer.passes if wanted[0] else 0)]
    layer.native.gradients(inputs, torch.get_num_threads(), output, saved, given, dxs, found[1:count], found[count:])
    if len(dxs) == 2:
        dxs[0].add_(dxs[1])
    return found


def empty_gradients(inputs: Inputs, wanted: Sequence[bool]) -> list[Tensor]:
    x = inputs.x
    others = zip((*inputs.weights, *inputs.states), wanted[1:], strict=True)
    return [
        x.new_empty(x.shape if wanted[0] else (0,)),
        *(t.new_empty(t.shape if want else (0,)) for t, want in others),
    ]


def gradients_by_reference(
    layer: Layer, inputs: Inputs, given: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The same gradients as functions of everything, so that they have derivatives themselves."""
    count = len(inputs.weights)

    def run(leaves: list[Tensor]) -> Sequence[Tensor]:
        own = inputs._replace(x=leaves[0], weights=leaves[1 : 1 + count], states=leaves[1 + count :])
        result = reference.run(_as_call(layer, own))
        return result.output, *result.state

    return reference.gradients(run, (inputs.x, *inputs.weights, *inputs.states), given, wanted)


def _as_call(layer: Layer, inputs: Inputs) -> Call:
    count, states, passes = len(layer.names), layer.states, []
    for i, reverse in enumerate(layer.reverse):
        params = dict(zip(layer.names, inputs.weights[i * count : (i + 1) * count], strict=True))
        mask, *zones = inputs.noise[3 * i : 3 * i + 3]
        pairs = zip(zones, inputs.shares[2 * i : 2 * i + 2], strict=True)
        zoneout = tuple(share if zone is None else zone for zone, share in pairs)[:states]
        passes.append(Pass(params, tuple(inputs.states[i * states : (i + 1) * states]), reverse, mask, zoneout))
    return Call(layer.spec, inputs.x, tuple(passes), inputs.lengths)
