"""From the outputs of a regression network to predictions with intervals in the units of the targets.

Needs numpy only. Legend: R rows, K targets, L intervals, Q quantiles of a target (1 for points, else 2L + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self


class Predictions(NamedTuple):
    """Predictions and intervals.

    Attributes:
        values: ``(R, K)`` predictions.
        low, high: ``(R, K, L)`` bounds of the intervals.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, rows: Any) -> Predictions:
        """Those of some rows."""
        return Predictions(self.values[rows], self.low[rows], self.high[rows])


@dataclass(frozen=True, eq=False)
class TargetDecoding:
    """Scales of the targets, and widths of the intervals.

    Attributes:
        names: ``K`` targets.
        mean, std: ``(K,)`` of the training targets.
        levels: ``L`` levels of intervals in percent, ascending.
        has_quantiles: Whether the network predicts quantiles instead of one value.
        max_target: Largest value of a target; 0 for no limit.
        widths: ``(K, L)`` by which intervals are widened on each side, in the units of the targets.
        num_calibrated: Values that the widths are fitted to.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    levels: tuple[int, ...]
    has_quantiles: bool
    max_target: float
    widths: np.ndarray
    num_calibrated: int = 0

    @classmethod
    def fitted(
        cls, names: Sequence[str], targets: np.ndarray, levels: Sequence[int], *, quantiles: bool, max_target: float
    ) -> Self:
        """Fit the scales to training targets ``(R, K)``, NaN where unknown; each has two values or more."""
        mean, std = np.nanmean(targets, axis=0), np.nanstd(targets, axis=0)
        widths = np.zeros((len(names), len(levels)))
        return cls(tuple(names), mean, std, tuple(sorted(levels)), quantiles, max_target, widths)

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """The ``Q`` levels in (0, 1), ascending; none for a point prediction."""
        if not self.has_quantiles:
            return ()
        tails = [(100 - level) / 200 for level in reversed(self.levels)]
        return (*tails, 0.5, *(1 - tail for tail in reversed(tails)))

    def capped(self, targets: np.ndarray) -> np.ndarray:
        """Targets in their units, at most :attr:`max_target`."""
        return np.minimum(targets, self.max_target) if self.max_target else targets

    def standardize(self, targets: np.ndarray) -> np.ndarray:
        """Targets ``(R, K)`` in their units to standardized ones."""
        return (targets - self.mean) / self.std

    def decode(self, outputs: np.ndarray) -> Predictions:
        """Outputs of the network ``(R, K·Q)`` to predictions and intervals."""
        quantiles = np.asarray(outputs, dtype=np.float64).reshape(len(outputs), len(self.names), -1)
        quantiles = np.sort(quantiles, axis=2) * self.std[:, None] + self.mean[:, None]
        middle, count = quantiles.shape[2] // 2, len(self.levels)
        values = quantiles[:, :, middle]
        if self.has_quantiles:
            low, high = quantiles[:, :, :middle][:, :, ::-1], quantiles[:, :, middle + 1 :]
        else:
            low = high = np.repeat(values[:, :, None], count, axis=2)
        low, high = np.minimum(low - self.widths, values[..., None]), np.maximum(high + self.widths, values[..., None])
        return Predictions(self.capped(values), self.capped(low), self.capped(high))

    def without_widths(self) -> Self:
        """The same before calibration."""
        return replace(self, widths=np.zeros_like(self.widths), num_calibrated=0)

    def columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """Columns of a table ``(R,)`` by name: ``y``, ``y-lo-80``, ``y-hi-80``, … for a target ``y``."""
        columns = {}
        for k, name in enumerate(self.names):
            columns[name] = predictions.values[:, k]
            for i, level in enumerate(self.levels):
                columns[f"{name}-lo-{level}"] = predictions.low[:, k, i]
                columns[f"{name}-hi-{level}"] = predictions.high[:, k, i]
        return columns

    def state(self) -> dict[str, Any]:
        """Everything that was fitted, ready for JSON."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "levels": list(self.levels),
            "has_quantiles": self.has_quantiles,
            "max_target": self.max_target,
            "widths": self.widths.tolist(),
            "num_calibrated": self.num_calibrated,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`state`.

        Raises:
            LookupError, TypeError, ValueError: The state is damaged.
        """
        count, cap = state["num_calibrated"], state["max_target"]
        decoding = cls(
            tuple(state["names"]),
            np.array(state["mean"], dtype=np.float64),
            np.array(state["std"], dtype=np.float64),
            tuple(state["levels"]),
            state["has_quantiles"],
            float(cap),
            np.array(state["widths"], dtype=np.float64),
            int(count),
        )
        if isinstance(count, bool) or isinstance(cap, bool) or count < 0 or not 0 <= cap < np.inf:
            raise ValueError("its largest target or its number of calibration values is invalid")
        decoding._check()
        return decoding

    def _check(self) -> None:
        names, levels = self.names, self.levels
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError("its targets are not distinct texts")
        whole = all(isinstance(level, int) and not isinstance(level, bool) and 0 < level < 100 for level in levels)
        if not whole or list(levels) != sorted(set(levels)) or not isinstance(self.has_quantiles, bool):
            raise ValueError("its levels of intervals are invalid")
        sizes = {"mean": (len(names),), "std": (len(names),), "widths": (len(names), len(levels))}
        for name, shape in sizes.items():
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"its {name} is invalid")
        if not (self.std > 0).all():
            raise ValueError("a deviation of its targets is not positive")
