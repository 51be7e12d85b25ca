"""Regression in a stream: one row at a time, with the predictions of the whole sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lstmkit.data.tables.live_rows import read_time, read_values
from lstmkit.errors import DataError
from lstmkit.jobs.regressor.predictor import RegressorPredictor


class LiveRegressor:
    """Follows one sequence; ``Regressor.live`` makes it. A step takes the same time after a million others."""

    def __init__(self, predictor: RegressorPredictor) -> None:
        self._predictor = predictor
        self._device = next(predictor.model.eval().parameters()).device
        self._stream = predictor.model.stream()
        self._seconds = np.nan  # of the last row

    def step(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Predict the targets at the next row.

        Args:
            row: By column the values that the model reads, ``None`` or NaN if missing, and the time, if the model reads
                times.

        Returns:
            Prediction and intervals as in the columns of ``Regressor.predict``.

        Raises:
            DataError: A column is missing, a value is of another kind, or the time is before that of the last row. The
                state stays as it was.
        """
        predictor, encoding = self._predictor, self._predictor.encoding
        numbers, categories = read_values(row, encoding)
        time = read_time(row, predictor.settings.time_col, encoding)
        if time.seconds < self._seconds:
            earlier = self._seconds - time.seconds
            raise DataError(f"the row is {earlier:,.6g} earlier than the last one: give rows in the order of time")
        elapsed, clock = np.array([time.seconds - self._seconds]), np.array([time.clock])
        features = encoding.encode(numbers[None], categories[None], elapsed, clock)
        with torch.inference_mode():
            outputs = self._stream(torch.from_numpy(features).to(self._device))
        self._seconds = time.seconds
        columns = predictor.decoding.columns(predictor.decoding.decode(outputs.float().cpu().numpy()))
        return {name: float(values[0]) for name, values in columns.items()}
