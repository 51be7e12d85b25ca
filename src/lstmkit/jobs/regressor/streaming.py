"""Regression in a stream: one row at a time, with the predictions of the whole sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from lstmkit.data.tables.row_sequences import MAX_VALUE, wall_clock_seconds
from lstmkit.errors import DataError, one_line
from lstmkit.jobs.regressor.predictor import RegressorPredictor


class LiveRegressor:
    """Follows one sequence; ``Regressor.live`` makes it. A step takes the same time after a million others."""

    def __init__(self, predictor: RegressorPredictor) -> None:
        self._predictor = predictor
        self._device = next(predictor.model.eval().parameters()).device
        self._stream = predictor.model.stream()
        self._seconds: float | None = None  # of the last row
        self._steps = 0

    def step(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Predict the targets at the next row.

        Args:
            row: By column the values that the model reads, ``None`` or NaN if missing, and the time if the model was
                fitted to rows with times.

        Returns:
            Prediction and intervals as in the columns of ``Regressor.predict``.

        Raises:
            DataError: A column is missing, a value is of another kind, or the time is before that of the last row.
        """
        predictor, encoding = self._predictor, self._predictor.encoding
        numbers = np.array([[self._number(row, name) for name in encoding.number_names]], dtype=np.float64)
        categories = np.array([[self._category(row, name) for name in encoding.category_names]], dtype=object)
        seconds, clock = self._time(row)
        elapsed = np.array([np.nan if self._seconds is None or seconds is None else seconds - self._seconds])
        if elapsed[0] < 0:
            raise self._error("is before the row of the last step: give rows in the order of time")
        features = encoding.encode(numbers, categories.reshape(1, -1), elapsed, clock)
        with torch.inference_mode():
            outputs = self._stream(torch.from_numpy(features).to(self._device))
        self._seconds, self._steps = seconds, self._steps + 1
        columns = predictor.decoding.columns(predictor.decoding.decode(outputs.float().cpu().numpy()))
        return {name: float(values[0]) for name, values in columns.items()}

    def _error(self, problem: str) -> DataError:
        return DataError(f"step {self._steps + 1} {problem}")

    def _value(self, row: Mapping[str, Any], name: str) -> Any:
        if not isinstance(row, Mapping) or name not in row:
            raise self._error(f"has no {name!r}: give a value for each column, None if it is missing")
        return row[name]

    def _number(self, row: Mapping[str, Any], name: str) -> float:
        value = self._value(row, name)
        if value is None or value is pd.NA:
            return np.nan
        if not isinstance(value, (int, float, np.number, np.bool_)):
            raise self._error(f"has {one_line(repr(value))} in {name!r}, which is not a number")
        if abs(value) > MAX_VALUE:
            raise self._error(f"has {value} in {name!r}: give a finite number, None if it is missing")
        return float(value)

    def _category(self, row: Mapping[str, Any], name: str) -> str | None:
        value = self._value(row, name)
        if value is None or value is pd.NA or value != value or value == "":
            return None
        return str(int(value)) if isinstance(value, (float, bool, np.bool_)) and value == int(value) else str(value)

    def _time(self, row: Mapping[str, Any]) -> tuple[float | None, np.ndarray | None]:
        """The time in seconds, and by the clock on the wall ``(1,)`` if times are dates."""
        predictor = self._predictor
        if predictor.has_dates is None or (predictor.encoding.elapsed is None and not predictor.encoding.periods):
            return None, None
        name = predictor.settings.time_col
        value = self._value(row, name)
        try:
            if not predictor.has_dates:
                return float(value), None
            times = pd.DatetimeIndex([pd.Timestamp(value)])
        except (TypeError, ValueError) as err:
            kind = "a date" if predictor.has_dates else "a number"
            raise self._error(f"has {one_line(repr(value))} in {name!r}, which is not {kind}") from err
        if times.isna()[0]:
            raise self._error(f"has no date in {name!r}")
        return float(times.as_unit("ns").asi8[0] / 1e9), wall_clock_seconds(times)
