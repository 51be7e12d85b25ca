"""Exported forecasters give the forecasts of the job: timestamps, covariates, calibration and sampled paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, nbinom, norm, t
from torch import Tensor

from job_cases import make
from lstmkit import runtime
from lstmkit.data.series.date_steps import date_steps
from lstmkit.data.series.series_set import read_series
from lstmkit.errors import DataError
from lstmkit.modules.heads import DistributionHead
from lstmkit.runtime.columns import Columns
from lstmkit.runtime.jobs import forecaster as exported_forecaster
from lstmkit.runtime.series import SeriesFormat
from lstmkit.runtime.series import read_series as read_columns

pytest.importorskip("onnx", reason="ONNX export needs the extra export")
pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

pytestmark = pytest.mark.usefixtures("onnx_functions_parsed_once")

FREQUENCIES = (
    "D", "2D", "h", "36h", "15min", "s", "B", "3B", "W-SUN", "W-WED", "2W-MON", "MS", "2MS", "ME", "QS-JAN", "2QS-OCT",
    "QE-DEC", "QE-FEB", "YS-JAN", "YE-JUN", "BMS", "BME", "BQS-JAN", "BQE-DEC", "BYS-JAN", "BYE-MAR",
)  # fmt: skip
TINY: dict[str, Any] = {"horizon": 3, "test_windows": 1, "epochs": 1, "steps_per_epoch": 2, "hidden_size": 5}


def columns_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame as the runtime takes it: dates as text, missing values as None."""
    texts = frame.assign(**{name: frame[name].astype(str) for name in frame if frame[name].dtype.kind == "M"})
    return {str(name): [None if pd.isna(v) else v for v in texts[name].tolist()] for name in texts}


def form(freq: str | int, **covariates: Any) -> SeriesFormat:
    none: Any = {"past": (), "future": (), "static": (), "texts": ()}
    return SeriesFormat(**{"id": "unique_id", "time": "ds", "target": "y", **none, **covariates}, freq=freq)


def monthly(seed: int, lengths: tuple[int, ...] = (60, 43)) -> pd.DataFrame:
    """Monthly series of different lengths with negative and missing values."""
    rng, parts = np.random.default_rng(seed), []
    for name, n in zip("ab", lengths, strict=True):
        y = np.sin(np.arange(n) * np.pi / 6) * 3 - 0.5 + 0.1 * rng.standard_normal(n)
        y[5:8] = np.nan
        parts.append(pd.DataFrame({"unique_id": name, "ds": pd.date_range("2015-01-01", periods=n, freq="MS"), "y": y}))
    return pd.concat(parts, ignore_index=True)


def check(job: Any, data: pd.DataFrame, folder: Path, future: pd.DataFrame | None = None) -> list[dict[str, Any]]:
    """Export a fitted job and compare its forecasts with those of the export; returns the latter."""
    job.export(folder)
    own = {} if future is None else {"future_data": future}
    exported = {} if future is None else {"future_data": columns_of(future)}
    expected = job.to_records(job.predict(data, **own))
    answers = runtime.load(folder).predict(columns_of(data), **exported)
    assert [list(row) for row in answers] == [list(row) for row in expected]
    for answer, row in zip(answers, expected, strict=True):
        for name, value in row.items():
            if isinstance(value, str):
                assert answer[name] == value
            else:
                np.testing.assert_allclose(answer[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    return answers


# ---- timestamps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freq", FREQUENCIES)
def test_series_of_each_frequency_are_read_as_by_the_job(freq: str):
    """Gaps, the order of rows, and the timestamps ahead."""
    rng = np.random.default_rng(0)
    parts = []
    for name, start in (("b", "2019-02-03 06:30"), ("a", "2021-11-11 06:30")):
        dates = pd.date_range(start, periods=40, freq=freq)
        frame = pd.DataFrame({"unique_id": name, "ds": dates, "y": rng.normal(size=40)})
        parts.append(frame.drop(index=[3, 4, 11]))
    frame = pd.concat(parts, ignore_index=True).iloc[::-1]
    expected, answer = read_series(frame, freq=freq), read_columns(columns_of(frame), form(freq))
    assert answer.ids == list(expected.ids)
    for i, y in enumerate(expected.y):
        np.testing.assert_array_equal(answer.y[i], y)
        end = len(y) + 9
        dates = expected.timestamps(i, 0, end).to_numpy()  # type: ignore[union-attr]
        np.testing.assert_array_equal(answer.timestamps(i, 0, end), dates)
    ahead = pd.concat([pd.Series(expected.timestamps(i, len(y), len(y) + 9)) for i, y in enumerate(expected.y)])
    assert answer.texts_after(9) == ahead.astype(str).tolist()


@pytest.mark.parametrize("freq", ["SMS-15", "bh", "C", "WOM-1MON", "", "-D"])
def test_other_frequencies_are_refused(freq: str):
    with pytest.raises(DataError, match="cannot be exported: the runtime has"):
        date_steps(freq)


@pytest.mark.parametrize(
    "dates",
    [
        ["2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z"],
        ["2024-01-31 00:00+02:00", "2024-02-01 00:00+02:00", "2024-02-02 00:00+02:00"],
        ["2024-01-31T02:00:00+02:00", "2024-02-01T01:00:00+01:00", "2024-02-02T02:00:00+02:00"],
        ["2024-01-31 00:00:00.5", "2024-02-01 00:00:00.5", "2024-02-02 00:00:00.5"],
        ["2024-01", "2024-02", "2024-03"],
    ],
    ids=lambda dates: dates[0],
)
def test_dates_with_offsets_and_fractions_are_read_as_by_the_job(dates: list[str]):
    frame = pd.DataFrame({"ds": dates, "y": [1.0, 2.0, 4.0]})
    expected = read_series(frame)
    answer = read_columns(columns_of(frame), form(expected.freq))
    assert answer.texts_after(2) == pd.Series(expected.timestamps(0, 3, 5)).astype(str).tolist()


def test_whole_numbers_and_one_series_of_values_are_read_as_by_the_job():
    frame = pd.DataFrame({"ds": [7, 3, 5, 11], "y": [1.0, 2.0, 3.0, 4.0]})
    assert read_columns(columns_of(frame), form(2)).texts_after(2) == ["13", "15"]
    np.testing.assert_array_equal(read_columns(columns_of(frame), form(2)).y[0], read_series(frame, freq=2).y[0])
    assert read_columns([3.0, None, 5.0], form(1)).texts_after(1) == ["3"]


# ---- forecasts -------------------------------------------------------------------------------------------------------


def test_months_with_calendar_gaps_two_lengths_and_negative_values(tmp_path: Path):
    job = make("forecaster", **TINY, ensemble_size=2).fit(monthly(0))
    assert job.predictor.covariates.calendar
    assert job.predictor.smoothing_weight
    answers = check(job, monthly(1), tmp_path / "export")
    assert [row["ds"] for row in answers[:3]] == ["2020-01-01", "2020-02-01", "2020-03-01"]


def test_logarithms_and_names_of_columns(tmp_path: Path):
    names = {"unique_id": "shop", "ds": "day", "y": "sold"}
    options = {"log_transform": True, "id_col": "shop", "time_col": "day", "target_col": "sold"}
    data = [monthly(seed).assign(y=lambda frame: np.exp(frame["y"])).rename(columns=names) for seed in (0, 1)]
    job = make("forecaster", **TINY, **options).fit(data[0])
    answers = check(job, data[1], tmp_path / "export")
    assert list(answers[0])[:2] == ["shop", "day"]


def test_covariates_over_the_horizon(tmp_path: Path):
    """Categories, missing values, static columns and a table of future values."""
    rng = np.random.default_rng(0)
    frame = monthly(0)
    frame = frame.assign(
        price=rng.normal(size=len(frame)), kind=rng.choice(["x", "y", ""], len(frame)), region=frame["unique_id"] + "!"
    )
    frame.loc[4, "price"] = np.nan
    options = {"future_covariates": ("price", "kind"), "static_covariates": ("region",), "adaptive_rate": 0.1}
    job = make("forecaster", **TINY, **options).fit(frame)
    last = frame.groupby("unique_id")["ds"].max()
    future = pd.concat(
        [
            pd.DataFrame({"unique_id": name, "ds": pd.date_range(end, periods=4, freq="MS"), "kind": "x", "price": 1.5})
            for name, end in last.items()
        ]
    )
    check(job, frame, tmp_path / "export", future)
    exported = runtime.load(tmp_path / "export")
    with pytest.raises(DataError, match="future covariate 'price' of series 'a' is missing from 2020-01-01 to 2020-03"):
        exported.predict(columns_of(frame))
    with pytest.raises(DataError, match="no column 'kind'"):
        exported.predict(columns_of(frame.drop(columns="kind")))
    unknown = columns_of(future.assign(unique_id="z"))
    with pytest.raises(DataError, match="series 'z' of future_data is not in the data"):
        exported.predict(columns_of(frame), future_data=unknown)  # type: ignore[call-arg]


def test_adaptive_widths_with_utc_offsets(tmp_path: Path):
    """Widths follow the steps after training, whatever the offset of the newer data."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=80), "y": rng.normal(size=80)})
    dates = data["ds"].astype(str)
    job = make("forecaster", **TINY, adaptive_rate=0.3).fit(data.assign(ds=dates + "T00:00:00Z")[:60])
    check(job, data.assign(ds=dates + "T00:00:00-08:00"), tmp_path / "export")
    with pytest.raises(DataError, match="must both have a time zone, or neither"):
        runtime.load(tmp_path / "export").predict(columns_of(data))


def test_a_short_history_is_warned_of(tmp_path: Path):
    job = make("forecaster", **TINY).fit(monthly(0))
    job.export(tmp_path / "export")
    short = monthly(1, (60, 9)).assign(unique_id=lambda frame: frame["unique_id"] + "2")
    with pytest.warns(UserWarning, match="the model needs 24") as expected:
        own = job.predict(short)
    with pytest.warns(UserWarning, match="the model needs 24") as raised:
        answers = runtime.load(tmp_path / "export").predict(columns_of(short))
    assert str(raised[0].message) == str(expected[0].message)
    np.testing.assert_allclose([row["forecast"] for row in answers], own["forecast"], rtol=1e-4)


def test_weights_of_8_bits_change_forecasts_little(tmp_path: Path):
    job = make("forecaster", **TINY).fit(monthly(0))
    job.export(tmp_path / "export", quantize="int8")
    answers = runtime.load(tmp_path / "export").predict(columns_of(monthly(1)))
    forecasts, own = [row["forecast"] for row in answers], job.predict(monthly(1))["forecast"]
    np.testing.assert_allclose(forecasts, own, atol=0.2)  # the swing of the series is 6
    assert (forecasts != own).any()


# ---- sampled paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["normal", "student_t", "negative_binomial"])
def test_the_recursive_method_has_the_same_distributions_along_the_same_paths(
    distribution: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Both draw the location plus a multiple of the spread, other multiples for each path."""
    counts = distribution == "negative_binomial"

    class Drawn:
        def __init__(self, parameters: Tensor, scale: Tensor) -> None:
            self.parameters, self.scale = parameters, scale

        def sample(self) -> Tensor:
            first, second = self.parameters[..., 0], self.parameters[..., 1]
            noise = torch.linspace(-1, 1, len(first))
            return first * self.scale * (1 + noise / 2) if counts else first + second * noise

    def draw(family: str, parameters: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
        noise = np.linspace(-1, 1, len(parameters))
        return parameters[:, 0] * (1 + noise / 2) if counts else parameters[:, 0] + parameters[:, 1] * noise

    def distribution_of(head: DistributionHead, outputs: Tensor, scale: Tensor) -> Drawn:
        return Drawn(head.parameters_of(outputs), scale)

    frames = [monthly(seed) for seed in (0, 1)]
    if counts:
        frames = [frame.assign(y=(frame["y"] * 3 + 20).round()) for frame in frames]
    job = make("forecaster", **TINY, method="recursive", distribution=distribution, num_samples=9).fit(frames[0])
    monkeypatch.setattr(DistributionHead, "distribution", distribution_of)
    monkeypatch.setattr(exported_forecaster, "draw", draw)
    check(job, frames[1], tmp_path / "export")


@pytest.mark.parametrize(
    ("family", "parameters", "quantile"),
    [
        ("normal", [1.0, 0.5], norm(1.0, 0.5)),
        ("student_t", [1.0, 0.5, 4.0], t(4.0, 1.0, 0.5)),
        ("negative_binomial", [1.5, 2.0], nbinom(2.0, 2.0 / (2.0 + 1.5 * 8))),
    ],
)
def test_values_are_drawn_from_the_distribution(family: str, parameters: list[float], quantile: Any):
    rng = np.random.default_rng(0)
    values = exported_forecaster.draw(family, np.tile(parameters, (4000, 1)), 8.0, rng)
    if family == "negative_binomial":
        counts = values * 8
        assert counts.mean() == pytest.approx(quantile.mean(), rel=0.05)
        assert counts.var() == pytest.approx(quantile.var(), rel=0.1)
    else:
        assert kstest(values, quantile.cdf).pvalue > 0.01


# ---- bad input -------------------------------------------------------------------------------------------------------

DAYS = {"ds": ["2024-01-01", "2024-01-02", "2024-01-03"], "y": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"y": [1.0, "two", 3.0]}, "column 'y', row 2: 'two' is not a number"),
        ({"y": [1.0, float("inf"), 3.0]}, "column 'y', row 2: inf is infinite"),
        ({"y": [None, None, None]}, "series 'series' has no value"),
        ({"y": [1.0]}, "different lengths"),
        ({"y": "abc"}, "column 'y' is str"),
        ({"ds": ["2024-01-01", "2024-01-02", "2024-01-02"]}, "several rows with the timestamp 2024-01-02"),
        ({"ds": ["2024-01-01", "2024-01-02", "2024-01-02 12:00"]}, "irregular timestamps: 2024-01-02 12:00:00"),
        ({"ds": ["2024-01-01", "2024-01-32", "2024-01-03"]}, "row 2: '2024-01-32' is not a date"),
        ({"ds": ["2024-01-01", "2024-02-30", "2024-01-03"]}, "row 2: '2024-02-30' is not a date"),
        ({"ds": ["2024-01-01", 20240102, "2024-01-03"]}, "row 2: 20240102 is not a date"),
        ({"ds": ["2024-01-01", "0001-01-01", "2024-01-03"]}, "row 2: '0001-01-01' is not a date"),
        ({"ds": ["2024-01-01", "2024-01-02 00:00Z", "2024-01-03"]}, "has a UTC offset and others have none"),
        ({"unique_id": ["a", None, "a"]}, "None is not a valid series id"),
    ],
    ids=str,
)
def test_bad_columns_are_one_line(changes: dict[str, Any], phrase: str):
    with pytest.raises(DataError, match=phrase) as caught:
        read_columns({**DAYS, **changes}, form("D"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "freq", "phrase"),
    [
        (None, "D", "NoneType: give a mapping"),
        ({}, "D", "has no rows"),
        ({"ds": [], "y": []}, "D", "has no rows"),
        ({"ds": DAYS["ds"], "z": [1, 2, 3]}, "D", "no column 'y' in the data"),
        ({"day": DAYS["ds"], "y": [1, 2, 3]}, "D", "no column 'ds' in the data"),
        ([1.0, 2.0], "D", "have dates of frequency 'D': give the column 'ds'"),
        (DAYS, 1, "row 1: '2024-01-01' is not a whole number"),
    ],
    ids=str,
)
def test_other_data_are_one_line(data: Any, freq: str | int, phrase: str):
    with pytest.raises(DataError, match=phrase):
        read_columns(data, form(freq))


def test_categories_are_texts_or_numbers():
    columns = Columns({"c": ["x", None, "NA", "7"], "n": [1, None, 2.5, float("nan")]}, "the data")
    assert columns.categories("c").tolist() == ["x", None, None, "7"]
    np.testing.assert_array_equal(columns.categories("n"), [1, np.nan, 2.5, np.nan])
