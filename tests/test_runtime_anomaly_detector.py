"""Exported anomaly detectors give the scores, thresholds and alarms of the job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from job_cases import CASES, make
from lstmkit import runtime
from lstmkit.errors import DataError
from lstmkit.evaluation.anomaly_thresholds import moving_average_thresholds
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.runtime.jobs import anomaly_detector
from lstmkit.runtime.sensors import read_sensors

pytest.importorskip("onnx", reason="ONNX export needs the extra export")
pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

pytestmark = pytest.mark.usefixtures("onnx_functions_parsed_once")


def columns_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame as the runtime takes it: dates as text, missing values as None."""
    texts = frame.assign(**{name: frame[name].astype(str) for name in frame if frame[name].dtype.kind == "M"})
    return {str(name): [None if pd.isna(v) else v for v in texts[name].tolist()] for name in texts}


def check(job: AnomalyDetector, data: Any, folder: Path) -> list[dict[str, Any]]:
    """Export a fitted detector and compare its answers with those of the export; returns the latter."""
    job.export(folder)
    given = columns_of(data) if isinstance(data, pd.DataFrame) else data
    expected, answers = job.to_records(job.predict(data)), runtime.load(folder).predict(given)
    assert [one["id"] for one in answers] == [one["id"] for one in expected]
    for answer, one in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer["scores"], one["scores"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(answer["thresholds"], one["thresholds"], rtol=1e-4, atol=1e-6)
        assert [list(event) for event in answer["alarms"]] == [list(event) for event in one["alarms"]]
        for own, event in zip(answer["alarms"], one["alarms"], strict=True):
            numbers = ("score", "threshold")
            assert {k: v for k, v in own.items() if k not in numbers} == {
                k: v for k, v in event.items() if k not in numbers
            }
    json.dumps(answers)
    return answers


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    job = make("anomaly_detector", ensemble_size=2)
    assert isinstance(job, AnomalyDetector)
    return job.fit(CASES["anomaly_detector"].data())


def test_series_with_ids_times_and_missing_values(
    detector: AnomalyDetector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Rows out of order, series of different lengths, and series longer than what the network reads at once."""
    monkeypatch.setattr(anomaly_detector, "MAX_CHUNK_STEPS", 50)
    monkeypatch.setattr(anomaly_detector, "VALUES_AT_ONCE", 1000)
    rng = np.random.default_rng(3)
    parts = []
    for name, n in (("pump", 140), ("fan", 3), ("mill", 20)):
        values = rng.normal(size=(n, 2)) * 0.5
        frame = pd.DataFrame(values, columns=["a", "b"]).assign(
            id=name, time=pd.date_range("2024-01-01 00:30", periods=n, freq="h")
        )
        frame.loc[1, "a"] = np.nan
        if n > 100:
            frame.loc[100:104, "b"] = 9.0
        parts.append(frame)
    data = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)
    assert detector.predictor.subspace is not None
    answers = check(detector, data, tmp_path / "export")
    alarms = next(one for one in answers if one["id"] == "pump")["alarms"]
    assert any(event["channel"] == "b" and event["peak"].startswith("2024-01-05") for event in alarms)


@pytest.mark.parametrize("times", [[1_700_000_000, 60], [1_700_000_000_000, 250], [5, 2]], ids=str)
def test_times_as_numbers(detector: AnomalyDetector, times: list[int], tmp_path: Path):
    data = CASES["anomaly_detector"].other()
    check(detector, data.assign(time=times[0] + times[1] * np.arange(len(data))), tmp_path / "export")


def test_an_array_of_numbers(tmp_path: Path):
    waves = np.sin(np.arange(160) / 4) + 0.05 * np.random.default_rng(0).normal(size=160)
    job = make("anomaly_detector", method="reconstruction", threshold_method="rolling").fit(waves)
    assert isinstance(job, AnomalyDetector)
    waves = waves.copy()
    waves[[3, 40]] = np.nan
    waves[120:125] += 3
    answers = check(job, waves, tmp_path / "export")
    assert answers[0]["id"] == "the array"


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        ({"a": [1.0, "x"], "b": [1.0, 2.0]}, "column 'a', row 2: 'x' is not a number"),
        ({"a": [1.0, 2.0]}, "no column 'b' in the frame"),
        ({"a": [1.0, 2.0], "b": [1.0]}, "different lengths"),
        ({"a": [1.0, 1e101], "b": [1.0, 2.0]}, r"row 2: a value is above 1e\+100"),
        ({"a": [None, None], "b": [1.0, 2.0]}, "channel 'a' has no value"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0], "time": ["2024-01-01", "soon"]}, "row 2: 'soon' is not a date"),
        ({}, "has no rows"),
        ([[1.0], [2.0]], r"the array has 1 channels, the model was fitted to 2 \(a, b\)"),
        ([1.0, "x"], "give a mapping of columns, or numbers"),
        ([], "has shape"),
    ],
    ids=str,
)
def test_bad_data_are_one_line(data: Any, phrase: str):
    with pytest.raises(DataError, match=phrase) as caught:
        read_sensors(data, ("a", "b"), "time", "id")
    assert "\n" not in str(caught.value)


def test_a_rolling_threshold_is_that_of_rolling_mean_and_deviation():
    rng = np.random.default_rng(0)
    scores, before = rng.gamma(2.0, size=300), rng.gamma(2.0, size=90)
    for window, earlier in ((50, before), (200, before), (50, None)):
        known = np.concatenate([before[-window:], scores]) if earlier is not None else scores
        past = pd.Series(known).shift(1).rolling(window, min_periods=1)
        expected = np.nan_to_num((past.mean() + 2.5758293 * past.std(ddof=0)).to_numpy()[-300:], nan=np.inf)
        if earlier is None:
            expected[1] = 1.025758293 * scores[0]  # the deviation is at least a hundredth of the mean
        answer = moving_average_thresholds(scores, window, 0.005, earlier)
        np.testing.assert_allclose(answer, expected, rtol=1e-6)
