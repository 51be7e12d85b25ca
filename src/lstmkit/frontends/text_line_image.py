"""Front end for images of text lines, read column by column from the side where the text begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.vision.image_io import normalize_text_line
from lstmkit.data.vision.line_normalization import VERSION, cut_line, find_line
from lstmkit.modules.augmentation import TextLineAugmentation
from lstmkit.modules.sequence_convolutions import TextLineEncoder
from lstmkit.progress import Progress


@dataclass
class TextLineImageFrontEnd:
    """Grayscale images ``(H, W)``: the line is found, then normalized in height and contrast. Nothing is fitted.

    Attributes:
        height: In pixels, a multiple of 4.
        conv_channels, feature_size, dropout: See :class:`TextLineEncoder`; its output size is ``feature_size``.
        image_augmentation: Strength of the distortion in training, see :class:`TextLineAugmentation`.
        right_to_left: Whether columns are read from the right.
        line_normalization: Version of :mod:`lstmkit.data.vision.line_normalization`; 0 takes images as they are, as
            models of earlier versions do.
    """

    kind: ClassVar[str] = "images"
    unit: ClassVar[str] = "pixel"

    height: int
    conv_channels: int
    feature_size: int
    dropout: float
    image_augmentation: float
    right_to_left: bool = False
    line_normalization: int = VERSION

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        """Nothing is fitted."""

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Columns ``(W, height)`` float32 of each image."""
        return [self._encode(image, name) for image, name in zip(inputs, names, strict=True)]

    def _encode(self, image: np.ndarray, name: str) -> np.ndarray:
        if self.line_normalization:
            image = cut_line(image, find_line(image, name), name)
        columns = normalize_text_line(image, self.height, name)
        return np.ascontiguousarray(columns[::-1]) if self.right_to_left else columns

    def build(self) -> TextLineEncoder:
        noise = TextLineAugmentation(self.image_augmentation) if self.image_augmentation else None
        return TextLineEncoder(self.height, self.conv_channels, self.feature_size, self.dropout, noise)

    def positions(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Pixels from the left of the image."""
        line = find_line(example, "the image") if self.line_normalization else None
        height, width = example.shape if line is None else line.shape
        across = np.minimum(steps * height / self.height, width)
        if self.right_to_left:
            across = width - across
        return across if line is None else line.original_x(across).clip(0, example.shape[1])

    def state(self) -> dict[str, Any]:
        return {"line_normalization": self.line_normalization}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the version of line normalization; a model without one takes images as they are."""
        self.line_normalization = state.get("line_normalization", 0)
        if self.line_normalization not in (0, VERSION):
            raise ValueError(f"unknown version of line normalization: {self.line_normalization!r}")
