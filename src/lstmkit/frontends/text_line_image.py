"""Front end for images of text lines, read column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.vision.image_io import normalize_text_line
from lstmkit.modules.augmentation import TextLineAugmentation
from lstmkit.modules.sequence_convolutions import TextLineEncoder
from lstmkit.progress import Progress


@dataclass
class TextLineImageFrontEnd:
    """Grayscale images ``(H, W)``, normalized in height and contrast. Nothing is fitted.

    Attributes:
        height: In pixels, a multiple of 4.
        conv_channels, feature_size, dropout: See :class:`TextLineEncoder`; its output size is ``feature_size``.
        image_augmentation: Strength of the distortion in training, see :class:`TextLineAugmentation`.
    """

    kind: ClassVar[str] = "images"
    unit: ClassVar[str] = "pixel"

    height: int
    conv_channels: int
    feature_size: int
    dropout: float
    image_augmentation: float

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        """Nothing is fitted."""

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Columns ``(W, height)`` float32 of each image."""
        return [normalize_text_line(image, self.height, name) for image, name in zip(inputs, names, strict=True)]

    def build(self) -> TextLineEncoder:
        noise = TextLineAugmentation(self.image_augmentation) if self.image_augmentation else None
        return TextLineEncoder(self.height, self.conv_channels, self.feature_size, self.dropout, noise)

    def positions(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Pixels from the left of the image."""
        return np.minimum(steps * example.shape[0] / self.height, example.shape[1])

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing is restored."""
