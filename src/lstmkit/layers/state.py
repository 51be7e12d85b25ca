"""The state of a recurrent layer, and what a stream needs of a layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from lstmkit.ops.call import Stepper
from lstmkit.ops.recording import is_recorded

LayerState = Tensor | tuple[Tensor, ...]


class StreamableLayer(Protocol):
    """What :class:`lstmkit.layers.stream.Stream` needs of a layer.

    Attributes:
        batch_first: Whether several steps are ``(B, T, F)`` rather than ``(T, B, F)``.
        bidirectional: Whether there is a reversed direction; such a layer cannot stream.
        training: Whether the layer is in training mode.
        output_size: Width of the output of one step.
    """

    batch_first: bool
    bidirectional: bool
    training: bool
    output_size: int

    def __call__(self, x: Tensor, state: LayerState | None) -> Any:
        """Run all steps of ``x``; return the output and the final state."""
        ...

    def stored_parameters(self) -> Collection[Tensor | None]:
        """The parameters that the layer holds now, in a fixed order."""
        ...

    def make_stepper(self, x: Tensor, state: LayerState | None) -> Stepper | None:
        """A stepper for steps like ``x (B, F)`` that starts from ``state``; ``None`` if there can be none."""
        ...


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of an active ``torch.autocast`` on the device of ``x``, or ``None``."""
    if x.is_cpu and not torch.is_autocast_enabled("cpu"):
        return None
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def check_lengths(lengths: Tensor, batch: int, steps: int) -> None:
    """Raise ValueError unless ``lengths`` are ``(batch,)`` integers in ``0..steps``; a recording reads no values."""
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
    if batch and (lengths.is_floating_point() or lengths.dtype == torch.bool):  # an empty list becomes float
        raise ValueError(f"lengths must be integers, got {lengths.dtype}")
    if not is_recorded() and batch and not bool(((lengths >= 0) & (lengths <= steps)).all()):
        raise ValueError(f"lengths must be in 0..{steps}, got {int(lengths.min())}..{int(lengths.max())}")
