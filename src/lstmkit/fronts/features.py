"""Features over time, as they were given: what a recogniser of speech computes itself, or the sensors of a pen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lstmkit.fronts.numbers import NumberFront
from lstmkit.parts.convolutions import StepEncoder
from lstmkit.parts.noise import Masks
from lstmkit.progress import Progress


@dataclass
class FeatureFront:
    """Features ``(T, F)``, standardised on the training part, made shorter by convolutions.

    Attributes:
        channels, strides, dropout: As of :class:`StepEncoder`.
        masks: Stretches of time, and as many bands of features, that are hidden in training; 0 for none.
    """

    kind: ClassVar[str] = "features"
    unit: ClassVar[str] = "step"

    channels: int
    strides: tuple[int, ...]
    dropout: float
    masks: int
    _scale: NumberFront = field(default_factory=NumberFront, init=False, repr=False)

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        self._scale.fit(inputs, progress)

    def encode(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each as ``(T, F)`` float32."""
        return self._scale.encode(inputs)

    def build(self) -> StepEncoder:
        width = self._scale.width
        masks = Masks(self.masks, 25, self.masks, max(1, width // 5)) if self.masks else None
        return StepEncoder(width, self.channels, self.strides, dropout=self.dropout, masks=masks)

    def places(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Steps as given are those that were encoded."""
        return np.minimum(steps, len(example))

    def state(self) -> dict[str, Any]:
        return self._scale.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._scale.load_state(state)
