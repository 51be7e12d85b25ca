"""Features over time, as they were given: what a recogniser of speech computes itself, or the sensors of a pen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lstmkit.errors import DataError
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.modules.augmentation import SpecAugment, SpeedPerturbation
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.progress import Progress


@dataclass
class FeatureFrontEnd:
    """Features ``(T, F)``, standardised on the training part, made shorter by convolutions.

    Attributes:
        channels, strides, dropout: As of :class:`CausalConvEncoder`.
        masks: Stretches of time, and as many bands of features, that are hidden in training; 0 for none.
        speed: By which share training is faster or slower at most.
        centred: Whether of each example its own mean is taken away first: what does not change in it, a voice or a
            microphone, is then not seen (cepstral mean normalisation, Atal 1974).
    """

    kind: ClassVar[str] = "features"
    unit: ClassVar[str] = "step"

    channels: int
    strides: tuple[int, ...]
    dropout: float
    masks: int
    speed: float = 0.0
    centred: bool = False
    _scale: StandardizedFrontEnd = field(default_factory=StandardizedFrontEnd, init=False, repr=False)

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        self._scale.fit(self._seen(inputs), progress)

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Each as ``(T, F)`` float32.

        Raises:
            DataError: One has other features than training had.
        """
        for one, name in zip(inputs, names, strict=True):
            if one.shape[1] != self._scale.width:
                raise DataError(f"{name} has {one.shape[1]} features a step, the model reads {self._scale.width}")
        return self._scale.encode(self._seen(inputs))

    def _seen(self, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return [one - one.mean(axis=0) for one in inputs] if self.centred else inputs

    def build(self) -> CausalConvEncoder:
        width = self._scale.width
        masks = SpecAugment(self.masks, 25, self.masks, max(1, width // 5)) if self.masks else None
        tempo = SpeedPerturbation(self.speed) if self.speed else None
        return CausalConvEncoder(width, self.channels, self.strides, dropout=self.dropout, masks=masks, tempo=tempo)

    def places(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Steps as given are those that were encoded."""
        return np.minimum(steps, len(example))

    def state(self) -> dict[str, Any]:
        return self._scale.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._scale.load_state(state)
