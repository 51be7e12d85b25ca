"""The base class of LSTM, GRU and RNN: stacking, directions, noise, checks. The layers themselves are in ``rnn.py``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstmkit.cells import INT8_SCALES, CellSpec, State
from lstmkit.int8 import dequantize_matrix, quantize_matrix
from lstmkit.layers.state import LayerState, autocast_dtype, check_lengths
from lstmkit.layers.stream import Stream
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass, Result, Stepper
from lstmkit.ops.recording import is_recorded

#: How the outputs of the two directions, concatenated in the last dimension, are merged.
MERGES = {
    "concat": lambda both: both,
    "sum": lambda both: torch.add(*both.chunk(2, -1)),
    "mean": lambda both: torch.add(*both.chunk(2, -1)) / 2,
    "mul": lambda both: torch.mul(*both.chunk(2, -1)),
}


@dataclass(frozen=True)
class Trace:
    """All gates and states of a layer, step by step.

    Attributes:
        output: ``(B, T, D·P)``, as returned by ``forward``, batch first.
        state: Final state, as returned by ``forward``.
        gates: ``(layer, direction)`` (direction 0 forward, 1 reversed) -> name -> ``(B, T, H)``, zero past the end of
            a sequence. An LSTM has ``input``, ``forget``, ``candidate``, ``output``, ``cell`` and ``hidden``
            (``(B, T, P)``); a GRU ``reset``, ``update``, ``candidate``, ``hidden``; an RNN ``hidden``.

    >>> from lstmkit import GRU
    >>> sorted(GRU(3, 4).trace(torch.zeros(5, 2, 3)).gates[0, 0])
    ['candidate', 'hidden', 'reset', 'update']
    """

    output: Tensor
    state: LayerState
    gates: dict[tuple[int, int], dict[str, Tensor]]


class TraceWindow(NamedTuple):
    """One window of a long trace, of one layer and direction.

    Attributes:
        place: ``(layer, direction)``, as in :class:`Trace`.
        start: Index of the first step of the window.
        x: Input of the layer in the window, ``(B, window, F)``.
        state: The state before the window, ``(B, size)`` each. A reversed direction enters at the last step of the
            window, so its state is the one after the step ``start + window``.
        gates: As in :class:`Trace`, ``(B, window, H)``.
    """

    place: tuple[int, int]
    start: int
    x: Tensor
    state: State
    gates: dict[str, Tensor]


class RecurrentLayer(nn.Module):
    """The base class of LSTM, GRU and RNN; not used directly.

    Shapes: ``T`` steps, ``B`` batch, ``F`` input features, ``H`` hidden units, ``P`` output size (``H`` unless the
    output is projected), ``L`` layers, ``D`` directions.

    Args:
        spec: The cell of the first layer.
        num_layers: Number of stacked layers.
        batch_first: Input and output are ``(B, T, F)`` rather than ``(T, B, F)``. States are always ``(L·D, B, size)``.
        dropout: Dropout probability between layers, in training.
        variational: ``dropout`` drops the same units at all steps of a sequence (Gal and Ghahramani 2016).
        bidirectional: Adds a second pass from the last step of each sequence to its first.
        merge: How the outputs of the two directions are combined: ``"concat"``, ``"sum"``, ``"mean"`` or ``"mul"``.
        residual: Every layer after the first adds its input to its output.
        recurrent_dropout: Dropout probability on the previous output where the gates read it, in training; the same
            units at all steps of a sequence (Gal and Ghahramani 2016).
        zoneout: Probability that a state unit keeps its old value at a step (Krueger et al. 2017). In ``eval`` mode,
            old and new values are mixed with this weight.
        weight_drop: Dropout probability on the recurrent weights, in training (Merity et al. 2018).
        forget_bias: LSTM only: initial value of the bias of the forget gate (1.0 is usual: Gers et al. 2000,
            Jozefowicz et al. 2015). The default initializes it as ``torch.nn`` does.
        recompute: The backward pass recomputes the steps segment by segment instead of saving all gates (gradient
            checkpointing). Memory then grows with the square root of the length; a training step takes about a third
            longer. Back ends without this option save everything.
        backend: ``"auto"``, or the name of a back end, which then runs or raises with its reason.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        spec: CellSpec,
        num_layers: int,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        merge: str,
        residual: bool,
        variational: bool,
        recurrent_dropout: float,
        zoneout: float,
        weight_drop: float,
        forget_bias: float | None,
        recompute: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if merge not in MERGES:
            raise ValueError(f"unknown merge {merge!r}; known: {', '.join(MERGES)}")
        self.dropout = _check_probability("dropout", dropout)
        self.recurrent_dropout = _check_probability("recurrent_dropout", recurrent_dropout)
        self.zoneout = _check_probability("zoneout", zoneout)
        self.weight_drop = _check_probability("weight_drop", weight_drop)
        if dropout and num_layers == 1:
            warnings.warn("dropout acts between layers; with num_layers=1 it does nothing", stacklevel=3)
        if forget_bias is not None and not spec.bias:
            raise ValueError("forget_bias is an initial value of the biases: it needs bias=True")
        self.num_layers, self.batch_first, self.bidirectional = num_layers, batch_first, bidirectional
        self.merge, self.residual, self.variational, self.forget_bias = merge, residual, variational, forget_bias
        self.recompute, self.backend = recompute, dispatch.check_name(backend)

        self.output_size = spec.output_size * (2 if bidirectional and merge == "concat" else 1)
        deeper = replace(spec, input_size=self.output_size)
        self.specs: tuple[CellSpec, ...] = ()
        #: For each (layer, direction): pairs of the name in the cell and the name in the module.
        self._names: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for layer in range(num_layers):
            layer_spec = deeper if layer else spec
            self.specs = (*self.specs, layer_spec)
            for direction in range(self.num_directions):
                names = self._names[layer, direction] = []
                for name, shape in layer_spec.parameter_shapes().items():
                    weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                    names.append((name, _weight_name(name, layer, direction)))
                    self.register_parameter(names[-1][1], weight)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    # The attribute names of torch.nn for its sizes.
    @property
    def input_size(self) -> int:
        return self.specs[0].input_size

    @property
    def hidden_size(self) -> int:
        return self.specs[0].hidden_size

    @property
    def proj_size(self) -> int:
        return self.specs[0].proj_size

    @property
    def bias(self) -> bool:
        return self.specs[0].bias

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction, in ``torch.nn``'s order."""
        return [list(self.weights(k, d).values()) for k in range(self.num_layers) for d in range(self.num_directions)]

    def flatten_parameters(self) -> None:
        """Do nothing; code written for ``torch.nn`` may call it."""

    @property
    def qconfig(self) -> Any:
        """What ``torch.ao.quantization`` sets on every module of a model; there is none otherwise."""
        if "_qconfig" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute 'qconfig'")
        return self._qconfig

    @qconfig.setter
    def qconfig(self, qconfig: Any) -> None:
        warnings.warn(
            f"torch.ao.quantization does not quantize lstmkit.{type(self).__name__}: it stays as it is; "
            "lstmkit.quantize does",
            stacklevel=2,
        )
        self.__dict__["_qconfig"] = qconfig

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("_qconfig", None)

    def reset_parameters(self) -> None:
        """Initialize uniformly in ±1/√H with the random numbers that ``torch.nn`` draws; gains with 1."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, weight in self.named_parameters():
            if name.startswith("weight_ln"):
                nn.init.ones_(weight)
            elif name.startswith("bias_ln"):
                nn.init.zeros_(weight)
            else:
                nn.init.uniform_(weight, -bound, bound)
        if self.forget_bias is not None:
            gate = self.specs[0].gates.index("forget")
            rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
            with torch.no_grad():
                for name, weight in self.named_parameters():
                    if name.startswith(("bias_ih", "bias_hh")):
                        weight[rows] = self.forget_bias if name.startswith("bias_ih") else 0.0

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: LayerState | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, LayerState]:
        """Run over time.

        Args:
            x: ``(T, B, F)``; ``(B, T, F)`` if ``batch_first``; ``(T, F)`` for one sequence; or a PackedSequence.
            state: Initial state, zeros by default: ``h (L·D, B, P)``; for an LSTM ``(h, c)`` with ``c (L·D, B, H)``;
                without ``B`` for one sequence.
            lengths: Steps of each sequence, ``(B,)`` integers in ``0..T`` on any device; padding is on the right.

        Returns:
            The output, ``(T, B, D·P)`` or laid out as ``x``, zero past the end of a sequence; and the final state,
            which is that after the last step of each sequence, shaped as ``state``.

        Raises:
            ValueError: A shape, length or state does not fit.
            BackendUnavailable: The back end requested by name cannot run this; a ValueError.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence has its own lengths: omit lengths")
            return self._forward_packed(x, state)
        output, final, _ = self._run(x, state, lengths)
        return output, final

    def trace(self, x: Tensor, state: LayerState | None = None, lengths: Tensor | Sequence[int] | None = None) -> Trace:
        """Run like :meth:`forward` and return every gate and state. One sequence gets ``B = 1``.

        >>> from lstmkit import LSTM
        >>> layer = LSTM(3, 4, batch_first=True)
        >>> layer.trace(torch.zeros(2, 5, 3)).gates[0, 0]["forget"].shape
        torch.Size([2, 5, 4])
        """
        output, final, results = self._run(x, state, lengths, trace=True)
        gates = {
            (layer, direction): {name: g.transpose(0, 1) for name, g in trace.items()}
            for layer, result in enumerate(results)
            for direction, trace in enumerate(result.traces or ())
        }
        output = output if x.dim() == 3 else output.unsqueeze(0 if self.batch_first else 1)
        return Trace(output if self.batch_first else output.transpose(0, 1), final, gates)

    @torch.no_grad()
    def trace_windows(self, x: Tensor, state: LayerState | None = None, window: int = 1000) -> Iterator[TraceWindow]:
        """Yield a trace of full sequences of any length, one window at a time; no gradients.

        The order is layer by layer and direction by direction; a reversed direction starts at the end. Memory holds
        the input and output of one layer and one window of gates.

        Args:
            x: As in :meth:`forward`.
            state: As in :meth:`forward`.
            window: Steps per window.

        Raises:
            ValueError: As in :meth:`forward`; or the layer is in training mode with dropout or zoneout.

        >>> from lstmkit import LSTM
        >>> layer = LSTM(3, 4, batch_first=True, bidirectional=True)
        >>> [(part.place, part.start) for part in layer.trace_windows(torch.zeros(1, 50, 3), window=20)]
        [((0, 0), 0), ((0, 0), 20), ((0, 0), 40), ((0, 1), 40), ((0, 1), 20), ((0, 1), 0)]
        """
        if self.training and self._has_noise:
            raise ValueError("the layer is in training mode and applies random dropout: call layer.eval() first")
        if window < 1:
            raise ValueError(f"window must be at least 1 step, got {window}")
        steps, _, unbatched = self._check_input(x, None)
        initial = self._initial_state(state, steps, unbatched)
        for layer in range(self.num_layers):
            call = self._call(layer, steps, initial, None, trace=True)
            outputs = []
            for direction, full_pass in enumerate(call.passes):
                output, p = call.x.new_empty(*steps.shape[:2], call.spec.output_size), full_pass
                for start in range(0, len(steps), window)[:: -1 if p.reverse else 1]:
                    segment = slice(start, start + window)
                    part = call._replace(x=call.x[segment], passes=(p,))
                    (result,) = dispatch.run(part, self.backend).passes()
                    gates = {name: g.transpose(0, 1) for name, g in (result.trace or {}).items()}
                    yield TraceWindow((layer, direction), start, part.x.transpose(0, 1), part.state_of(p), gates)
                    output[segment], p = result.output, p._replace(state=result.state)
                outputs.append(output)
            steps = self._merged(layer, torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0], steps)

    def stream(self, state: LayerState | None = None) -> Stream:
        """A :class:`Stream` of this layer, which runs one step at a time and keeps the state.

        Raises:
            ValueError: The layer is bidirectional; its reversed direction would need future steps.
        """
        return Stream(self, state)

    def quantize_(self) -> None:
        """Store the weight matrices in 8 bits, in place; :func:`lstmkit.quantize` does this for whole modules.

        Raises:
            ValueError: The weights are computed (``torch.nn.utils.parametrize``), or not all finite.
        """
        if self.is_quantized:
            return
        if self._modules:
            raise ValueError(f"{type(self).__name__} computes its weights: remove the parametrizations first")
        specs = tuple(replace(spec, int8=True) for spec in self.specs)
        matrices = {}  # all of them before any is replaced
        for (layer, direction), names in self._names.items():
            for name, own in names:
                if name in INT8_SCALES:
                    scale_name = _weight_name(INT8_SCALES[name], layer, direction)
                    matrices[own] = scale_name, *quantize_matrix(self.weights(layer, direction)[name].detach())
        for own, (scale_name, integers, scale) in matrices.items():
            self.register_parameter(own, nn.Parameter(integers, requires_grad=False))
            self.register_parameter(scale_name, nn.Parameter(scale, requires_grad=False))
        self.specs = specs
        for (layer, direction), names in self._names.items():
            names[:] = [(name, _weight_name(name, layer, direction)) for name in specs[layer].parameter_shapes()]
        self.requires_grad_(False).eval()

    @property
    def is_quantized(self) -> bool:
        """Whether the weight matrices are stored in 8 bits."""
        return self.specs[0].int8

    def stored_parameters(self) -> Collection[Tensor | None]:
        """The parameters that the module holds now, in a fixed order; :class:`Stream` sees by them what has changed."""
        return self._parameters.values()

    def make_stepper(self, x: Tensor, state: LayerState | None = None) -> Stepper | None:
        """A stepper over all layers for steps like ``x (B, F)``; :class:`Stream` calls it.

        Returns:
            ``None`` if a step is random, computes its weights (``torch.nn.utils.parametrize``) or runs under autocast
            or ``torch.compile`` or another recorder, or if the back end has no stepper.

        Raises:
            ValueError: A shape, dtype or state does not fit.
        """
        has_computed_weights = len(self._modules) > 0
        if has_computed_weights or (self.training and self._has_noise):
            return None
        if autocast_dtype(x) is not None or is_recorded():
            return None
        steps, _, _ = self._check_input(x.unsqueeze(1 if self.batch_first else 0), None)
        initial = self._initial_state(state, steps, unbatched=False)
        inputs = [steps, *(steps.new_empty(1, x.shape[0], spec.input_size) for spec in self.specs[1:])]
        calls = [self._call(layer, steps, initial, None, trace=False) for layer, steps in enumerate(inputs)]
        return dispatch.stepper(calls, self.residual, self.backend)

    def call_for(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Call:
        """The call that the first layer would make to a back end for ``x``."""
        steps, lengths, _ = self._check_input(x, lengths)
        # The masks drawn here must not change what a later forward draws.
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            return self._call(0, steps, self._initial_state(None, steps, unbatched=False), lengths, trace=False)

    # ---- from layer to calls -------------------------------------------------------------------------------------

    def _forward_packed(self, packed: PackedSequence, state: LayerState | None) -> tuple[PackedSequence, LayerState]:
        padded, lengths = pad_packed_sequence(packed, batch_first=self.batch_first)
        output, final, _ = self._run(padded, state, lengths)
        is_sorted = packed.sorted_indices is None
        if is_sorted:
            return pack_padded_sequence(output, lengths, self.batch_first), final
        return pack_padded_sequence(output, lengths, self.batch_first, enforce_sorted=False), final

    def _run(
        self, x: Tensor, state: LayerState | None, lengths: Tensor | Sequence[int] | None, trace: bool = False
    ) -> tuple[Tensor, LayerState, list[Result]]:
        steps, lengths, unbatched = self._check_input(x, lengths)
        initial = self._initial_state(state, steps, unbatched)
        if self.is_quantized and self.training:
            raise ValueError("a layer with 8-bit weights is for inference: call layer.eval() first")
        results: list[Result] = []
        for layer in range(self.num_layers):
            result = dispatch.run(self._call(layer, steps, initial, lengths, trace), self.backend)
            steps = self._merged(layer, result.output, steps)
            if self.dropout and self.training and layer < self.num_layers - 1:
                steps = self._dropped(steps)
            results.append(result)
        final = tuple(_stack_states(parts) for parts in zip(*(r.state for r in results), strict=True))
        output = steps
        if unbatched:
            output, final = output.squeeze(1), tuple(s.squeeze(1) for s in final)
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, final[0] if len(final) == 1 else final, results

    def _dropped(self, steps: Tensor) -> Tensor:
        if self.variational:
            return steps * F.dropout(steps.new_ones(steps.shape[1:]), self.dropout)
        return F.dropout(steps, self.dropout)

    def _merged(self, layer: int, output: Tensor, steps: Tensor) -> Tensor:
        """Merge the directions of ``output (T, B, D·P)`` and add the residual ``steps``, the input of the layer."""
        merged = MERGES[self.merge](output) if self.bidirectional else output
        return merged + steps if self.residual and layer > 0 else merged

    def _call(self, layer: int, x: Tensor, initial: list[State], lengths: Tensor | None, trace: bool) -> Call:
        """The call of ``layer`` to a back end; ``initial`` holds the states of all layers and directions."""
        spec, directions = self.specs[layer], range(self.num_directions)
        states = initial[layer * self.num_directions : (layer + 1) * self.num_directions]
        weights = [self.weights(layer, d) for d in directions]
        if spec.int8 and _needs_gradients(x, states):  # rounding the activations has no gradient
            spec, weights = replace(spec, int8=False), [_dequantized(by_name) for by_name in weights]
        if (dtype := autocast_dtype(x)) is not None:
            x = x.to(dtype)
            states = [tuple(s.to(dtype) for s in state) for state in states]
            weights = [{name: w.to(dtype) for name, w in by_name.items()} for by_name in weights]
        passes = tuple([Pass(weights[d], states[d], d == 1) for d in directions])
        if self.zoneout or (self.training and (self.weight_drop or self.recurrent_dropout)):
            passes = tuple([self._with_noise(p, x, spec) for p in passes])
        return Call(spec, x, passes, lengths, trace, self.recompute)

    def _with_noise(self, p: Pass, x: Tensor, spec: CellSpec) -> Pass:
        """The pass with the random masks of this forward; drawn here so that every back end gets the same masks."""
        params, mask, zoneout = dict(p.params), None, None
        n_steps, batch, _ = x.shape
        if self.training and self.weight_drop:
            params["weight_hh"] = F.dropout(params["weight_hh"], self.weight_drop)
        if self.training and self.recurrent_dropout:
            mask = F.dropout(x.new_ones(batch, spec.output_size), self.recurrent_dropout)
        if self.zoneout and self.training:
            sizes = spec.state_sizes
            zoneout = tuple([_bernoulli_mask(self.zoneout, (n_steps, batch, size), x) for size in sizes])
        elif self.zoneout:
            zoneout = (self.zoneout,) * len(spec.state_sizes)
        return Pass(params, p.state, p.reverse, mask, zoneout)

    def weights(self, layer: int, direction: int) -> dict[str, Tensor]:
        """The weights of one layer and direction; keys are the names of ``CellSpec.parameter_shapes``."""
        # torch.nn.utils.parametrize replaces a parameter by a property, which getattr reads.
        stored: dict[str, Any] = self._parameters
        names = self._names[layer, direction]
        return {name: stored[own] if own in stored else getattr(self, own) for name, own in names}

    @property
    def _has_noise(self) -> bool:
        """Whether a forward in training mode draws random masks."""
        return bool(self.dropout or self.recurrent_dropout or self.zoneout or self.weight_drop)

    def _weight(self) -> Tensor:
        """A weight that stands for all: they share dtype and device, but for matrices in 8 bits."""
        name = "scale_ih" if self.is_quantized else "weight_ih"
        weight = self._parameters.get(f"{name}_l0")
        return self.weights(0, 0)[name] if weight is None else weight

    # ---- checks --------------------------------------------------------------------------------------------------

    def _check_input(self, x: Tensor, lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor | None, bool]:
        """``x`` as ``(T, B, F)``, lengths as a tensor, and whether ``x`` has no batch dimension."""
        if x.dim() not in (2, 3):
            raise ValueError(f"expected 3 dimensions (or 2 for one sequence), got shape {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"expected {self.input_size} features in the last dimension, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"expected floating-point input, got {x.dtype}")
        weight = self._weight()
        if x.dtype != weight.dtype and autocast_dtype(x) is None:
            raise ValueError(f"input is {x.dtype}, the weights are {weight.dtype}: convert one of them")
        unbatched = x.dim() == 2
        steps = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if self.batch_first else x
        if lengths is None:
            return steps, None, unbatched
        lengths = torch.as_tensor(lengths)
        n_steps, batch = steps.shape[:2]
        if unbatched and lengths.dim() == 0:
            lengths = lengths.unsqueeze(0)
        check_lengths(lengths, batch, n_steps)
        return steps, lengths, unbatched

    def _initial_state(self, state: LayerState | None, steps: Tensor, unbatched: bool) -> list[State]:
        """The initial state of every layer and direction in the form of ``Pass.state``; empty for zeros."""
        rows, batch, sizes = self.num_layers * self.num_directions, steps.shape[1], self.specs[0].state_sizes
        if state is None:
            return [()] * rows
        dtype = self._weight().dtype
        shapes = [(rows, batch, size) for size in sizes]
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        if unbatched:
            states = tuple(s.unsqueeze(1) if s.dim() == 2 else s for s in states)
        if [tuple(s.shape) for s in states] != shapes:
            names = self.specs[0].cell.states
            expected = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
            raise ValueError(f"expected the state {expected}; got {', '.join(str(tuple(s.shape)) for s in states)}")
        if any(s.dtype != dtype for s in states) and autocast_dtype(steps) is None:
            dtypes = ", ".join(str(s.dtype) for s in states)
            raise ValueError(f"the state is {dtypes}, the weights are {dtype}: convert one of them")
        return [tuple(s[row] for s in states) for row in range(rows)]

    def extra_repr(self) -> str:
        spec = self.specs[0]
        shown = {"num_layers": self.num_layers, "bidirectional": self.bidirectional, "batch_first": self.batch_first}
        shown |= {k: getattr(spec, k) for k in ("proj_size", "peephole", "coupled", "layer_norm") if getattr(spec, k)}
        shown |= {
            k: getattr(self, k)
            for k in ("dropout", "variational", "recurrent_dropout", "zoneout", "weight_drop", "residual")
            if getattr(self, k)
        }
        if self.bidirectional and self.merge != "concat":
            shown["merge"] = self.merge
        return f"{spec.input_size}, {spec.hidden_size}, " + ", ".join(f"{k}={v}" for k, v in shown.items())


def _bernoulli_mask(probability: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A mask of ones with ``probability``, rounded to a multiple of 2^-16, and zeros elsewhere.

    Each random 64-bit integer gives four values; with ``bernoulli_``, the masks took longer than the layer.
    """
    count = math.prod(shape)
    options = {"size": (-(-count // 4),), "dtype": torch.int64, "device": like.device}
    if torch.compiler.is_compiling():  # a graph has no random_
        bits = torch.randint(-(2**63), 2**63 - 1, **options)
    else:
        bits = torch.empty(**options).random_(-(2**63), None)
    return (bits.view(torch.int16)[:count] < round(probability * 2**16) - 2**15).to(like.dtype).view(shape)


def _needs_gradients(x: Tensor, states: Sequence[State]) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(s for state in states for s in state)))


def _dequantized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one layer and direction with matrices in the dtype of their scales."""
    scales = {matrix: weights[scale] for matrix, scale in INT8_SCALES.items() if scale in weights}
    found = {name: w for name, w in weights.items() if name not in INT8_SCALES.values()}
    return found | {name: dequantize_matrix(weights[name], scale) for name, scale in scales.items()}


def _stack_states(states: tuple[Tensor, ...]) -> Tensor:
    return states[0] if len(states) == 1 else torch.cat(states)


def _check_probability(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return float(value)


def _weight_name(name: str, layer: int, direction: int) -> str:
    return f"{name}_l{layer}{'_reverse' if direction else ''}"
