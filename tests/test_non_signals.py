"""Columns that are not signals are not watched, and that is said: times, row numbers, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit import AnomalyDetector
from lstmkit.data.series.sensor_series import Columns, read_sensor_series
from lstmkit.errors import DataError
from lstmkit.progress import Progress

N = 300
START = 1357171200
WAVE = np.sin(np.arange(N) / 5) + 0.05 * np.random.default_rng(0).standard_normal(N)
SECONDS = START + 300 * np.arange(N)
DATES = pd.Series(pd.to_datetime(SECONDS, unit="s"))
TINY = {"hidden_size": 8, "epochs": 1, "steps_per_epoch": 5, "window": 20}


class Heard(Progress):
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def read(path: Path, frame: pd.DataFrame, index: bool = False, **columns):
    frame.to_csv(path / "a.csv", index=index)
    return read_sensor_series(path / "a.csv", Columns(**columns))


TIMES = {
    "timestamp": SECONDS,
    "Timestamp (ms)": 1000 * SECONDS,
    "ts": 10**6 * SECONDS,
    "unix_time": 10**9 * SECONDS,
    "when": SECONDS,  # no name for a time, but it passes like a clock
    "date": [int(f"{date:%Y%m%d}") for date in pd.date_range("2020-01-01", periods=N)],
    "datetime": DATES.astype(str),
    "DateTime": DATES.dt.strftime("%d.%m.%Y %H:%M"),
    "week": [f"{y}{w:02d}" for y, w in zip(np.repeat(range(2000, 2006), 50), np.tile(range(1, 51), 6), strict=True)],
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_timestamps_and_not_watched(tmp_path: Path, name: str):
    found = read(tmp_path, pd.DataFrame({name: TIMES[name], "value": WAVE}))
    assert found.channels == ("value",)
    assert isinstance(found.items[0].times, pd.DatetimeIndex)
    assert any(f"column {name!r} holds" in note and "used as timestamps" in note for note in found.notes)


@pytest.mark.parametrize("start", [0, 1500])
@pytest.mark.parametrize("form", ["csv", "reread", "named"])
def test_row_numbers_are_not_watched(tmp_path: Path, start: int, form: str):
    """``frame.to_csv`` writes the index as a column without a name; pandas reads it as "Unnamed: 0"."""
    frame = pd.DataFrame({"value": WAVE}, index=pd.RangeIndex(start, start + N))
    if form == "csv":
        found = read(tmp_path, frame, index=True)
    else:
        name = "Unnamed: 0" if form == "reread" else "index"
        found = read_sensor_series(frame.rename_axis(name).reset_index(), Columns())
    assert found.channels == ("value",)
    assert found.items[0].times.tolist()[:2] == [1, 2]
    assert any("counts the rows: not used as a channel" in note for note in found.notes)


def test_row_numbers_of_several_series_start_anew():
    frame = pd.DataFrame({"id": np.repeat(["a", "b"], N // 2), "step": [*range(N // 2)] * 2, "v": WAVE})
    assert read_sensor_series(frame, Columns()).channels == ("v",)


@pytest.mark.parametrize("name", ["changepoint", "anomaly", "is_anomaly", "Label", "attack", "outlier"])
def test_labels_are_not_watched(name: str):
    """As SKAB's changepoint; the note names both options."""
    frame = pd.DataFrame({"v": WAVE, name: (np.arange(N) % 50 == 0).astype(float)})
    found = read_sensor_series(frame, Columns())
    assert found.channels == ("v",)
    (note,) = found.notes
    assert f"value_cols={name!r}, or label_col={name!r}" in note
    assert read_sensor_series(frame, Columns(channels=("v", name))).channels == ("v", name)


@pytest.mark.parametrize("column", [np.arange(N), 1000 - 5 * np.arange(N), 7 + 0.1 * np.arange(N)])
def test_a_counter_of_any_name_is_not_watched(column: np.ndarray):
    found = read_sensor_series(pd.DataFrame({"seconds of the run": column, "v": WAVE}), Columns())
    assert found.channels == ("v",)
    assert any("changes by the same amount in every row, as a counter does" in note for note in found.notes)
    named = Columns(channels=("seconds of the run", "v"))
    assert read_sensor_series(pd.DataFrame({"seconds of the run": column, "v": WAVE}), named).channels == named.channels


def test_a_column_that_only_increases_is_watched_and_that_is_said():
    frame = pd.DataFrame({"energy": np.cumsum(np.abs(WAVE)), "v": WAVE})
    found = read_sensor_series(frame, Columns())
    assert found.channels == ("energy", "v")
    assert [note for note in found.notes if "only increases" in note] == [
        "column 'energy' only increases: values beyond those of training are unlike them (to leave it out, give "
        "value_cols=OTHERS)"
    ]


def test_signals_stay_signals():
    """A level in the range of Unix times, a counter, a switch, a cycle of hours, a name that only holds "time"."""
    signals = {
        "pressure": 1e9 + WAVE,
        "energy": 1.3e9 + np.cumsum(np.random.default_rng(1).integers(0, 5000, N)),
        "value": np.arange(N, dtype=float) ** 1.5,
        "valve": (np.arange(N) % 7 == 0).astype(int),
        "hour": np.arange(N) % 24,
        "lifetime": 100 + WAVE,
        "cycle_time": 100 + WAVE,
        "label": WAVE,
    }
    found = read_sensor_series(pd.DataFrame(signals), Columns(label=""))
    assert found.channels == tuple(signals)
    assert [note.split(": ")[0] for note in found.notes] == [
        f"column {n!r} only increases" for n in ("energy", "value")
    ]


def test_four_files_with_one_signal_raise_the_same_alarms(tmp_path: Path):
    """The signal alone, with a time, with an index, with Unix seconds that are not called time."""
    scores = []
    for columns in ({}, {"time": SECONDS}, {"": np.arange(N)}, {"timestamp": SECONDS}):
        frame = pd.DataFrame({**columns, "value": WAVE})
        for part, rows in (("train", slice(0, 200)), ("test", slice(200, N))):
            frame[rows].to_csv(tmp_path / f"{part}.csv", index=False)
        detector = AnomalyDetector(**TINY).fit(tmp_path / "train.csv")
        scores.append(detector.predict(tmp_path / "test.csv")[0].scores)
    for others in scores[1:]:
        np.testing.assert_array_equal(others, scores[0])


def test_what_is_left_out_is_said(tmp_path: Path):
    """In the output of ``fit`` and in the report."""
    heard, frame = Heard(), pd.DataFrame({"timestamp": SECONDS, "value": WAVE, "changepoint": 0})
    AnomalyDetector(**TINY).fit(frame, run=tmp_path / "run", progress=heard)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for phrase in ("holds seconds since 1970: used as timestamps", "holds only 0 and 1, as labels do"):
        assert any(phrase in line for line in heard.lines)
        assert phrase in report


def test_repeated_timestamps_are_steps_in_the_order_of_the_file(tmp_path: Path):
    """Ten a second, in whole seconds; only the count of steps matters."""
    found = read_sensor_series(pd.DataFrame({"time": [2, 1, 1, 2, 1], "v": [40.0, 10, 20, 50, 30]}), Columns())
    assert found.items[0].values[:, 0].tolist() == [10, 20, 30, 40, 50]
    assert found.items[0].times.tolist() == [1, 1, 1, 2, 2]
    (note,) = found.notes
    assert "3 rows have the timestamp of another row of their series, such as 1" in note
    assert "id_col=NAME" in note
    AnomalyDetector(**TINY).fit(pd.DataFrame({"time": DATES.dt.floor("h"), "v": WAVE}))


@pytest.mark.parametrize(("fraction", "held_out"), [(0.3, "the last 30% of each series, 90 of 300 steps"), (0, "")])
def test_labels_in_the_training_file_hold_out_a_test_part_and_it_is_said(tmp_path: Path, fraction, held_out: str):
    heard, frame = Heard(), pd.DataFrame({"value": WAVE, "label": np.arange(N) == 280})
    job = AnomalyDetector(**TINY, test_fraction=fraction).fit(frame.astype(float), run=tmp_path / "run", progress=heard)
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    said = f"has labels: {held_out}, test the model" if held_out else "all 300 steps train and calibrate the model"
    assert any(said in line for line in heard.lines)
    assert said in report
    assert (job.evaluation is not None) == bool(held_out)


def test_a_file_of_times_alone_has_nothing_to_score():
    with pytest.raises(DataError, match="no numeric column to score"):
        read_sensor_series(pd.DataFrame({"timestamp": SECONDS}), Columns())
