"""Modules that load weights saved under the names of an earlier version."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn


class RenamedWeights(nn.Module):
    """Base class of modules whose parameters or submodules had other names in an earlier version.

    Attributes:
        old_names: Current name of each parameter or submodule by its old name.

    >>> class Layer(RenamedWeights):
    ...     old_names = {"told": "linear"}
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(2, 2)
    >>> layer = Layer()
    >>> layer.load_state_dict({f"told.{name}": weight for name, weight in layer.linear.state_dict().items()})
    <All keys matched successfully>
    """

    old_names: ClassVar[dict[str, str]] = {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for old, new in self.old_names.items():
            start = prefix + old
            for key in [key for key in state_dict if key == start or key.startswith(f"{start}.")]:
                state_dict[prefix + new + key[len(start) :]] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
