"""Anomalies in sensor series."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lstmkit.data.series.sensor_values import VALUES_AT_ONCE
from lstmkit.decoding.anomaly_scores import MAX_CHUNK_STEPS, AnomalyScoring, anomaly_events, prediction_errors
from lstmkit.runtime.base import BATCH, ExportedJob
from lstmkit.runtime.graph import Graph
from lstmkit.runtime.sensors import read_sensors


class AnomalyDetector(ExportedJob):
    """Scores the steps of sensor series and finds alarms. It has no stream: it reads whole series."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._scoring = _Scoring(self)

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Scores, thresholds and alarms of every series.

        Args:
            data: A mapping of column names to lists, a row per step, with all channels of the training data. The column
                of timestamps must have the name of the setting ``time_col``: no other column is taken for it.
                Timestamps are ISO 8601 texts, datetime64, seconds or milliseconds since 1970, or whole numbers. Or an
                array of numbers ``(T,)`` or ``(T, F)``. ``None`` or NaN is a missing value.

        Returns:
            For each series its ``id``, its events ``alarms``, and ``scores`` and ``thresholds`` of every step; 1 is the
            mean score of normal data.

        Raises:
            DataError: The data cannot be read, or a channel of a series has no value at all.
        """
        settings, scoring, records = self.settings, self._scoring, []
        channels = [settings["channels"][column] for column in scoring.scored_columns]
        for one in read_sensors(data, settings["channels"], settings["time_col"], settings["id_col"]):
            inputs, targets = scoring.standardize(one.values)
            channel_scores = scoring.channel_scores(self._errors(inputs, targets))
            scores = scoring.scores(channel_scores, targets)
            thresholds = scoring.thresholds(scores)
            limits = settings["merge_gap"], settings["max_event_steps"]
            events = anomaly_events(one.name, one.times, scores, thresholds, channel_scores, channels, *limits)
            records.append(
                {"id": one.name, "alarms": events, "scores": scores.tolist(), "thresholds": thresholds.tolist()}
            )
        return records

    def _errors(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Absolute errors ``(T, C)`` of one series, NaN where nothing is known."""
        if self.settings["method"] == "prediction":
            states, predictions = self.network.zero_states(rows=1), []
            for start in range(0, len(inputs), MAX_CHUNK_STEPS):
                (chunk,), states = self.network.step(states, inputs=inputs[None, start : start + MAX_CHUNK_STEPS])
                predictions.append(chunk[0])
            return prediction_errors(targets, np.concatenate(predictions), self.settings["horizon"])
        window = self.settings["window"]
        padded = np.concatenate([inputs, np.zeros((window, inputs.shape[1]), inputs.dtype)])
        ends = np.arange(1, len(inputs) + 1)
        starts = np.maximum(0, ends - window)
        last_steps = [
            self.network(inputs=padded[starts[part, None] + np.arange(window)], lengths=(ends - starts)[part])[0]
            for part in (np.arange(i, min(i + BATCH, len(inputs))) for i in range(0, len(inputs), BATCH))
        ]
        return np.abs(targets - np.concatenate(last_steps))


class _Scoring(AnomalyScoring):
    """What is around the network: the same as in the job."""

    def __init__(self, job: AnomalyDetector) -> None:
        values = job.settings
        self.settings = SimpleNamespace(**values)
        self.mean, self.std, self.mean_errors, self.validation_scores = (
            np.array(values[name], dtype=np.float64) for name in ("mean", "std", "mean_errors", "validation_scores")
        )
        level = values["constant_threshold"]
        self.constant_threshold = math.nan if level is None else float(level)
        window = values["subspace_window"]
        self._subspace = _Subspace(job.graphs["subspace"], window) if window else None

    @property
    def scored_columns(self) -> list[int]:
        return [i for i, name in enumerate(self.settings.channels) if name not in self.settings.covariates]

    @property
    def subspace(self) -> _Subspace | None:
        return self._subspace


class _Subspace:
    """The principal subspace of training windows, as a graph."""

    def __init__(self, graph: Graph, window: int) -> None:
        self.graph, self.window = graph, window

    def distances(self, values: np.ndarray) -> np.ndarray:
        if len(values) < self.window:
            return np.zeros(0)
        windows = sliding_window_view(values.astype(np.float64), self.window, axis=0)  # (N, C, W)
        size = max(1, VALUES_AT_ONCE // (windows.shape[1] * self.window))
        return np.concatenate([self.graph(windows=windows[i : i + size])[0] for i in range(0, len(windows), size)])
