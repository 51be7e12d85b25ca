"""Anomaly detection: recordings read, scored as they come in, levels set without labels, alarms judged."""

from __future__ import annotations

import json
import math
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
from lstmkit.data.series.sensor_series import (
    Columns,
    SensorSeries,
    SensorSeriesSet,
    forward_fill,
    read_sensor_series,
    sliding_windows,
    trailing_windows,
)
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
    true_runs,
)
from lstmkit.jobs import load
from lstmkit.jobs.anomaly_detector.baselines import SubPCA, moving_z_score
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.jobs.anomaly_detector.scorers import future_values, prediction_errors
from lstmkit.layers.rnn import LSTM
from lstmkit.models.autoencoder import Autoencoder
from lstmkit.modules.heads import StepRegressionHead
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


def labelled(seed: int = 0, n: int = 200) -> pd.DataFrame:
    values = waves(seed, n)
    values[180:190] += 2
    marks = (np.arange(n) >= 180) & (np.arange(n) < 190)
    return pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "label": marks.astype(int)})


#: By ``RangeAUC_volume_opt`` of the package vus 0.0.6, for margins of 0, 10 and 25 steps.
VUS = [(0, 0.34374405393577123), (10, 0.5165200906495245), (25, 0.6376080186226131)]
#: Precision and recall by the package prts 1.0.0.3.
PRTS = (0.6041666666666666, 0.2333333333333333)


# ---- how alarms are judged -------------------------------------------------------------------------------------------

STEPS = np.arange(300)
MARKED = ((STEPS >= 40) & (STEPS < 60)) | ((STEPS >= 66) & (STEPS < 70)) | (STEPS >= 290)
SCORES = np.abs(np.sin(STEPS * 0.37)) + 0.8 * ((STEPS >= 45) & (STEPS < 75))


@pytest.mark.parametrize(("window", "wanted"), VUS)
def test_the_volume_under_the_surface_is_that_of_its_authors(window: int, wanted: float):
    """By ``RangeAUC_volume_opt`` of their package vus, version 0.0.6."""
    assert vus_pr(MARKED, SCORES, window) == pytest.approx(wanted, rel=1e-12)


def test_the_volume_without_a_margin_is_one_for_perfect_scores_and_nothing_without_labels():
    assert vus_pr(MARKED, MARKED.astype(float), 0) == pytest.approx(1.0)
    assert math.isnan(vus_pr(np.zeros(9, bool), np.arange(9.0), 2))


@given(st.integers(0, 10**6), st.floats(0.1, 9), st.floats(-5, 5))
def test_only_the_order_of_scores_counts(seed: int, scale: float, shift: float):
    rng = np.random.default_rng(seed)
    labels, scores = rng.random(60) < 0.2, rng.permutation(60).astype(float)
    labels[7] = True
    assert vus_pr(labels, scale * scores + shift, 6) == pytest.approx(vus_pr(labels, scores, 6), rel=1e-9)


def test_range_scores_are_those_of_the_package_prts():
    """Version 1.0.0.3, flat bias, reciprocal cardinality."""
    precision, recall, harmonic = range_precision_recall_f1(MARKED, SCORES > 1)
    assert (precision, recall) == pytest.approx(PRTS, rel=1e-12)
    assert harmonic == pytest.approx(2 * precision * recall / (precision + recall))


def test_range_scores_by_hand():
    labels = np.array([0, 1, 1, 1, 1, 0, 0, 1, 1, 0], bool)
    alarms = np.array([0, 1, 0, 0, 1, 1, 0, 0, 0, 1], bool)
    # Alarms: 1 of 1, 1 of 2, 0 of 1. Labels: 2 of 4 in two pieces, 0 of 2.
    assert range_precision_recall_f1(labels, alarms)[:2] == pytest.approx((0.5, 0.125))
    assert range_precision_recall_f1(labels, np.zeros(10, bool)) == (0.0, 0.0, 0.0)
    assert range_precision_recall_f1(labels, labels) == (1.0, 1.0, 1.0)


def test_overlaps_by_hand():
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 0], bool)
    alarms = np.array([1, 0, 1, 1, 0, 0, 0, 1], bool)
    assert event_counts(labels, alarms) == (1, 2, 1)
    assert f1(1, 2, 1) == pytest.approx(0.4)
    assert math.isnan(f1(0, 0, 0))


def test_points_of_the_numenta_benchmark_by_hand():
    """One window of ten steps: its first step earns one, its last nearly none; alarms far behind cost .11."""
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
    assert at(3) == -1  # in the probation
    assert (nab_score(-2, 2), nab_score(2, 2), nab_score(0, 2)) == (0, 100, 50)


# ---- levels ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.001, 0.09))
def test_a_quantile_keeps_its_rate(scores: list[float], rate: float):
    level = quantile_threshold(np.array(scores), rate)
    assert (np.array(scores) > level).mean() <= rate
    assert level in scores


def test_an_extreme_level_is_that_of_the_distribution_it_came_from():
    """Of scores whose tail is known the level for one in 10,000, from 5,000 of them."""
    scores = genpareto.rvs(0.1, scale=2.0, size=5000, random_state=1)
    wanted = genpareto.isf(1e-4, 0.1, scale=2.0)
    assert extreme_value_threshold(scores, 1e-4) == pytest.approx(wanted, rel=0.25)
    assert extreme_value_threshold(np.ones(500), 1e-4) == 1.0
    assert extreme_value_threshold(np.arange(5.0), 0.01) == 4.0


def test_a_dynamic_level_finds_what_sticks_out_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    scores = 1 + 0.1 * rng.standard_normal(400)
    quiet = scores > dynamic_thresholds(scores, 200, 0.13)
    assert not quiet[100:].any()
    scores[300:304] = 4.0
    found = scores > dynamic_thresholds(scores, 200, 0.13)
    assert found[300:304].all()
    assert not found[100:300].any()


def test_a_threshold_depends_on_no_later_score():
    rng = np.random.default_rng(1)
    scores = rng.exponential(size=120)
    whole = dynamic_thresholds(scores, 50, 0.1, before=rng.exponential(size=30))
    rng = np.random.default_rng(1)
    rng.exponential(size=120)
    part = dynamic_thresholds(scores[:70], 50, 0.1, before=rng.exponential(size=30))
    assert np.array_equal(whole[:70], part)


def test_a_recent_level_is_exceeded_at_its_rate_and_follows_a_drift():
    """Of normal scores the rate is kept; a step up is an alarm at once and not for ever."""
    rng = np.random.default_rng(0)
    scores = 5 + rng.standard_normal(20_000)
    before = 5 + rng.standard_normal(400)
    assert (scores > moving_average_thresholds(scores, 400, 0.01, before)).mean() == pytest.approx(0.01, rel=0.3)
    scores[10_000:] += 20
    found = scores > moving_average_thresholds(scores, 400, 1e-4, before)
    assert found[10_000:10_003].all()
    assert found[10_400:].mean() < 0.01


def test_a_recent_level_against_a_plain_loop():
    rng = np.random.default_rng(3)
    scores, before = rng.exponential(size=60), rng.exponential(size=7)
    found = moving_average_thresholds(scores, 10, 0.05, before)
    whole = np.concatenate([before, scores])
    for t in range(len(scores)):
        past = whole[max(0, t + 7 - 10) : t + 7]
        assert found[t] == pytest.approx(past.mean() + 1.6448536 * past.std(), rel=1e-6)
    assert np.array_equal(found[:30], moving_average_thresholds(scores[:30], 10, 0.05, before)), (
        "it hangs on no later score"
    )
    still = moving_average_thresholds(np.ones(50), 10, 0.05)
    assert still[0] == np.inf
    assert still[1:] == pytest.approx(1 + 1.6448536 * 0.01), "what never varies is no alarm by rounding"


def test_what_does_not_stand_out_is_pruned():
    """Two tops that are hardly above the rest are none; with a fall of a half to the rest both are."""
    base = np.tile([1.0, 1.02, 0.98, 1.01], 60)
    low, high = base.copy(), base.copy()
    low[-1], high[-1] = 1.15, 3.0
    assert not (low > dynamic_thresholds(low, 200, 0.2))[-1]
    assert (low > dynamic_thresholds(low, 200, 0.0))[-1]
    assert (high > dynamic_thresholds(high, 200, 0.2))[-1]


def test_a_stretch_of_alarms_is_one_detection_of_nab():
    """With a gap a run of false alarms costs as its first; without, each of its pieces costs."""
    run = np.zeros(100, bool)
    run[[40, 41, 43]] = True
    first = np.zeros(100, bool)
    first[40] = True
    assert nab_raw_score([(80, 90)], run, 10, gap=1) == nab_raw_score([(80, 90)], first, 10, gap=1)
    assert nab_raw_score([(80, 90)], run, 10) < nab_raw_score([(80, 90)], first, 10)
    assert nab_raw_score([(80, 90)], first, 10) == nab_raw_score([(80, 90)], first, 10, gap=1)


def test_stretches_with_gaps():
    alarms = np.array([1, 0, 1, 0, 0, 1], bool)
    assert true_runs(alarms) == [(0, 1), (2, 3), (5, 6)]
    assert true_runs(alarms, 1) == [(0, 3), (5, 6)]
    assert true_runs(alarms, 2) == [(0, 6)]
    assert true_runs(np.zeros(3, bool)) == []
    assert merge_gaps(alarms, 1).tolist() == [True, True, True, False, False, True]


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_what_was_foretold_of_a_step_is_compared_with_it():
    """Against a plain loop; what is missing stays missing."""
    rng = np.random.default_rng(0)
    values, said = rng.standard_normal((9, 2)), rng.standard_normal((9, 3 * 2))
    values[4, 1] = np.nan
    found = prediction_errors(values, said, 3)
    for t in range(9):
        about = [said.reshape(9, 3, 2)[t - k, k - 1] for k in (1, 2, 3) if t - k >= 0]
        wanted = np.mean([np.abs(values[t] - one) for one in about], axis=0) if about else np.full(2, np.nan)
        np.testing.assert_allclose(found[t], wanted, rtol=1e-12)
    assert future_values(values, 2).reshape(9, 2, 2)[3, 1] == pytest.approx(values[5])
    assert np.isnan(future_values(values[:1], 2)).all()


def test_windows():
    assert sliding_windows([7], 3, 2).tolist() == [[0, 0, 3], [0, 2, 5], [0, 4, 7]]
    assert trailing_windows([3, 1], 2).tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 3], [1, 0, 1]]
    assert forward_fill(np.array([[np.nan], [2.0], [np.nan]])).tolist() == [[0.0], [2.0], [2.0]]


def test_an_autoencoder_does_not_see_padding():
    torch.manual_seed(0)
    model = Autoencoder(LSTM(2, 4, batch_first=True), 3, LSTM(3, 4, batch_first=True), StepRegressionHead(4, 2)).eval()
    x = torch.randn(2, 6, 2)
    alone, _ = model(x[1:, :4])
    x[1, 4:] = 99
    together, _ = model(x, None, torch.tensor([6, 4]))
    torch.testing.assert_close(together[1:, :4], alone)


def test_an_autoencoder_learns_to_tell_again():
    torch.manual_seed(0)
    data = np.stack([np.sin(np.arange(120) / k) for k in (3, 5)], axis=1)
    job = AnomalyDetector(method="reconstruction", hidden_size=16, epochs=10, window=10, lr=0.01, burn_in=5).fit(data)
    losses = [row["valid_loss"] for row in job._histories[0].rows]
    assert losses[-1] < 0.3 * losses[0]


# ---- the job ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["prediction", "reconstruction"])
@pytest.mark.parametrize("threshold", ["quantile", "rolling", "dynamic"])
def test_live_gives_the_numbers_of_a_whole_recording(method: str, threshold: str):
    """Values are missing here and there; one of three columns is context."""
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
    live = job.stream()
    moments = [live.step(row) for row in values]
    np.testing.assert_allclose([m.score for m in moments], whole.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([m.threshold for m in moments], whole.thresholds, rtol=1e-4)
    np.testing.assert_allclose([m.channel_scores for m in moments], whole.channel_scores, rtol=1e-4, atol=1e-4)
    assert whole.channels == ("1", "2")


@pytest.mark.parametrize("method", ["prediction", "reconstruction"])
def test_no_score_hangs_on_what_comes_later(method: str):
    job = AnomalyDetector(method=method, **TINY).fit(waves(0))
    values = waves(1)
    (before,) = job.predict(values)
    values[100:] = 77
    (after,) = job.predict(values)
    np.testing.assert_allclose(before.scores[:100], after.scores[:100], rtol=1e-5)
    assert after.scores[100] > before.scores[100]


def test_fit_sees_no_label(tmp_path: Path):
    """With other labels the same model comes out, but for the test part."""
    weights = []
    for turn in (False, True):
        frame = labelled()
        frame["label"] = 1 - frame["label"] if turn else frame["label"]
        job = AnomalyDetector(**TINY).fit(frame, run=tmp_path / str(turn))
        weights.append(((tmp_path / str(turn)) / "weights.safetensors").read_bytes())
        assert job.evaluation is not None
    assert weights[0] == weights[1]


def test_a_fault_is_found_and_its_channel_named():
    frame = pd.DataFrame(waves(0, 600), columns=["left", "right"])
    job = AnomalyDetector(hidden_size=16, epochs=12, window=40, lr=0.01).fit(frame)
    other = pd.DataFrame(waves(1, 300), columns=["left", "right"])
    other.loc[200:206, "right"] += 3
    rows = [row for found in job.predict(other) for row in found.events()]
    assert any(row["start"] <= 202 <= row["end"] + 1 and row["channel"] == "right" for row in rows)
    assert job.decision_function(other).shape == (300,)


def test_what_stands_beside_needs_the_data_it_learnt_from(tmp_path: Path):
    job = AnomalyDetector(**TINY).fit(labelled(), run=tmp_path / "run")
    table = job.evaluate(labelled(1)).table.set_index("model")
    assert list(table.index) == ["LSTM", "moving z-score", "Sub-PCA"]
    assert np.isfinite(table.to_numpy(dtype=float)).all()
    found = load(tmp_path / "run").evaluate(labelled(1))
    assert list(found.table["model"]) == ["LSTM", "moving z-score"]
    assert np.isnan(found.table.loc[1, "range F1"])
    assert found.table.loc[0, "VUS-PR"] == pytest.approx(table.loc["LSTM", "VUS-PR"])
    assert "does not have its training data" in found.notes[-1]


def test_a_channel_that_never_changed_and_does():
    """It is in its own unit then."""
    values = waves(0)
    values[:, 1] = 5.0
    job = AnomalyDetector(**TINY, score_aggregation="max").fit(values)
    values[120, 1] = 6.0
    (found,) = job.predict(values)
    assert found.channel_scores[120, 1] > 5
    assert found.scores[120:124].argmax() == 0


def test_a_channel_that_is_not_there_any_more_is_named():
    """A sensor that has died is no sensor that is as usual."""
    job = AnomalyDetector(**TINY, value_cols=("a", "b")).fit(labelled())
    frame = labelled(1)
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
def test_what_a_user_mistypes_is_not_passed_over(options: dict[str, Any], change: dict[str, Any], message: str):
    """A column that is named and not there would else be learnt from, labels among them."""
    frame = labelled(0, 400).astype(object if "hello" in change.values() else float)
    for name, value in change.items():
        frame.loc[3, name] = value
    with pytest.raises(DataError, match=message):
        AnomalyDetector(**{**TINY, "burn_in": 4, **options}).fit(frame)


def test_a_column_of_words_is_left_out_and_said():
    frame = labelled().assign(state="on")
    job = AnomalyDetector(**TINY)
    assert job.read(frame).notes == ("text columns, not used as channels: state",)
    assert job.fit(frame).predictor.channel_names == ("a", "b")


def test_what_validates_has_the_channels_of_what_is_learnt():
    """In whatever order; labels as PyOD takes them are no recording."""
    frame, other = labelled(), labelled(1)
    job = AnomalyDetector(**TINY).fit(frame, validation=other[["b", "a", "label"]])
    same = AnomalyDetector(**TINY).fit(frame, validation=other)
    np.testing.assert_array_equal(job.predictor.mean_errors, same.predictor.mean_errors)
    for wrong in (other[["a", "label"]], other.rename(columns={"b": "c"})):
        with pytest.raises(DataError, match="have different channels"):
            AnomalyDetector(**TINY).fit(frame, validation=wrong)
    for labels in (np.zeros(160), [0, 1] * 40):
        with pytest.raises(DataError, match="hold only 0 and 1, as labels do"):
            AnomalyDetector(**TINY).fit(waves(0)[:, :1], validation=labels)


def test_the_score_that_a_level_came_from_is_no_alarm():
    """Whatever way it is rounded; and nothing is an alarm that is below the usual error."""
    job = AnomalyDetector(**TINY).fit(waves(0))
    scores = np.array([3.0, 1.0, 2.0])
    assert job.predictor.fit_threshold(scores) > 3.0 * (1 + 1e-5)
    assert job.predictor.fit_threshold(scores) == pytest.approx(3.0, rel=1e-3)
    still = AnomalyDetector(**TINY).fit(np.ones((300, 2)))
    assert not still.predict(np.ones((300, 2)))[0].alarms.any()


def test_few_steps_promise_no_small_rate():
    job = AnomalyDetector(**{**TINY, "false_alarm_rate": 1e-6}).fit(labelled())
    assert job.evaluation is None
    assert any("cannot guarantee a rate under" in note for note in job.evaluate(labelled(1)).notes)


@pytest.mark.parametrize(("label", "said"), [(1, "labeled an anomaly"), (0, "labeled normal")])
def test_labels_that_are_all_alike_judge_nothing(label: int, said: str):
    frame = labelled(1)
    frame["label"] = label
    notes = AnomalyDetector(**TINY, value_cols=("a", "b")).fit(labelled()).evaluate(frame).notes
    assert any(said in note and "cannot tell models apart" in note for note in notes)


def test_pyod_can_use_it():
    detector = AnomalyDetector(**TINY).pyod()
    values = waves(0)
    assert detector.fit(values) is detector
    scores = detector.decision_function(values)
    assert scores.shape == detector.decision_scores_.shape == (160,)
    found = detector.predict(values)
    assert set(np.unique(found)) <= {0, 1}
    assert np.array_equal(found, (scores > detector.threshold_).astype(int))
    assert np.array_equal(found, detector.labels_)


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_several_recordings_in_order_of_time():
    frame = pd.DataFrame(
        {
            "id": ["x", "y", "x"],
            "time": ["2024-01-02", "2024-01-01", "2024-01-01"],
            "v": [2.0, 9, 1],
            "label": [1, 0, 0],
        }
    )
    found = read_sensor_series(frame, Columns())
    assert [one.name for one in found.items] == ["x", "y"]
    assert found.items[0].values[:, 0].tolist() == [1, 2]
    assert found.items[0].labels is not None
    assert found.items[0].labels.tolist() == [False, True]
    assert found.channels == ("v",)


def test_columns_of_words_are_not_watched(tmp_path: Path):
    (tmp_path / "a.csv").write_text("time,v,note\n1,1.5,fine\n2,2.5,\n3,,bad\n")
    found = read_sensor_series(tmp_path / "a.csv", Columns())
    assert found.channels == ("v",)
    assert np.isnan(found.items[0].values[2, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,note\n1,a\n", "has no numeric column to score"),
        ("time,v\n1,1\n1,2\n", "the timestamp 1 twice"),
        ("time,v,label\n1,1,2\n", "is not a label: write 1"),
        ("time,v,label\n1,1,\n", "is not a label"),
        ("time,v\nx,1\n", "column 'time'"),
    ],
)
def test_files_that_do_not_do(tmp_path: Path, text: str, message: str):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_sensor_series(tmp_path / "a.csv", Columns())


def test_data_that_do_not_do():
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
        AnomalyDetector(**TINY, value_cols=("z",)).fit(labelled())
    fitted = AnomalyDetector(**TINY).fit(waves(0))
    with pytest.raises(DataError, match="has no labels to evaluate with"):
        fitted.evaluate(waves(1))
    with pytest.raises(DataError, match="no column '1'"):
        fitted.predict(pd.DataFrame({"v": [1.0, 2.0]}))
    with pytest.raises(DataError, match="give 2 finite numbers"):
        fitted.stream().step([1.0])


def test_baselines_look_at_the_past_alone():
    values = waves(0)
    pca = SubPCA(8).fit(values)
    later = values.copy()
    later[100:] += 50
    for score in (lambda x: moving_z_score(x, 10), pca.score):
        np.testing.assert_allclose(score(values)[:100], score(later)[:100])
        assert score(later)[100] > 2 * score(values).max()
    assert pca.score(values[:3]).tolist() == [0, 0, 0]


def test_baselines_know_what_never_changed():
    """Scores are numbers where the training part is constant, and a change stands out."""
    still = np.zeros((60, 2))
    pca = SubPCA(8).fit(still)
    still[40] = 1
    for found in (pca.score(still), moving_z_score(still, 10)):
        assert np.isfinite(found).all()
        assert found[40] > 100 * (1 + found[:40].max())


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_protocol_of_smap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A channel in two rows has the ranges of both; each channel is a model."""
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
    assert [int(one.sum()) for one in labels if one is not None] == [20, 2]
    job = AnomalyDetector(**TINY, covariates=("command 1", "command 2"))
    table = run_protocol(protocols.smap, job, tmp_path, options).set_index("model")
    assert list(table.index) == ["LSTM", "moving z-score", "Sub-PCA"]
    assert job.predictor.scored_channels == ("telemetry",)


def test_protocol_of_nab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows by their stamps, both ends within; no alarm at all gives 0."""
    timestamps = pd.date_range("2020", periods=400, freq="h")
    pd.DataFrame({"timestamp": timestamps, "value": np.tile(waves(0)[:, 0], 3)[:400]}).to_csv(
        tmp_path / "g__a.csv", index=False
    )
    windows = {"g/a.csv": [[str(timestamps[200]), str(timestamps[219])]]}
    (tmp_path / "windows.json").write_text(json.dumps(windows))
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    ((train, test),) = protocols._nab(tmp_path, {"windows": "windows.json"})
    assert (len(train.items[0]), train.has_labels) == (60, False)
    known = test.items[0].labels
    assert known is not None
    assert true_runs(known) == [(200, 220)]
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
    assert len(run_protocol(protocols.skab, AnomalyDetector(**TINY), tmp_path, options)) == 3


def test_recordings_are_told_apart():
    one = SensorSeriesSet((SensorSeries("a", waves(0), np.arange(160)),), ("1", "2"), "x")
    other = SensorSeriesSet((SensorSeries("a", waves(1), np.arange(160)),), ("1", "2"), "x")
    assert one.digest() != other.digest()
    assert one.digest() == SensorSeriesSet(one.items, one.channels, "y").digest()
