"""The state of a recurrent layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


LayerState = Tensor | tuple[Tensor, ...]


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What a surrounding ``torch.autocast`` computes in on ``x``'s device, if there is one."""
    if x.is_cpu and not torch.is_autocast_enabled("cpu"):
        return None
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None
