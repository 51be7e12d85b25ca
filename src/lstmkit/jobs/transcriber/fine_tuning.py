"""Training that begins with the weights of an earlier run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstmkit.errors import SettingError


@dataclass(frozen=True)
class PretrainedWeights:
    """The weights of another model, whose classes are the first of the new one's.

    Attributes:
        name: Where they are from.
        weights: By name.
    """

    name: str
    weights: dict[str, Tensor]

    def check(self, model: nn.Module) -> None:
        """Raise SettingError where the model is of another shape, but for further classes."""
        own = model.state_dict()
        odd = sorted(own.keys() ^ self.weights.keys())
        odd += [n for n, t in self.weights.items() if n in own and not _fits(n, t, own[n])]
        if odd:
            raise SettingError(
                f"the model in {self.name} has another shape ({odd[0]}): give the sizes that it was fitted with"
            )

    @torch.no_grad()
    def load_into(self, model: nn.Module) -> None:
        """Take over all weights; those of new classes stay as they are."""
        own = model.state_dict()
        for name, weight in self.weights.items():
            if name in own and _fits(name, weight, own[name]):
                own[name][: len(weight)].copy_(weight)


def _fits(name: str, weight: Tensor, own: Tensor) -> bool:
    """The same shape, or, of the head, as many rows at least."""
    if name.startswith("head."):
        return weight.shape[1:] == own.shape[1:] and len(weight) <= len(own)
    return weight.shape == own.shape
