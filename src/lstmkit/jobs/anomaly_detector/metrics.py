"""Scores of the anomaly detector and of its baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lstmkit.data.series.sensor_series import SensorSeriesSet
from lstmkit.data.series.sensor_values import forward_fill
from lstmkit.decoding.anomaly_scores import trailing_distances
from lstmkit.evaluation.anomaly_metrics import (
    alarm_counts,
    composite_f1,
    event_counts,
    f1,
    range_precision_recall_f1,
    vus_pr,
)
from lstmkit.evaluation.anomaly_thresholds import merge_gaps
from lstmkit.jobs.anomaly_detector.baselines import moving_z_score
from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.jobs.anomaly_detector.settings import AnomalySettings
from lstmkit.jobs.anomaly_detector.subspace import fit_subspace
from lstmkit.modules.principal_subspace import PrincipalSubspace
from lstmkit.progress import Progress

#: Whether a high or a low value of each score is better. False events are counted per day, or without timestamps per
#: 1,000 steps.
METRIC_DIRECTIONS = {
    "VUS-PR": "high",
    "range F1": "high",
    "composite F1": "high",
    "anomalies found": "high",
    "precision": "high",
    "false events per day": "low",
    "false events per 1,000 steps": "low",
    "false alarms per step": "low",
}
ScoresAndThresholds = list[tuple[np.ndarray, np.ndarray]]  #: Of each series ``(T,)`` and ``(T,)``.

SUB_PCA = "Sub-PCA"  #: The name of the baseline that is a part of the default model.

_Z_SCORE_WINDOW = 50  # steps


def scores(
    labels: Sequence[np.ndarray],
    scored: ScoresAndThresholds,
    *,
    merge_gap: int,
    vus_buffer: int,
    max_event_steps: int,
    step_days: Sequence[float] = (),
) -> dict[str, float]:
    """Means over the series that have an anomaly of VUS-PR and range F1; the other scores over all series together.

    Args:
        labels: Of each series ``(T,)`` bool.
        scored: Of each series scores and thresholds. A threshold of NaN means that there is none; scores that need
            alarms are NaN then.
        merge_gap: Alarms at most this many steps apart are one event. False alarms per step are not merged.
        vus_buffer: Largest buffer in steps around a labeled anomaly in VUS-PR.
        max_event_steps: A longer event counts as several; 0 = as one.
        step_days: Of each series the days between two steps. If they are not known, false events are counted per 1,000
            steps.
    """
    rows = [(true, of_series, of_series > t) for true, (of_series, t) in zip(labels, scored, strict=True)]
    has_threshold = not any(np.isnan(threshold).any() for _, threshold in scored)
    volumes = [vus_pr(true, of_series, vus_buffer) for true, of_series, _ in rows if true.any()]
    merged = [merge_gaps(alarms, merge_gap) for _, _, alarms in rows]
    ranges = [
        range_precision_recall_f1(true, alarms)[2] for true, alarms in zip(labels, merged, strict=True) if true.any()
    ]
    normal = np.concatenate([alarms[~true] for true, _, alarms in rows])
    return {
        "VUS-PR": float(np.mean(volumes)) if volumes else np.nan,
        "range F1": float(np.mean(ranges)) if ranges and has_threshold else np.nan,
        "composite F1": composite_f1(labels, merged) if has_threshold else np.nan,
        **_event_scores(labels, merged if has_threshold else None, max_event_steps, step_days),
        "false alarms per step": float(normal.mean()) if len(normal) and has_threshold else np.nan,
    }


def _event_scores(
    labels: Sequence[np.ndarray], alarms: Sequence[np.ndarray] | None, max_event_steps: int, step_days: Sequence[float]
) -> dict[str, float]:
    """Anomalies found, precision of events, and false events over the time that is normal; NaN without alarms."""
    has_clock = bool(len(step_days)) and bool(np.isfinite(step_days).all())
    unit = [*step_days] if has_clock else [1 / 1000] * len(labels)
    normal = float(sum(length * (~true).sum() for length, true in zip(unit, labels, strict=True)))
    found, right, false = np.nan, np.nan, np.nan
    if alarms is not None:
        pairs = list(zip(labels, alarms, strict=True))
        found = float(sum(event_counts(*pair)[0] for pair in pairs))
        right, false = map(float, np.sum([alarm_counts(*pair, max_event_steps) for pair in pairs], axis=0))
    return {
        "anomalies found": found,
        "precision": right / (right + false) if right + false else np.nan,
        f"false events per {'day' if has_clock else '1,000 steps'}": false / normal if normal else np.nan,
    }


def overlap_f1(
    labels: Sequence[np.ndarray], scored: ScoresAndThresholds, merge_gap: int, max_event_steps: int
) -> float:
    """F1 of events by overlap, as in Orion's benchmark, over all series together; NaN without thresholds.

    For comparison with published figures. These have no maximum length of events (0): then a detector whose alarm
    never ends has 1. Arguments as in :func:`scores`.
    """
    if any(np.isnan(threshold).any() for _, threshold in scored):
        return np.nan
    pairs = zip(labels, scored, strict=True)
    counts = [
        event_counts(true, merge_gaps(values > limit, merge_gap), max_event_steps) for true, (values, limit) in pairs
    ]
    return f1(*np.sum(counts, axis=0).tolist())


def network_name(settings: AnomalySettings) -> str:
    """The name of the network alone in the table."""
    return f"{settings.cell.upper()}, network alone"


def network_alone(
    predictor: AnomalyPredictor, normal: SensorSeriesSet | None, results: Sequence[AnomalyResult]
) -> dict[str, ScoresAndThresholds]:
    """Scores and thresholds of the network alone, by name; nothing if it is all that counts, or without ``normal``.

    Args:
        predictor: Fitted.
        normal: Its validation split; ``None`` if it is not known any more.
        results: Of the series that are scored.
    """
    if not predictor.settings.subspace_weight or normal is None:
        return {}
    burn_in = predictor.settings.burn_in
    scored = [predictor.network_scores(result.channel_scores) for result in results]
    of_normal = predictor.detect(normal, Progress())
    known = [predictor.network_scores(result.channel_scores)[burn_in:] for result in of_normal]
    return {network_name(predictor.settings): _with_thresholds(predictor, scored, known)}


def baselines(
    predictor: AnomalyPredictor, fitted_to: tuple[SensorSeriesSet, SensorSeriesSet] | None, test: SensorSeriesSet
) -> dict[str, ScoresAndThresholds]:
    """Scores and thresholds of each baseline. Thresholds follow the model's own method, on each baseline's own scores.

    Sub-PCA is that of the model's own principal subspace. If there is none, one is fitted to the training split.

    Args:
        predictor: Fitted.
        fitted_to: Its training and validation split; ``None`` if they are not known any more.
        test: What is scored.
    """
    values = _scored_values(predictor, test)
    train, normal = ([], []) if fitted_to is None else (_scored_values(predictor, part) for part in fitted_to)

    def scored(score: Callable[[np.ndarray], np.ndarray], window: int) -> ScoresAndThresholds:
        known = [score(series)[min(window, len(series) // 2) :] for series in normal]
        return _with_thresholds(predictor, [score(series) for series in values], known)

    rows = {"moving z-score": scored(lambda series: moving_z_score(series, _Z_SCORE_WINDOW), _Z_SCORE_WINDOW)}
    subspace = (predictor.subspace or fit_subspace(train)) if train else None
    if subspace is not None:
        rows[SUB_PCA] = scored(lambda series: sub_pca(subspace, series), subspace.window)
    return rows


def sub_pca(subspace: PrincipalSubspace, values: np.ndarray) -> np.ndarray:
    """Scores ``(T,)`` of the window that ends with each step; 0 before the first whole window."""
    return np.nan_to_num(trailing_distances(subspace, values))


def _scored_values(predictor: AnomalyPredictor, series: SensorSeriesSet) -> list[np.ndarray]:
    return [forward_fill(predictor.standardize(item.values)[1]).astype(np.float64) for item in series.items]


def _with_thresholds(
    predictor: AnomalyPredictor, scored: list[np.ndarray], normal: Sequence[np.ndarray]
) -> ScoresAndThresholds:
    """Scores with thresholds fitted to scores of normal data; NaN without any."""
    known = np.concatenate([np.zeros(0), *normal])
    if not len(known):
        return [(of_series, np.full(len(of_series), np.nan)) for of_series in scored]
    threshold = predictor.fit_threshold(known)
    return [(of_series, predictor.thresholds(of_series, threshold, known)) for of_series in scored]
