"""A linear classifier on features of its own, as a module beside a recurrent classifier."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MixedRegression(nn.Module):
    """Logistic regression whose probabilities are mixed with those of a network.

    Its weights are not trained with the network: :meth:`fit_features` and :meth:`load_regression` set them. It is a
    module so that a classifier is one network when it is saved or exported.

    Args:
        features: Number of features, ``D``.
        classes: Number of classes, ``C``.
        share: Its weight in the probabilities of the classifier, above 0 and below 1.
    """

    kind: str
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("weight", torch.zeros(features, classes))
        self.register_buffer("bias", torch.zeros(classes))

    @property
    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """The arguments of the constructor besides classes and share, as JSON values."""

    @abstractmethod
    def fit_features(self, encoded: Sequence[np.ndarray]) -> Any:
        """Fit the features to ``N`` encoded training examples; returns them, ``(N, D)``, perhaps sparse."""

    @abstractmethod
    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Padded inputs ``(B, T, ...)`` and their lengths to ``(B, C)``."""

    def load_regression(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Set the weights ``(D, C)`` and the bias ``(C,)``."""
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Padded inputs ``(B, T, ...)``, the first ``lengths`` of each row, to log-probabilities ``(B, C)``."""
        return F.log_softmax(self.logits(inputs, lengths), 1)

    def mixed(self, network_logits: Tensor, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Log-probabilities ``(B, C)`` of the mixture of a network with these logits and this regression."""
        network = F.log_softmax(network_logits, 1)
        own = self(inputs, lengths).to(network.dtype)
        return torch.logaddexp(network + math.log1p(-self.share), own + math.log(self.share))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in {**self.sizes, "share": self.share}.items())
