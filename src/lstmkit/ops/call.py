"""What a back end is asked and what it answers: one recurrent layer over time, one or two directions."""

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
        state: Initial state, one ``(B, size)`` tensor for each of ``CellSpec.state_sizes``; empty for zero.
        reverse: From each sequence's own last step to its first.
        recurrent_mask: ``(B, P)``, multiplies the previous output wherever the gates see it, the same at all steps;
            ``None`` for no recurrent dropout.
        zoneout: For each state how much of its old value is kept: a ``(T, B, size)`` mask, or one number;
            ``None`` for no zoneout.
    """

    params: Params
    state: State = ()
    reverse: bool = False
    recurrent_mask: Tensor | None = None
    zoneout: Zoneout | None = None


class Call(NamedTuple):
    """One layer's work.

    Attributes:
        spec: The cell.
        x: Input ``(T, B, F)``; any strides, so a batch-first tensor comes transposed and uncopied.
        passes: One pass, or the forward and the reversed one.
        lengths: ``(B,)`` whole numbers in ``0..T``, or ``None`` where every sequence has ``T`` steps.
        trace: Whether gates and states of every step are wanted.
        recompute: Whether backward should do the steps again rather than keep them all; a back end may not have it.
    """

    spec: CellSpec
    x: Tensor
    passes: tuple[Pass, ...]
    lengths: Tensor | None = None
    trace: bool = False
    recompute: bool = False

    def state_of(self, p: Pass) -> State:
        """The initial state of one of the passes, in tensors."""
        return p.state or tuple(self.x.new_zeros(self.x.shape[1], size) for size in self.spec.state_sizes)


class PassResult(NamedTuple):
    """What one pass gives.

    Attributes:
        output: ``(T, B, P)``, zero past a sequence's end.
        state: The state after each sequence's own last step (reversed: its first), ``(B, size)`` each.
        trace: Gates, ``"hidden"`` and ``"cell"`` by name, ``(T, B, size)`` each, zero past the end; if asked for.
    """

    output: Tensor
    state: State
    trace: Gates | None = None


class Result(NamedTuple):
    """What a layer gives, its passes side by side.

    Attributes:
        output: ``(T, B, D·P)``.
        state: ``(D, B, size)`` for each of the cell's states.
        traces: One a pass, if asked for.
    """

    output: Tensor
    state: State
    traces: tuple[Gates, ...] | None = None

    @staticmethod
    def of(passes: Sequence[PassResult]) -> Result:
        output = passes[0].output if len(passes) == 1 else torch.cat([p.output for p in passes], -1)
        state = tuple(torch.stack(parts) for parts in zip(*(p.state for p in passes), strict=True))
        traces = tuple(p.trace for p in passes if p.trace is not None)
        return Result(output, state, traces or None)

    def passes(self) -> list[PassResult]:
        count = self.state[0].shape[0]
        outputs = self.output.chunk(count, dim=-1)
        traces = self.traces or (None,) * count
        return [PassResult(outputs[i], tuple(s[i] for s in self.state), traces[i]) for i in range(count)]


class Stepper(Protocol):
    """A stack of layers that runs step by step and keeps its state."""

    def __call__(self, x: Tensor, out: Tensor | None) -> Tensor | None:
        """One step, ``(B, F) -> (B, P)``, written to ``out`` or to a new tensor.

        ``None`` where nothing was done: for another shape, dtype, device or class of tensor than it was made for, or
        numbers that do not lie side by side.
        """
        ...

    def state(self) -> State:
        """The state after the last step, ``(layers, B, size)`` for each of the cell's states."""
        ...


class Backend(Protocol):
    """One way to compute a :class:`Call`. A new one is a module with these three names.

    It may have a fourth, ``Stepper(calls, residual)``: a :class:`Stepper` over one step of each layer of a stack.
    """

    NAME: str

    def unsupported_reason(self, call: Call) -> str | None:
        """Why this back end cannot run the call, or ``None`` if it can."""
        ...

    def run(self, call: Call) -> Result: ...
