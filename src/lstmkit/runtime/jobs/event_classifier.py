"""A label for every event of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.tables.row_encoding import RowEncoding
from lstmkit.decoding.event_decisions import EventDecisions
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.row_sequences import read_rows, row_outputs


class EventClassifier(ExportedJob):
    """Classifies events, each by itself and by the past of its entity."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings = self.settings
        self._encoding = RowEncoding.from_state(settings["encoding"])
        self._decisions = EventDecisions(
            tuple(settings["classes"]),
            settings["positive"],
            float(settings["threshold"]),
            float(settings["temperature"]),
            np.array(settings["log_weights"], dtype=np.float64),
        )

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """The label of every event and the probability of each class, in the order of the rows.

        Args:
            data: A mapping of column names to lists, a row per event, with the columns that the job reads. Times are
                ISO 8601 texts, datetime64, Unix times, or numbers. ``None`` or NaN is a missing value.

        Returns:
            ``id, time, label`` and ``p_CLASS`` of each class, for each row.

        Raises:
            DataError: The data cannot be read.
        """
        rows = read_rows(data, self._encoding, self.settings["id_col"], self.settings["time_col"])
        logits = row_outputs(self.network, rows, whole=self.settings["bidirectional"])
        in_order = np.empty_like(logits)
        in_order[rows.rows] = logits
        probabilities = self._decisions.probabilities(in_order)
        columns = {name: values.tolist() for name, values in self._decisions.columns(probabilities).items()}
        shown = {"id": rows.ids, **({} if rows.times is None else {"time": rows.times}), **columns}
        return [dict(zip(shown, values, strict=True)) for values in zip(*shown.values(), strict=True)]
