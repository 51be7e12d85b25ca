"""A label for every event of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.data.tables.row_encoding import RowEncoding
from lstmkit.decoding.event_decisions import EventDecisions
from lstmkit.runtime.base import ExportedJob, batches_by_length
from lstmkit.runtime.row_sequences import read_rows

_CHUNK = 4096  # events of an entity that run at once


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
        logits = np.empty((len(rows.features), len(self._decisions.classes)))
        sequences = np.split(rows.features, rows.starts[1:-1])
        for entities, lengths in batches_by_length(sequences):
            outputs = self._logits(pad_sequences([sequences[k] for k in entities], 0.0), lengths)
            for entity, of_entity, length in zip(entities, outputs, lengths, strict=True):
                logits[rows.starts[entity] : rows.starts[entity + 1]] = of_entity[:length]
        in_order = np.empty_like(logits)
        in_order[rows.rows] = logits
        probabilities = self._decisions.probabilities(in_order)
        columns = {name: values.tolist() for name, values in self._decisions.columns(probabilities).items()}
        shown = {"id": rows.ids, **({} if rows.times is None else {"time": rows.times}), **columns}
        return [dict(zip(shown, values, strict=True)) for values in zip(*shown.values(), strict=True)]

    def _logits(self, inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Features ``(B, T, F)`` to logits ``(B, T, C)``."""
        if self.settings["bidirectional"]:
            return self.network(inputs=inputs, lengths=lengths)[0]
        chunks, states = [], self.network.zero_states(rows=len(inputs))
        for start in range(0, inputs.shape[1], _CHUNK):
            (chunk,), states = self.network.step(states, inputs=inputs[:, start : start + _CHUNK])
            chunks.append(chunk)
        return np.concatenate(chunks, axis=1)
