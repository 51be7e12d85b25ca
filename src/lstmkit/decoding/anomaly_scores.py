"""From errors of a network to anomaly scores, thresholds and events.

Legend: T steps, C scored channels, F channels that the model reads (scored channels and covariates).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lstmkit.data.series.sensor_values import forward_fill
from lstmkit.evaluation.anomaly_thresholds import (
    dynamic_thresholds,
    moving_average_thresholds,
    rolling_quantile_thresholds,
    true_runs,
)

MAX_CHUNK_STEPS = 4096  #: Steps in one forward pass, so that a long series needs little memory.
_MAX_INPUT_STD = 10.0  # standard deviations at which the model's inputs are clipped; its targets are not
_MAX_ERROR_STD = 1e9  # standard deviations at which targets are clipped
_ROUNDING = 1e-4  # relative; a threshold lies that far above the score it came from


class Subspace(Protocol):
    """The principal subspace of training windows: :class:`~lstmkit.modules.principal_subspace.PrincipalSubspace`."""

    @property
    def window(self) -> int:
        """Steps per window, ``W``."""
        ...

    def distances(self, values: np.ndarray) -> np.ndarray:
        """Scores ``(T - W + 1,)`` of the windows of a series ``(T, C)``; none if it is shorter than a window."""
        ...


class AnomalyScoring(ABC):
    """What a fitted detector and its runtime do around the network. It needs no torch.

    Attributes:
        settings: Settings of the detector.
        mean, std: ``(F,)`` of the training split.
        mean_errors: ``(C,)`` mean error of each scored channel on normal data: the unit of scores.
        validation_scores: The last scores of the validation split, where an adaptive threshold begins.
        constant_threshold: The threshold; NaN if it changes from step to step.
    """

    settings: Any
    mean: np.ndarray
    std: np.ndarray
    mean_errors: np.ndarray
    validation_scores: np.ndarray
    constant_threshold: float

    @property
    @abstractmethod
    def scored_columns(self) -> list[int]:
        """Places of the scored channels among all channels."""

    @property
    @abstractmethod
    def subspace(self) -> Subspace | None:
        """The principal subspace of training windows; ``None`` without one."""

    def standardize(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(T, F)`` in their own units to inputs ``(T, F)`` and targets ``(T, C)``.

        Inputs repeat the last value where one is missing; targets are NaN there.
        """
        values = np.clip((values - self.mean) / self.std, -_MAX_ERROR_STD, _MAX_ERROR_STD).astype(np.float32)
        return np.clip(forward_fill(values), -_MAX_INPUT_STD, _MAX_INPUT_STD), values[:, self.scored_columns]

    def channel_scores(self, errors: np.ndarray) -> np.ndarray:
        """Errors in units of the channel's mean error; 0 where nothing is known."""
        return np.nan_to_num(errors / self.mean_errors)

    def aggregate(self, channel_scores: np.ndarray, before: float | None) -> float:
        """The network's score of one step: channel scores ``(C,)`` aggregated, then smoothed with the score before."""
        now = float(channel_scores.mean() if self.settings.score_aggregation == "mean" else channel_scores.max())
        half_life = self.settings.smoothing_half_life
        kept = 0.5 ** (1 / half_life) if half_life else 0.0
        return now if before is None else kept * before + (1 - kept) * now

    def network_scores(self, channel_scores: np.ndarray) -> np.ndarray:
        """Scores ``(T,)`` of the network alone; 0 during the burn-in."""
        scores, last = np.zeros(len(channel_scores)), None
        for t in range(self.settings.burn_in, len(channel_scores)):
            scores[t] = last = self.aggregate(channel_scores[t], last)
        return scores

    def combined(self, network: Any, distances: Any) -> Any:
        """The weighted geometric mean of scores of the network and distances from the subspace."""
        weight = self.settings.subspace_weight
        return network ** (1 - weight) * distances**weight

    def scores(self, channel_scores: np.ndarray, targets: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """Scores ``(T,)``: 0 during the burn-in; the network's before the first whole window of the subspace.

        Args:
            channel_scores: ``(T, C)`` of the network.
            targets: ``(T, C)``, NaN where missing.
            before: Targets of the steps before the first one, if there are any.
        """
        scores, subspace = self.network_scores(channel_scores), self.subspace
        if subspace is None:
            return scores
        distances = trailing_distances(subspace, targets, before)
        both = np.isfinite(distances) & (np.arange(len(scores)) >= self.settings.burn_in)
        scores[both] = self.combined(scores[both], distances[both])
        return scores

    def thresholds(
        self, scores: np.ndarray, constant: float | None = None, before: np.ndarray | None = None
    ) -> np.ndarray:
        """The threshold at each of the scores ``(T,)``.

        Args:
            scores: This model's, or a baseline's.
            constant: A baseline's own threshold; by default this model's.
            before: Scores before the first one, for adaptive methods; by default this model's validation scores.
        """
        settings, before = self.settings, self.validation_scores if before is None else before
        method, window, rate = settings.threshold_method, settings.threshold_window, settings.false_alarm_rate
        if method == "dynamic":
            return dynamic_thresholds(scores, window, settings.pruning, before)
        if method == "rolling":
            return moving_average_thresholds(scores, window, rate, before)
        if method == "rolling_quantile":
            return above(rolling_quantile_thresholds(scores, window, rate, before))
        return np.full(len(scores), self.constant_threshold if constant is None else constant)


def above(scores: Any) -> Any:
    """Thresholds a little above the scores that they came from, so that rounding makes no alarm of these.

    They are at least 1, the mean error.
    """
    return np.maximum(1.0, scores * (1 + _ROUNDING))


def trailing_distances(subspace: Subspace, values: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """The distance ``(T,)`` of the window that ends with each step; NaN before the first whole window.

    Args:
        subspace: Of windows.
        values: ``(T, C)``.
        before: Values of the steps before the first one, if they are known.
    """
    known = values if before is None else np.concatenate([before, values])
    distances = subspace.distances(forward_fill(known)[-(len(values) + subspace.window - 1) :])
    return np.concatenate([np.full(len(values) - len(distances), np.nan), distances])


def prediction_errors(values: np.ndarray, predictions: np.ndarray, horizon: int) -> np.ndarray:
    """Absolute errors ``(T, C)``: the mean over the predictions of each value, made up to ``horizon`` steps before.

    Args:
        values: ``(T, C)``.
        predictions: ``(T, horizon * C)``, made at each step.
    """
    predictions = predictions.reshape(len(predictions), horizon, -1)
    total = np.zeros(values.shape)
    for k in range(min(horizon, len(predictions) - 1)):
        total[k + 1 :] += np.abs(values[k + 1 :] - predictions[: -k - 1, k])
    counts = np.minimum(np.arange(len(predictions)), horizon).astype(np.float64)
    counts[0] = np.nan  # nothing was predicted for the first step
    return total / counts[:, None]


def anomaly_events(
    name: str,
    times: Any,
    scores: np.ndarray,
    thresholds: np.ndarray,
    channel_scores: np.ndarray,
    channels: Sequence[str],
    merge_gap: int = 0,
    max_steps: int = 0,
) -> list[dict[str, Any]]:
    """One row per event: start, end, length, peak, score, threshold, and the channel with the highest score.

    Args:
        name: Id of the series.
        times: ``(T,)``.
        scores, thresholds: ``(T,)``: a step is an alarm if its score is above its threshold.
        channel_scores: ``(T, C)``.
        channels: Names of the ``C`` channels.
        merge_gap: Alarms at most this many steps apart are one event.
        max_steps: A longer event is closed after this many steps, and the next one begins; 0 = never.
    """
    rows = []
    for start, stop in true_runs(scores > thresholds, merge_gap, max_steps):
        peak = start + int(scores[start:stop].argmax())
        highest = int(channel_scores[start:stop].max(axis=0).argmax())
        rows.append(
            {
                "id": name,
                "start": times[start],
                "end": times[stop - 1],
                "steps": stop - start,
                "peak": times[peak],
                "score": float(scores[peak]),
                "threshold": float(thresholds[peak]),
                "channel": channels[highest],
            }
        )
    return rows
