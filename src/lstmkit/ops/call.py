"""The interface of a back end: a call for one recurrent layer over time, in one or two directions, and its result.

Dimensions: ``T`` steps, ``B`` batch, ``F`` input features, ``H`` hidden units, ``P`` output size, ``D`` directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lstmkit.cells import CellSpec, Gates, Params, State

Zoneout = tuple[float | Tensor, ...]


class Pass(NamedTuple):
    """One direction through time.

    Attributes:
        params: Weights by the names of ``CellSpec.parameter_shapes``.
        state: Initial state, one ``(B, size)`` tensor for each of ``CellSpec.state_sizes``; empty for zeros.
        reverse: Whether the pass runs from the last step of each sequence to its first.
        recurrent_mask: ``(B, P)``, multiplies the previous output where the gates read it, the same at all steps;
            ``None`` for no recurrent dropout.
        zoneout: For each state, how much of its old value is kept: a ``(T, B, size)`` mask, or a probability;
            ``None`` for no zoneout.
    """

    params: Params
    state: State = ()
    reverse: bool = False
    recurrent_mask: Tensor | None = None
    zoneout: Zoneout | None = None


class Call(NamedTuple):
    """The work of one layer.

    Attributes:
        spec: The cell.
        x: Input ``(T, B, F)`` with any strides, so that a batch-first tensor is transposed without a copy.
        passes: One pass, or the forward and the reversed pass.
        lengths: ``(B,)`` integers in ``0..T``, or ``None`` if every sequence has ``T`` steps.
        trace: Whether to return the gates and states of every step.
        recompute: Whether the backward pass should recompute the steps instead of saving them; back ends may ignore it.
    """

    spec: CellSpec
    x: Tensor
    passes: tuple[Pass, ...]
    lengths: Tensor | None = None
    trace: bool = False
    recompute: bool = False

    def state_of(self, p: Pass) -> State:
        """The initial state of one of the passes as tensors; zeros if it is empty."""
        return p.state or tuple(self.x.new_zeros(self.x.shape[1], size) for size in self.spec.state_sizes)


class PassResult(NamedTuple):
    """The result of one pass.

    Attributes:
        output: ``(T, B, P)``, zero past the end of a sequence.
        state: The state after the last step of each sequence (reversed: its first), ``(B, size)`` each.
        trace: If requested: gates, ``"hidden"`` and ``"cell"`` by name, ``(T, B, size)`` each, zero past the end.
    """

    output: Tensor
    state: State
    trace: Gates | None = None


class Result(NamedTuple):
    """The result of a layer, with its passes concatenated.

    Attributes:
        output: ``(T, B, D·P)``.
        state: ``(D, B, size)`` for each of the cell's states.
        traces: One trace per pass, if requested.
    """

    output: Tensor
    state: State
    traces: tuple[Gates, ...] | None = None

    @staticmethod
    def of(passes: Sequence[PassResult]) -> Result:
        """Concatenate the results of the passes."""
        output = passes[0].output if len(passes) == 1 else torch.cat([p.output for p in passes], -1)
        state = tuple(torch.stack(parts) for parts in zip(*(p.state for p in passes), strict=True))
        traces = tuple(p.trace for p in passes if p.trace is not None)
        return Result(output, state, traces or None)

    def passes(self) -> list[PassResult]:
        """The results of the single passes."""
        count = self.state[0].shape[0]
        outputs = self.output.chunk(count, dim=-1)
        traces = self.traces or (None,) * count
        return [PassResult(outputs[i], tuple(s[i] for s in self.state), traces[i]) for i in range(count)]


class Stepper(Protocol):
    """A stack of layers that runs one step per call and keeps its state."""

    def __call__(self, x: Tensor, out: Tensor | None) -> Tensor | None:
        """Run one step ``(B, F) -> (B, P)``, written to ``out`` or to a new tensor.

        Returns ``None`` and does nothing if ``x`` is not contiguous, or not of the shape, dtype, device or class that
        the stepper was made for.
        """
        ...

    def state(self) -> State:
        """The state after the last step, ``(layers, B, size)`` for each of the cell's states."""
        ...


class Backend(Protocol):
    """A way to compute a :class:`Call`: a module with these three names.

    A fourth name is optional: ``Stepper(calls, residual)``, a :class:`Stepper` over one step of each layer of a stack.
    """

    NAME: str

    def unsupported_reason(self, call: Call) -> str | None:
        """Why this back end cannot run the call, or ``None`` if it can."""
        ...

    def run(self, call: Call) -> Result: ...
