"""The C++ extension as Python functions of tensors: forward and all gradients of one layer.

The extension takes addresses; everything that turns tensors into addresses is here.
"""

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
_MUCH = 1 << 18


# ---- layers ----------------------------------------------------------------------------------------------------------


class Layer:
    """One layer as the extension knows it: cell, directions, dtype."""

    def __init__(self, spec: CellSpec, reverse: tuple[bool, ...], recompute: bool, dtype: torch.dtype) -> None:
        assert extension is not None
        self.spec, self.reverse, self.recompute = spec, reverse, recompute
        self.passes = len(reverse)
        self.states = len(CELLS[spec.kind].states)
        self.output_size, self.state_sizes = spec.output_size, spec.state_sizes
        #: Weights of a pass in the order in which they are handed around, and the place there of each one the extension
        #: knows.
        self.names = tuple(spec.parameter_shapes())
        self.shapes = tuple(spec.parameter_shapes().values())
        self.places = tuple(self.names.index(name) if name in self.names else None for name in _WEIGHTS)
        self.native = extension.Layer(
            KINDS.index(spec.kind), STORAGE[dtype], spec.input_size, spec.hidden_size, spec.proj_size,
            spec.peephole, spec.coupled, spec.layer_norm, recompute, list(reverse),
        )  # fmt: skip
        self.computed_in = torch.float64 if dtype == torch.float64 else torch.float32
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
        states: Pass after pass, ``(B, size)`` each.
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
    """Output ``(T, B, D·P)``, final states ``(D, B, size)`` (``c`` empty where there is none), what backward needs."""

    output: Tensor
    h: Tensor
    c: Tensor
    saved: Tensor


# ---- forward ---------------------------------------------------------------------------------------------------------


def forward(layer: Layer, inputs: Inputs, saves: bool) -> Outputs:
    outputs = empty_outputs(layer, inputs, saves)
    addresses = _Addresses(layer, inputs)
    layer.native.forward(addresses.call, addresses.passes(outputs), inputs.shares)
    return outputs


def empty_outputs(layer: Layer, inputs: Inputs, saves: bool) -> Outputs:
    x = inputs.x
    steps, batch, _ = x.shape
    output = x.new_empty(steps, batch, layer.passes * layer.output_size)
    h = x.new_empty(layer.passes, batch, layer.output_size)
    c = x.new_empty((layer.passes, batch, layer.state_sizes[1]) if layer.states == 2 else (0,))
    if not saves:
        return Outputs(output, h, c, c.new_empty(0))
    zones_cell = any(inputs.shares[1::2]) or any(mask is not None for mask in inputs.noise[2::3])
    size = layer.saved_size(steps, batch, zones_cell)
    return Outputs(output, h, c, _room(x, layer.passes, size, layer.computed_in))


def _room(x: Tensor, passes: int, size: Any, dtype: torch.dtype) -> Tensor:
    """What is only kept from forward to backward: where it is much, in memory that is used again and again."""
    if is_plain(x) and passes * size >= _MUCH:
        assert extension is not None
        return extension.borrowed(passes, size, dtype == torch.float64)
    return x.new_empty((passes, size), dtype=dtype)


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is numbers in memory rather than what torch.compile and the like put in its place."""
    return type(x) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()


def _check(layer: Layer, inputs: Inputs) -> None:
    """The extension reads as far as the sizes say: a tensor that is smaller must not get there.

    Raises:
        ValueError: A shape or dtype that does not fit the cell and the input.
    """
    x, weights, states, noise, lengths, shares = inputs
    if x.dim() != 3 or x.shape[2] != layer.spec.input_size:
        raise ValueError(f"expected input (T, B, {layer.spec.input_size}), got {tuple(x.shape)}")
    steps, batch, _ = x.shape
    sizes = layer.state_sizes
    masks = [(batch, sizes[0]), (steps, batch, sizes[0]), (steps, batch, sizes[-1])]
    wanted = [*layer.shapes * layer.passes, *[(batch, size) for size in sizes] * layer.passes]
    given = [*weights, *states]
    if len(given) != len(wanted) or len(noise) != 3 * layer.passes or len(shares) != 2 * layer.passes:
        raise ValueError(f"expected {len(wanted)} weights and states, got {len(given)}")
    for t, shape in zip(given, wanted, strict=True):
        if t.shape != shape or t.dtype != x.dtype or not t.is_cpu:
            raise ValueError(
                f"expected a weight or state {shape}, {x.dtype}, got {tuple(t.shape)}, {t.dtype}, {t.device}"
            )
    for t, shape in zip(noise, masks * layer.passes, strict=True):
        if t is not None and t.shape != shape:
            raise ValueError(f"expected a noise mask {shape}, got {tuple(t.shape)}")
    if lengths is not None and lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")


class _Addresses:
    """The tensors of a call as the addresses and strides that the extension reads; keeps alive what it copied."""

    def __init__(self, layer: Layer, inputs: Inputs) -> None:
        self.layer, self.copies = layer, []
        _check(layer, inputs)
        x, weights, states, noise, lengths, _ = inputs
        steps, batch, _ = x.shape
        lengths_at = 0 if lengths is None else self.of(lengths, torch.int64)
        self.call = [steps, batch, torch.get_num_threads(), lengths_at, *self.rows(x)]
        self.reads = []
        for i in range(layer.passes):
            own = [self.of(w) for w in weights[i * len(layer.names) : (i + 1) * len(layer.names)]]
            state = [self.of(s) for s in states[i * layer.states : (i + 1) * layer.states]]
            masks = [0 if t is None else self.of(t, x.dtype) for t in noise[3 * i : 3 * i + 3]]
            self.reads.append([*self.in_places(own), *_two(state), *masks])

    def in_places(self, weights: Sequence[int]) -> list[int]:
        """One address for each weight the extension knows, 0 for those that this cell has not."""
        return [0 if place is None else weights[place] for place in self.layer.places]

    def passes(self, out: Outputs) -> list[list[int]]:
        """What forward reads and writes, a list for each pass."""
        output, step, row = self.rows(out.output)
        width = self.layer.output_size * out.output.element_size()
        h, c, saved = self.slices(out.h), self.slices(out.c), self.slices(out.saved)
        return [
            [*reads, output + i * width, step, row, h[i], c[i], saved[i]] for i, reads in enumerate(self.reads)
        ]  # fmt: skip

    def rows(self, x: Tensor) -> tuple[int, int, int]:
        """Address and strides of ``(T, B, width)``."""
        at = x.data_ptr()
        if (x.stride(2) != 1 and x.shape[2] > 1) or at % x.element_size() or x.is_neg():
            x = self._copy(x)
            at = x.data_ptr()
        return at, x.stride(0), x.stride(1)

    def of(self, t: Tensor, dtype: torch.dtype | None = None) -> int:
        """The address of a contiguous tensor on the CPU, or of such a copy."""
        if dtype is not None and (t.dtype != dtype or not t.is_cpu):
            t = t.to("cpu", dtype)
            self.copies.append(t)
        at = t.data_ptr()
        if t.is_contiguous() and not at % t.element_size() and not t.is_neg():
            return at
        return self._copy(t).data_ptr()

    def slices(self, t: Tensor) -> list[int]:
        """The addresses of ``t[0]``, ``t[1]``, ..., one a pass; 0 for an empty tensor, which stands for none."""
        if not t.numel():
            return [0] * self.layer.passes
        at, size = self.of(t), t.numel() // t.shape[0] * t.element_size()
        return [at + i * size for i in range(self.layer.passes)]

    def _copy(self, t: Tensor) -> Tensor:
        self.copies.append(t.resolve_neg().clone(memory_format=torch.contiguous_format))
        return self.copies[-1]


def _two(addresses: Sequence[int]) -> tuple[int, int]:
    return addresses[0], addresses[1] if len(addresses) > 1 else 0


def stepper_numbers(layer: Layer, inputs: Inputs) -> list[int]:
    """What a stack reads of one layer when it is made; it writes nothing that outlives it."""
    return [*_Addresses(layer, inputs).reads[0], *([0] * 6)]


# ---- backward --------------------------------------------------------------------------------------------------------


def gradients(
    layer: Layer, inputs: Inputs, output: Tensor, saved: Tensor, given: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor]:
    """Gradients of ``x``, each weight and each state; an empty tensor for one that is not wanted.

    ``given``: the gradients of output, ``h`` and ``c``; ``None`` for zero.
    """
    found = empty_gradients(inputs, wanted)
    count = len(inputs.weights)
    dx, d_weights, d_states = found[0], found[1 : 1 + count], found[1 + count :]
    dxs = [torch.empty_like(dx) if i and wanted[0] else dx for i in range(layer.passes)]
    addresses = _Addresses(layer, inputs)
    none = output.new_empty(0)
    d_output = (0, 0, 0) if given[0] is None else addresses.rows(given[0])
    d_final = [[0] * layer.passes if d is None else addresses.slices(d) for d in given[1:]]
    passes = addresses.passes(Outputs(output, none, none, saved))
    width = layer.output_size * output.element_size()
    names, states = len(layer.names), layer.states
    for i, numbers in enumerate(passes):
        own = [t.data_ptr() for t in d_weights[i * names : (i + 1) * names]]
        state = [t.data_ptr() for t in d_states[i * states : (i + 1) * states]]
        numbers += [
            d_output[0] and d_output[0] + i * width, d_output[1], d_output[2],
            *(d[i] for d in d_final), *(addresses.rows(dxs[i]) if wanted[0] else (0, 0, 0)),
            *addresses.in_places(own), *_two(state),
        ]  # fmt: skip
    layer.native.gradients(addresses.call, passes, inputs.shares)
    if wanted[0] and layer.passes == 2:
        dx.add_(dxs[1])
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
    with torch.enable_grad():
        # By other names: one input may have been computed from another, or be the same tensor.
        weights, states = [t.view_as(t) for t in inputs.weights], [t.view_as(t) for t in inputs.states]
        inputs = inputs._replace(x=inputs.x.view_as(inputs.x), weights=weights, states=states)
        results = reference.run(_as_call(layer, inputs))
    outputs = [torch.cat([r.output for r in results], -1)]
    outputs += [torch.stack(parts) for parts in zip(*(r.state for r in results), strict=True)]
    pairs = [(out, d) for out, d in zip(outputs, given, strict=False) if d is not None]
    leaves = (inputs.x, *inputs.weights, *inputs.states)
    asked = [t for t, want in zip(leaves, wanted, strict=True) if want]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], asked, [d for _, d in pairs], create_graph=True, materialize_grads=True
        )
    )
    return [next(found) if want else None for want in wanted]


def _as_call(layer: Layer, inputs: Inputs) -> Call:
    count, states, passes = len(layer.names), layer.states, []
    for i, reverse in enumerate(layer.reverse):
        params = dict(zip(layer.names, inputs.weights[i * count : (i + 1) * count], strict=True))
        mask, *zones = inputs.noise[3 * i : 3 * i + 3]
        pairs = zip(zones, inputs.shares[2 * i : 2 * i + 2], strict=True)
        zoneout = tuple(share if zone is None else zone for zone, share in pairs)[:states]
        passes.append(Pass(params, tuple(inputs.states[i * states : (i + 1) * states]), reverse, mask, zoneout))
    return Call(layer.spec, inputs.x, tuple(passes), inputs.lengths)
