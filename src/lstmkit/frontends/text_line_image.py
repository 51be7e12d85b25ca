"""Pictures of lines of text, read column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.vision.image_io import ink
from lstmkit.modules.augmentation import TextLineAugmentation
from lstmkit.modules.sequence_convolutions import TextLineEncoder
from lstmkit.progress import Progress


@dataclass
class TextLineImageFrontEnd:
    """Grey pictures ``(H, W)``, brought to one height and to ink on paper; there is nothing to learn.

    Attributes:
        height: In dots, a multiple of 4.
        channels, width, dropout: Of :class:`TextLineEncoder`, whose output has ``width``.
        noise: How much pictures are bent in training, see :class:`TextLineAugmentation`.
    """

    kind: ClassVar[str] = "lines"
    unit: ClassVar[str] = "pixel"

    height: int
    channels: int
    width: int
    dropout: float
    noise: float

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        """Nothing."""

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Of each its columns, ``(W, height)`` float32."""
        return [ink(one, self.height, name) for one, name in zip(inputs, names, strict=True)]

    def build(self) -> TextLineEncoder:
        noise = TextLineAugmentation(self.noise) if self.noise else None
        return TextLineEncoder(self.height, self.channels, self.width, self.dropout, noise)

    def places(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Dots from the picture's left."""
        return np.minimum(steps * example.shape[0] / self.height, example.shape[1])

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing was learnt."""
