"""Front ends: how one kind of example (a text, numbers over time, …) becomes what the recurrent trunk reads.

One small file a kind. What a front end learns (a vocabulary, a scale) it learns from the training part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import nn

from lstmkit.modules.sequence_convolutions import CausalConvEncoder, TextLineEncoder
from lstmkit.progress import Progress


class FrontEnd(Protocol):
    """What a job asks of a front end."""

    kind: ClassVar[str]  #: What it reads, as the examples call it.

    def fit(self, inputs: Sequence[Any], progress: Progress) -> None:
        """Learn from the training part what :meth:`encode` needs."""
        ...

    def encode(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Of each example its ids ``(T,)`` or features ``(T, F)``, at least one step."""
        ...

    def build(self) -> tuple[nn.Module, int]:
        """From a batch of encoded examples to ``(B, T, width)``: the encoder, and ``width``."""
        ...

    def steps(self, example: Any) -> list[str]:
        """What stands at each step of an example as it was given, for pictures."""
        ...

    def without(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """The example with the steps from ``start`` to ``end`` (excluded) erased."""
        ...

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        """What must be known of how the examples were encoded."""
        ...

    def state(self) -> dict[str, Any]:
        """What was learnt, ready for JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave; ``ValueError`` where it does not fit together."""
        ...


class AlignedFrontEnd(Protocol):
    """What a job asks that also says where in an example something stands."""

    kind: ClassVar[str]  #: What it reads, as the examples call it.
    unit: ClassVar[str]  #: What places are counted in.

    def fit(self, inputs: Sequence[Any], progress: Progress) -> None:
        """Learn from the training part what :meth:`encode` needs."""
        ...

    def encode(self, inputs: Sequence[Any], names: Sequence[str]) -> list[np.ndarray]:
        """Of each example its features ``(T, F)``, at least one step; ``names`` are what messages call them."""
        ...

    def build(self) -> CausalConvEncoder | TextLineEncoder:
        """What makes a batch of encoded examples shorter, by its ``stride``."""
        ...

    def places(self, example: Any, steps: np.ndarray) -> np.ndarray:
        """``(N,)``: where in an example, as it was given, encoded steps begin."""
        ...

    def state(self) -> dict[str, Any]:
        """What was learnt, ready for JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave; ``ValueError`` where it does not fit together."""
        ...
