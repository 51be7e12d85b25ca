"""What a back end is asked and what it answers: one recurrent layer over time, one or two directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lstmkit.cells import CellSpec, Params, State

Zoneout = tuple[float | Tensor, ...]


@dataclass(frozen=True)
class Pass:
    """One direction through time.

    Attributes:
        params: Weights by the names of ``CellSpec.parameter_shapes``.
        state: Initial state, one ``(B, size)`` tensor for each of ``CellSpec.state_sizes``.
        reverse: From each sequence's own last step to its first.
        recurrent_mask: ``(B, P)``, multiplies the previous output wherever the gates see it, the same at all steps;
            ``None`` for no recurrent dropout.
        zoneout: For each state how much of its old value is kept: a ``(T, B, size)`` mask, or one number;
            ``None`` for no zoneout.
    """

    params: Params
    state: State
    reverse: bool = False
    recurrent_mask: Tensor | None = None
    zoneout: Zoneout | None = None


@dataclass(frozen=True)
class Call:
    """One layer's work.

    Attributes:
        spec: The cell.
        x: Input ``(T, B, F)``; any strides, so a batch-first tensor comes transposed and uncopied.
        passes: One pass, or the forward and the reversed one.
        lengths: ``(B,)`` whole numbers in ``0..T``, or ``None`` where every sequence has ``T`` steps.
        trace: Whether gates and states of every step are wanted.
    """

    spec: CellSpec
    x: Tensor
    passes: tuple[Pass, ...]
    lengths: Tensor | None = None
    trace: bool = False


@dataclass(frozen=True)
class Result:
    """What one pass gives.

    Attributes:
        output: ``(T, B, P)``, zero past a sequence's end.
        state: The state after each sequence's own last step (reversed: its first).
        trace: Gates, ``"hidden"`` and ``"cell"`` by name, ``(T, B, size)`` each, zero past the end; if asked for.
    """

    output: Tensor
    state: State
    trace: dict[str, Tensor] | None = None


class Backend(Protocol):
    """One way to compute a :class:`Call`. A new one is a module with these three names."""

    NAME: str

    def refusal(self, call: Call) -> str | None:
        """Why this back end cannot run the call, or ``None`` if it can."""
        ...

    def run(self, call: Call) -> list[Result]:
        """One result for each pass."""
        ...
