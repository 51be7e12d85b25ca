"""Numbers from sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.tables.row_encoding import RowEncoding
from lstmkit.decoding.regression import TargetDecoding
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.row_sequences import read_rows, row_outputs


class Regressor(ExportedJob):
    """Predicts numbers for each row, or for each sequence of rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._encoding = RowEncoding.from_state(self.settings["encoding"])
        self._decoding = TargetDecoding.from_state(self.settings["targets"])

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Predictions and intervals.

        Args:
            data: A mapping of column names to lists, a row per step, with the columns that the job reads. Times are
                ISO 8601 texts, datetime64, Unix times, or numbers. ``None`` or NaN is a missing value.

        Returns:
            For each row in the order of the data, or with ``predict_at="last_step"`` for each sequence, its id and
            time, if there are some, and for each target ``NAME``, ``NAME-lo-80``, ``NAME-hi-80`` and so on.

        Raises:
            DataError: The data cannot be read.
        """
        settings = self.settings
        id_col, time_col = settings["id_col"], settings["time_col"]
        rows = read_rows(data, self._encoding, id_col, time_col)
        outputs = row_outputs(self.network, rows)
        last_step = settings["predict_at"] == "last_step"
        answered = rows.starts[1:] - 1 if last_step else np.argsort(rows.rows, kind="stable")
        columns = self._decoding.columns(self._decoding.decode(outputs).at(answered))
        shown: dict[str, list[Any]] = {}
        positions = rows.rows[answered].tolist()
        if id_col in data:
            shown[id_col] = [rows.ids[position] for position in positions]
        if rows.times is not None:
            shown[time_col] = [rows.times[position] for position in positions]
        shown |= {name: values.tolist() for name, values in columns.items()}
        return [dict(zip(shown, values, strict=True)) for values in zip(*shown.values(), strict=True)]
