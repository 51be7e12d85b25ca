"""Metrics of anomaly detection reward no detector that alarms all the time."""

from __future__ import annotations

import numpy as np
import pytest

from lstmkit.evaluation.anomaly_metrics import composite_f1
from lstmkit.jobs.anomaly_detector import metrics

LABELS = np.zeros(200, dtype=bool)
LABELS[[*range(50, 60), *range(120, 130)]] = True


def table(scores: np.ndarray) -> dict[str, float]:
    return metrics.scores([LABELS], [(scores, np.full(200, 0.5))], merge_gap=0, vus_buffer=10, max_event_steps=20)


def test_a_detector_that_always_alarms_scores_like_chance():
    """A tenth of the steps are anomalies: no score comes near that of a detector of few, right alarms."""
    always, good = table(np.ones(200)), table((LABELS & (np.arange(200) % 3 > 0)).astype(float))
    assert always["composite F1"] == pytest.approx(2 * 0.1 / 1.1)
    assert always["range F1"] < 0.2
    assert always["VUS-PR"] < 0.25
    assert always["false alarms per step"] == 1
    assert good["composite F1"] == 1
    assert good["false alarms per step"] == 0
    assert "overlap F1" not in always
    always_scored = [(np.ones(200), np.full(200, 0.5))]
    assert metrics.overlap_f1([LABELS], always_scored, 0, 0) == 1  # why it is no longer reported
    # Of ten events of 20 steps, 40 to 60 and 120 to 140 meet the two anomalies.
    assert metrics.overlap_f1([LABELS], always_scored, 0, 20) == pytest.approx(2 * 2 / (2 * 2 + 8))
    assert (always["anomalies found"], good["anomalies found"]) == (2, 2)
    assert (always["precision"], good["precision"]) == (0.2, 1)
    assert always["false events per 1,000 steps"] == pytest.approx(8 / 0.18)
    assert good["false events per 1,000 steps"] == 0


def test_composite_f1_by_hand():
    """Two of four alarm steps are right, one of two events is detected; series count together."""
    labels = [np.array([0, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)]
    alarms = [np.array([1, 1, 1, 0], bool), np.array([0, 0, 0, 1], bool)]
    assert composite_f1(labels, alarms) == pytest.approx(0.5)
    assert composite_f1(labels, [np.zeros(4, bool)] * 2) == 0
    assert np.isnan(composite_f1([np.zeros(4, bool)], [np.ones(4, bool)]))


def test_without_a_threshold_there_is_no_score_of_alarms():
    scored = [(np.ones(200), np.full(200, np.nan))]
    scores = metrics.scores([LABELS], scored, merge_gap=0, vus_buffer=10, max_event_steps=20)
    assert np.isnan(scores["composite F1"])
    assert np.isnan([scores["anomalies found"], scores["precision"]]).all()
    assert np.isnan(scores["false events per 1,000 steps"])
    assert np.isnan(metrics.overlap_f1([LABELS], scored, 0, 0))


def test_false_events_per_day():
    """One false event in 180 normal steps of half an hour; without the interval of a series there is no clock."""
    scored = [(np.isin(np.arange(200), (0, 1, 55)).astype(float), np.full(200, 0.5))]
    settings = {"merge_gap": 0, "vus_buffer": 10, "max_event_steps": 20}
    timed = metrics.scores([LABELS], scored, **settings, step_days=[1 / 48])
    assert timed["false events per day"] == pytest.approx(48 / 180)
    assert timed["precision"] == 0.5
    assert timed["anomalies found"] == 1
    unknown = metrics.scores([LABELS], scored, **settings, step_days=[np.nan])
    assert unknown["false events per 1,000 steps"] == pytest.approx(1 / 0.18)
