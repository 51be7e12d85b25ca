"""What LSTM, GRU and RNN share: stacking, directions, noise, checks. The layers themselves are in ``layers.py``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstmkit.cells import CellSpec, State
from lstmkit.layers.state import LayerState, autocast_dtype
from lstmkit.layers.stream import Stream
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass, Result

#: What comes of the two directions, which lie side by side in the last dimension.
_MERGES = {
    "concat": lambda both: both,
    "sum": lambda both: torch.add(*both.chunk(2, -1)),
    "mean": lambda both: torch.add(*both.chunk(2, -1)) / 2,
    "mul": lambda both: torch.mul(*both.chunk(2, -1)),
}


@dataclass(frozen=True)
class Trace:
    """Everything a layer computed on the way.

    Attributes:
        output: ``(B, T, D·P)``, as ``forward`` gives it, batch first.
        state: Final state, as ``forward`` gives it.
        gates: By ``(layer, direction)`` (direction 0 forward, 1 reversed): name to ``(B, T, H)``, zero past its
            end. An LSTM has ``input``, ``forget``, ``candidate``, ``output``, ``cell`` and ``hidden`` (``(B, T, P)``);
            a GRU ``reset``, ``update``, ``candidate``, ``hidden``; an RNN ``hidden``.
    """

    output: Tensor
    state: LayerState
    gates: dict[tuple[int, int], dict[str, Tensor]]


class TraceWindow(NamedTuple):
    """A window of one layer and direction of a long trace.

    Attributes:
        place: ``(layer, direction)``, as in :class:`Trace`.
        start: Its first step.
        x: What the layer reads, ``(B, window, F)``.
        state: The state it comes in with, ``(B, size)`` each: that after the step before, of a reversed direction that
            after the step behind its last.
        gates: As in :class:`Trace`, ``(B, window, H)``.
    """

    place: tuple[int, int]
    start: int
    x: Tensor
    state: State
    gates: dict[str, Tensor]


class RecurrentLayer(nn.Module):
    """What LSTM, GRU and RNN share. Use one of those.

    Args:
        spec: The first layer's cell.
        num_layers: Layers stacked on each other.
        batch_first: Input and output are ``(B, T, F)`` rather than ``(T, B, F)``. States are always ``(L·D, B, size)``.
        dropout: In training, the share of values dropped between layers.
        variational: ``dropout`` hides the same units at all steps of a sequence (Gal and Ghahramani 2016).
        bidirectional: A second pass from each sequence's own last step to its first.
        merge: How the two directions meet: ``"concat"``, ``"sum"``, ``"mean"`` or ``"mul"``.
        residual: Every layer after the first adds its input to its output.
        recurrent_dropout: In training, the share of the previous output hidden from the gates, the same units at all
            steps of a sequence (Gal and Ghahramani 2016).
        zoneout: The share of state units that keep their old value at a step (Krueger et al. 2017); out of training
            the state is mixed by that share.
        weight_drop: In training, the share of recurrent weights set to zero (Merity et al. 2018).
        forget_bias: LSTM only: the forget gate's bias starts at this value (1.0 is usual: Gers et al. 2000,
            Jozefowicz et al. 2015), or as ``torch.nn`` has it.
        recompute: Backward does the steps again in pieces instead of keeping all gates: memory grows with the square
            root of the length, a training step takes about a third longer. Back ends without it keep everything.
        backend: ``"auto"``, or a back end by name, which then runs or says why not.

    Raises:
        ValueError: An argument out of its range.
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
        if merge not in _MERGES:
            raise ValueError(f"unknown merge {merge!r}; known: {', '.join(_MERGES)}")
        self.dropout = _share("dropout", dropout)
        self.recurrent_dropout = _share("recurrent_dropout", recurrent_dropout)
        self.zoneout = _share("zoneout", zoneout)
        self.weight_drop = _share("weight_drop", weight_drop)
        if dropout and num_layers == 1:
            warnings.warn("dropout acts between layers; with num_layers=1 it does nothing", stacklevel=3)
        if forget_bias is not None and not spec.bias:
            raise ValueError("forget_bias is a starting value of the biases: it needs bias=True")
        self.num_layers, self.batch_first, self.bidirectional = num_layers, batch_first, bidirectional
        self.merge, self.residual, self.variational, self.forget_bias = merge, residual, variational, forget_bias
        self.recompute, self.backend = recompute, dispatch.check_name(backend)

        self.output_size = spec.output_size * (2 if bidirectional and merge == "concat" else 1)
        deeper = replace(spec, input_size=self.output_size)
        self.specs = (spec, *(deeper for _ in range(num_layers - 1)))
        #: By layer and direction: the cell's name of a weight, and the module's.
        self._names: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for layer, layer_spec in enumerate(self.specs):
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

    # The names under which torch.nn keeps its sizes.
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
        """Nothing: here so that code written for ``torch.nn`` runs."""

    def reset_parameters(self) -> None:
        """Uniform in ±1/√H as ``torch.nn`` does, from the same random numbers; gains 1, then the forget bias."""
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
            x: ``(T, B, F)``; ``(B, T, F)`` under ``batch_first``; ``(T, F)`` for one sequence; or a PackedSequence.
            state: Initial state, zero if not given: ``h (L·D, B, P)``; for an LSTM ``(h, c)`` with ``c (L·D, B, H)``;
                without ``B`` for one sequence.
            lengths: Steps of each sequence, ``(B,)`` whole numbers in ``0..T`` on any device; padding is on the right.

        Returns:
            The output, ``(T, B, D·P)`` or laid out as ``x``, zero past a sequence's end; and the final state, that
            of each sequence's own last step, shaped as ``state``.

        Raises:
            ValueError: A shape, length or state that does not fit; :class:`BackendUnavailable` among them.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence has lengths of its own: leave out lengths")
            return self._forward_packed(x, state)
        output, final, _ = self._run(x, state, lengths)
        return output, final

    def trace(self, x: Tensor, state: LayerState | None = None, lengths: Tensor | Sequence[int] | None = None) -> Trace:
        """Run as :meth:`forward` does and keep every gate and state. One sequence gets ``B = 1``.

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
        """As :meth:`trace`, of whole sequences of any length, a window at a time: what is yielded need not be kept.

        Layer by layer and direction by direction, a reversed one from the end; held are one layer's input and output
        and one window of gates. No gradients.

        Raises:
            ValueError: As :meth:`forward`; or the layer is in training mode with noise, which a trace would be of.

        >>> from lstmkit import LSTM
        >>> layer = LSTM(3, 4, batch_first=True, bidirectional=True)
        >>> [(piece.place, piece.start) for piece in layer.trace_windows(torch.zeros(1, 50, 3), window=20)]
        [((0, 0), 0), ((0, 0), 20), ((0, 0), 40), ((0, 1), 40), ((0, 1), 20), ((0, 1), 0)]
        """
        if self.training and (self.dropout or self.recurrent_dropout or self.zoneout or self.weight_drop):
            raise ValueError("the layer is in training mode and drops at random: call layer.eval() before")
        if window < 1:
            raise ValueError(f"window must be at least 1 step, got {window}")
        steps, _, one = self._check_input(x, None)
        initial = self._initial_state(state, steps, one)
        for layer in range(self.num_layers):
            call = self._call(layer, steps, initial, None, trace=True)
            outputs = []
            for direction, whole in enumerate(call.passes):
                output, p = call.x.new_empty(*steps.shape[:2], call.spec.output_size), whole
                for start in range(0, len(steps), window)[:: -1 if p.reverse else 1]:
                    piece = slice(start, start + window)
                    part = call._replace(x=call.x[piece], passes=(p,))
                    (result,) = dispatch.run(part, self.backend).passes()
                    gates = {name: g.transpose(0, 1) for name, g in (result.trace or {}).items()}
                    yield TraceWindow((layer, direction), start, part.x.transpose(0, 1), part.state_of(p), gates)
                    output[piece], p = result.output, p._replace(state=result.state)
                outputs.append(output)
            steps = self._merged(layer, torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0], steps)

    def stream(self, state: LayerState | None = None) -> Stream:
        """The same layer one step at a time, its state kept: see :class:`Stream`.

        Raises:
            ValueError: The layer is bidirectional: its reversed direction would have to see the future.
        """
        return Stream(self, state)

    def call_for(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Call:
        """What the first layer would ask of a back end for ``x``."""
        steps, lengths, _ = self._check_input(x, lengths)
        # The masks drawn on the way must not change what a later forward draws.
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            return self._call(0, steps, self._initial_state(None, steps, one=False), lengths, trace=False)

    # ---- from the outside in -------------------------------------------------------------------------------------

    def _forward_packed(self, packed: PackedSequence, state: LayerState | None) -> tuple[PackedSequence, LayerState]:
        padded, lengths = pad_packed_sequence(packed, batch_first=self.batch_first)
        output, final, _ = self._run(padded, state, lengths)
        in_order = packed.sorted_indices is None
        if in_order:
            return pack_padded_sequence(output, lengths, self.batch_first), final
        return pack_padded_sequence(output, lengths, self.batch_first, enforce_sorted=False), final

    def _run(
        self, x: Tensor, state: LayerState | None, lengths: Tensor | Sequence[int] | None, trace: bool = False
    ) -> tuple[Tensor, LayerState, list[Result]]:
        steps, lengths, one = self._check_input(x, lengths)
        initial = self._initial_state(state, steps, one)
        results: list[Result] = []
        for layer in range(self.num_layers):
            result = dispatch.run(self._call(layer, steps, initial, lengths, trace), self.backend)
            steps = self._merged(layer, result.output, steps)
            if self.dropout and self.training and layer < self.num_layers - 1:
                steps = self._dropped(steps)
            results.append(result)
        final = tuple(_joined(parts) for parts in zip(*(r.state for r in results), strict=True))
        output = steps
        if one:
            output, final = output.squeeze(1), tuple(s.squeeze(1) for s in final)
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, final[0] if len(final) == 1 else final, results

    def _dropped(self, steps: Tensor) -> Tensor:
        if self.variational:
            return steps * F.dropout(steps.new_ones(steps.shape[1:]), self.dropout)
        return F.dropout(steps, self.dropout)

    def _merged(self, layer: int, output: Tensor, steps: Tensor) -> Tensor:
        """What the layer makes of its directions' output, side by side, and of its own input ``steps``."""
        merged = _MERGES[self.merge](output) if self.bidirectional else output
        return merged + steps if self.residual and layer > 0 else merged

    def _call(self, layer: int, x: Tensor, initial: list[State], lengths: Tensor | None, trace: bool) -> Call:
        """What ``layer`` asks of a back end. ``initial``: the states of all layers and directions."""
        spec, directions = self.specs[layer], range(self.num_directions)
        states = initial[layer * self.num_directions : (layer + 1) * self.num_directions]
        weights = [self.weights(layer, d) for d in directions]
        if (dtype := autocast_dtype(x)) is not None:
            x = x.to(dtype)
            states = [tuple(s.to(dtype) for s in state) for state in states]
            weights = [{name: w.to(dtype) for name, w in by_name.items()} for by_name in weights]
        passes = tuple([Pass(weights[d], states[d], d == 1) for d in directions])
        if self.zoneout or (self.training and (self.weight_drop or self.recurrent_dropout)):
            passes = tuple(self._noisy(p, x, spec) for p in passes)
        return Call(spec, x, passes, lengths, trace, self.recompute)

    def _noisy(self, p: Pass, x: Tensor, spec: CellSpec) -> Pass:
        """The pass with this forward's random masks: drawn here, so that every back end gets the same ones."""
        params, mask, zoneout = dict(p.params), None, None
        n_steps, batch, _ = x.shape
        if self.training and self.weight_drop:
            params["weight_hh"] = F.dropout(params["weight_hh"], self.weight_drop)
        if self.training and self.recurrent_dropout:
            mask = F.dropout(x.new_ones(batch, spec.output_size), self.recurrent_dropout)
        if self.zoneout and self.training:
            sizes = spec.state_sizes
            zoneout = tuple(_bernoulli_mask(self.zoneout, (n_steps, batch, size), x) for size in sizes)
        elif self.zoneout:
            zoneout = tuple(self.zoneout for _ in spec.state_sizes)
        return p._replace(params=params, recurrent_mask=mask, zoneout=zoneout)

    def weights(self, layer: int, direction: int) -> dict[str, Tensor]:
        """The weights of one layer and direction, by the names of ``CellSpec.parameter_shapes``."""
        # By attribute where it is no parameter of ours: torch.nn.utils.parametrize puts a property in its place.
        have: dict[str, Any] = self._parameters
        return {name: have[own] if own in have else getattr(self, own) for name, own in self._names[layer, direction]}

    def _weight(self) -> Tensor:
        """One of them, whose dtype and device are everyone's."""
        weight = self._parameters.get("weight_ih_l0")
        return self.weights(0, 0)["weight_ih"] if weight is None else weight

    # ---- checks --------------------------------------------------------------------------------------------------

    def _check_input(self, x: Tensor, lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor | None, bool]:
        """``x`` as ``(T, B, F)``, lengths as a tensor, and whether ``x`` was one sequence."""
        if x.dim() not in (2, 3):
            raise ValueError(f"expected 3 dimensions (or 2 for one sequence), got shape {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"expected {self.input_size} features in the last dimension, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"expected floating-point input, got {x.dtype}")
        weight = self._weight()
        if x.dtype != weight.dtype and autocast_dtype(x) is None:
            raise ValueError(f"input is {x.dtype}, the weights are {weight.dtype}: convert one of them")
        one = x.dim() == 2
        steps = x.unsqueeze(1) if one else x.transpose(0, 1) if self.batch_first else x
        if lengths is None:
            return steps, None, one
        lengths = torch.as_tensor(lengths)
        n_steps, batch = steps.shape[:2]
        if one and lengths.dim() == 0:
            lengths = lengths.unsqueeze(0)
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
        if batch and (lengths.is_floating_point() or lengths.dtype == torch.bool):  # an empty list comes as float
            raise ValueError(f"lengths must be whole numbers, got {lengths.dtype}")
        if not torch.compiler.is_compiling() and batch and not bool(((lengths >= 0) & (lengths <= n_steps)).all()):
            raise ValueError(f"lengths must be in 0..{n_steps}, got {int(lengths.min())}..{int(lengths.max())}")
        return steps, lengths, one

    def _initial_state(self, state: LayerState | None, steps: Tensor, one: bool) -> list[State]:
        """A state for every layer and direction, as a pass has it: ``(B, size)`` tensors, none for zero."""
        rows, batch, sizes = self.num_layers * self.num_directions, steps.shape[1], self.specs[0].state_sizes
        if state is None:
            return [()] * rows
        dtype = self._weight().dtype
        shapes = [(rows, batch, size) for size in sizes]
        given = (state,) if isinstance(state, Tensor) else tuple(state)
        if one:
            given = tuple(s.unsqueeze(1) if s.dim() == 2 else s for s in given)
        if [tuple(s.shape) for s in given] != shapes:
            names = self.specs[0].cell.states
            wanted = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
            raise ValueError(f"expected the state {wanted}; got {', '.join(str(tuple(s.shape)) for s in given)}")
        if any(s.dtype != dtype for s in given) and autocast_dtype(steps) is None:
            got = ", ".join(str(s.dtype) for s in given)
            raise ValueError(f"the state is {got}, the weights are {dtype}: convert one of them")
        return [tuple(s[row] for s in given) for row in range(rows)]

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


def _bernoulli_mask(share: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Ones at random, zeros elsewhere; ``share`` is kept to a 65,536th.

    Four coins come of one random number: with ``bernoulli_`` the masks took longer than the layer.
    """
    count = math.prod(shape)
    room = {"size": (-(-count // 4),), "dtype": torch.int64, "device": like.device}
    if torch.compiler.is_compiling():  # a graph has no random_
        bits = torch.randint(-(2**63), 2**63 - 1, **room)
    else:
        bits = torch.empty(**room).random_(-(2**63), None)
    return (bits.view(torch.int16)[:count] < round(share * 2**16) - 2**15).to(like.dtype).view(shape)


def _joined(states: tuple[Tensor, ...]) -> Tensor:
    return states[0] if len(states) == 1 else torch.cat(states)


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in 0..1, 1 excluded, got {value}")
    return float(value)


def _weight_name(name: str, layer: int, direction: int) -> str:
    return f"{name}_l{layer}{'_reverse' if direction else ''}"
