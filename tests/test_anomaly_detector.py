"""Anomaly detection: reading sensor series, streaming scores, thresholds without labels, and metrics."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import genpareto

from lstmkit.data import catalog
from lstmkit.data.series.sensor_series import Columns, SensorSeries, SensorSeriesSet, read_sensor_series
from lstmkit.data.series.sensor_values import forward_fill, sliding_windows, trailing_windows
from lstmkit.decoding.anomaly_scores import prediction_errors, trailing_distances
from lstmkit.errors import DataError
from lstmkit.evaluation.anomaly_metrics import (
    event_counts,
    f1,
    nab_raw_score,
    nab_score,
    range_precision_recall_f1,
    vus_pr,
)
from lstmkit.evaluation.anomaly_thresholds import (
    dynamic_thresholds,
    extreme_value_threshold,
    merge_gaps,
    moving_average_thresholds,
    quantile_threshold,
    rolling_quantile_thresholds,
    true_runs,
)
from lstmkit.jobs import load
from lstmkit.jobs.anomaly_detector.baselines import moving_z_score
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.jobs.anomaly_detector.metrics import sub_pca
from lstmkit.jobs.anomaly_detector.scorers import future_values
from lstmkit.jobs.anomaly_detector.subspace import fit_subspace, period_of
from lstmkit.layers.rnn import LSTM
from lstmkit.models.autoencoder import Autoencoder
from lstmkit.modules.heads import StepRegressionHead
from lstmkit.modules.principal_subspace import PrincipalSubspace
from lstmkit.recipes import anomaly_detector as protocols
from scored import run_protocol

TINY: dict[str, Any] = {
    "hidden_size": 5,
    "epochs": 2,
    "window": 12,
    "steps_per_epoch": 4,
    "batch_size": 8,
    "burn_in": 4,
    "vus_buffer": 5,
}


def waves(seed: int, n: int = 160) -> np.ndarray:
    t, rng = np.arange(n), np.random.default_rng(seed)
    return np.stack([np.sin(t / 3), 5 + np.cos(t / 4)], axis=1) + 0.05 * rng.standard_normal((n, 2))


def labeled(seed: int = 0, n: int = 200) -> pd.DataFrame:
    values = waves(seed, n)
    values[180:190] += 2
    labels = (np.arange(n) >= 180) & (np.arange(n) < 190)
    return pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "label": labels.astype(int)})


#: Values of ``RangeAUC_volume_opt`` of the package vus 0.0.6 for margins of 0, 10 and 25 steps.
VUS = [(0, 0.34374405393577123), (10, 0.5165200906495245), (25, 0.6376080186226131)]
#: Precision and recall of the package prts 1.0.0.3.
PRTS = (0.6041666666666666, 0.2333333333333333)


# ---- metrics ---------------------------------------------------------------------------------------------------------

STEPS = np.arange(300)
LABELS = ((STEPS >= 40) & (STEPS < 60)) | ((STEPS >= 66) & (STEPS < 70)) | (STEPS >= 290)
SCORES = np.abs(np.sin(STEPS * 0.37)) + 0.8 * ((STEPS >= 45) & (STEPS < 75))


@pytest.mark.parametrize(("window", "expected"), VUS)
def test_vus_pr_matches_the_reference_implementation(window: int, expected: float):
    """VUS-PR equals ``RangeAUC_volume_opt`` of the package vus 0.0.6."""
    assert vus_pr(LABELS, SCORES, window) == pytest.approx(expected, rel=1e-12)


def test_vus_pr_is_one_for_perfect_scores_and_nan_without_labels():
    assert vus_pr(LABELS, LABELS.astype(float), 0) == pytest.approx(1.0)
    assert math.isnan(vus_pr(np.zeros(9, bool), np.arange(9.0), 2))


@given(st.integers(0, 10**6), st.floats(0.1, 9), st.floats(-5, 5))
def test_vus_pr_depends_only_on_the_ranking_of_scores(seed: int, scale: float, shift: float):
    rng = np.random.default_rng(seed)
    labels, scores = rng.random(60) < 0.2, rng.permutation(60).astype(float)
    labels[7] = True
    assert vus_pr(labels, scale * scores + shift, 6) == pytest.approx(vus_pr(labels, scores, 6), rel=1e-9)


def test_range_metrics_match_prts():
    """Range precision and recall equal those of prts 1.0.0.3 with flat bias and reciprocal cardinality."""
    precision, recall, harmonic = range_precision_recall_f1(LABELS, SCORES > 1)
    assert (precision, recall) == pytest.approx(PRTS, rel=1e-12)
    assert harmonic == pytest.approx(2 * precision * recall / (precision + recall))


def test_range_metrics_by_hand():
    labels = np.array([0, 1, 1, 1, 1, 0, 0, 1, 1, 0], bool)
    alarms = np.array([0, 1, 0, 0, 1, 1, 0, 0, 0, 1], bool)
    # Alarms: 1 of 1, 1 of 2, 0 of 1. Labels: 2 of 4 in two segments, 0 of 2.
    assert range_precision_recall_f1(labels, alarms)[:2] == pytest.approx((0.5, 0.125))
    assert range_precision_recall_f1(labels, np.zeros(10, bool)) == (0.0, 0.0, 0.0)
    assert range_precision_recall_f1(labels, labels) == (1.0, 1.0, 1.0)


def test_event_counts_by_hand():
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 0], bool)
    alarms = np.array([1, 0, 1, 1, 0, 0, 0, 1], bool)
    assert event_counts(labels, alarms) == (1, 2, 1)
    assert f1(1, 2, 1) == pytest.approx(0.4)
    assert math.isnan(f1(0, 0, 0))


def test_nab_scores_by_hand():
    """In a window of ten steps the first step scores 1 and the last almost 0; an alarm far after it costs 0.11."""
    windows, none = [(20, 30)], np.zeros(100, bool)

    def at(*steps: int) -> float:
        alarms = none.copy()
        alarms[list(steps)] = True
        return nab_raw_score(windows, alarms, probation=10)

    def sigmoid(x: float) -> float:
        return 2 / (1 + math.exp(5 * x)) - 1

    assert at() == -1
    assert at(20) == pytest.approx(1.0)
    assert at(25, 29) == pytest.approx(sigmoid(-0.5) / sigmoid(-1))
    assert at(20, 34) == pytest.approx(1 + 0.11 * sigmoid(5 / 9))
    assert at(20, 90) == at(20, 12) == pytest.approx(1 - 0.11)
    assert at(3) == -1  # during probation
    assert (nab_score(-2, 2), nab_score(2, 2), nab_score(0, 2)) == (0, 100, 50)


# ---- thresholds ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.001, 0.09))
def test_quantile_threshold_keeps_the_false_alarm_rate(scores: list[float], rate: float):
    threshold = quantile_threshold(np.array(scores), rate)
    assert (np.array(scores) > threshold).mean() <= rate
    assert threshold in scores


def test_extreme_value_threshold_matches_the_distribution():
    """The 1-in-10,000 threshold from 5,000 scores approximates the quantile of their distribution."""
    scores = genpareto.rvs(0.1, scale=2.0, size=5000, random_state=1)
    expected = genpareto.isf(1e-4, 0.1, scale=2.0)
    assert extreme_value_threshold(scores, 1e-4) == pytest.approx(expected, rel=0.25)
    assert extreme_value_threshold(np.ones(500), 1e-4) == 1.0
    assert extreme_value_threshold(np.arange(5.0), 0.01) == 4.0


def test_dynamic_threshold_finds_peaks_and_ignores_noise():
    rng = np.random.default_rng(0)
    scores = 1 + 0.1 * rng.standard_normal(400)
    noise_alarms = scores > dynamic_thresholds(scores, 200, 0.13)
    assert not noise_alarms[100:].any()
    scores[300:304] = 4.0
    alarms = scores > dynamic_thresholds(scores, 200, 0.13)
    assert alarms[300:304].all()
    assert not alarms[100:300].any()


def test_dynamic_thresholds_do_not_depend_on_later_scores():
    rng = np.random.default_rng(1)
    scores = rng.exponential(size=120)
    whole = dynamic_thresholds(scores, 50, 0.1, before=rng.exponential(size=30))
    rng = np.random.default_rng(1)
    rng.exponential(size=120)
    prefix = dynamic_thresholds(scores[:70], 50, 0.1, before=rng.exponential(size=30))
    assert np.array_equal(whole[:70], prefix)


def test_moving_average_threshold_keeps_its_rate_and_follows_drift():
    """Normal scores exceed the threshold at the requested rate; a level shift raises an alarm only for a time."""
    rng = np.random.default_rng(0)
    scores = 5 + rng.standard_normal(20_000)
    before = 5 + rng.standard_normal(400)
    assert (scores > moving_average_thresholds(scores, 400, 0.01, before)).mean() == pytest.approx(0.01, rel=0.3)
    scores[10_000:] += 20
    alarms = scores > moving_average_thresholds(scores, 400, 1e-4, before)
    assert alarms[10_000:10_003].all()
    assert alarms[10_400:].mean() < 0.01


def test_moving_average_threshold_matches_a_plain_loop():
    rng = np.random.default_rng(3)
    scores, before = rng.exponential(size=60), rng.exponential(size=7)
    thresholds = moving_average_thresholds(scores, 10, 0.05, before)
    whole = np.concatenate([before, scores])
    for t in range(len(scores)):
        past = whole[max(0, t + 7 - 10) : t + 7]
        assert thresholds[t] == pytest.approx(past.mean() + 1.6448536 * past.std(), rel=1e-6)
    assert np.array_equal(thresholds[:30], moving_average_thresholds(scores[:30], 10, 0.05, before)), (
        "the threshold depends on later scores"
    )
    constant = moving_average_thresholds(np.ones(50), 10, 0.05)
    assert constant[0] == np.inf
    assert constant[1:] == pytest.approx(1 + 1.6448536 * 0.01), "a constant score raises an alarm because of rounding"


def test_rolling_quantile_threshold_matches_a_plain_loop():
    rng = np.random.default_rng(4)
    scores, before = rng.exponential(size=80).round(1), rng.exponential(size=7).round(1)  # some are equal
    scores[50:] += 50
    thresholds = rolling_quantile_thresholds(scores, 60, 0.05, before)
    deviations = moving_average_thresholds(scores, 60, 0.05, before)
    whole = np.concatenate([before, scores])
    for t in range(len(scores)):
        quantile = quantile_threshold(whole[max(0, t + 7 - 60) : t + 7], 0.05)
        assert thresholds[t] == max(quantile, deviations[t])
    assert len(set(thresholds == deviations)) == 2, "both are in use"
    assert rolling_quantile_thresholds(scores, 60, 0.05)[0] == np.inf


@pytest.mark.parametrize("growth", [0, 3, -0.7])
def test_rolling_quantile_threshold_keeps_its_rate(growth: float):
    """Scores with a heavy tail, stationary or with a scale that drifts: mean plus deviations gives 4 times the rate."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=10_500) * np.linspace(1, 1 + growth, 10_500)
    before, after = scores[:500], scores[500:]
    rate = (after > rolling_quantile_thresholds(after, 500, 0.005, before)).mean()
    assert 0.005 / 3 < rate < 0.005 * 3
    assert (after > moving_average_thresholds(after, 500, 0.005, before)).mean() > 0.02


def test_dynamic_threshold_prunes_low_peaks():
    """A peak barely above the other scores raises no alarm unless pruning is off; a high peak does."""
    base = np.tile([1.0, 1.02, 0.98, 1.01], 60)
    low, high = base.copy(), base.copy()
    low[-1], high[-1] = 1.15, 3.0
    assert not (low > dynamic_thresholds(low, 200, 0.2))[-1]
    assert (low > dynamic_thresholds(low, 200, 0.0))[-1]
    assert (high > dynamic_thresholds(high, 200, 0.2))[-1]


def test_nab_counts_a_run_of_alarms_once():
    """With a gap, a run of false alarms costs as much as its first step; without a gap, each segment costs."""
    run = np.zeros(100, bool)
    run[[40, 41, 43]] = True
    first = np.zeros(100, bool)
    first[40] = True
    assert nab_raw_score([(80, 90)], run, 10, gap=1) == nab_raw_score([(80, 90)], first, 10, gap=1)
    assert nab_raw_score([(80, 90)], run, 10) < nab_raw_score([(80, 90)], first, 10)
    assert nab_raw_score([(80, 90)], first, 10) == nab_raw_score([(80, 90)], first, 10, gap=1)


def test_true_runs_with_gaps():
    alarms = np.array([1, 0, 1, 0, 0, 1], bool)
    assert true_runs(alarms) == [(0, 1), (2, 3), (5, 6)]
    assert true_runs(alarms, 1) == [(0, 3), (5, 6)]
    assert true_runs(alarms, 2) == [(0, 6)]
    assert true_runs(np.zeros(3, bool)) == []
    assert merge_gaps(alarms, 1).tolist() == [True, True, True, False, False, True]
    assert true_runs(alarms, 1, max_steps=2) == [(0, 2), (2, 3), (5, 6)]
    assert true_runs(alarms, 2, max_steps=2) == [(0, 2), (2, 4), (4, 6)]
    assert true_runs(alarms, 2, max_steps=1) == [(0, 1), (2, 3), (5, 6)], "steps of a gap are no event"


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_prediction_errors_match_a_plain_loop():
    """Prediction errors equal those of a plain loop; errors of missing values stay missing."""
    rng = np.random.default_rng(0)
    values, predictions = rng.standard_normal((9, 2)), rng.standard_normal((9, 3 * 2))
    values[4, 1] = np.nan
    errors = prediction_errors(values, predictions, 3)
    for t in range(9):
        of_step = [predictions.reshape(9, 3, 2)[t - k, k - 1] for k in (1, 2, 3) if t - k >= 0]
        expected = (
            np.mean([np.abs(values[t] - prediction) for prediction in of_step], axis=0)
            if of_step
            else np.full(2, np.nan)
        )
        np.testing.assert_allclose(errors[t], expected, rtol=1e-12)
    assert future_values(values, 2).reshape(9, 2, 2)[3, 1] == pytest.approx(values[5])
    assert np.isnan(future_values(values[:1], 2)).all()


def test_windows():
    assert sliding_windows([7], 3, 2).tolist() == [[0, 0, 3], [0, 2, 5], [0, 4, 7]]
    assert trailing_windows([3, 1], 2).tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 3], [1, 0, 1]]
    assert forward_fill(np.array([[np.nan], [2.0], [np.nan]])).tolist() == [[0.0], [2.0], [2.0]]


def test_padding_does_not_change_the_autoencoder():
    torch.manual_seed(0)
    model = Autoencoder(LSTM(2, 4, batch_first=True), 3, LSTM(3, 4, batch_first=True), StepRegressionHead(4, 2)).eval()
    x = torch.randn(2, 6, 2)
    alone, _ = model(x[1:, :4])
    x[1, 4:] = 99
    together, _ = model(x, None, torch.tensor([6, 4]))
    torch.testing.assert_close(together[1:, :4], alone)


def test_autoencoder_learns_to_reconstruct():
    torch.manual_seed(0)
    data = np.stack([np.sin(np.arange(120) / k) for k in (3, 5)], axis=1)
    job = AnomalyDetector(method="reconstruction", hidden_size=16, epochs=10, window=10, lr=0.01, burn_in=5).fit(data)
    losses = [row["valid_loss"] for row in job._histories[0].rows]
    assert losses[-1] < 0.3 * losses[0]


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["prediction", "reconstruction"])
@pytest.mark.parametrize("threshold", ["quantile", "rolling", "dynamic", "rolling_quantile"])
def test_streaming_matches_batch_prediction(method: str, threshold: str):
    """Streaming gives the scores of a batch prediction, with missing values and a covariate."""
    values = np.concatenate([waves(0), (np.arange(160) % 7 > 3)[:, None]], axis=1)
    values[30:33, 0] = values[90, 2] = values[0, 1] = np.nan
    options = {
        "covariates": ("3",),
        "horizon": 3,
        "score_aggregation": "max",
        "threshold_window": 60,
        "threshold_method": threshold,
    }
    job = AnomalyDetector(method=method, **TINY, **options)
    frame = pd.DataFrame(values, columns=["1", "2", "3"])
    (whole,) = job.fit(frame).predict(frame)
    stream = job.stream()
    steps = [stream.step(row) for row in values]
    np.testing.assert_allclose([step.score for step in steps], whole.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([step.threshold for step in steps], whole.thresholds, rtol=1e-4)
    np.testing.assert_allclose([step.channel_scores for step in steps], whole.channel_scores, rtol=1e-4, atol=1e-4)
    assert whole.channels == ("1", "2")


@pytest.mark.parametrize("method", ["prediction", "reconstruction"])
def test_scores_do_not_depend_on_later_values(method: str):
    job = AnomalyDetector(method=method, **TINY).fit(waves(0))
    values = waves(1)
    (before,) = job.predict(values)
    values[100:] = 77
    (after,) = job.predict(values)
    np.testing.assert_allclose(before.scores[:100], after.scores[:100], rtol=1e-5)
    assert after.scores[100] > before.scores[100]


def test_labels_do_not_change_training(tmp_path: Path):
    """Training with inverted labels gives the same weights."""
    weights = []
    for inverted in (False, True):
        frame = labeled()
        frame["label"] = 1 - frame["label"] if inverted else frame["label"]
        job = AnomalyDetector(**TINY).fit(frame, run=tmp_path / str(inverted))
        weights.append(((tmp_path / str(inverted)) / "weights.safetensors").read_bytes())
        assert job.evaluation is not None
    assert weights[0] == weights[1]


def test_event_names_the_anomalous_channel():
    frame = pd.DataFrame(waves(0, 600), columns=["left", "right"])
    job = AnomalyDetector(hidden_size=16, epochs=12, window=40, lr=0.01).fit(frame)
    other = pd.DataFrame(waves(1, 300), columns=["left", "right"])
    other.loc[200:206, "right"] += 3
    rows = [row for result in job.predict(other) for row in result.events()]
    assert any(row["start"] <= 202 <= row["end"] + 1 and row["channel"] == "right" for row in rows)
    assert job.decision_function(other).shape == (300,)


def test_sub_pca_baseline_needs_the_training_data(tmp_path: Path):
    job = AnomalyDetector(**TINY).fit(labeled(), run=tmp_path / "run")
    table = job.evaluate(labeled(1)).table.set_index("model")
    assert list(table.index) == ["LSTM", "LSTM, network alone", "moving z-score", "Sub-PCA"]
    assert np.isfinite(table.to_numpy(dtype=float)).all()
    evaluation = load(tmp_path / "run").evaluate(labeled(1))
    assert list(evaluation.table["model"]) == ["LSTM", "moving z-score"]
    assert np.isnan(evaluation.table.loc[1, "range F1"])
    assert evaluation.table.loc[0, "VUS-PR"] == pytest.approx(table.loc["LSTM", "VUS-PR"])
    assert "Missing baselines: LSTM, network alone, Sub-PCA" in evaluation.notes[-1]
    assert "does not have its training data" in evaluation.notes[-1]


def test_change_of_a_constant_channel_is_scored():
    """A change of a channel that is constant in training is scored in the unit of the channel."""
    values = waves(0)
    values[:, 1] = 5.0
    job = AnomalyDetector(**TINY, score_aggregation="max").fit(values)
    values[120, 1] = 6.0
    (result,) = job.predict(values)
    assert result.channel_scores[120, 1] > 5
    assert result.scores[120:124].argmax() == 0


def test_channel_without_values_is_an_error():
    """A channel without any value is an error, not a normal sensor."""
    job = AnomalyDetector(**TINY, value_cols=("a", "b")).fit(labeled())
    frame = labeled(1)
    frame.loc[frame.index > 0, "b"] = np.nan
    assert len(job.predict(frame)[0].scores) == len(frame)
    frame["b"] = np.nan
    with pytest.raises(DataError, match="channel 'b' has no value: remove it"):
        job.predict(frame)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"label_col": "lable"}, {}, "no column 'lable'"),
        ({"time_col": "tiem"}, {}, "no column 'tiem'"),
        ({"id_col": "idd"}, {}, "no column 'idd'"),
        ({"value_cols": ("a", "label")}, {}, "column 'label' is named twice, or has two roles"),
        ({"value_cols": ("a", "a")}, {}, "column 'a' is named twice, or has two roles"),
        ({}, {"a": 1e300}, r"column 'a', row 4: 1e\+300 is above 1e\+100"),
        ({}, {"a": "hello"}, "column 'a', row 4: 'hello' is not a number"),
        ({"valid_fraction": 0.02}, {}, "1 steps after the burn-in"),
    ],
)
def test_bad_columns_and_values_are_errors(options: dict[str, Any], change: dict[str, Any], message: str):
    """A misspelled column is an error; otherwise the model would train on all columns, labels included."""
    frame = labeled(0, 400).astype(object if "hello" in change.values() else float)
    for name, value in change.items():
        frame.loc[3, name] = value
    with pytest.raises(DataError, match=message):
        AnomalyDetector(**{**TINY, "burn_in": 4, **options}).fit(frame)


def test_text_column_is_dropped_with_a_note():
    frame = labeled().assign(state="on")
    job = AnomalyDetector(**TINY)
    assert job.read(frame).notes == ("text columns, not used as channels: state",)
    assert job.fit(frame).predictor.channel_names == ("a", "b")


def test_validation_data_need_the_training_channels():
    """Validation data need the channels of the training data, in any order; an array of labels is refused."""
    frame, other = labeled(), labeled(1)
    job = AnomalyDetector(**TINY).fit(frame, validation=other[["b", "a", "label"]])
    same = AnomalyDetector(**TINY).fit(frame, validation=other)
    np.testing.assert_array_equal(job.predictor.mean_errors, same.predictor.mean_errors)
    for wrong in (other[["a", "label"]], other.rename(columns={"b": "c"})):
        with pytest.raises(DataError, match="have different channels"):
            AnomalyDetector(**TINY).fit(frame, validation=wrong)
    for labels in (np.zeros(160), [0, 1] * 40):
        with pytest.raises(DataError, match="hold only 0 and 1, as labels do"):
            AnomalyDetector(**TINY).fit(waves(0)[:, :1], validation=labels)


def test_highest_training_score_raises_no_alarm():
    """The threshold is just above the highest validation score; a constant series raises no alarm."""
    job = AnomalyDetector(**TINY, threshold_method="quantile").fit(waves(0))
    scores = np.array([3.0, 1.0, 2.0])
    assert job.predictor.fit_threshold(scores) > 3.0 * (1 + 1e-5)
    assert job.predictor.fit_threshold(scores) == pytest.approx(3.0, rel=1e-3)
    for threshold in ("quantile", "rolling_quantile"):
        constant = AnomalyDetector(**TINY, threshold_method=threshold).fit(np.ones((900, 2)))  # smoothing settles
        assert not constant.predict(np.ones((300, 2)))[0].alarms.any()


@pytest.mark.parametrize("growth", [0, 3])
def test_default_threshold_keeps_its_rate(growth: float):
    """The default keeps the promised rate, within a factor 3, on a stationary series and on one that drifts.

    The network alone does. Distances from the subspace grow with the square of the noise: on noise that grows fourfold
    the default has up to five times the rate.
    """
    values = np.random.default_rng(0).standard_normal(6000) * np.linspace(1, 1 + growth, 6000)

    def rate(**options: Any) -> float:
        job = AnomalyDetector(**TINY, **options).fit(values[:1500])
        return job.predict(values[1500:])[0].alarms.mean()

    assert AnomalyDetector().threshold_method == "rolling_quantile"
    assert 0.005 / 3 < rate(subspace_weight=0) < 0.005 * 3
    assert 0.005 / 3 < rate() < 0.005 * (5 if growth else 3)
    assert (rate(threshold_method="quantile") > 0.1) == (growth > 0), "the drift is too weak to tell thresholds apart"


def test_long_alarm_is_closed_and_counted():
    """An alarm of 60 steps is three events of at most 25 steps, in the result, the table and the records."""
    job = AnomalyDetector(**TINY, max_event_steps=25).fit(waves(0))
    (result,) = job.predict(waves(1))
    result = replace(result, scores=np.where((np.arange(160) >= 50) & (np.arange(160) < 110), 9.0, 0.0))
    result = replace(result, thresholds=np.ones(160))
    assert [event["steps"] for event in result.events()] == [60]
    assert [event["steps"] for event in result.events(max_steps=25)] == [25, 25, 10]
    assert len(job.to_text([result]).splitlines()) == 1 + 3
    assert [event["start"] for event in job.to_records([result])[0]["alarms"]] == ["51", "76", "101"]


def test_false_events_are_counted_per_day_if_there_are_timestamps():
    """A step is an hour: false events per day are 24 / 1,000 of those per 1,000 steps."""
    options = {"threshold_method": "quantile", "false_alarm_rate": 0.09, "smoothing_half_life": 0}
    job = AnomalyDetector(**TINY, **options).fit(labeled())
    other = labeled(1)
    plain = job.evaluate(other)
    timed = job.evaluate(other.assign(time=pd.date_range("2024", periods=len(other), freq="h", tz="UTC")))
    per_step, per_day = (plain.table["false events per 1,000 steps"], timed.table["false events per day"])
    assert per_step[0] > 0
    np.testing.assert_allclose(per_day, per_step * 24 / 1000)
    assert set(plain.directions) == {*plain.table.columns[1:]}
    assert set(timed.directions) == {*timed.table.columns[1:]}
    assert "in 1 anomalies" in plain.notes[0]


@pytest.mark.parametrize("threshold", ["quantile", "rolling_quantile"])
def test_note_about_too_few_steps_for_the_false_alarm_rate(threshold: str):
    for rate, is_too_low in ((1e-6, True), (0.05, False)):
        job = AnomalyDetector(**TINY, false_alarm_rate=rate, threshold_method=threshold).fit(labeled())
        notes = job.evaluate(labeled(1)).notes
        assert any("cannot guarantee a rate under" in note for note in notes) == is_too_low


@pytest.mark.parametrize(("label", "message"), [(1, "labeled an anomaly"), (0, "labeled normal")])
def test_note_about_labels_of_one_class(label: int, message: str):
    frame = labeled(1)
    frame["label"] = label
    notes = AnomalyDetector(**TINY, value_cols=("a", "b")).fit(labeled()).evaluate(frame).notes
    assert any(message in note and "cannot tell models apart" in note for note in notes)


def test_pyod_adapter():
    assert math.isnan(AnomalyDetector(**TINY).pyod().fit(waves(0)).threshold_)  # it changes from step to step
    detector = AnomalyDetector(**TINY, threshold_method="quantile", false_alarm_rate=0.05).pyod()
    values = waves(0)
    assert detector.fit(values) is detector
    scores = detector.decision_function(values)
    assert scores.shape == detector.decision_scores_.shape == (160,)
    predictions = detector.predict(values)
    assert set(np.unique(predictions)) == {0, 1}
    assert np.array_equal(predictions, (scores > detector.threshold_).astype(int))
    assert np.array_equal(predictions, detector.labels_)


# ---- principal subspace ----------------------------------------------------------------------------------------------


def plain_sub_pca(train: np.ndarray, values: np.ndarray, window: int) -> np.ndarray:
    """Scores of the window that ends with each step from ``window - 1`` on, by a singular value decomposition."""

    def windows(series: np.ndarray) -> np.ndarray:
        return np.stack([series[t - window : t].T.ravel() for t in range(window, len(series) + 1)])

    mean = windows(train).mean(axis=0)
    _, singular, directions = np.linalg.svd(windows(train) - mean, full_matrices=False)
    variances = singular**2 / (len(train) - window)
    count = int((np.cumsum(variances) / variances.sum() <= 0.999).sum()) + 1

    def parts(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        projected = (windows(series) - mean) @ directions[:count].T
        inside = (projected**2 / variances[:count]).sum(axis=1)
        return inside, ((windows(series) - mean - projected @ directions[:count]) ** 2).sum(axis=1)

    inside, outside = parts(values)
    return inside + outside / parts(train)[1].mean()


@pytest.mark.parametrize("channels", [1, 2])
def test_distances_match_the_plain_formula(channels: int):
    train, values = waves(0)[:, :channels], waves(1, 80)[:, :channels]
    subspace = PrincipalSubspace.fitted([train], 9)
    np.testing.assert_allclose(subspace.distances(values), plain_sub_pca(train, values, 9), rtol=1e-5)
    assert subspace.distances(values[:8]).shape == (0,)


def test_subspace_of_several_series_and_many_windows(monkeypatch: pytest.MonkeyPatch):
    """No window spans two series. Windows are read in small parts; of too many every second one is fitted to."""
    train = [waves(0), waves(2, 8), waves(1, 50)]
    whole = PrincipalSubspace.fitted(train, 9)
    counted = np.concatenate([plain.ravel() for plain in (train[0], train[2])])
    assert float(whole.mean.mean()) == pytest.approx(counted.mean(), abs=0.05)
    monkeypatch.setattr("lstmkit.modules.principal_subspace.VALUES_AT_ONCE", 100)
    in_parts = PrincipalSubspace.fitted(train, 9)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(in_parts.state_dict()[name].abs(), tensor.abs(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(in_parts.distances(waves(3)), whole.distances(waves(3)), rtol=1e-4)
    monkeypatch.setattr("lstmkit.modules.principal_subspace._MAX_WINDOWS", 100)
    few = PrincipalSubspace.fitted(train, 9)
    assert not torch.equal(few.mean, whole.mean)
    torch.testing.assert_close(few.mean, whole.mean, atol=0.1, rtol=0.1)


def test_score_is_the_geometric_mean_of_network_and_subspace():
    """Also with missing values; before the first whole window it is the network's, in the burn-in 0."""
    values = waves(1)
    values[50:53, 0] = values[0, 1] = np.nan
    job = AnomalyDetector(**TINY, subspace_weight=0.3).fit(waves(0))
    (result,), alone = job.predict(values), AnomalyDetector(**TINY, subspace_weight=0).fit(waves(0))
    predictor = job.predictor
    network = alone.predict(values)[0].scores
    train, valid = (forward_fill(predictor.standardize(part)[1]) for part in (waves(0)[:128], waves(0)[128:]))
    window = min(period_of(train), 64)
    normal = plain_sub_pca(train, np.concatenate([train, valid])[-(len(valid) + window - 1) :], window)
    distances = plain_sub_pca(train, forward_fill(predictor.standardize(values)[1]), window) / normal.mean()
    start = window - 1
    assert 4 < start < 100, "the window is longer than the burn-in, and shorter than the series"
    np.testing.assert_array_equal(result.scores[:start], network[:start])
    np.testing.assert_allclose(result.scores[start:], network[start:] ** 0.7 * distances**0.3, rtol=1e-4)
    np.testing.assert_allclose(result.channel_scores, alone.predict(values)[0].channel_scores)
    only = AnomalyDetector(**TINY, subspace_weight=1).fit(waves(0)).predict(values)[0].scores
    np.testing.assert_allclose(only[start:], distances, rtol=1e-4)
    assert not only[:4].any()


def test_a_slower_wave_is_found_only_with_the_subspace():
    """Each step follows from those before, so the network predicts it; no window of the training data is like it."""
    rng = np.random.default_rng(0)
    train = np.sin(np.arange(700) / 5) + 0.1 * rng.standard_normal(700)
    is_slow = (np.arange(500) >= 250) & (np.arange(500) < 330)
    values = np.sin(np.cumsum(np.where(is_slow, 0.17, 0.2))) + 0.1 * rng.standard_normal(500)
    options = {"hidden_size": 8, "epochs": 4, "steps_per_epoch": 20, "window": 30, "lr": 0.01}
    for weight, is_found in ((0.0, False), (0.5, True)):
        (result,) = AnomalyDetector(**options, subspace_weight=weight).fit(train).predict(values)
        assert result.alarms[is_slow].any() == is_found
        assert not result.alarms[~is_slow].any()


def test_both_parts_have_a_mean_of_1_on_normal_data():
    job = AnomalyDetector(**TINY).fit(waves(0))
    predictor, (train, valid) = job.predictor, job._fitted_to
    (targets,), (before,) = predictor.encode(valid)[1], predictor.encode(train)[1]
    assert trailing_distances(predictor.subspace, targets, before).mean() == pytest.approx(1, rel=1e-5)
    saved = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
    past = predictor.validation_scores
    job.calibrate(valid)  # a second calibration changes nothing
    assert np.array_equal(predictor.validation_scores, past)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in predictor.model.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"ensemble_size": 2}, {"method": "reconstruction"}])
def test_saved_subspace_gives_the_same_scores(options: dict[str, Any], tmp_path: Path):
    job = AnomalyDetector(**TINY, **options).fit(waves(0))
    loaded = load(job.save(tmp_path / "model"))
    assert loaded.predictor.subspace.sizes == job.predictor.subspace.sizes
    assert np.array_equal(loaded.predict(waves(1))[0].scores, job.predict(waves(1))[0].scores)


def test_model_without_a_subspace_scores_by_the_network(tmp_path: Path):
    """As saved by version 0.1, which had no such setting."""
    job = AnomalyDetector(**TINY, subspace_weight=0).fit(labeled())
    description = json.loads((job.save(tmp_path / "model") / "model.json").read_text())
    assert "subspace" not in description["state"]
    del description["settings"]["subspace_weight"], description["sha256"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(description | {"format": 1}))
    old = load(tmp_path / "model", train=labeled())
    assert old.subspace_weight == 0.5
    assert np.array_equal(old.predict(labeled(1))[0].scores, job.predict(labeled(1))[0].scores)
    assert any("is the network's alone" in note for note in old.evaluate(labeled(1)).notes)


def test_window_of_the_subspace():
    """The period, at most half of the longest series and 1,000 values; no subspace of very many channels."""
    wave = np.sin(np.arange(900) / 5)[:, None]
    assert fit_subspace([wave, wave[:40]]).window == 31
    assert fit_subspace([wave[:50]]).window == 25
    assert fit_subspace([wave], max_window=7).window == 7
    assert fit_subspace([np.repeat(wave, 100, axis=1)]).window == 10
    assert fit_subspace([np.repeat(wave, 501, axis=1)]) is None
    assert fit_subspace([wave[:3]]) is None


def test_short_validation_series_shorten_the_window():
    """Validation series of their own have whole windows, so that scores can be scaled."""
    job = AnomalyDetector(**TINY, threshold_method="quantile").fit(waves(0, 400), validation=waves(1, 20))
    assert job.predictor.subspace.window == 10
    own = AnomalyDetector(**TINY, valid_fraction=0.05).fit(waves(0, 400))
    assert own.predictor.subspace.window > 10
    assert np.isfinite(own.predictor.validation_scores).all()


def test_subspace_of_a_constant_channel_and_huge_values():
    """A constant channel does not hide the others; all channels constant have no subspace; huge values are finite."""
    values = np.concatenate([waves(0)[:, :1], np.full((160, 1), 5.0)], axis=1)
    job = AnomalyDetector(**TINY).fit(values)
    assert job.predictor.subspace is not None
    changed = values.copy()
    changed[100:, 1] = 6.0
    scores = job.predict(changed)[0].scores
    assert scores[100:110].max() > 3 * scores[:100].max()
    changed[120:] = 1e99
    assert np.isfinite(job.predict(changed)[0].scores).all()
    assert AnomalyDetector(**TINY).fit(np.full((160, 2), 5.0)).predictor.subspace is None


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_rows_are_grouped_by_id_and_sorted_by_time():
    frame = pd.DataFrame(
        {
            "id": ["x", "y", "x"],
            "time": ["2024-01-02", "2024-01-01", "2024-01-01"],
            "v": [2.0, 9, 1],
            "label": [1, 0, 0],
        }
    )
    series_set = read_sensor_series(frame, Columns())
    assert [series.name for series in series_set.items] == ["x", "y"]
    assert series_set.items[0].values[:, 0].tolist() == [1, 2]
    assert series_set.items[0].labels is not None
    assert series_set.items[0].labels.tolist() == [False, True]
    assert series_set.channels == ("v",)


def test_text_columns_are_not_channels(tmp_path: Path):
    (tmp_path / "a.csv").write_text("time,v,note\n1,1.5,fine\n2,2.5,\n3,,bad\n")
    series_set = read_sensor_series(tmp_path / "a.csv", Columns())
    assert series_set.channels == ("v",)
    assert np.isnan(series_set.items[0].values[2, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,note\n1,a\n", "has no numeric column to score"),
        ("time,v,label\n1,1,2\n", "is not a label: write 1"),
        ("time,v,label\n1,1,\n", "is not a label"),
        ("time,v\nx,1\n", "column 'time'"),
    ],
)
def test_bad_files_are_errors(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_sensor_series(tmp_path / "a.csv", Columns())


def test_bad_data_are_errors():
    job = AnomalyDetector(**TINY)
    for data, message in (
        (np.zeros((3, 2, 2)), r"has shape \(3, 2, 2\)"),
        (["a", "b"], "not list"),
        (np.array([1.0, np.inf]), "step 2: a value is infinite"),
        (waves(0)[:12], "at least 18 are needed"),
        (pd.DataFrame({"v": waves(0)[:, 0], "w": np.nan}), "channel 'w' has no value"),
    ):
        with pytest.raises(DataError, match=message):
            job.fit(data)
    with pytest.raises(DataError, match="no column 'z'"):
        AnomalyDetector(**TINY, value_cols=("z",)).fit(labeled())
    fitted = AnomalyDetector(**TINY).fit(waves(0))
    with pytest.raises(DataError, match="has no labels to evaluate with"):
        fitted.evaluate(waves(1))
    with pytest.raises(DataError, match="no column '1'"):
        fitted.predict(pd.DataFrame({"v": [1.0, 2.0]}))
    with pytest.raises(DataError, match="give 2 finite numbers"):
        fitted.stream().step([1.0])


def test_baselines_are_causal():
    values = waves(0)
    subspace = PrincipalSubspace.fitted([values], 8)
    later = values.copy()
    later[100:] += 50
    for score in (lambda x: moving_z_score(x, 10), lambda x: sub_pca(subspace, x)):
        np.testing.assert_allclose(score(values)[:100], score(later)[:100])
        assert score(later)[100] > 2 * score(values).max()
    assert sub_pca(subspace, values[:3]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("period", [4, 60, 299])
def test_window_of_sub_pca_is_the_period_of_the_data(period: int):
    t, rng = np.arange(1500), np.random.default_rng(0)
    values = np.stack([np.sin(2 * np.pi * t / period + shift) for shift in (0, 1, 2)], axis=1)
    values += 0.05 * rng.standard_normal(values.shape)
    assert period_of(values) == pytest.approx(period, abs=1 + 0.01 * period)


@pytest.mark.parametrize("values", [np.zeros((400, 2)), np.arange(400.0)[:, None], np.arange(4.0)[:, None]])
def test_without_a_period_the_window_of_sub_pca_is_125(values: np.ndarray):
    assert period_of(values) == 125


def test_settings_of_the_model_do_not_change_sub_pca():
    tables = [AnomalyDetector(**{**TINY, "window": w}).fit(labeled()).evaluate(labeled(1)).table for w in (10, 40)]
    rows = [table.set_index("model").loc["Sub-PCA"] for table in tables]
    assert rows[0].equals(rows[1])


def test_baselines_handle_constant_training_data():
    """Scores are finite if the training data are constant, and a change gets a high score."""
    constant = np.zeros((60, 2))
    subspace = PrincipalSubspace.fitted([constant], 8)
    constant[40] = 1
    for scores in (sub_pca(subspace, constant), moving_z_score(constant, 10)):
        assert np.isfinite(scores).all()
        assert scores[40] > 100 * (1 + scores[:40].max())


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_protocol_of_smap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Label ranges of a channel with two rows are merged; each channel is a separate model."""
    arrays = {}
    for name in ("A-1", "B-2"):
        for part in ("train", "test"):
            arrays[f"{part}_{name}_value"] = waves(0)[:, 0]
            arrays[f"{part}_{name}_cmd"] = np.zeros((160, 2), np.uint8)
    np.savez(tmp_path / "values.npz", **arrays)
    rows = 'A-1,SMAP,"[[10, 19]]",x,160\nA-1,SMAP,"[[15, 29]]",x,160\nB-2,SMAP,"[[100, 101]]",x,160\n'
    (tmp_path / "labels.csv").write_text("chan_id,spacecraft,anomaly_sequences,class,num_values\n" + rows)
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    options = {"values": "values.npz", "labels": "labels.csv"}
    pairs = list(protocols._smap(tmp_path, options))
    labels = [test.items[0].labels for _, test in pairs]
    assert [int(mask.sum()) for mask in labels if mask is not None] == [20, 2]
    job = AnomalyDetector(**TINY, covariates=("command 1", "command 2"))
    table = run_protocol(protocols.smap, job, tmp_path, options).set_index("model")
    assert list(table.index) == ["LSTM", "LSTM, network alone", "moving z-score", "Sub-PCA"]
    assert job.predictor.scored_channels == ("telemetry",)


def test_protocol_of_nab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Label windows are given by timestamps, both ends included; no alarm gives 0."""
    timestamps = pd.date_range("2020", periods=400, freq="h")
    pd.DataFrame({"timestamp": timestamps, "value": np.tile(waves(0)[:, 0], 3)[:400]}).to_csv(
        tmp_path / "g__a.csv", index=False
    )
    windows = {"g/a.csv": [[str(timestamps[200]), str(timestamps[219])]]}
    (tmp_path / "windows.json").write_text(json.dumps(windows))
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    ((train, test),) = protocols._nab(tmp_path, {"windows": "windows.json"})
    assert (len(train.items[0]), train.has_labels) == (60, False)
    labels = test.items[0].labels
    assert labels is not None
    assert true_runs(labels) == [(200, 220)]
    table = run_protocol(protocols.nab, AnomalyDetector(**TINY), tmp_path, {"windows": "windows.json"})
    assert (table["NAB, best threshold"] >= table["NAB"] - 1e-9).all()
    assert (table["NAB, best threshold"] <= 100).all()


def test_protocol_of_skab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frame = pd.DataFrame(waves(0), columns=["p", "q"])
    frame.insert(0, "datetime", pd.date_range("2020", periods=160, freq="s"))
    frame["anomaly"], frame["changepoint"] = (np.arange(160) > 120).astype(float), 0.0
    frame.to_csv(tmp_path / "other__1.csv", sep=";", index=False)
    files = (catalog.DataFile("other__1.csv", "", ""), catalog.DataFile("else__1.csv", "", ""))
    monkeypatch.setattr(catalog, "entry", lambda name: catalog.CatalogEntry(name, "", "", "", files))
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    options = {"without": "else__1.csv", "train": 100}
    ((train, test),) = protocols._skab(tmp_path, options)
    assert (len(train.items[0]), len(test.items[0]), train.has_labels, test.has_labels) == (100, 60, False, True)
    assert test.channels == ("p", "q")
    assert len(run_protocol(protocols.skab, AnomalyDetector(**TINY), tmp_path, options)) == 4
    assert len(run_protocol(protocols.skab, AnomalyDetector(**TINY, subspace_weight=0), tmp_path, options)) == 3


def test_digest_depends_on_the_values():
    series_set = SensorSeriesSet((SensorSeries("a", waves(0), np.arange(160)),), ("1", "2"), "x")
    other = SensorSeriesSet((SensorSeries("a", waves(1), np.arange(160)),), ("1", "2"), "x")
    assert series_set.digest() != other.digest()
    assert series_set.digest() == SensorSeriesSet(series_set.items, series_set.channels, "y").digest()
