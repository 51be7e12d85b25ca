"""A forecaster keeps the end of the series it was fitted to, so that newer data alone are judged as in ``fit``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from job_cases import without_sum
from lstmkit import Forecaster, load
from lstmkit.data.series.history import History, continued
from lstmkit.data.series.series_set import read_series
from lstmkit.jobs.forecaster import series_histories


def sales(n: int = 100, freq: str | None = "D", tz: str | None = None) -> pd.DataFrame:
    """Two shops with a weekly season, a price known in advance, and a weather that is text."""
    frames = []
    for k, name in enumerate(("north", "south")):
        rng = np.random.default_rng(k)
        ds = np.arange(n) if freq is None else pd.date_range("2023-01-01", periods=n, freq=freq, tz=tz)
        y = 20 + 30 * k + 5 * np.sin(2 * np.pi * np.arange(n) / 7) + rng.standard_normal(n)
        weather = np.where(rng.random(n) < 0.5, "sun", "rain")
        columns = {"unique_id": name, "ds": ds, "y": y, "price": rng.random(n), "weather": weather}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def tiny(**options) -> Forecaster:
    given = {"horizon": 4, "hidden_size": 8, "epochs": 1, "steps_per_epoch": 3, "season_length": 7, **options}
    return Forecaster(**given)


def newer(frame: pd.DataFrame, fitted: Forecaster) -> pd.DataFrame:
    """The rows after training and validation."""
    ends = frame["unique_id"].map(
        {name: fitted.predictor.parse_timestamp(end) for name, end in fitted.predictor.last_trained_timestamps.items()}
    )
    return frame[[bool(a > b) for a, b in zip(frame["ds"], ends, strict=True)]]


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("freq", "tz", "options"),
    [
        ("D", None, {}),
        ("h", "Europe/Berlin", {}),
        ("MS", None, {}),
        (None, None, {}),
        ("D", None, {"future_covariates": ["price"], "past_covariates": ["weather"]}),
        ("D", None, {"method": "recursive", "num_samples": 10}),
        ("D", None, {"valid_fraction": 0.0}),
    ],
)
def test_newer_data_alone_have_the_scores_of_fit(tmp_path: Path, freq, tz, options):
    """The test part alone, judged by the saved model, has the table that ``fit`` wrote, baselines included."""
    frame = sales(freq=freq, tz=tz)
    fitted = tiny(**options).fit(frame, run=tmp_path / "run")
    assert fitted.evaluation is not None
    found = load(tmp_path / "run").evaluate(newer(frame, fitted))
    assert np.isfinite(found.table["MASE"]).all()
    pd.testing.assert_frame_equal(found.table, fitted.evaluation.table)


def test_data_after_the_test_have_no_gap_before_them():
    """Data that begin where those of ``fit`` end are judged like all data at once: from their first step on."""
    frame = sales(n=140)
    fitted = tiny().fit(frame[frame["ds"] < "2023-04-11"])
    newest = frame[frame["ds"] >= "2023-04-11"]
    alone, at_once = fitted.evaluate(newest), fitted.evaluate(frame)
    assert len(alone.details) == len(newest)
    windows = at_once.details[at_once.details["ds"] >= "2023-04-11"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.details, windows)


@pytest.mark.usefixtures("no_report")
def test_models_without_a_history_load_and_judge_what_they_are_given(tmp_path: Path):
    """As those of version 0.1: the state has no histories and no scales."""
    frame = sales()
    fitted = tiny().fit(frame, run=tmp_path / "run")
    path = tmp_path / "run" / "model.json"
    description = without_sum(path)
    state = next(
        part for part in (description, *description.values()) if isinstance(part, dict) and "histories" in part
    )
    del state["histories"], state["usual_scales"]
    path.write_text(json.dumps(description), encoding="utf-8")
    loaded = load(tmp_path / "run")
    assert loaded.predictor.histories == {}
    assert fitted.evaluation is not None
    pd.testing.assert_frame_equal(loaded.evaluate(frame).table, fitted.evaluation.table)
    assert len(loaded.evaluate(newer(frame, fitted)).table) == 3


def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """As many values as allowed, but a window and two seasons at least; and the 20 steps of the test."""
    for values, expected in ((60, 30), (10, 24)):  # a window is 24 steps
        monkeypatch.setattr(series_histories, "MAX_HISTORY_VALUES", values)
        histories = tiny().fit(sales()).predictor.histories
        assert {len(history.y) for history in histories.values()} == {expected + 20}


def test_only_what_is_missing_is_put_before():
    """An overlap keeps the newer values, a gap is missing; a long gap, another grid and older data change nothing."""
    days = pd.date_range("2023-01-01", periods=12)
    history = {"series": History.of(read_series(pd.DataFrame({"ds": days[:4], "y": [1.0, 2, 3, 4]})), 0, 3)}

    def joined(first: int, offset: str = "0h") -> list[float]:
        values = pd.DataFrame({"ds": days[first : first + 3] + pd.Timedelta(offset), "y": [7.0, 8, 9]})
        series = continued(read_series(values), history)
        assert str(series.timestamps(0, len(series.y[0]) - 3, len(series.y[0]) - 2)[0]) == str(values["ds"][0])
        return series.y[0].tolist()

    assert joined(4) == [2, 3, 4, 7, 8, 9]
    assert joined(2) == [2, 7, 8, 9]
    assert joined(1) == joined(0) == [7, 8, 9]
    assert joined(8) == [7, 8, 9]
    assert joined(4, "6h") == [7, 8, 9]
    np.testing.assert_array_equal(joined(5), [2, 3, 4, np.nan, 7, 8, 9])


def test_missing_values_and_categories_survive_the_file():
    series = read_series(
        pd.DataFrame({"ds": range(5), "y": [1, None, None, 4, 5], "kind": ["a", None, "b", "a", "b"]}), past=["kind"]
    )
    history = History.of(series, 0, 4)
    assert (history.start, history.y.tolist()) == (3, [4, 5])  # without the missing values in front
    state = json.loads(json.dumps(History.of(series, 0, 5).to_json()))
    again = History.from_json(state, int(state["start"]))
    np.testing.assert_array_equal(again.y, [1, np.nan, np.nan, 4, 5])
    assert again.covariates["kind"].tolist() == ["a", None, "b", "a", "b"]
    with pytest.raises(ValueError, match="incomplete"):
        History.from_json({**state, "y": "1.0"}, 0)
