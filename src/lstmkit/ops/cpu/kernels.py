"""The C++ extension as Python functions of tensors: forward and gradients of one layer.

Dimensions: ``T`` steps, ``B`` batch, ``F`` input features, ``P`` output size, ``D`` passes (directions).
"""

from __future__ import annotations

import functools
import importlib
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
from lstmkit.ops.recording import is_recorded

extension: ModuleType | None = None
import_error = ""
try:
    extension = importlib.import_module("lstmkit._native")
except ModuleNotFoundError:
    import_error = "the C++ extension was not built: install lstmkit again with a C++ compiler and pip install -v"
except ImportError as error:  # built for another system or Python
    import_error = f"the C++ extension cannot be loaded ({error}): install lstmkit again"
else:
    # The order of Type in csrc/tensor.h.
    _STORED = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int8)
    extension.know_tensors(
        Tensor,
        _STORED,
        lambda t, dtype: t.to("cpu", dtype).resolve_neg().clone(memory_format=torch.contiguous_format),
    )
    # Use the threads of torch instead of starting more: its Linux wheels contain their own OpenMP.
    for _runtime in Path(torch.__file__).parent.glob("lib/libgomp*"):
        extension.share_openmp(str(_runtime))

STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
#: The order of the weights in csrc/problem.h.
_WEIGHTS = (
    "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr",
    "weight_peep", "weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c",
    "scale_ih", "scale_hh", "scale_hr",
)  # fmt: skip
#: Elements from which on a buffer comes from the pool of the extension; smaller ones fit in pages that the process has.
_BUFFER_POOL_MIN_SIZE = 1 << 18


# ---- layers ----------------------------------------------------------------------------------------------------------


class NativeLayer:
    """A layer of the extension: cell, directions, dtype."""

    def __init__(self, spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype) -> None:
        assert extension is not None
        self.spec, self.reverse, self.recompute = spec, reverse, recompute
        self.passes = len(reverse)
        self.states = len(CELLS[spec.kind].states)
        self.output_size, self.state_sizes = spec.output_size, spec.state_sizes
        #: The weights of a pass, in the order in which they are passed.
        self.names = tuple(spec.parameter_shapes())
        self.native = extension.Layer(
            KINDS.index(spec.kind), STORAGE[dtype], spec.input_size, spec.hidden_size, spec.proj_size,
            spec.peephole, spec.coupled, spec.layer_norm, spec.int8, recompute, list(reverse),
            [_WEIGHTS.index(name) for name in self.names],
        )  # fmt: skip
        self.accumulation_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._saved = [self.native.saved(zones_cell) for zones_cell in (False, True)]

    def saved_size(self, steps: Any, batch: Any, zones_cell: bool) -> Any:
        """Elements per pass that forward saves for backward; ``zones_cell`` says whether the cell state has zoneout."""
        head, row = self._saved[zones_cell]
        saved_steps = -(-steps // max(1, math.ceil(math.sqrt(steps)))) if self.recompute else steps
        return head + row * saved_steps * batch


@functools.lru_cache(maxsize=1024)
def _cached(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype, isa: str) -> NativeLayer:
    return NativeLayer(spec, reverse, recompute, dtype)


def layer_for(spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype) -> NativeLayer:
    assert extension is not None
    return _cached(spec, reverse, recompute, dtype, extension.name())


class Inputs(NamedTuple):
    """All inputs of a layer. The extension reads the tuple by position.

    Attributes:
        x: ``(T, B, F)``, any strides.
        weights: Pass after pass, in the order of :attr:`NativeLayer.names`.
        states: Pass after pass, ``(B, size)`` each; empty for zeros.
        noise: Three per pass: the recurrent mask, the zoneout masks of hidden and cell state.
        lengths: ``(B,)`` or ``None``.
        zoneout_probabilities: Two per pass, of hidden and cell state; 0 for none.
    """

    x: Tensor
    weights: Sequence[Tensor]
    states: Sequence[Tensor]
    noise: Sequence[Tensor | None]
    lengths: Tensor | None
    zoneout_probabilities: Sequence[float]


class Outputs(NamedTuple):
    """Output ``(T, B, D·P)``, final states ``(D, B, size)``, and what backward needs; ``None`` if there is none."""

    output: Tensor
    h: Tensor
    c: Tensor | None
    saved: Tensor | None


# ---- forward ---------------------------------------------------------------------------------------------------------


def forward(layer: NativeLayer, inputs: Inputs, save: bool) -> Outputs:
    """Run the layer; ``save`` says whether to save what backward needs."""
    outputs = empty_outputs(layer, inputs, save)
    layer.native.forward(inputs, torch.get_num_threads(), *outputs)
    return outputs


def empty_outputs(layer: NativeLayer, inputs: Inputs, save: bool) -> Outputs:
    """Uninitialized outputs."""
    x = inputs.x
    steps, batch, _ = x.shape
    output = x.new_empty(steps, batch, layer.passes * layer.output_size)
    h = x.new_empty(layer.passes, batch, layer.output_size)
    c = x.new_empty(layer.passes, batch, layer.state_sizes[1]) if layer.states == 2 else None
    if not save:
        return Outputs(output, h, c, None)
    zones_cell = any(inputs.zoneout_probabilities[1::2]) or any(mask is not None for mask in inputs.noise[2::3])
    size = layer.saved_size(steps, batch, zones_cell)
    return Outputs(output, h, c, _saved_buffer(x, layer.passes, size, layer.accumulation_dtype))


def _saved_buffer(x: Tensor, passes: int, size: Any, dtype: torch.dtype) -> Tensor:
    """An uninitialized buffer that lives from forward to backward; a large one comes from a pool that reuses memory."""
    if is_plain(x) and passes * size >= _BUFFER_POOL_MIN_SIZE:
        assert extension is not None
        return extension.borrowed(passes, size, dtype == torch.float64)
    return x.new_empty((passes, size), dtype=dtype)


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is a real tensor in memory, not a subclass, and nothing records what is done with it."""
    return type(x) in (Tensor, torch.nn.Parameter) and not is_recorded()


# ---- backward --------------------------------------------------------------------------------------------------------


def gradients(
    layer: NativeLayer,
    inputs: Inputs,
    output: Tensor,
    saved: Tensor,
    output_grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """Gradients of ``x``, each weight and each state; an empty tensor for one that is not wanted.

    Args:
        layer: The layer.
        inputs: Inputs of its forward.
        output: Output of its forward.
        saved: What its forward saved.
        output_grads: Gradients of output, ``h`` and ``c``; ``None`` for zero.
        wanted: For each input, whether its gradient is needed.
    """
    grads = empty_gradients(inputs, wanted)
    n = 1 + len(inputs.weights)
    dxs = [grads[0] if i == 0 else torch.empty_like(grads[0]) for i in range(layer.passes if wanted[0] else 0)]
    layer.native.gradients(inputs, torch.get_num_threads(), output, saved, output_grads, dxs, grads[1:n], grads[n:])
    if len(dxs) == 2:
        dxs[0].add_(dxs[1])
    return grads


def empty_gradients(inputs: Inputs, wanted: Sequence[bool]) -> list[Tensor]:
    """Uninitialized gradients; empty if not wanted."""
    x = inputs.x
    others = zip((*inputs.weights, *inputs.states), wanted[1:], strict=True)
    return [
        x.new_empty(x.shape if wanted[0] else (0,)),
        *(t.new_empty(t.shape if want else (0,)) for t, want in others),
    ]


def gradients_by_reference(
    layer: NativeLayer, inputs: Inputs, output_grads: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The same gradients through the reference, which can be differentiated again."""
    n_weights = len(inputs.weights)

    def run(tensors: list[Tensor]) -> Sequence[Tensor]:
        weights, states = tensors[1 : 1 + n_weights], tensors[1 + n_weights :]
        result = reference.run(_as_call(layer, inputs._replace(x=tensors[0], weights=weights, states=states)))
        return result.output, *result.state

    return reference.gradients(run, (inputs.x, *inputs.weights, *inputs.states), output_grads, wanted)


def _as_call(layer: NativeLayer, inputs: Inputs) -> Call:
    count, states, passes = len(layer.names), layer.states, []
    for i, reverse in enumerate(layer.reverse):
        params = dict(zip(layer.names, inputs.weights[i * count : (i + 1) * count], strict=True))
        mask, *zoneout_masks = inputs.noise[3 * i : 3 * i + 3]
        pairs = zip(zoneout_masks, inputs.zoneout_probabilities[2 * i : 2 * i + 2], strict=True)
        zoneout = tuple(probability if z is None else z for z, probability in pairs)[:states]
        passes.append(Pass(params, tuple(inputs.states[i * states : (i + 1) * states]), reverse, mask, zoneout))
    return Call(layer.spec, inputs.x, tuple(passes), inputs.lengths)
