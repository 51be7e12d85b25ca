"""Numbers from sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.tables.row_encoding import RowEncoding, elapsed_times
from lstmkit.decoding.regression import TargetDecoding
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.rows import read_rows, require_times

_CHUNK_STEPS = 4096  # that are computed at once


class Regressor(ExportedJob):
    """Predicts numbers for each row, or for each sequence of rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._encoding = RowEncoding.from_state(self.settings["encoding"])
        self._decoding = TargetDecoding.from_state(self.settings["targets"])

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Predictions and intervals.

        Args:
            data: A mapping of column names to lists, a row per step, with the columns of the training data. Dates are
                ISO 8601 texts or datetime64. ``None`` or NaN is a missing value.

        Returns:
            For each row in the order of the data, or with ``predict_at="last_step"`` for each sequence, its id and
            time, if there are some, and for each target ``NAME``, ``NAME-lo-80``, ``NAME-hi-80`` and so on.

        Raises:
            DataError: The data cannot be read.
        """
        settings, encoding = self.settings, self._encoding
        id_col, time_col = settings["id_col"], settings["time_col"]
        rows = read_rows(
            data,
            encoding.number_names,
            encoding.category_names,
            id_col=id_col,
            time_col=time_col,
            has_dates=settings["has_dates"],
        )
        if encoding.elapsed is not None or encoding.periods:
            require_times(rows, time_col)
        elapsed = None if rows.seconds is None else elapsed_times(rows.seconds, rows.starts)
        features = encoding.encode(rows.numbers, rows.categories, elapsed, rows.clock)
        outputs = np.concatenate([self._outputs(part) for part in np.split(features, rows.starts[1:-1])])
        last_step = settings["predict_at"] == "last_step"
        answered = rows.starts[1:] - 1 if last_step else np.argsort(rows.rows, kind="stable")
        columns = self._decoding.columns(self._decoding.decode(outputs).at(answered))
        entities = np.repeat(np.arange(len(rows.names)), np.diff(rows.starts))
        records = []
        for i, row in enumerate(answered.tolist()):
            record: dict[str, Any] = {id_col: rows.names[entities[row]]} if rows.has_ids else {}
            if rows.times is not None:
                record[time_col] = rows.times[row]
            records.append(record | {name: float(values[i]) for name, values in columns.items()})
        return records

    def _outputs(self, features: np.ndarray) -> np.ndarray:
        """Outputs ``(T, K·Q)`` of one sequence."""
        states, outputs = self.network.zero_states(rows=1), []
        for start in range(0, len(features), _CHUNK_STEPS):
            (chunk,), states = self.network.step(states, inputs=features[None, start : start + _CHUNK_STEPS])
            outputs.append(chunk[0])
        return np.concatenate(outputs)
