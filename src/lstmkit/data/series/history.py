"""The last steps of the series that a model was fitted to, so that newer data can be judged as their continuation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.series_set import SeriesSet


@dataclass(frozen=True)
class History:
    """The last ``K`` observed steps of one series.

    Attributes:
        start: Timestamp of the first of them.
        y: ``(K,)`` float64, NaN where missing; the first value is known.
        covariates: ``(K,)`` by name, float64 or object as in :class:`~lstmkit.data.series.series_set.SeriesSet`.
    """

    start: pd.Timestamp | int
    y: np.ndarray
    covariates: dict[str, np.ndarray]

    @classmethod
    def of(cls, series: SeriesSet, i: int, steps: int) -> History:
        """The last ``steps`` steps of series ``i``, or all that it has; without leading missing values."""
        y = series.y[i]
        begin = max(0, len(y) - steps)
        begin += int(np.argmax(~np.isnan(y[begin:])))
        covariates = {name: values[i][begin : len(y)] for name, values in series.covariates.items()}
        start: Any = series.timestamps(i, begin, begin + 1)[0]
        return cls(start, y[begin:], covariates)

    def to_json(self) -> dict[str, Any]:
        """JSON values; numbers are one text, separated by spaces."""
        columns = {name: _to_json(values) for name, values in self.covariates.items()}
        return {"start": str(self.start), "steps": len(self.y), "y": _to_json(self.y), "covariates": columns}

    @classmethod
    def from_json(cls, state: Mapping[str, Any], start: pd.Timestamp | int) -> History:
        """Restore it from :meth:`to_json`; ``start`` is the parsed timestamp.

        Raises:
            ValueError: Its columns have different lengths, or a value is not finite.
        """
        y = _from_json(state["y"]).astype(np.float64)
        covariates = {name: _from_json(values) for name, values in state["covariates"].items()}
        if any(values.shape != (state["steps"],) for values in (y, *covariates.values())) or np.isnan(y[0]):
            raise ValueError("the history of a series is incomplete")
        if np.isinf(y).any() or pd.isna(start):
            raise ValueError("the history of a series must be finite numbers after a timestamp")
        return cls(start, y, covariates)


def continued(series: SeriesSet, histories: Mapping[str, History]) -> SeriesSet:
    """Put before each series the steps of its history that it does not have itself.

    Steps between the history and the series are missing values. A series stays as it is if it has no history, if it
    begins before its history, or if the gap is longer than the history.

    >>> from lstmkit.data.series.series_set import read_series
    >>> months = pd.DataFrame({"ds": ["2020-01", "2020-02", "2020-03", "2020-04"], "y": [1.0, 2.0, 3.0, 4.0]})
    >>> newer, older = read_series(months[2:]), read_series(months[:3])
    >>> continued(newer, {"series": History.of(older, 0, 3)}).y[0].tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    starts, targets = list(series.starts), list(series.y)
    covariates = {name: list(values) for name, values in series.covariates.items()}
    for i, name in enumerate(series.ids):
        history = histories.get(name)
        steps = 0 if history is None else _steps_between(history.start, series.starts[i], series.freq)
        if history is None or not 0 < steps <= 2 * len(history.y) or history.covariates.keys() != covariates.keys():
            continue
        freq, start = series.freq, series.starts[i]
        starts[i] = start - steps * freq if isinstance(freq, int) else _before(start, steps, freq)  # type: ignore[operator]
        targets[i] = _joined(history.y, targets[i], steps)
        for column, values in covariates.items():
            values[i] = _joined(history.covariates[column], values[i], steps)
    columns = {name: tuple(values) for name, values in covariates.items()}
    return replace(series, starts=tuple(starts), y=tuple(targets), covariates=columns)


def _steps_between(first: Any, second: Any, freq: str | int) -> int:
    """Steps from one timestamp to a later one; 0 if it is not later, or not on the grid."""
    if isinstance(freq, int):
        return (second - first) // freq if second > first and (second - first) % freq == 0 else 0
    if (first.tzinfo is None) != (second.tzinfo is None):
        return 0
    first = first if first.tzinfo is None else first.tz_convert(second.tzinfo)
    grid = pd.date_range(first, second, freq=freq)
    return len(grid) - 1 if len(grid) > 1 and grid[0] == first and grid[-1] == second else 0


def _before(timestamp: Any, steps: int, freq: str) -> Any:
    return pd.date_range(end=timestamp, periods=steps + 1, freq=freq)[0]


def _joined(earlier: np.ndarray, later: np.ndarray, steps: int) -> np.ndarray:
    """The first ``steps`` values of ``earlier``, padded with missing values, before ``later``."""
    dtype = object if object in (earlier.dtype, later.dtype) else np.float64
    gap = np.full(max(0, steps - len(earlier)), None if dtype is object else np.nan, dtype=dtype)
    return np.concatenate([earlier[:steps].astype(dtype), gap, later.astype(dtype)])


def _to_json(values: np.ndarray) -> str | list[str | None]:
    if values.dtype == object:
        return [None if pd.isna(value) else str(value) for value in values]
    return " ".join(map(repr, values.tolist()))


def _from_json(values: str | list[str | None]) -> np.ndarray:
    return np.array(values.split(), dtype=np.float64) if isinstance(values, str) else np.array(values, dtype=object)
