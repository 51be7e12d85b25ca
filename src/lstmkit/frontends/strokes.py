"""What a pen wrote, point by point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lstmkit.data.ink.resampling import trail
from lstmkit.frontends.features import FeatureFront
from lstmkit.modules.convolutions import StepEncoder
from lstmkit.progress import Progress


@dataclass
class StrokeFront:
    """Strokes ``(N, 3)``, brought to one height and to points of even distance.

    Attributes:
        points: How these are read.
    """

    kind: ClassVar[str] = "strokes"
    unit: ClassVar[str] = "point"

    points: FeatureFront

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        self.points.fit([trail(one).steps for one in inputs], progress)

    def encode(self, inputs: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Of each its even points, ``(T, 4)`` float32."""
        return self.points.encode([trail(one).steps for one in inputs], names)

    def build(self) -> StepEncoder:
        return self.points.build()

    def places(self, example: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Points as they were given, from 0."""
        points = trail(example).points
        return points[np.minimum(steps.astype(int), len(points) - 1)]

    def state(self) -> dict[str, Any]:
        return self.points.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.points.load_state(state)
