"""Front end for precomputed features over time, such as speech features or pen sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.feature_arrays import check_number_of_features
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.modules.augmentation import SpecAugment, SpeedPerturbation
from lstmkit.modules.preparation import SequenceStandardization
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.progress import Progress


@dataclass
class FeatureFrontEnd:
    """Features ``(T, F)``, standardized on the training split and shortened by strided convolutions.

    Attributes:
        channels, strides, dropout: See :class:`CausalConvEncoder`.
        spec_augment_masks: Number of SpecAugment masks in time, and as many in frequency; 0 for none.
        speed_perturbation: Maximum relative speed perturbation in training.
        mean_normalization: Whether to subtract the mean of each example, which removes constant effects of speaker and
            microphone (cepstral mean normalization, Atal 1974).
    """

    kind: ClassVar[str] = "features"
    unit: ClassVar[str] = "step"

    channels: int
    strides: tuple[int, ...]
    dropout: float
    spec_augment_masks: int
    speed_perturbation: float = 0.0
    mean_normalization: bool = False
    _scaler: StandardizedFrontEnd = field(default_factory=StandardizedFrontEnd, init=False, repr=False)

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        self._scaler.fit(self._center(inputs), progress)

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Standardized features ``(T, F)`` float32 of each example.

        Raises:
            DataError: The number of features differs from training.
        """
        for example, name in zip(inputs, names, strict=True):
            check_number_of_features(example, self._scaler.width, name)
        return self._scaler.encode(self._center(inputs))

    def _center(self, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return [example - example.mean(axis=0) for example in inputs] if self.mean_normalization else inputs

    @property
    def width(self) -> int:
        """Features per step."""
        return self._scaler.width

    def build(self) -> CausalConvEncoder:
        feature_size = self.width
        masks = (
            SpecAugment(self.spec_augment_masks, 25, self.spec_augment_masks, max(1, feature_size // 5))
            if self.spec_augment_masks
            else None
        )
        tempo = SpeedPerturbation(self.speed_perturbation) if self.speed_perturbation else None
        return CausalConvEncoder(
            feature_size, self.channels, self.strides, dropout=self.dropout, masks=masks, tempo=tempo
        )

    def preparation(self) -> SequenceStandardization:
        """:meth:`encode` of padded features as a module, for exported graphs."""
        return SequenceStandardization(self._scaler.preparation(), self.mean_normalization)

    def positions(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Index of the original step, which is that of the encoded step."""
        return np.minimum(steps, len(example))

    def state(self) -> dict[str, Any]:
        return self._scaler.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._scaler.load_state(state)
