"""The equations of every recurrent cell, one time step each. All faster implementations are tested against these.

Each cell is an entry of :data:`CELLS`.

Dimensions: ``B`` batch, ``F`` input features, ``G`` gates, ``H`` hidden units, ``P`` output size (``H``, or
``proj_size`` if that is set). Symbols: ``x_t`` input ``(B, F)``, ``h`` hidden state ``(B, P)``, ``c`` cell state
``(B, H)``. The input projection ``W_ih x_t + b_ih`` does not depend on the state; :func:`project_input` computes it for
all steps in one product, outside the loop over time.

Sources: LSTM with forget gate: Gers, Schmidhuber, Cummins 2000. Peepholes: Gers, Schraudolph, Schmidhuber 2002.
Coupled gates: Greff et al. 2017, "LSTM: A Search Space Odyssey". Projection: Sak, Senior, Beaufays 2014.
Layer normalization: Ba, Kiros, Hinton 2016, eq. 20-22. GRU: Cho et al. 2014, in the form of cuDNN and torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.int8 import int8_linear

Params = Mapping[str, Tensor]
#: The matrices that :attr:`CellSpec.int8` stores in 8 bits, and the names of their scales.
INT8_SCALES = {"weight_ih": "scale_ih", "weight_hh": "scale_hh", "weight_hr": "scale_hr"}
State = tuple[Tensor, ...]
Gates = dict[str, Tensor]


@dataclass(frozen=True)
class Cell:
    """One kind of cell.

    Attributes:
        states: Names of the states that one step passes to the next, the output first.
        gates: Blocks of ``H`` rows in the weight matrices, in order.
        options: The options of :class:`CellSpec` that this cell has.
        step: ``step(spec, params, gx, h, state) -> (state, gates)``. ``gx (B, G·H)`` is the input projection;
            ``h (B, P)`` is the operand of the recurrent product: the previous output, after recurrent dropout.
    """

    states: tuple[str, ...]
    gates: tuple[str, ...]
    options: frozenset[str]
    step: Callable[[CellSpec, Params, Tensor, Tensor, State], tuple[State, Gates]]


@dataclass(frozen=True)
class CellSpec:
    """The kind of a cell, its sizes and its options.

    Args:
        kind: A name in :data:`CELLS`: ``"lstm"``, ``"gru"``, ``"rnn_tanh"``, ``"rnn_relu"``, or an LSTM without a part.
        input_size: Features per step, ``F``.
        hidden_size: Units, ``H``.
        bias: Whether the gates have biases ``b_ih`` and ``b_hh``.
        proj_size: LSTM only: the output is projected to this many values; 0 means no projection.
        peephole: LSTM only: the gates also read the cell state, with one weight per unit.
        coupled: LSTM only: the input gate is ``1 - forget gate`` and has no weights.
        layer_norm: The input projection and the recurrent projection of the gates are normalized over the units; so is
            the cell state of an LSTM before the output gate.
        int8: The weight matrices are stored in 8 bits, with a scale per row; see :mod:`lstmkit.int8`. For inference.

    Raises:
        ValueError: A size below 1, an unknown kind, or an option that the cell does not have.
    """

    kind: str
    input_size: int
    hidden_size: int
    bias: bool = True
    proj_size: int = 0
    peephole: bool = False
    coupled: bool = False
    layer_norm: bool = False
    int8: bool = False

    def __post_init__(self) -> None:
        if self.kind not in CELLS:
            raise ValueError(f"unknown cell {self.kind!r}; known: {', '.join(CELLS)}")
        if self.input_size < 1 or self.hidden_size < 1:
            raise ValueError(
                f"input_size and hidden_size must be at least 1, got {self.input_size} and {self.hidden_size}"
            )
        if not 0 <= self.proj_size < self.hidden_size:
            raise ValueError(
                f"proj_size must be in 0..{self.hidden_size - 1} (below hidden_size), got {self.proj_size}"
            )
        for option in ("proj_size", "peephole", "coupled", "layer_norm"):
            if getattr(self, option) and option not in self.cell.options:
                raise ValueError(f"the {self.kind} cell has no option {option!r}")

    @property
    def cell(self) -> Cell:
        return CELLS[self.kind]

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the blocks of rows in ``weight_ih`` and ``weight_hh``, in order."""
        return tuple(gate for gate in self.cell.gates if not (self.coupled and gate == "input"))

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Width of each state: first that of the output, then that of the cell state."""
        return (self.output_size, *(self.hidden_size for _ in self.cell.states[1:]))

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights; first those of ``torch.nn``, in its order."""
        rows = len(self.gates) * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.output_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        if self.kind == "lstm_full_gates":
            shapes["weight_gates"] = (3 * self.hidden_size, 3 * self.hidden_size)  # input, forget, output; both ways
        if self.peephole:
            shapes["weight_peep"] = (len(self.gates) - 1, self.hidden_size)  # every gate but the candidate
        if self.layer_norm:
            shapes |= {"weight_ln_ih": (rows,), "weight_ln_hh": (rows,)}
            if "cell" in self.cell.states:
                shapes |= {"weight_ln_c": (self.hidden_size,), "bias_ln_c": (self.hidden_size,)}
        if self.int8:
            shapes |= {scale: shapes[matrix][:1] for matrix, scale in INT8_SCALES.items() if matrix in shapes}
        return shapes


def project_input(spec: CellSpec, p: Params, x: Tensor) -> Tensor:
    """The input projection of the gates for any number of steps: ``(..., F) -> (..., G·H)``."""
    return _affine(spec, x, p, "ih")


def project_state(spec: CellSpec, p: Params, h: Tensor) -> Tensor:
    """The recurrent projection of the gates, from the previous output: ``(B, P) -> (B, G·H)``."""
    return _affine(spec, h, p, "hh")


def project_output(p: Params, h: Tensor) -> Tensor:
    """The projected output of an LSTM: ``(..., H) -> (..., P)``."""
    return _linear(h, p, "hr")


def _affine(spec: CellSpec, x: Tensor, p: Params, which: str) -> Tensor:
    bias = p.get(f"bias_{which}")
    if not spec.layer_norm:
        return _linear(x, p, which, bias)
    product = _linear(x, p, which)
    return F.layer_norm(product, product.shape[-1:], p[f"weight_ln_{which}"], bias)


def _linear(x: Tensor, p: Params, which: str, bias: Tensor | None = None) -> Tensor:
    weight, scale = p[f"weight_{which}"], p.get(f"scale_{which}")
    return F.linear(x, weight, bias) if scale is None else int8_linear(x, weight, scale, bias)


def lstm_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """One step of the LSTM: ``c_t = f ⊙ c + i ⊙ ĉ``;  ``h_t = o ⊙ tanh(c_t)``. States ``h (B, P)`` and ``c (B, H)``."""
    return lstm_update(spec, p, gx + project_state(spec, p, h), state[1])


def lstm_update(
    spec: CellSpec,
    p: Params,
    preactivations: Tensor,
    c: Tensor,
    squash_in: Callable[[Tensor], Tensor] = torch.tanh,
    squash_out: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[State, Gates]:
    """The pointwise part of the LSTM, from ``c`` before the step; a gate that ``spec`` does not have is always open.

    Units are in the last dimension; the dimensions before it may be more than the batch, as in a convolutional LSTM.
    """
    a = dict(zip(spec.gates, preactivations.chunk(len(spec.gates), -1), strict=True))
    peep: dict[str, Tensor] = {}
    if spec.peephole:
        peep = dict(zip((name for name in spec.gates if name != "candidate"), p["weight_peep"].unbind(), strict=True))

    def gate(name: str, cell: Tensor) -> Tensor:
        if name not in a:
            return torch.ones_like(cell)
        return torch.sigmoid(a[name] + peep[name] * cell if peep else a[name])

    f = gate("forget", c)
    i = 1 - f if spec.coupled else gate("input", c)
    g = squash_in(a["candidate"])
    c = f * c + i * g
    o = gate("output", c)
    out = F.layer_norm(c, (spec.hidden_size,), p["weight_ln_c"], p["bias_ln_c"]) if spec.layer_norm else c
    h = o * squash_out(out)
    if spec.proj_size:
        h = project_output(p, h)
    gates = {"input": i, "forget": f, "candidate": g, "output": o}
    return (h, c), {name: gates[name] for name in spec.cell.gates}


def linear_input_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """:func:`lstm_step` without the tanh of the candidate: ``ĉ = W x + U h + b``."""
    return lstm_update(spec, p, gx + project_state(spec, p, h), state[1], squash_in=lambda a: a)


def linear_output_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """:func:`lstm_step` without the tanh of the output: ``h_t = o ⊙ c_t``."""
    return lstm_update(spec, p, gx + project_state(spec, p, h), state[1], squash_out=lambda c: c)


def full_gate_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """:func:`lstm_step` where every gate also reads all three gates of the step before, which are states here."""
    _, c, *gates = state
    i, f, g, o = (gx + project_state(spec, p, h)).chunk(4, -1)
    from_i, from_f, from_o = F.linear(torch.cat(gates, -1), p["weight_gates"]).chunk(3, -1)
    preactivations = torch.cat([i + from_i, f + from_f, g, o + from_o], -1)
    (h, c), new = lstm_update(spec, p, preactivations, c)
    return (h, c, new["input"], new["forget"], new["output"]), new


def gru_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """One step of the GRU: ``h_t = (1 - z) ⊙ n + z ⊙ h``.

    Candidate: ``n = tanh(W_n x + b + r ⊙ (U_n h + b'))``. State ``h (B, H)``.
    """
    return gru_update(gx, project_state(spec, p, h), state[0])


def gru_update(gx: Tensor, gh: Tensor, h: Tensor) -> tuple[State, Gates]:
    """The pointwise part of the GRU, from both projections and ``h`` before the step; units in the last dimension."""
    gx_r, gx_z, gx_n = gx.chunk(3, -1)
    gh_r, gh_z, gh_n = gh.chunk(3, -1)
    r = torch.sigmoid(gx_r + gh_r)
    z = torch.sigmoid(gx_z + gh_z)
    n = torch.tanh(gx_n + r * gh_n)
    return (n + z * (h - n),), {"reset": r, "update": z, "candidate": n}


def rnn_tanh_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """One step of the RNN: ``h_t = tanh(W x + U h + b)``. State ``h (B, H)``."""
    return (torch.tanh(gx + project_state(spec, p, h)),), {}


def rnn_relu_step(spec: CellSpec, p: Params, gx: Tensor, h: Tensor, state: State) -> tuple[State, Gates]:
    """One step of the ReLU RNN: ``h_t = max(0, W x + U h + b)``. State ``h (B, H)``."""
    return (torch.relu(gx + project_state(spec, p, h)),), {}


_LSTM_GATES = ("input", "forget", "candidate", "output")


def _ablated(step: Callable[..., tuple[State, Gates]] = lstm_step, without: str = "") -> Cell:
    """The LSTM with one part removed or changed, for ablations."""
    gates = tuple(gate for gate in _LSTM_GATES if gate != without)
    return Cell(("hidden", "cell"), gates, frozenset({"peephole"}), step)


CELLS: dict[str, Cell] = {
    "lstm": Cell(
        states=("hidden", "cell"),
        gates=_LSTM_GATES,
        options=frozenset({"proj_size", "peephole", "coupled", "layer_norm"}),
        step=lstm_step,
    ),
    "gru": Cell(("hidden",), ("reset", "update", "candidate"), frozenset({"layer_norm"}), gru_step),
    "rnn_tanh": Cell(("hidden",), ("hidden",), frozenset({"layer_norm"}), rnn_tanh_step),
    "rnn_relu": Cell(("hidden",), ("hidden",), frozenset({"layer_norm"}), rnn_relu_step),
    # Ablations for the laboratory (NIG, NFG, NOG, NIAF, NOAF and FGR in Greff et al. 2017).
    "lstm_no_input_gate": _ablated(without="input"),
    "lstm_no_forget_gate": _ablated(without="forget"),
    "lstm_no_output_gate": _ablated(without="output"),
    "lstm_linear_input": _ablated(linear_input_step),
    "lstm_linear_output": _ablated(linear_output_step),
    "lstm_full_gates": Cell(
        ("hidden", "cell", "input", "forget", "output"), _LSTM_GATES, frozenset({"peephole"}), full_gate_step
    ),
}
