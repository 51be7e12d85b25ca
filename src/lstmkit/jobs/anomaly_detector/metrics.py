"""Scores of a detector of anomalies and of what stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lstmkit.data.series.sensor_series import filled
from lstmkit.evaluation.anomaly_metrics import event_counts, f1, range_precision_recall_f1, vus_pr
from lstmkit.evaluation.anomaly_thresholds import merged
from lstmkit.jobs.anomaly_detector.baselines import SubPCA, moving_z_score

if TYPE_CHECKING:
    from lstmkit.data.series.sensor_series import SensorSeriesSet
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector

BEST = {"VUS-PR": "high", "range F1": "high", "overlap F1": "high", "false alarms a step": "low"}
Judged = list[tuple[np.ndarray, np.ndarray]]  #: Of each recording scores and levels, ``(T,)`` each.

_MOVING = 50  # steps that the moving z-score looks back


def scores(labels: Sequence[np.ndarray], of: Judged, job: AnomalyDetector) -> dict[str, float]:
    """Means over the recordings that have an anomaly; counts of all together.

    A level of NaN says that there is none: what needs alarms is NaN too. Alarms at most ``job.gap`` steps apart are
    one stretch, as in the tables; false alarms a step are counted as they are.
    """
    told = [(known, found, found > level) for known, (found, level) in zip(labels, of, strict=True)]
    judged = not any(np.isnan(level).any() for _, level in of)
    volumes = [vus_pr(known, found, job.margin) for known, found, _ in told if known.any()]
    ranges = [range_precision_recall_f1(known, merged(alarms, job.gap))[2] for known, _, alarms in told if known.any()]
    counts = np.sum([event_counts(known, merged(alarms, job.gap)) for known, _, alarms in told], axis=0)
    normal = np.concatenate([alarms[~known] for known, _, alarms in told])
    return {
        "VUS-PR": float(np.mean(volumes)) if volumes else np.nan,
        "range F1": float(np.mean(ranges)) if ranges and judged else np.nan,
        "overlap F1": f1(*counts.tolist()) if judged else np.nan,
        "false alarms a step": float(normal.mean()) if len(normal) and judged else np.nan,
    }


def baselines(
    job: AnomalyDetector, learnt: tuple[SensorSeriesSet, SensorSeriesSet] | None, test: SensorSeriesSet
) -> dict[str, Judged]:
    """By name. Their levels are set by the job's own rule, on their scores of the part that the job's were set by.

    Args:
        job: Fitted.
        learnt: What it was trained on and validated on; ``None`` where that is not known any more.
        test: What is scored.
    """
    values = _scored_values(job, test)
    train, normal = ([], []) if learnt is None else (_scored_values(job, part) for part in learnt)
    found = {"moving z-score": _with_thresholds(job, lambda one: moving_z_score(one, _MOVING), values, normal, _MOVING)}
    window = min([job.window, *(len(one) // 2 for one in train)])
    if train and window > 1:
        pca = SubPCA(window).fit(max(train, key=len))
        found["Sub-PCA"] = _with_thresholds(job, pca.score, values, normal, window)
    return found


def _scored_values(job: AnomalyDetector, recordings: SensorSeriesSet) -> list[np.ndarray]:
    return [filled(job.encode(one.values)[1]).astype(np.float64) for one in recordings.items]


def _with_thresholds(
    job: AnomalyDetector,
    score: Callable[[np.ndarray], np.ndarray],
    values: list[np.ndarray],
    normal: list[np.ndarray],
    settled: int,
) -> Judged:
    """Scores of ``values``; their level by those of ``normal``, without its first steps."""
    found = [score(one) for one in values]
    known = np.concatenate([np.zeros(0), *(score(one)[min(settled, len(one) // 2) :] for one in normal)])
    if not len(known):
        return [(one, np.full(len(one), np.nan)) for one in found]
    return [(one, job.levels(one, job.level(known), known)) for one in found]
