"""The state of a recurrent layer, and what a stream needs of a layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from lstmkit.ops.call import Stepper

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
