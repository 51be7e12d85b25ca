"""Our own C++ kernels for the CPU (``csrc/``): every cell and variant, forward and backward.

Two ops of ``torch.library``, ``lstmkit::recurrent`` and ``lstmkit::recurrent_backward``, so that ``torch.compile`` sees
one node a layer. Second derivatives are taken by the reference.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lstmkit.cells import CELLS, CellSpec, State
from lstmkit.ops import reference
from lstmkit.ops.call import Call, Pass, Result, Zoneout

NAME: str = "native"

try:
    from lstmkit import _native as _extension
except ImportError as error:  # no compiler when it was installed, or one without vector extensions
    _native: ModuleType | None = None
    _missing = f"the C++ extension is missing ({error})"
else:
    _native, _missing = _extension, ""
    # torch's threads rather than more: on Linux its wheels bring their own OpenMP.
    for _runtime in Path(torch.__file__).parent.glob("lib/libgomp*"):
        _native.share_openmp(str(_runtime))

#: Numbers from which on memory comes from the extension: fewer lie in pages that the process has anyway.
_MUCH = 1 << 18
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
#: The order of the weights in csrc/problem.h.
_WEIGHTS = (
    "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr",
    "weight_peep", "weight_ln_ih", "weight_ln_hh", "weight_ln_c", "bias_ln_c",
)  # fmt: skip


def refusal(call: Call) -> str | None:
    if _native is None:
        _say_once()
        return _missing
    x = call.x
    if x.device.type != "cpu":
        return f"the C++ kernels are for the CPU, the input is on {x.device.type}"
    if x.dtype not in _STORAGE:
        return f"the C++ kernels have no {x.dtype}"
    if call.spec.kind not in _CELLS:
        return f"the C++ kernels have no {call.spec.kind} cell"
    if call.trace:
        return "the C++ kernels do not hand out gates"
    if x.shape[0] == 0 or x.shape[1] == 0:
        return "there is nothing to compute: no step or no sequence"
    if torch._C._are_functorch_transforms_active():
        return "the C++ kernels do not go through torch.func (vmap, jvp, ...)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "the C++ kernels have no forward-mode derivatives"
    for p in call.passes:
        if any(t.dtype != x.dtype or t.device != x.device for t in (*p.params.values(), *p.state)):
            return "input, weights and states differ in dtype or device"
        if any(t is not None and t.requires_grad for t in _noise(p)):
            return "the C++ kernels do not differentiate by noise masks"
    return None


def run(call: Call) -> list[Result]:
    spec, passes = call.spec, call.passes
    weights = [p.params[name] for p in passes for name in _WEIGHTS if name in p.params]
    states = [s for p in passes for s in p.state]
    noise = [t for p in passes for t in _noise(p)]
    shares = [share for p in passes for share in _zoneout_shares(p)]
    key = _key(spec, [p.reverse for p in passes], call.recompute)
    lengths = call.lengths
    arguments = (call.x, weights, states, noise, lengths, shares, key)
    saves = torch.is_grad_enabled() and any(t.requires_grad for t in (call.x, *weights, *states))
    if saves or torch.compiler.is_compiling() or type(call.x) is not Tensor:
        output, h, c, _ = torch.ops.lstmkit.recurrent(*arguments, saves)
    else:
        output, h, c, _ = _recurrent(*arguments, False)
    size, lstm = spec.output_size, spec.kind == "lstm"
    outputs = output.split(size, dim=-1) if len(passes) > 1 else (output,)
    return [
        Result(outputs[i], (h[i], c[i]) if lstm else (h[i],), joined=output if len(passes) > 1 else None)
        for i in range(len(passes))
    ]


class Stepper:
    """A stack of layers, one direction, that runs step by step: weights packed once, nothing allocated in a step.

    Args:
        calls: One step of each layer, bottom first, as it would be asked of :func:`run`.
        residual: Every layer after the first adds its input to its output.
    """

    def __init__(self, calls: Sequence[Call], residual: bool) -> None:
        assert _native is not None
        first = calls[0]
        _, self.batch, self.inputs = first.x.shape
        self.dtype = first.x.dtype
        layers, numbers = [], []
        for call in calls:
            (p,) = call.passes
            layer = _layer(_key(call.spec, [False], False), self.dtype)
            weights = [p.params[name] for name in layer.names]
            read = _Numbers(layer, first.x, weights, p.state, (None, None, None), None)
            layers.append(layer)
            numbers.append([*read.inputs[0], *([0] * 6)])
        self.specs = [layer.spec for layer in layers]
        self.outputs = self.specs[-1].output_size
        threads, shares = torch.get_num_threads(), _zoneout_shares(first.passes[0])
        natives = [layer.native for layer in layers]
        self._stack = _native.Stack(natives, self.batch, threads, numbers, shares, residual)
        self._step = self._stack.step

    def __call__(self, x: Tensor, out: Tensor) -> Tensor:
        """``(B, F) -> (B, P)``, both contiguous, on the CPU and of the layers' dtype."""
        self._step(x.data_ptr(), out.data_ptr())
        return out

    def state(self) -> State:
        """A copy of the state after the last step: ``(layers, B, size)`` for each of the cell's states."""
        spec = self.specs[0]
        states = tuple(torch.empty(len(self.specs), self.batch, size, dtype=self.dtype) for size in spec.state_sizes)
        for i in range(len(self.specs)):
            self._stack.state(i, *(s[i].data_ptr() for s in states), *([0] * (2 - len(states))))
        return states


def _noise(p: Pass) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The pass's masks: recurrent dropout, zoneout of the hidden and of the cell state."""
    zoneout: Zoneout = p.zoneout or ()
    masks = [z if isinstance(z, Tensor) else None for z in zoneout]
    h, c = [*masks, None, None][:2]
    return p.recurrent_mask, h, c


def _zoneout_shares(p: Pass) -> tuple[float, float]:
    zoneout: Zoneout = p.zoneout or ()
    h, c = [*(0.0 if isinstance(z, Tensor) else float(z) for z in zoneout), 0.0, 0.0][:2]
    return h, c


@functools.cache
def _say_once() -> None:
    warnings.warn(f"lstmkit runs on torch's own layers, several times slower: {_missing}", RuntimeWarning, stacklevel=5)


# ---- what an op is told of the cell: whole numbers, which a compiled graph can hold ----------------------------------


def _key(spec: CellSpec, reverse: list[bool], recompute: bool) -> list[int]:
    options = (spec.bias, spec.peephole, spec.coupled, spec.layer_norm, recompute)
    return [_CELLS.index(spec.kind), spec.input_size, spec.hidden_size, spec.proj_size, *map(int, (*options, *reverse))]


class _Layer:
    """A key, read again, with the extension's object for it."""

    def __init__(self, key: tuple[int, ...], dtype: torch.dtype) -> None:
        cell, inputs, units, projection, bias, peephole, coupled, layer_norm, recompute, *reverse = key
        self.spec = CellSpec(
            _CELLS[cell], inputs, units, bool(bias), projection, bool(peephole), bool(coupled), bool(layer_norm)
        )
        self.reverse = [bool(r) for r in reverse]
        self.passes = len(reverse)
        self.recompute = bool(recompute)
        self.names = list(self.spec.parameter_shapes())
        self.places = [self.names.index(name) if name in self.names else None for name in _WEIGHTS]
        self.states = len(CELLS[self.spec.kind].states)
        assert _native is not None
        self.native = _native.Layer(
            cell, _STORAGE[dtype], inputs, units, projection,
            bool(peephole), bool(coupled), bool(layer_norm), self.recompute, self.reverse,
        )  # fmt: skip
        self.computed_in = torch.float64 if dtype == torch.float64 else torch.float32
        self.saved_numbers = [self.native.saved(zones) for zones in (False, True)]

    def saved_size(self, steps: Any, batch: Any, zones_cell: bool) -> Any:
        head, row = self.saved_numbers[zones_cell]
        kept = -(-steps // max(1, math.ceil(math.sqrt(steps)))) if self.recompute else steps
        return head + row * kept * batch


@functools.lru_cache(maxsize=1024)
def _cached_layer(key: tuple[int, ...], dtype: torch.dtype, isa: str) -> _Layer:
    return _Layer(key, dtype)


def _layer(key: Sequence[int], dtype: torch.dtype) -> _Layer:
    assert _native is not None
    return _cached_layer(tuple(key), dtype, _native.name())


# ---- forward ---------------------------------------------------------------------------------------------------------


def _empty_outputs(
    x: Tensor, layer: _Layer, shares: Sequence[float], noise: Sequence[Tensor | None], saves: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output ``(T, B, D·P)``, final states ``(D, B, size)``, and what backward needs."""
    steps, batch, _ = x.shape
    spec, passes = layer.spec, layer.passes
    output = x.new_empty(steps, batch, passes * spec.output_size)
    h = x.new_empty(passes, batch, spec.output_size)
    c = x.new_empty((passes, batch, spec.hidden_size) if layer.states == 2 else (0,))
    saved = x.new_empty(0)
    if saves:
        zones_cell = layer.states == 2 and (shares[1] != 0 or noise[2] is not None)
        size = layer.saved_size(steps, batch, zones_cell)
        saved = _room(x, passes, size, layer.computed_in)
    return output, h, c, saved


def _room(x: Tensor, passes: int, size: Any, dtype: torch.dtype) -> Tensor:
    """What is only kept from forward to backward: where it is much, in memory that is used again and again."""
    if type(x) is Tensor and not torch.compiler.is_compiling() and passes * size >= _MUCH:
        assert _native is not None
        return _native.borrowed(passes, size, dtype == torch.float64)
    return x.new_empty((passes, size), dtype=dtype)


def _recurrent(
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
    key: Sequence[int],
    saves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    layer = _layer(key, x.dtype)
    outputs = _empty_outputs(x, layer, shares, noise, saves)
    numbers = _Numbers(layer, x, weights, states, noise, lengths)
    layer.native.forward(numbers.call, numbers.passes(*outputs), shares)
    return outputs


class _Numbers:
    """The tensors of a call as the addresses and strides that the extension reads; keeps alive what it copied."""

    def __init__(
        self,
        layer: _Layer,
        x: Tensor,
        weights: Sequence[Tensor],
        states: Sequence[Tensor],
        noise: Sequence[Tensor | None],
        lengths: Tensor | None,
    ) -> None:
        self.layer, self.kept = layer, []
        steps, batch, _ = x.shape
        lengths_at = 0
        if lengths is not None:
            lengths_at = self.address(lengths.to("cpu", torch.int64))
        self.call = [steps, batch, torch.get_num_threads(), lengths_at, *self.rows(x)]
        count = len(layer.names)
        self.inputs = []
        for i in range(layer.passes):
            own = [self.address(w) for w in weights[i * count : (i + 1) * count]]
            at = [self.address(s) for s in states[i * layer.states : (i + 1) * layer.states]]
            self.inputs.append(
                [
                    *(0 if place is None else own[place] for place in layer.places),
                    at[0],
                    at[1] if layer.states == 2 else 0,
                    *(0 if t is None else self.address(t.to(x.dtype)) for t in noise[3 * i : 3 * i + 3]),
                ]
            )

    def passes(self, output: Tensor, h: Tensor, c: Tensor, saved: Tensor) -> list[list[int]]:
        """What forward reads and writes, a list for each pass."""
        layer = self.layer
        size = output.element_size()
        at, step, row = output.data_ptr(), output.stride(0), output.stride(1)
        width, state = layer.spec.output_size * size, h.data_ptr()
        h_size = h.stride(0) * size
        c_at, c_size = (c.data_ptr(), c.stride(0) * size) if layer.states == 2 else (0, 0)
        saved_at, saved_size = (
            (saved.data_ptr(), saved.stride(0) * saved.element_size()) if saved.dim() == 2 else (0, 0)
        )
        return [
            [*inputs, at + i * width, step, row, state + i * h_size, c_at + i * c_size, saved_at + i * saved_size]
            for i, inputs in enumerate(self.inputs)
        ]

    def rows(self, x: Tensor) -> tuple[int, int, int]:
        """Address and strides of ``(T, B, width)``."""
        x = self.plain(x, only_last=True)
        return x.data_ptr(), x.stride(0), x.stride(1)

    def address(self, t: Tensor) -> int:
        return self.plain(t).data_ptr()

    def plain(self, t: Tensor, only_last: bool = False) -> Tensor:
        """``t`` itself, or a copy that can be read number by number."""
        fits = t.is_contiguous() if not only_last else t.stride(-1) == 1 or t.shape[-1] == 1
        if fits and not t.is_neg() and t.data_ptr() % t.element_size() == 0:
            self.kept.append(t)
            return t
        copy = t.resolve_neg().clone(memory_format=torch.contiguous_format)
        self.kept.append(copy)
        return copy


# ---- backward --------------------------------------------------------------------------------------------------------


def _recurrent_backward(
    gradients: Sequence[Tensor | None],
    output: Tensor,
    saved: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
    key: Sequence[int],
    wanted: Sequence[bool],
) -> list[Tensor]:
    """Gradients of ``x``, each weight and each state; an empty tensor for one that is not wanted."""
    layer = _layer(key, x.dtype)
    results = _empty_gradients(x, weights, states, wanted)
    dx, d_weights, d_states = results[0], results[1 : 1 + len(weights)], results[1 + len(weights) :]
    dxs = [torch.empty_like(dx) if i and wanted[0] else dx for i in range(layer.passes)]
    numbers = _Numbers(layer, x, weights, states, noise, lengths)
    nothing = output.new_empty(0)
    passes = numbers.passes(output, nothing.expand(1, 0), nothing.expand(1, 0), saved)
    d_output, d_h, d_c = gradients
    width, size = layer.spec.output_size, output.element_size()
    d_rows = (0, 0, 0) if d_output is None else numbers.rows(d_output)
    d_final = [0 if d is None else numbers.address(d) for d in (d_h, d_c)]
    count = len(layer.names)
    for i, numbers_of_pass in enumerate(passes):
        own = [t.data_ptr() if t.numel() else 0 for t in d_weights[i * count : (i + 1) * count]]
        at = [t.data_ptr() if t.numel() else 0 for t in d_states[i * layer.states : (i + 1) * layer.states]]
        finals = zip(d_final, layer.spec.state_sizes, strict=False)
        numbers_of_pass += [
            d_rows[0] and d_rows[0] + i * width * size, d_rows[1], d_rows[2],
            *(start and start + i * x.shape[1] * state * size for start, state in finals), *([0] * (2 - layer.states)),
            *((dxs[i].data_ptr(), dxs[i].stride(0), dxs[i].stride(1)) if wanted[0] else (0, 0, 0)),
            *(0 if place is None else own[place] for place in layer.places),
            at[0], at[1] if layer.states == 2 else 0,
        ]  # fmt: skip
    layer.native.gradients(numbers.call, passes, shares)
    if wanted[0] and layer.passes == 2:
        dx.add_(dxs[1])
    return results


def _empty_gradients(
    x: Tensor, weights: Sequence[Tensor], states: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor]:
    dx = x.new_empty(x.shape if wanted[0] else (0,))
    others = zip((*weights, *states), wanted[1:], strict=True)
    return [dx, *(t.new_empty(t.shape) if want else t.new_empty(0) for t, want in others)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, states, noise, lengths, shares, key, _ = inputs
    ctx.counts = len(weights), len(states), len(noise)
    ctx.given = [t is not None for t in (*noise, lengths)]
    ctx.shares, ctx.key = shares, key
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], output[3], x, *weights, *states, *(t for t in (*noise, lengths) if t is not None))
    ctx.mark_non_differentiable(output[3])


def _backward(ctx: Any, d_output: Tensor | None, d_h: Tensor | None, d_c: Tensor | None, _: Any) -> tuple[Any, ...]:
    output, saved, x, *others = ctx.saved_tensors
    n_weights, n_states, n_noise = ctx.counts
    weights, states = others[:n_weights], others[n_weights : n_weights + n_states]
    rest = iter(others[n_weights + n_states :])
    *noise, lengths = (next(rest) if given else None for given in ctx.given)
    needs = ctx.needs_input_grad
    wanted = [needs[0], *_each(needs[1], n_weights), *_each(needs[2], n_states)]
    gradients = [d_output, d_h, d_c]
    if torch.is_grad_enabled():  # the gradient is to be differentiated again
        found = _by_reference(gradients, x, weights, states, noise, lengths, ctx.shares, ctx.key, wanted)
    else:
        found = torch.ops.lstmkit.recurrent_backward(
            gradients, output, saved, x, weights, states, noise, lengths, ctx.shares, ctx.key, wanted
        )
        found = [d if want else None for d, want in zip(found, wanted, strict=True)]
    # torch.library takes a list for a list of tensors, and one None for a list in which some are missing.
    no_noise = [None] * n_noise if all(ctx.given[:n_noise]) else None
    return found[0], found[1 : 1 + n_weights], found[1 + n_weights :], no_noise, None, None, None, None


def _each(needs: Any, count: int) -> list[bool]:
    return list(needs) if isinstance(needs, (list, tuple)) else [bool(needs)] * count


def _by_reference(
    gradients: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
    key: Sequence[int],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients as functions of everything, so that they have derivatives themselves."""
    layer = _layer(key, x.dtype)
    inputs = [x, *weights, *states]
    results = reference.run(_as_call(layer, x, weights, states, noise, lengths, shares))
    outputs = [torch.cat([r.output for r in results], -1)]
    outputs += [torch.stack(parts) for parts in zip(*(r.state for r in results), strict=True)]
    pairs = [(out, d) for out, d in zip(outputs, gradients, strict=False) if d is not None]
    asked = [t for t, want in zip(inputs, wanted, strict=True) if want]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], asked, [d for _, d in pairs], create_graph=True, materialize_grads=True
        )
    )
    return [next(found) if want else None for want in wanted]


def _as_call(
    layer: _Layer,
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
) -> Call:
    count, passes = len(layer.names), []
    for i in range(layer.passes):
        params = dict(zip(layer.names, weights[i * count : (i + 1) * count], strict=True))
        mask, *zones = noise[3 * i : 3 * i + 3]
        zoneout = tuple(
            share if zone is None else zone for zone, share in zip(zones, shares[2 * i : 2 * i + 2], strict=True)
        )
        state = tuple(states[i * layer.states : (i + 1) * layer.states])
        passes.append(Pass(params, state, layer.reverse[i], mask, zoneout[: layer.states]))
    return Call(layer.spec, x, tuple(passes), lengths)


# ---- registration ----------------------------------------------------------------------------------------------------

_ARGUMENTS = (
    "Tensor x, Tensor[] weights, Tensor[] states, Tensor?[] noise, Tensor? lengths, float[] shares, SymInt[] key"
)
_library = torch.library.Library("lstmkit", "DEF")
_library.define(f"recurrent({_ARGUMENTS}, bool saves) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(
    f"recurrent_backward(Tensor?[] gradients, Tensor output, Tensor saved, {_ARGUMENTS}, bool[] wanted) -> Tensor[]"
)
_library.impl("recurrent", _recurrent, "CPU")
_library.impl("recurrent_backward", _recurrent_backward, "CPU")


@torch.library.register_fake("lstmkit::recurrent", lib=_library)
def _recurrent_fake(
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
    key: Sequence[int],
    saves: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_outputs(x, _layer(key, x.dtype), shares, noise, saves)


@torch.library.register_fake("lstmkit::recurrent_backward", lib=_library)
def _recurrent_backward_fake(
    gradients: Sequence[Tensor | None],
    output: Tensor,
    saved: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    states: Sequence[Tensor],
    noise: Sequence[Tensor | None],
    lengths: Tensor | None,
    shares: Sequence[float],
    key: Sequence[int],
    wanted: Sequence[bool],
) -> list[Tensor]:
    return _empty_gradients(x, weights, states, wanted)


torch.library.register_autograd("lstmkit::recurrent", _backward, setup_context=_setup_context, lib=_library)
