"""Convolutional recurrent layers: LSTM, GRU and RNN whose units are feature maps; and the Bottleneck-LSTM.

The matrix products of a cell become convolutions, so each place of a frame has its own state and reads its
neighborhood (Shi et al. 2015, "Convolutional LSTM Network", arXiv:1506.04214, eq. 3). The pointwise equations are those
of :mod:`lstmkit.cells`.

Dimensions: ``B`` batch, ``T`` steps, ``F`` input channels, ``C`` hidden channels, ``H`` and ``W`` height and width,
``G`` gates, ``L`` layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.cells import CellSpec, Gates, State, gru_update, lstm_update
from lstmkit.layers.recurrent import Trace
from lstmkit.layers.state import LayerState, autocast_dtype, check_lengths

Weights = Mapping[str, Tensor]


class ConvRecurrentLayer2d(nn.Module, ABC):
    """The base class of convolutional recurrent layers; not used directly.

    The input convolution of all steps is one call, outside the loop over time. Tensors are kept channels-last inside,
    the fastest layout on CPUs. Height and width may differ between calls and stay as they are: borders are padded with
    zeros.

    Args:
        input_size: Channels of the input, ``F``.
        hidden_size: Channels of the state and the output, ``C``.
        num_layers: Number of stacked layers.
        kernel_size: Side of the convolutions, odd.
        bias: Whether the gates have biases.
        dropout: Dropout probability between layers, in training.
        peephole: LSTM only: the gates also read the cell state, with one weight per channel. Shi et al. have one per
            place, which fixes height and width.
        forget_bias: LSTM only: initial value of the bias of the forget gate; by default it is random, as in
            ``torch.nn.LSTM``.

    Raises:
        ValueError: An argument is out of range.
    """

    kind: ClassVar[str]  #: A name in :data:`lstmkit.cells.CELLS`.
    batch_first: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        kernel_size: int = 3,
        bias: bool = True,
        dropout: float = 0.0,
        peephole: bool = False,
        forget_bias: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 1, got {kernel_size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        first = CellSpec(self.kind, input_size, hidden_size, bias, peephole=peephole)
        if forget_bias is not None and ("forget" not in first.gates or not bias):
            raise ValueError("forget_bias is an initial value of an LSTM's biases: it needs an LSTM with bias=True")
        deeper = CellSpec(self.kind, hidden_size, hidden_size, bias, peephole=peephole)
        self.specs = (first, *(deeper for _ in range(num_layers - 1)))
        self.kernel_size, self.dropout, self.forget_bias = kernel_size, dropout, forget_bias
        self.output_size = hidden_size
        for layer, spec in enumerate(self.specs):
            for name, shape in self._shapes(spec).items():
                weight = torch.empty(shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(weight))
        self.reset_parameters()

    @property
    def input_size(self) -> int:
        return self.specs[0].input_size

    @property
    def hidden_size(self) -> int:
        return self.specs[0].hidden_size

    @property
    def num_layers(self) -> int:
        return len(self.specs)

    def weights(self, layer: int) -> dict[str, Tensor]:
        """The weights of one layer by name, without the suffix ``_l0``."""
        return {name: getattr(self, f"{name}_l{layer}") for name in self._shapes(self.specs[layer])}

    def reset_parameters(self) -> None:
        """Initialize uniformly in ±1/√(number of values that a filter reads); biases and peepholes in ±1/√C."""
        for name, weight in self.named_parameters():
            reads = math.prod(weight.shape[1:]) if weight.dim() == 4 else self.hidden_size
            nn.init.uniform_(weight, -1 / math.sqrt(reads), 1 / math.sqrt(reads))
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
            if self.forget_bias is not None and name.startswith(("bias_ih", "bias_hh")):
                gate = self.specs[0].gates.index("forget")
                rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
                with torch.no_grad():
                    weight[rows] = self.forget_bias if name.startswith("bias_ih") else 0.0

    def forward(
        self, x: Tensor, state: LayerState | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Run over time.

        Args:
            x: ``(B, T, F, H, W)``.
            state: Initial state, zeros by default: ``h (L, B, C, H, W)``; for an LSTM ``(h, c)`` of that shape.
            lengths: Steps of each sequence, ``(B,)`` integers in ``0..T``; padding is on the right.

        Returns:
            The output ``(B, T, C, H, W)``, zero past the end of a sequence; and the state after the last step of each
            sequence, shaped as ``state``.

        Raises:
            ValueError: A shape, length or state does not fit.
        """
        output, final, _ = self._run(x, state, lengths, trace=False)
        return output, final

    def trace(self, x: Tensor, state: LayerState | None = None, lengths: Tensor | Sequence[int] | None = None) -> Trace:
        """Run like :meth:`forward` and return every gate and state, ``(B, T, C, H, W)`` each.

        >>> layer = ConvLSTM2d(1, 2)
        >>> layer.trace(torch.zeros(1, 5, 1, 8, 8)).gates[0, 0]["forget"].shape
        torch.Size([1, 5, 2, 8, 8])
        """
        output, final, gates = self._run(x, state, lengths, trace=True)
        return Trace(output, final, {(layer, 0): traced for layer, traced in enumerate(gates)})

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, kernel_size={self.kernel_size}"

    # ---- what a cell defines -------------------------------------------------------------------------------------

    @abstractmethod
    def _shapes(self, spec: CellSpec) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights of a layer."""

    @abstractmethod
    def _project_input(self, p: Weights, x: Tensor) -> Tensor:
        """What the input adds to a step, for any number of frames: ``(N, F, H, W)`` to ``(N, *, H, W)``."""

    @abstractmethod
    def _step(self, spec: CellSpec, p: Weights, gx: Tensor, state: State) -> tuple[State, Gates]:
        """One step; ``gx``, states and gates are channels-last ``(B, H, W, *)``."""

    # ---- the loop over time --------------------------------------------------------------------------------------

    def _run(
        self, x: Tensor, state: LayerState | None, lengths: Tensor | Sequence[int] | None, trace: bool
    ) -> tuple[Tensor, LayerState, list[Gates]]:
        lengths = self._checked_lengths(x, lengths)
        finals, traces = [], []
        for layer, initial in enumerate(self._initial_states(x, state)):
            if layer and self.training and self.dropout:
                x = F.dropout(x, self.dropout)
            x, final, gates = self._run_layer(layer, x, initial, lengths, trace)
            finals.append(final)
            traces.append(gates)
        stacked = tuple(_channels_second(torch.stack(parts)) for parts in zip(*finals, strict=True))
        return x, stacked[0] if len(stacked) == 1 else stacked, traces

    def _run_layer(
        self, layer: int, x: Tensor, state: State, lengths: Tensor | None, trace: bool
    ) -> tuple[Tensor, State, Gates]:
        spec, p = self.specs[layer], self.weights(layer)
        frames = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        gx = _channels_last(self._project_input(p, frames)).unflatten(0, x.shape[:2])
        outputs, gates = [], []
        for t in range(x.shape[1]):
            new, step_gates = self._step(spec, p, gx[:, t], state)
            step_gates |= dict(zip(spec.cell.states, new, strict=True)) if trace else {}
            output = new[0]
            if lengths is not None:
                valid = (lengths > t).view(-1, 1, 1, 1)
                new = tuple(torch.where(valid, after, before) for after, before in zip(new, state, strict=True))
                output = torch.where(valid, output, 0.0)
                step_gates = {name: torch.where(valid, gate, 0.0) for name, gate in step_gates.items() if trace}
            state = new
            outputs.append(output)
            gates.append(step_gates)
        traced = {name: _channels_second(torch.stack([g[name] for g in gates], 1)) for name in gates[0] if trace}
        return _channels_second(torch.stack(outputs, 1)), state, traced

    def _checked_lengths(self, x: Tensor, lengths: Tensor | Sequence[int] | None) -> Tensor | None:
        """The lengths as a tensor on the device of ``x``. Raises ValueError if they or ``x`` do not fit."""
        if x.dim() != 5 or x.shape[2] != self.input_size:
            raise ValueError(f"expected shape (B, T, {self.input_size}, H, W), got {tuple(x.shape)}")
        weight = next(self.parameters())
        if x.dtype != weight.dtype and autocast_dtype(x) is None:
            raise ValueError(f"input is {x.dtype}, the weights are {weight.dtype}: convert one of them")
        if not x.shape[1]:
            raise ValueError("expected at least one step, got none")
        if lengths is None:
            return None
        lengths = torch.as_tensor(lengths)
        batch, steps = x.shape[:2]
        check_lengths(lengths, batch, steps)
        return lengths.to(x.device)

    def _initial_states(self, x: Tensor, state: LayerState | None) -> list[State]:
        """The channels-last state of every layer."""
        names = self.specs[0].cell.states
        batch, _, _, height, width = x.shape
        if state is None:
            zeros = x.new_zeros(batch, height, width, self.hidden_size)
            return [(zeros,) * len(names)] * self.num_layers
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        shape = (self.num_layers, batch, self.hidden_size, height, width)
        if len(states) != len(names) or any(tuple(s.shape) != shape for s in states):
            found = ", ".join(str(tuple(s.shape)) for s in states)
            raise ValueError(f"expected the state {', '.join(names)} of shape {shape}, got {found}")
        return [tuple(_channels_last(s[layer]) for s in states) for layer in range(self.num_layers)]


class _FullConv2d(ConvRecurrentLayer2d):
    """A layer whose input and recurrent projections are one convolution each, with the names of ``torch.nn.LSTM``."""

    def _shapes(self, spec: CellSpec) -> dict[str, tuple[int, ...]]:
        rows, side = len(spec.gates) * spec.hidden_size, self.kernel_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, spec.input_size, side, side),
            "weight_hh": (rows, spec.hidden_size, side, side),
        }
        if spec.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if spec.peephole:
            shapes["weight_peep"] = (len(spec.gates) - 1, spec.hidden_size)
        return shapes

    def _project_input(self, p: Weights, x: Tensor) -> Tensor:
        return F.conv2d(x, p["weight_ih"], p.get("bias_ih"), padding=self.kernel_size // 2)

    def _project_state(self, p: Weights, h: Tensor) -> Tensor:
        """The recurrent projection of the gates, channels-last ``(B, H, W, C)`` to ``(B, H, W, G·C)``."""
        side = self.kernel_size // 2
        return _channels_last(F.conv2d(_channels_second(h), p["weight_hh"], p.get("bias_hh"), padding=side))


class ConvLSTM2d(_FullConv2d):
    """A convolutional LSTM (Shi et al. 2015, eq. 3): ``(B, T, F, H, W)`` to ``(B, T, C, H, W)``.

    With ``*`` the convolution and ⊙ the elementwise product::

        f_t = σ(W_f * x_t + U_f * h_{t-1} + b_f)      and so the input gate i_t and the output gate o_t
        ĉ_t = tanh(W_c * x_t + U_c * h_{t-1} + b_c)
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ ĉ_t
        h_t = o_t ⊙ tanh(c_t)

    With ``kernel_size=1`` every place is an ordinary LSTM with the same weights; they have the names and the gate order
    of ``torch.nn.LSTM``, with two dimensions more. Arguments are those of :class:`ConvRecurrentLayer2d`.

    >>> layer = ConvLSTM2d(3, 8, forget_bias=1.0)
    >>> output, (h, c) = layer(torch.zeros(2, 5, 3, 16, 12))
    >>> output.shape, c.shape
    (torch.Size([2, 5, 8, 16, 12]), torch.Size([1, 2, 8, 16, 12]))
    """

    kind = "lstm"

    def _step(self, spec: CellSpec, p: Weights, gx: Tensor, state: State) -> tuple[State, Gates]:
        return lstm_update(spec, p, gx + self._project_state(p, state[0]), state[1])


class ConvGRU2d(_FullConv2d):
    """A convolutional GRU: :func:`lstmkit.cells.gru_step` with convolutions (Ballas et al. 2016, arXiv:1511.06432).

    Arguments are those of :class:`ConvRecurrentLayer2d`, without ``peephole`` and ``forget_bias``.

    >>> ConvGRU2d(3, 8)(torch.zeros(2, 5, 3, 16, 12))[1].shape
    torch.Size([1, 2, 8, 16, 12])
    """

    kind = "gru"

    def _step(self, spec: CellSpec, p: Weights, gx: Tensor, state: State) -> tuple[State, Gates]:
        return gru_update(gx, self._project_state(p, state[0]), state[0])


class ConvRNN2d(_FullConv2d):
    """A convolutional RNN: ``h_t = tanh(W * x_t + U * h_{t-1} + b)``.

    Arguments are those of :class:`ConvRecurrentLayer2d`, without ``peephole`` and ``forget_bias``.

    >>> ConvRNN2d(3, 8)(torch.zeros(2, 5, 3, 16, 12))[0].shape
    torch.Size([2, 5, 8, 16, 12])
    """

    kind = "rnn_tanh"

    def _step(self, spec: CellSpec, p: Weights, gx: Tensor, state: State) -> tuple[State, Gates]:
        return (torch.tanh(gx + self._project_state(p, state[0])),), {}


class BottleneckLSTM2d(ConvRecurrentLayer2d):
    """The Bottleneck-LSTM for video on phones (Liu and Zhu 2018, arXiv:1711.06368, eq. 3 to 7).

    Input and hidden state are first narrowed to ``C`` channels, and the gates read only that bottleneck. Convolutions
    are depthwise separable, and ReLU replaces tanh. With ``*`` such a convolution::

        b_t = ReLU(W_x * x_t + W_h * h_{t-1} + b)
        f_t = σ(W_f * b_t + b_f)                      and so the input gate i_t and the output gate o_t
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ ReLU(W_c * b_t + b_c)
        h_t = o_t ⊙ ReLU(c_t)

    The cell state can grow without bound, since ReLU has no upper limit. Arguments are those of
    :class:`ConvRecurrentLayer2d`.

    >>> layer = BottleneckLSTM2d(64, 16, forget_bias=1.0)
    >>> layer(torch.zeros(2, 5, 64, 8, 8))[0].shape
    torch.Size([2, 5, 16, 8, 8])
    """

    kind = "lstm"

    def _shapes(self, spec: CellSpec) -> dict[str, tuple[int, ...]]:
        rows, size, side = len(spec.gates) * spec.hidden_size, spec.hidden_size, self.kernel_size
        shapes: dict[str, tuple[int, ...]] = {
            "depthwise_x": (spec.input_size, 1, side, side),
            "pointwise_x": (size, spec.input_size, 1, 1),
            "depthwise_h": (size, 1, side, side),
            "pointwise_h": (size, size, 1, 1),
            "depthwise_gates": (size, 1, side, side),
            "pointwise_gates": (rows, size, 1, 1),
        }
        if spec.bias:
            shapes |= {"bias_bottleneck": (size,), "bias_ih": (rows,)}
        if spec.peephole:
            shapes["weight_peep"] = (len(spec.gates) - 1, size)
        return shapes

    def _project_input(self, p: Weights, x: Tensor) -> Tensor:
        return self._separable(p, "x", x, p.get("bias_bottleneck"))

    def _step(self, spec: CellSpec, p: Weights, gx: Tensor, state: State) -> tuple[State, Gates]:
        from_state = self._separable(p, "h", _channels_second(state[0]))
        bottleneck = torch.relu(_channels_second(gx) + from_state)
        preactivations = _channels_last(self._separable(p, "gates", bottleneck, p.get("bias_ih")))
        return lstm_update(spec, p, preactivations, state[1], squash_in=torch.relu, squash_out=torch.relu)

    def _separable(self, p: Weights, name: str, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """A depthwise and a pointwise convolution, ``(N, *, H, W)``."""
        depthwise = p[f"depthwise_{name}"]
        x = F.conv2d(x, depthwise, padding=self.kernel_size // 2, groups=depthwise.shape[0])
        return F.conv2d(x, p[f"pointwise_{name}"], bias)


def _channels_last(x: Tensor) -> Tensor:
    """``(..., C, H, W)`` to ``(..., H, W, C)``, a view."""
    return x.movedim(-3, -1)


def _channels_second(x: Tensor) -> Tensor:
    """``(..., H, W, C)`` to ``(..., C, H, W)``, a view."""
    return x.movedim(-1, -3)
