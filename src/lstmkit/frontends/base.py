"""Interfaces of front ends: they encode one type of example (text, numeric sequences, …) for the recurrent layers.

A front end is fitted (a vocabulary, a mean and deviation) on the training split only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import nn

from lstmkit.modules.sequence_convolutions import CausalConvEncoder, TextLineEncoder
from lstmkit.progress import Progress


class FrontEnd(Protocol):
    """A front end for classification and regression of whole sequences."""

    kind: ClassVar[str]  #: Type of input, as in the examples.

    def fit(self, inputs: Sequence[Any], progress: Progress) -> None:
        """Fit the encoder on the training split."""
        ...

    def encode(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Encode each example as ids ``(T,)`` or features ``(T, F)``, with at least one step."""
        ...

    def build(self) -> tuple[nn.Module, int]:
        """Build the encoder network of a batch of encoded examples, and return it with its output size."""
        ...

    def steps(self, example: Any) -> list[str]:
        """Label of each step of an example, for figures."""
        ...

    def occlude(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """Occlude the steps from ``start`` to ``end`` (exclusive) of an encoded example."""
        ...

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        """Notes on the encoding, such as truncated inputs."""
        ...

    def state(self) -> dict[str, Any]:
        """Fitted values as JSON values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state`; ``ValueError`` if it is inconsistent."""
        ...


class AlignedFrontEnd(Protocol):
    """A front end for transcription, which maps encoded steps back to positions in the input."""

    kind: ClassVar[str]  #: Type of input, as in the examples.
    unit: ClassVar[str]  #: Unit of positions.

    def fit(self, inputs: Sequence[Any], progress: Progress) -> None:
        """Fit the encoder on the training split."""
        ...

    def encode(self, inputs: Sequence[Any], names: Sequence[str]) -> list[np.ndarray]:
        """Encode each example as features ``(T, F)`` with at least one step; ``names`` are used in messages."""
        ...

    def build(self) -> CausalConvEncoder | TextLineEncoder:
        """Build the encoder network, which shortens sequences by its ``stride``."""
        ...

    def positions(self, example: Any, steps: np.ndarray) -> np.ndarray:
        """Position in the original example where each encoded step begins, ``(N,)``."""
        ...

    def state(self) -> dict[str, Any]:
        """Fitted values as JSON values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state`; ``ValueError`` if it is inconsistent."""
        ...
