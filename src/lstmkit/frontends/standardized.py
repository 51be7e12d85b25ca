"""Front end for numeric sequences: standardizes each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from lstmkit.data.statistics import SMALLEST_SQUARED, root_mean_square
from lstmkit.errors import DataError
from lstmkit.modules.preparation import Standardization
from lstmkit.progress import Progress

_MIN_STD = 1e-13  # relative to the largest value: what varies less is constant, up to rounding
_FLOAT32_ROUNDING = 2.0**-24  # relative
_MAX_ROUNDING = 1e-3  # in standard deviations; columns that float32 resolves less well are standardized as float64
_FLOAT32_STDS = 1e-30, 1e30  # deviations well within the range of float32


@dataclass
class StandardizedFrontEnd:
    """Standardize sequences ``(T, F)`` with the mean and deviation of each column in the training split.

    Levels are subtracted in float64, so that a small swing at a high level is kept.
    """

    kind: ClassVar[str] = "numbers"

    _mean: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _std: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)

    def fit(self, inputs: Sequence[np.ndarray], progress: Progress) -> None:
        width = inputs[0].shape[1]
        self._mean, self._std = np.zeros(width), np.ones(width)
        self._check(inputs)
        self._mean, self._std = self._statistics(inputs)
        self._mean, self._std = self._statistics([self._round(sequence) for sequence in inputs])

    def _statistics(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation ``(F,)`` of each column; the deviation of a constant column is 1."""
        count = sum(len(sequence) for sequence in inputs)
        mean = np.sum([sequence.sum(axis=0, dtype=np.float64) for sequence in inputs], axis=0) / count
        square = np.sum([np.square(sequence - mean).sum(axis=0) for sequence in inputs], axis=0) / count
        largest = np.max([np.abs(sequence).max(axis=0) for sequence in inputs], axis=0)
        deviation = np.sqrt(square)
        if ((deviation < SMALLEST_SQUARED) & (largest > 0)).any():
            deviation = root_mean_square(np.concatenate([sequence - mean for sequence in inputs]), axis=0)[0]
        return mean, np.where(deviation > _MIN_STD * largest, deviation, 1.0)

    @property
    def float64_columns(self) -> np.ndarray:
        """``(F,)`` true for columns that float32 does not resolve: those whose level is far above their deviation."""
        smallest, largest = _FLOAT32_STDS
        fine = np.abs(self._mean) * _FLOAT32_ROUNDING > _MAX_ROUNDING * self._std
        return fine | (self._std < smallest) | (self._std > largest)

    def _round(self, sequence: np.ndarray) -> np.ndarray:
        """Values ``(T, F)`` rounded to float32, but for :attr:`float64_columns`."""
        if sequence.dtype == np.float32:
            return sequence
        limit = float(np.finfo(np.float32).max)
        return np.where(self.float64_columns, sequence, np.clip(sequence, -limit, limit).astype(np.float32))

    def _check(self, inputs: Sequence[np.ndarray]) -> None:
        for number, sequence in enumerate(inputs, 1):
            if sequence.shape[1] != len(self._mean):
                raise DataError(
                    f"sequence {number} has {sequence.shape[1]} columns, expected {len(self._mean)}: give all "
                    "sequences the same columns"
                )

    def encode(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Standardized sequences ``(T, F)`` float32."""
        self._check(inputs)
        return [((self._round(sequence) - self._mean) / self._std).astype(np.float32) for sequence in inputs]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self._mean)

    def build(self) -> tuple[nn.Module, int]:
        return nn.Identity(), self.width

    def preparation(self) -> Standardization:
        """:meth:`encode` as a module, for exported graphs."""
        return Standardization(self._mean, self._std, self.float64_columns)

    def steps(self, example: np.ndarray) -> list[str]:
        return [str(step) for step in range(1, len(example) + 1)]

    def occlude(self, encoded: np.ndarray, start: int, end: int) -> np.ndarray:
        """Set the steps to the training mean, which is 0 after scaling."""
        occluded = encoded.copy()
        occluded[start:end] = 0
        return occluded

    def notes(self, encoded: Sequence[np.ndarray]) -> list[str]:
        return []

    def state(self) -> dict[str, Any]:
        return {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._mean, self._std = (np.array(state[name], dtype=np.float64) for name in ("mean", "std"))
        if self._mean.ndim != 1 or self._mean.shape != self._std.shape or not len(self._mean):
            raise ValueError("its means and deviations have different shapes")
        if not (np.isfinite(self._mean).all() and np.isfinite(self._std).all() and (self._std > 0).all()):
            raise ValueError("its means or deviations are invalid")
