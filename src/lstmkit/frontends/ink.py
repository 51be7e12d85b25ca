"""Front end for digital ink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.ink.resampling import resample_ink
from lstmkit.frontends.features import FeatureFrontEnd
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.progress import Progress


@dataclass
class StrokeFrontEnd:
    """Strokes ``(N, 3)``, normalized in height and resampled to equidistant points.

    Attributes:
        points: Front end for the features of the points.
    """

    kind: ClassVar[str] = "strokes"
    unit: ClassVar[str] = "point"

    points: FeatureFrontEnd

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        self.points.fit([resample_ink(ink).steps for ink in inputs], progress)

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Resampled points ``(T, 4)`` float32 of each ink."""
        return self.points.encode([resample_ink(ink).steps for ink in inputs], names)

    def build(self) -> CausalConvEncoder:
        return self.points.build()

    def positions(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Index of the original point, from 0."""
        points = resample_ink(example).points
        return points[np.minimum(steps.astype(int), len(points) - 1)]

    def state(self) -> dict[str, Any]:
        return self.points.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.points.load_state(state)
