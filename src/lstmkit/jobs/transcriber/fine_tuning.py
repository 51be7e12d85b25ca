"""Fine-tuning: training starts from the weights of an earlier run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstmkit.errors import SettingError


@dataclass(frozen=True)
class PretrainedWeights:
    """The weights of another model, whose classes come first in the new one.

    Attributes:
        name: The run that they come from.
        weights: Tensors by name.
    """

    name: str
    weights: dict[str, Tensor]

    def check(self, model: nn.Module) -> None:
        """Raise SettingError if shapes differ, apart from additional classes."""
        current = model.state_dict()
        different = sorted(current.keys() ^ self.weights.keys())
        different += [n for n, t in self.weights.items() if n in current and not _shapes_match(n, t, current[n])]
        if different:
            raise SettingError(
                f"the model in {self.name} has another shape ({different[0]}): give the sizes that it was fitted with"
            )

    @torch.no_grad()
    def load_into(self, model: nn.Module) -> None:
        """Copy all weights; those of new classes keep their initial values."""
        current = model.state_dict()
        for name, weight in self.weights.items():
            if name in current and _shapes_match(name, weight, current[name]):
                current[name][: len(weight)].copy_(weight)


def _shapes_match(name: str, weight: Tensor, own: Tensor) -> bool:
    """Same shape; in the head the new model may have more rows."""
    if name.startswith("head."):
        return weight.shape[1:] == own.shape[1:] and len(weight) <= len(own)
    return weight.shape == own.shape
