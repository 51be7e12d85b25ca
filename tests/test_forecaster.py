"""Forecaster: every method runs on tiny data, and the documented guarantees hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from lstmkit import look
from lstmkit.data.series.series_set import read_series
from lstmkit.data.series.time_split import (
    ForecastExamples,
    Plan,
    plan_windows,
    seasonal_change,
    split_by_time,
    training_windows,
    validation_windows,
)
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs.forecaster.intervals import IntervalCalibration
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.jobs.serving import serving_of
from lstmkit.models.base import Ensemble
from lstmkit.modules.heads import DistributionHead
from lstmkit.progress import Progress

NAN = float("nan")
H = 3  # the horizon here
QUANTILES = ["forecast-lo-95", "forecast-lo-80", "forecast-lo-50", "forecast"]
QUANTILES += ["forecast-hi-50", "forecast-hi-80", "forecast-hi-95"]
METHODS = {
    "direct": {},
    "direct, patches": {"window": 8, "patch_length": 2, "readout": "horizon_states"},
    "recursive, normal": {"method": "recursive", "distribution": "normal"},
    "recursive, student_t": {"method": "recursive", "distribution": "student_t"},
    "recursive, negative_binomial": {"method": "recursive", "distribution": "negative_binomial"},
}
DIRECT_AND_RECURSIVE = pytest.mark.parametrize("method", ["direct", "recursive"])


def tiny(**options) -> Forecaster:
    plain = {"horizon": H, "season_length": 4, "epochs": 1, "steps_per_epoch": 2, "hidden_size": 4, "batch_size": 8}
    return Forecaster(**{**plain, "num_samples": 20, **options})


def wave(n: int, seed: int = 0, mean: float = 10.0) -> np.ndarray:
    """A sine with a season of four steps, plus noise."""
    return mean + 3 * np.sin(np.arange(n) * np.pi / 2) + 0.3 * np.random.default_rng(seed).standard_normal(n)


def poisson_counts(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(5.0, n).astype(float)


def long_frame(freq: str = "D", **series) -> pd.DataFrame:
    """A frame of named series in long form; all start on January 1, 2020."""
    frames = [
        pd.DataFrame({"unique_id": name, "ds": pd.date_range("2020-01-01", periods=len(y), freq=freq), "y": y})
        for name, y in series.items()
    ]
    return pd.concat(frames, ignore_index=True)


def two_series(n: int = 50) -> pd.DataFrame:
    return long_frame(a=wave(n, 1), b=wave(n - 7, 2))


def check_forecast(forecast: pd.DataFrame, horizon: int = H) -> None:
    """Check that forecasts are finite, have a horizon for each series, and have nested intervals."""
    assert (forecast.groupby("unique_id", sort=False).size() == horizon).all()
    values = forecast[QUANTILES].to_numpy()
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) >= 0).all()


def same_weights(a: Forecaster, b: Forecaster) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# ---- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_method_forecasts(name: str, cell: str):
    """Each method and distribution forecasts the steps after each series, with intervals around the median."""
    data = long_frame(a=poisson_counts(50), b=poisson_counts(41, 1))
    forecast = tiny(cell=cell, **METHODS[name]).fit(data).predict(data)
    check_forecast(forecast)
    assert forecast["unique_id"].tolist() == ["a"] * H + ["b"] * H
    assert forecast["ds"].tolist() == [
        *pd.date_range("2020-01-01", periods=50 + H)[50:],
        *pd.date_range("2020-01-01", periods=41 + H)[41:],
    ]


def test_forecasts_of_counts_are_not_negative():
    """Forecasts with the negative binomial distribution are never below 0."""
    data = long_frame(a=np.where(np.arange(60) % 7 == 0, 1.0, 0.0))
    forecast = tiny(**METHODS["recursive, negative_binomial"]).fit(data).predict(data)
    check_forecast(forecast)
    assert (forecast[QUANTILES] >= 0).all(axis=None)


@pytest.mark.parametrize(
    ("values", "options", "phrase"),
    [
        (wave(50), {}, "whole numbers from 0 up"),
        (-poisson_counts(50) - 1, {}, "whole numbers from 0 up"),
        (poisson_counts(50) + 1, {"log_transform": True}, "drop log_transform"),
        (poisson_counts(50), {"centering": "mean"}, "give centering=none, not 'mean'"),
    ],
)
def test_values_that_are_not_counts_are_refused(values: np.ndarray, options: dict, phrase: str):
    """The negative binomial refuses fractions, values below 0, logarithms and centering."""
    with pytest.raises(UserError, match=phrase):
        tiny(**METHODS["recursive, negative_binomial"], **options).fit(values)


def test_the_recursive_method_takes_no_patches():
    """The recursive method forecasts one step at a time, so it refuses patches."""
    with pytest.raises(SettingError, match="patch_length must be 1 with method=recursive"):
        tiny(method="recursive", patch_length=2).fit(wave(50))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@DIRECT_AND_RECURSIVE
def test_ensemble_of_deep_models_forecasts_and_shows_gates(cell: str, method: str):
    """An ensemble of two models with two layers forecasts, and its report shows the gates of the cell."""
    fitted = tiny(cell=cell, method=method, ensemble_size=2, num_layers=2).fit(two_series())
    check_forecast(fitted.predict(two_series()))
    example_sequences = fitted.example_sequences(two_series(), "b")
    assert example_sequences[0].name == "b, the last window"
    shown = {
        section.title: section
        for section in look.sections(fitted.network, example_sequences, look.InspectionOptions(layer=2))
    }
    assert shown["Gates"].figure is not None
    assert ("Saturation" in shown) == (cell != "rnn")


def test_ensemble_members_have_consecutive_seeds():
    """The members of an ensemble are the models of the seeds 0 and 1; its output is their mean."""
    ensemble = tiny(ensemble_size=2).fit(two_series())
    assert isinstance(ensemble.model, Ensemble)
    members = list(ensemble.model.members)
    for seed, member in enumerate(members):
        alone = tiny(seed=seed).fit(two_series()).model
        for expected, actual in zip(alone.state_dict().values(), member.state_dict().values(), strict=True):
            assert torch.equal(expected, actual)
    inputs = torch.randn(2, ensemble.predictor.window_plan.past, 5)
    mean = (members[0](inputs)[0] + members[1](inputs)[0]) / 2
    torch.testing.assert_close(ensemble.model(inputs)[0], mean)


LEARN = {"steps_per_epoch": 15, "hidden_size": 8, "lr": 0.02, "dropout": 0.0, "batch_size": 16}


def test_the_direct_method_learns():
    """On a season with a trend the direct method is much better than the seasonal naive forecast."""
    y = wave(160) + np.arange(160)
    fitted = tiny(**LEARN, epochs=4, centering="last", scaling="seasonal_difference").fit(y)
    lstm, naive = fitted.evaluate(y, baselines=["SeasonalNaive"]).table["MAE"]
    assert lstm < 0.3 * naive


def test_the_recursive_method_learns():
    """The recursive method learns the season: its error and its intervals are small."""
    y = wave(160)
    fitted = tiny(**LEARN, epochs=8, method="recursive", distribution="normal").fit(y)
    details = fitted.evaluate(y, baselines=[]).details
    swing = np.abs(y - y.mean()).mean()
    assert (details["y"] - details["LSTM (recursive)"]).abs().mean() < 0.4 * swing
    assert (details["LSTM (recursive)-hi-50"] - details["LSTM (recursive)-lo-50"]).mean() < swing


# ---- invariances -----------------------------------------------------------------------------------------------------


@DIRECT_AND_RECURSIVE
def test_the_same_seed_gives_the_same_forecast(method: str):
    """Forecasts are the same bit for bit, and fit does not change the global random state."""
    torch.manual_seed(1)
    first = tiny(method=method).fit(two_series()).predict(two_series())
    random_numbers = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), random_numbers)
    second = tiny(method=method).fit(two_series())
    pd.testing.assert_frame_equal(second.predict(two_series()), first, check_exact=True)
    pd.testing.assert_frame_equal(second.predict(two_series()), first, check_exact=True)
    assert not same_weights(second, tiny(method=method, seed=1).fit(two_series()))


@DIRECT_AND_RECURSIVE
def test_forecast_does_not_depend_on_other_series(method: str):
    """A series' forecast is the same alone, among others, in any order, and with the rows mixed."""
    data = long_frame(a=wave(50, 1), b=100 * wave(43, 2), c=wave(12, 3))
    fitted = tiny(method=method).fit(data.query("unique_id != 'c'"))
    alone = pd.concat([fitted.predict(data[data["unique_id"] == name]) for name in "cab"], ignore_index=True)
    reordered = fitted.predict(data.iloc[::-1].reset_index(drop=True))
    assert reordered["unique_id"].unique().tolist() == ["c", "b", "a"]
    for forecast in (fitted.predict(data), reordered):
        same_rows = forecast.set_index(["unique_id", "ds"]).loc[list(zip(alone["unique_id"], alone["ds"], strict=True))]
        np.testing.assert_allclose(same_rows[QUANTILES], alone[QUANTILES], rtol=1e-5)


def test_levels_may_come_in_any_order():
    """The order of the levels changes neither columns nor values."""
    sorted_, shuffled = (
        tiny(levels=levels).fit(two_series()).predict(two_series()) for levels in ((50, 80, 95), (95, 50, 80))
    )
    pd.testing.assert_frame_equal(sorted_, shuffled, check_exact=True)
    assert list(sorted_)[2:5] == ["forecast", "forecast-lo-50", "forecast-hi-50"]


@pytest.mark.parametrize("levels", [(), (50, 50)])
def test_empty_or_duplicate_levels_are_refused(levels: tuple[int, ...]):
    """Empty or duplicate levels are refused."""
    with pytest.raises(SettingError, match="levels must be different percentages, at least one"):
        tiny(levels=levels).fit(two_series())


@pytest.mark.parametrize("unit", [1000.0, 1e12, 1e-12])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"centering": "mean", "scaling": "std"},
        {"centering": "last", "scaling": "mean"},
        {"centering": "none", "scaling": "seasonal_difference"},
        {"method": "recursive"},
    ],
    ids=str,
)
def test_forecast_scales_with_the_unit(unit: float, options: dict):
    """The forecast of ``unit * y`` is ``unit`` times the forecast of ``y``."""
    data = two_series()
    other = data.assign(y=unit * data["y"])
    plain, scaled = (tiny(**options).fit(d).predict(d) for d in (data, other))
    np.testing.assert_allclose(scaled[QUANTILES] / unit, plain[QUANTILES], rtol=1e-4)


@DIRECT_AND_RECURSIVE
def test_values_below_zero(method: str):
    """Series below or around 0 are forecast at their level."""
    data = long_frame(a=wave(50, mean=-500), b=wave(50, mean=0))
    forecast = tiny(method=method, centering="mean", scaling="std").fit(data).predict(data)
    check_forecast(forecast)
    assert (forecast.loc[:2, QUANTILES] < -450).all(axis=None)


@pytest.mark.parametrize("value", [5.0, 0.0, -1e9])
@DIRECT_AND_RECURSIVE
def test_forecast_of_a_constant_series_is_constant(value: float, method: str):
    """The forecast of a constant series is the constant within 0.1 percent, or within 2 if it is 0."""
    y = np.full(50, value)
    fitted = tiny(method=method, valid_fraction=0.3).fit(y)
    forecast = fitted.predict(y)
    check_forecast(forecast)
    assert forecast["forecast"].to_numpy() == pytest.approx(value, rel=1e-3, abs=2.0 if value == 0 else 0)
    evaluation = fitted.evaluate(y)
    json.dumps(evaluation.to_json(), allow_nan=False)


@given(
    data=st.lists(
        st.lists(st.one_of(st.just(NAN), st.integers(-1000, 1000).map(float), st.floats(0.01, 1e6)), max_size=30),
        min_size=1,
        max_size=3,
    ),
    last=st.integers(1, 9),
)
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore:.*give more history")
def test_intervals_are_nested(fitted_forecasters, data: list[list[float]], last: int):
    """For any data the intervals are finite, nested, and contain the median."""
    frame = long_frame(**{f"s{i}": [*y, float(last)] for i, y in enumerate(data)})
    for fitted in fitted_forecasters:
        check_forecast(fitted.predict(frame))


@pytest.fixture(scope="module")
def fitted_forecasters() -> list[Forecaster]:
    """Both methods; the third forecaster has interval widths that would invert the intervals."""
    forecasters = [tiny().fit(two_series()), tiny(method="recursive").fit(two_series()), tiny().fit(two_series())]
    widths = np.array([[3.0, -5.0, 1.0], [-9.0, -9.0, -9.0], [0.0, 7.0, -1.0]])
    forecasters[2].predictor.intervals = IntervalCalibration(widths)
    return forecasters


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W-SUN", "MS", "ME", "QS-JAN", "QE-DEC", "YS-JAN"])
def test_dates_of_every_frequency(freq: str):
    """Forecast dates continue the frequency of the data."""
    data = long_frame(freq, a=wave(60))
    fitted = tiny(season_length=0).fit(data)
    expected = pd.date_range("2020-01-01", periods=60 + H, freq=freq)
    assert fitted.predictor.window_plan.freq == freq
    assert fitted.predict(data)["ds"].tolist() == list(expected[60:])


def test_integer_timestamps():
    """Forecasts of integer time steps continue their step size."""
    data = pd.DataFrame({"ds": np.arange(10, 260, 5), "y": wave(50)})
    assert tiny().fit(data).predict(data)["ds"].tolist() == [260, 265, 270]


@DIRECT_AND_RECURSIVE
def test_forecasts_of_several_tables_are_those_of_each_alone(method: str):
    """A server answers several requests at once; tables with the same ids do not change each other."""
    fitted = tiny(method=method).fit(two_series())
    one = long_frame(a=wave(45, mean=90.0))
    tables = [two_series(), two_series(40), long_frame(c=wave(30)), one, one.drop(columns="unique_id")]
    predict_each = serving_of(fitted).predict_each
    assert predict_each is not None
    for frame, table in zip(predict_each(tables), tables, strict=True):
        pd.testing.assert_frame_equal(frame, fitted.predict(table), rtol=1e-5)


def test_time_zones_are_kept():
    """Forecast and evaluation keep the time zone; data with and without a time zone do not mix."""
    data = two_series()
    zoned = data.assign(ds=data["ds"].dt.tz_localize("Europe/Berlin"))
    fitted = tiny().fit(zoned)
    assert str(fitted.predict(zoned)["ds"].dt.tz) == "Europe/Berlin"
    assert len(fitted.evaluate(zoned).table) == 3
    with pytest.raises(DataError, match="time zone"):
        fitted.evaluate(data)


@pytest.mark.parametrize(
    "options", [{"horizon": 9}, {"window": 500}, {"window": 1}, {"season_length": 200}, {"horizon": 1}], ids=str
)
@DIRECT_AND_RECURSIVE
def test_odd_sizes(options: dict, method: str):
    """Horizon, window and season may have any relation to each other and to the length of the series."""
    fitted = tiny(method=method, **options).fit(two_series())
    check_forecast(fitted.predict(two_series()), options.get("horizon", H))


@pytest.mark.parametrize(
    ("freq", "longest", "options", "expected"),
    [
        ("h", 2000, {}, Plan("h", season=24, past=168, patch=24, regular=False)),
        ("h", 2000, {"horizon": 96}, Plan("h", season=24, past=192, patch=24, regular=False)),
        ("h", 100, {}, Plan("h", season=24, past=100, patch=1, regular=False)),
        ("h", 2000, {"autoregressive": True}, Plan("h", season=24, past=168, patch=1, regular=False)),
        ("D", 2000, {}, Plan("D", season=7, past=48, patch=1, regular=False)),
        ("MS", 2000, {"horizon": 12}, Plan("MS", season=12, past=36, patch=1, regular=False)),
        ("W-SUN", 2000, {}, Plan("W-SUN", season=52, past=156, patch=1, regular=False)),
        (1, 2000, {}, Plan(1, season=1, past=48, patch=1, regular=False)),
        ("h", 2000, {"window": 100, "patch": 24}, Plan("h", season=24, past=120, patch=24, regular=False)),
    ],
)
def test_window_plan(freq: str | int, longest: int, options: dict, expected: Plan):
    """The default window is a week for hours; else three seasons, at least two horizons, at most the series."""
    plain = {"horizon": 24, "season": 0, "window": 0, "patch": 0, "autoregressive": False}
    assert plan_windows(freq, longest, **{**plain, **options}) == expected


# ---- missing values --------------------------------------------------------------------------------------------------


@DIRECT_AND_RECURSIVE
def test_missing_values(method: str):
    """Fit, predict and evaluate work with a third of the values missing and a gap longer than the window."""
    y = wave(120)
    y[np.random.default_rng(0).random(120) < 0.3] = NAN
    y[30:60] = NAN
    data = long_frame(a=y)
    fitted = tiny(method=method, window=8).fit(data)
    check_forecast(fitted.predict(data))
    assert fitted.evaluate(data).table.notna().all(axis=None)


def test_missing_values_are_not_targets():
    """A missing value and a missing row give the same weights; the actual value gives others."""
    y = wave(60)
    with_missing = np.where(np.arange(60) % 5 == 2, NAN, y)
    rows = pd.DataFrame({"ds": np.arange(60), "y": with_missing})
    as_gaps, as_rows = tiny().fit(rows.dropna()), tiny().fit(rows)
    assert same_weights(as_gaps, as_rows)
    assert not same_weights(as_rows, tiny().fit(y))


def test_windows_without_known_values_are_not_in_the_loss():
    """Windows without a known value are not part of the loss."""
    y = 1e6 * wave(120)
    y[30:60] = NAN
    fitted = tiny(window=8, steps_per_epoch=0, epochs=1).fit(y)
    assert fitted._histories[0].rows[0]["train_loss"] < 1000


def test_forecast_starts_after_the_last_known_value():
    """Missing values at the end are forecast first."""
    data = long_frame(a=[*wave(50), NAN, NAN])
    forecast = tiny().fit(data).predict(data)
    assert forecast["ds"].iloc[0] == data["ds"].iloc[50]


# ---- covariates ------------------------------------------------------------------------------------------------------


def shop_sales(n: int = 50, ahead: int = H) -> pd.DataFrame:
    """Sales of two shops with covariates of every kind; future covariates extend ``ahead`` steps further."""
    frames = []
    for k, shop in enumerate(("north", "south")):
        steps = np.arange(n + ahead)
        y = wave(n + ahead, k)
        y[n:] = NAN
        columns = {"unique_id": shop, "ds": pd.date_range("2020-01-01", periods=n + ahead), "y": y}
        columns |= {"visitors": np.where(steps < n, y * 7, NAN), "weather": np.array(["sun", "rain"])[steps % 2]}
        columns |= {"price": 1 + steps % 3, "promo": np.array(["no", "yes", "tv"])[steps % 3]}
        frames.append(pd.DataFrame({**columns, "area": 100.0 + 50 * k, "kind": ["mall", "street"][k]}))
    return pd.concat(frames, ignore_index=True)


COVARIATES = {
    "past_covariates": ("visitors", "weather"),
    "future_covariates": ("price", "promo"),
    "static_covariates": ("area", "kind"),
}


@DIRECT_AND_RECURSIVE
@pytest.mark.parametrize("readout", ["last_state", "horizon_states"])
def test_covariates_of_every_kind(method: str, readout: str):
    """Past, future and static covariates may be numbers or categories and have missing values."""
    data = shop_sales()
    data.loc[5, ["visitors", "promo", "weather"]] = None
    fitted = tiny(method=method, readout=readout, **COVARIATES).fit(data)
    check_forecast(fitted.predict(data))
    assert len(fitted.evaluate(data, baselines=()).table) == 1


def test_fit_says_once_which_columns_are_not_used():
    """Columns with a role are not among them; with all columns used nothing is said of them."""

    class Lines(Progress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    def lines(data: pd.DataFrame, **options: Any) -> list[str]:
        progress = Lines()
        tiny(**options).fit(data, progress=progress)
        return [line for line in progress.lines if "not used" in line]

    data = shop_sales(ahead=0).drop(columns=["weather", "promo", "kind"])
    options = {"past_covariates": ("visitors",), "static_covariates": ("area",)}
    assert lines(data, **options) == [
        "columns not used: price (to use one as a covariate, name it in past_covariates, future_covariates or "
        "static_covariates)"
    ]
    assert lines(data.drop(columns="price"), **options) == []


def test_a_regression_on_covariates_is_a_baseline():
    """Sales that are a line of price plus the value of a season before are forecast exactly, 1e9 higher too."""
    rng = np.random.default_rng(0)
    price = rng.uniform(1, 2, 80)
    y = np.zeros(80)
    for t in range(80):
        y[t] = 3 - 2 * price[t] + (0.5 * y[t - 4] if t >= 4 else t)
    days = pd.date_range("2024-01-01", periods=80)
    for level in (0.0, 1e9):
        data = pd.DataFrame({"unique_id": "a", "ds": days, "y": y + level, "price": price})
        fitted = tiny(horizon=3, future_covariates=("price",), calendar_features=False).fit(data)
        evaluation = fitted.evaluation
        assert evaluation is not None
        errors = evaluation.table.set_index("model")["MAE"]
        assert list(errors.index)[1:] == ["SeasonalNaive", "AutoETS", "LinearRegression"]
        assert errors["LinearRegression"] < 1e-6 * max(1.0, level / 1e7)
        assert errors["AutoETS"] > 0.1
        assert any("Only the model and LinearRegression read covariates" in note for note in evaluation.notes)


def test_intervals_of_the_regression_hold_their_share():
    rng = np.random.default_rng(1)
    price = rng.uniform(1, 2, 600)
    data = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2023-01-01", periods=600), "price": price})
    data["y"] = 5 * price + rng.normal(size=600)
    fitted = tiny(horizon=4, future_covariates=("price",), test_windows=30).fit(data)
    assert fitted.evaluation is not None
    row = fitted.evaluation.table.set_index("model").loc["LinearRegression"]
    assert 70 < row["coverage-80"] < 90
    assert 90 < row["coverage-95"] <= 99


@pytest.mark.parametrize(("name", "part"), [(n, p) for p, names in COVARIATES.items() for n in names])
@DIRECT_AND_RECURSIVE
def test_every_covariate_changes_the_forecast(name: str, part: str, method: str):
    """A change of any covariate changes the forecast; of a future covariate, a change within the horizon."""
    data = shop_sales()
    fitted = tiny(method=method, steps_per_epoch=10, lr=0.05, **COVARIATES).fit(data)
    changed = data.copy()
    rows = changed["y"].isna() if part == "future" else slice(None)
    values = changed.loc[rows, name]
    replacements = {
        "sun": "rain",
        "rain": "sun",
        "no": "yes",
        "yes": "tv",
        "tv": "no",
        "mall": "street",
        "street": "mall",
    }
    changed.loc[rows, name] = values.map(replacements) if values.dtype == object else 3 * values
    assert not np.allclose(fitted.predict(changed)["forecast"], fitted.predict(data)["forecast"], rtol=1e-7)


def test_future_covariates_in_a_second_table(tmp_path):
    """``future_data`` from a file gives the same forecast as future rows in the data."""
    data = shop_sales()
    fitted = tiny(**COVARIATES).fit(data)
    known, ahead = data[data["y"].notna()], data[data["y"].isna()]
    ahead[["unique_id", "ds", "price", "promo"]].to_csv(tmp_path / "ahead.csv", index=False)
    forecast = fitted.predict(known, future_data=tmp_path / "ahead.csv")
    pd.testing.assert_frame_equal(forecast, fitted.predict(data), check_exact=True)


def test_error_names_the_missing_span_of_a_covariate():
    """The error for a missing future covariate names the covariate, the series and the time span."""
    data = shop_sales()
    fitted = tiny(**COVARIATES).fit(data)
    short = data[~((data["unique_id"] == "south") & (data["ds"] > "2020-02-20"))]
    text = r"'price' of series 'south' is missing from 2020-02-21 to 2020-02-22 \(2 of 3 steps"
    with pytest.raises(DataError, match=text):
        fitted.predict(short)
    assert len(fitted.evaluate(data[data["y"].notna()], baselines=()).table) == 1  # evaluation needs no future rows


def test_covariate_of_another_type_is_refused():
    """Text in a covariate that was numeric in training is an error, also in validation data."""
    data = shop_sales()
    text = data.assign(price="cheap")
    with pytest.raises(DataError, match="'price' is text"):
        tiny(**COVARIATES).fit(data).predict(text)
    with pytest.raises(DataError, match="'price' is text"):
        tiny(**COVARIATES).fit(data, validation=text)


def test_covariate_without_training_values_is_refused():
    """A covariate without values in the training split is an error."""
    data = long_frame(a=wave(50)).assign(x=[None] * 45 + ["new"] * 5)
    with pytest.raises(DataError, match="'x' has no value in the training data"):
        tiny(past_covariates="x").fit(data)


def test_calendar_features_are_optional():
    """``calendar_features=False`` removes the two inputs of the weekday."""
    inputs = [
        tiny(calendar_features=c).fit(two_series()).model.state_dict()["encoder.linear.weight"].shape[1]
        for c in (True, False)
    ]
    assert inputs[0] == inputs[1] + 2  # the weekday, as a point on a circle


# ---- logarithms ------------------------------------------------------------------------------------------------------


def test_logarithms_keep_forecasts_above_zero():
    """With ``log_transform`` all interval bounds of positive series are above 0."""
    y = np.exp(wave(60, mean=0))
    forecast = tiny(log_transform=True).fit(y).predict(y)
    check_forecast(forecast)
    assert (forecast[QUANTILES] > 0).all(axis=None)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_logarithms_need_values_above_zero(value: float):
    """Values at or below 0 are refused in fit, validation, predict and evaluate; the error names the series."""
    good = two_series()
    bad = good.assign(y=good["y"].where(good.index != 60, value))  # of series b
    fitted = tiny(log_transform=True).fit(good)
    for refuse in (
        tiny(log_transform=True).fit,
        lambda d: tiny(log_transform=True).fit(good, validation=d),
        fitted.predict,
        fitted.evaluate,
    ):
        with pytest.raises(
            DataError, match="series 'b' has values at or below 0, which log_transform=True cannot take"
        ):
            refuse(bad)


# ---- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "options", "train_ends", "valid_ends"),
    [
        ([100], {}, [73], [85]),  # test: 5 windows of 3 steps from a fifth; validation: 0.15 of the other 85
        ([100, 30], {}, [80, 21], [94, 24]),  # as many windows as the shortest series allows; at least a horizon
        ([100], {"test_windows": 0}, [85], [100]),
        ([100], {"valid_fraction": 0.0}, [85], [85]),
        ([11], {}, [5], [8]),
        ([100, 10, 2], {}, [73, 10, 2], [85, 10, 2]),  # too short ones are in training as a whole
        ([100, 11], {"test_windows": 2}, [80, 11], [94, 11]),
    ],
)
def test_split_by_time(lengths: list[int], options: dict, train_ends: list[int], valid_ends: list[int]):
    """The end of a series is for testing, the part before it for validation; each has at least a horizon."""
    series = read_series(long_frame(**{f"s{i}": wave(n) for i, n in enumerate(lengths)}))
    ends = split_by_time(series, H, **{"valid_fraction": 0.15, "test_windows": -1, **options})
    assert [part.tolist() for part in ends] == [train_ends, valid_ends]


def test_splits_do_not_overlap():
    """Horizons of training windows end before validation, those of validation windows before the test."""
    series = read_series(two_series(60))
    train_end, valid_end = split_by_time(series, H, valid_fraction=0.2, test_windows=2)
    plan = plan_windows("D", 60, H, season=4, window=0, patch=0, autoregressive=False)
    train = training_windows(series, train_end, H, plan)
    valid = validation_windows(series, train_end, valid_end, H)
    for part, first, end in ((train, 0 * train_end, train_end), (valid, train_end, valid_end)):
        i, origin = part.origins.T
        assert (origin >= first[i]).all()
        assert (origin + H <= end[i]).all()
        assert (part.series.lengths == end).all()


@DIRECT_AND_RECURSIVE
def test_test_split_does_not_change_the_model(method: str):
    """Changes in the test split, covariates included, change neither weights nor intervals nor preprocessing.

    Its values are kept as the history of newer data; nothing is fitted to them.
    """
    data = shop_sales(60, ahead=0)
    held_out = data["ds"] > "2020-02-23"  # two windows of three steps
    changed = data.copy()
    changed.loc[held_out, ["y", "visitors"]] *= 100
    changed.loc[held_out, "promo"] = "flyer"
    options = {"method": method, "test_windows": 2, "epochs": 3, **COVARIATES}
    fitted, refitted = tiny(**options).fit(data), tiny(**options).fit(changed)
    assert same_weights(fitted, refitted)
    states = [{**job.predictor.state(), "histories": None} for job in (fitted, refitted)]
    assert states[0] == states[1]


def test_error_names_the_longest_of_too_short_series():
    """The error names the required steps; a series with that many works."""
    with pytest.raises(
        DataError,
        match=r"the longest series, 'b', has 10 steps, but horizon 3 needs 11 \(5 for training, 6 for validation and",
    ):
        tiny().fit(long_frame(a=wave(9), b=wave(10)))
    tiny().fit(wave(11))


def test_series_too_short_for_a_test_are_fitted_and_forecast():
    """They are in training as a whole; the test is on the others, and the page says so."""
    data = long_frame(long=wave(60), short=wave(10), one=wave(1))
    job = tiny().fit(data)
    assert job.evaluation is not None
    assert set(job.evaluation.details["unique_id"]) == {"long"}
    assert job.predictor.last_trained_timestamps["short"] == "2020-01-10 00:00:00"
    with pytest.warns(UserWarning, match="series 'one'"):
        check_forecast(job.predict(data))
    text = " ".join(section.text for section in job.report_sections(job.read(data)))
    assert "2 series are too short for validation and test: they are in training as a whole." in text


def test_no_test_windows():
    """``test_windows=0`` uses all data for training and validation, and nothing is left to evaluate."""
    fitted = tiny(test_windows=0).fit(two_series())
    check_forecast(fitted.predict(two_series()))
    with pytest.raises(DataError, match="no series has 3 steps after the training and validation data"):
        fitted.evaluate(two_series())


def test_no_validation_split():
    """``valid_fraction=0`` runs all epochs without a validation loss and without interval calibration."""
    fitted = tiny(valid_fraction=0.0, epochs=3, patience=1).fit(two_series())
    rows = fitted._histories[0].rows
    assert len(rows) == 3
    assert all("valid_loss" not in row for row in rows)
    assert fitted.predictor.state()["widths"] is None
    check_forecast(fitted.predict(two_series()))


def test_validation_data_replace_the_validation_split():
    """With ``validation``, training uses all data but the test split."""
    data, valid = long_frame(a=wave(50)), long_frame(v=wave(30, 5))
    fitted = tiny(test_windows=1).fit(data, validation=valid)
    assert fitted.predictor.last_trained_timestamps == {"a": "2020-02-16 00:00:00", "v": "2020-01-30 00:00:00"}
    assert "valid_loss" in fitted._histories[0].rows[0]
    shifted = tiny(test_windows=1).fit(data, validation=valid.assign(y=valid["y"] + wave(30, 6)))
    assert fitted._histories[0].rows[0]["train_loss"] == shifted._histories[0].rows[0]["train_loss"]
    assert fitted._histories[0].rows[0]["valid_loss"] != shifted._histories[0].rows[0]["valid_loss"]


@pytest.mark.parametrize(
    ("valid", "phrase"),
    [
        (
            long_frame("h", a=wave(30)),
            "of frequency 'h', the data of frequency 'D'|frequency 'h', the data have|'h'.*'D'",
        ),
        (wave(30), "frequency 1.*'D'"),
        (long_frame(a=wave(2)), "no validation series has the"),
        (long_frame(a=wave(30)).assign(ds=pd.date_range("2020", periods=30, tz="UTC")), "time zone"),
    ],
    ids=["hours", "whole numbers", "short", "time zone"],
)
def test_incompatible_validation_data_are_refused(valid, phrase: str):
    """Validation data with another frequency, time zone or too few steps are refused."""
    with pytest.raises(DataError, match=phrase):
        tiny().fit(two_series(), validation=valid)


@DIRECT_AND_RECURSIVE
def test_evaluate_scores_only_steps_after_training(method: str):
    """Cutoffs are after training and validation; each step is scored once, with its actual value."""
    data = two_series()
    fitted = tiny(method=method, test_windows=2).fit(data.iloc[:-4])  # without the last 4 steps of series b
    details = fitted.evaluate(data, baselines=()).details
    assert not details.duplicated(["unique_id", "ds"]).any()
    assert details.groupby("unique_id").size().to_dict() == {"a": 6, "b": 9}
    for name, rows in details.groupby("unique_id"):
        assert rows["cutoff"].min() >= pd.Timestamp(fitted.predictor.last_trained_timestamps[str(name)])
    actual = details.merge(data, on=["unique_id", "ds"], suffixes=("", "_given"))
    assert (actual["y"] == actual["y_given"]).all()


def test_evaluate_does_not_score_validation_data():
    """Validation series are scored only after their end, because early stopping used them."""
    data = long_frame(a=wave(80, 1), v=wave(80, 2))
    early = data[data["ds"] <= "2020-02-29"]  # sixty steps
    fitted = tiny(test_windows=0).fit(early.query("unique_id == 'a'"), validation=early.query("unique_id == 'v'"))
    with pytest.raises(DataError, match="no series has 3 steps after the training"):
        fitted.evaluate(early)
    details = fitted.evaluate(data, baselines=()).details
    assert details.groupby("unique_id")["ds"].min().min() > pd.Timestamp("2020-02-29")


def test_evaluate_new_series():
    """New series get up to two windows of past; too short ones are left out, or refused if there are no others."""
    fitted = tiny(window=6).fit(two_series())
    new = long_frame(new=wave(40, 9), short=wave(10, 8), shorter=wave(2, 7))
    details = fitted.evaluate(new).details
    assert details.groupby("unique_id")["cutoff"].min().to_dict() == {
        "new": pd.Timestamp("2020-01-13"),
        "short": pd.Timestamp("2020-01-07"),
    }
    with pytest.raises(DataError, match="no series has 3 steps after the training"):
        fitted.evaluate(long_frame(shorter=wave(2, 7)))


def test_evaluate_repeats_the_evaluation_of_the_run(tmp_path):
    """``evaluate`` on the data of the fit scores the held-out windows of the fit."""
    fitted = tiny().fit(two_series(), run=tmp_path / "run")
    assert fitted.evaluation is not None
    evaluation = fitted.evaluate(two_series())
    pd.testing.assert_frame_equal(evaluation.table, fitted.evaluation.table)
    assert evaluation.table["model"].tolist() == ["LSTM (direct)", "SeasonalNaive", "AutoETS"]
    scores = {"MASE", "sMAPE", "MAE", "RMSE", "CRPS", "coverage-50", "coverage-80", "coverage-95"}
    assert scores == {*evaluation.directions} == {*evaluation.table.columns} - {"model"}


def test_metrics_match_the_details():
    """MAE and coverage equal means over the steps and then the series of ``details``."""
    evaluation = tiny().fit(two_series()).evaluate(two_series(), baselines=["SeasonalNaive"])
    rows = evaluation.details
    for model, mae in zip(evaluation.table["model"], evaluation.table["MAE"], strict=True):
        assert (rows["y"] - rows[model]).abs().groupby(rows["unique_id"]).mean().mean() == pytest.approx(mae)
    low, high = rows["LSTM (direct)-lo-80"], rows["LSTM (direct)-hi-80"]
    covered = rows["y"].between(low, high).groupby(rows["unique_id"]).mean().mean()
    assert evaluation.table["coverage-80"].iloc[0] == pytest.approx(100 * covered)


def test_seasonal_naive_baseline():
    """The seasonal naive forecast is the value one season before."""
    data = two_series()
    rows = tiny(test_windows=2).fit(data).evaluate(data, baselines=["SeasonalNaive"]).details
    known = data.set_index(["unique_id", "ds"])["y"]
    for uid, ds, naive in rows[["unique_id", "ds", "SeasonalNaive"]].itertuples(index=False):
        assert naive == pytest.approx(known[uid, ds - pd.Timedelta(days=4)])


def test_unknown_baseline_is_refused():
    """An unknown baseline is an error that suggests the nearest name."""
    with pytest.raises(SettingError, match="did you mean 'AutoETS'"):
        tiny().fit(two_series()).evaluate(two_series(), baselines=["AutoETF"])


def test_calibrated_intervals_cover_the_validation_values():
    """After calibration each interval covers at least its nominal fraction of the validation values."""
    y = wave(300)
    fitted = tiny(valid_fraction=0.3, test_windows=0).fit(y)
    series = fitted.read(y)
    origins = np.array([[0, t] for t in range(210, 298)])
    quantiles = fitted.predictor.quantiles(series, origins)
    actual = np.stack([y[t : t + H] for _, t in origins])
    for k, level in enumerate((95, 80, 50)):
        covered = (actual >= quantiles[..., k]) & (actual <= quantiles[..., 6 - k])
        assert covered.mean() >= level / 100 - 0.01
    assert np.shape(fitted.predictor.state()["widths"]) == (H, 3)


def test_calibration_widens_each_interval_by_its_width():
    """The calibrated width of a step and level is added to both bounds, in units of the window's scale."""
    fitted = tiny(centering="none", scaling="none", valid_fraction=0.0).fit(two_series())
    uncalibrated = fitted.predict(two_series())
    widths = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    fitted.predictor.intervals = IntervalCalibration(widths)
    calibrated = fitted.predict(two_series())
    for k, level in enumerate((50, 80, 95)):
        by_step = np.tile(widths[:, k], 2)
        low, high = f"forecast-lo-{level}", f"forecast-hi-{level}"
        assert (uncalibrated[low] - calibrated[low]).tolist() == pytest.approx(by_step)
        assert (calibrated[high] - uncalibrated[high]).tolist() == pytest.approx(by_step)
    assert calibrated["forecast"].equals(uncalibrated["forecast"])


def test_sampled_paths_feed_back_their_values(monkeypatch: pytest.MonkeyPatch):
    """Each sampled value is the input of the next step and counts as observed."""
    fitted = tiny(method="recursive", distribution="normal", num_samples=2).fit(two_series())
    sharp = lambda head, outputs, scale: Normal(outputs[..., 0], 1e-6)  # noqa: E731
    monkeypatch.setattr(DistributionHead, "distribution", sharp)
    series = fitted.read(two_series())
    batch = fitted.source(ForecastExamples(series, np.array([[0, 50]]))).batch(np.array([0]))
    with torch.no_grad():
        path = fitted.predictor.sample_paths(fitted.model, batch)[0, 0]
        inputs, past = batch.inputs.clone(), fitted.predictor.window_plan.past
        inputs[0, past + 1 :, 0], inputs[0, past + 1 :, 1] = path[:-1], 1.0
        means = fitted.model(inputs)[0][0, past:, 0]
    torch.testing.assert_close(means, path, rtol=0, atol=1e-4)
    assert (path[1:] - path[:-1]).abs().min() > 1e-3  # so that a wrong input would show


# ---- a fitted forecaster ---------------------------------------------------------------------------------------------


def test_second_fit_equals_a_first_fit():
    """A second fit on data of another frequency equals a first fit."""
    fitted = tiny().fit(long_frame("h", x=wave(60)), validation=long_frame("h", v=wave(30)))
    again, fresh = fitted.fit(two_series()), tiny().fit(two_series())
    assert same_weights(again, fresh)
    assert again.predictor.state() == fresh.predictor.state()


def test_the_digest_depends_on_all_data():
    """The digest changes with any value, timestamp, series id or covariate."""
    job, data = tiny(**COVARIATES), shop_sales()
    changes = {"y": 0.5, "visitors": 0.5, "weather": "fog", "price": 9.0, "promo": "flyer"}
    digests = [job.data_digest(job.read(data))]
    for name, value in changes.items():
        digests.append(job.data_digest(job.read(data.assign(**{name: data[name].where(data.index != 3, value)}))))
    digests.append(job.data_digest(job.read(data.assign(area=data["area"] + 1))))
    digests.append(job.data_digest(job.read(data.assign(ds=data["ds"] + pd.Timedelta(days=1)))))
    digests.append(job.data_digest(job.read(data.assign(unique_id=data["unique_id"] + "!"))))
    assert len(set(digests)) == len(digests)
    assert job.data_digest(job.read(data.copy())) == digests[0]


def test_trace_covers_the_last_window():
    """A trace has ``(window + horizon) / patch`` steps; without the horizon if the readout is the last state."""
    for options, steps in (({"window": 8}, 8), ({"window": 8, "patch_length": 2, "readout": "horizon_states"}, 4 + 2)):
        trace = tiny(**options).fit(two_series()).trace(two_series(), "b")
        assert trace.gates[0, 0]["forget"].shape == (1, steps, 4)


def test_error_lists_the_known_series():
    """The error for an unknown series lists the series of the data."""
    fitted = tiny().fit(two_series())
    for ask in (fitted.trace, fitted.example_sequences):
        with pytest.raises(DataError, match=r"no series 'c' in the data .series: a, b."):
            ask(two_series(), "c")


def test_text_and_records_match_the_forecast():
    """The CSV has six digits; the JSON is exact and has timestamps as text."""
    forecast = (fitted := tiny().fit(two_series())).predict(two_series())
    lines = fitted.to_text(forecast).splitlines()
    assert lines[0] == ",".join(forecast.columns)
    assert len(lines) == 1 + len(forecast)
    records = json.loads(json.dumps(fitted.to_records(forecast), allow_nan=False))
    assert records[0]["ds"] == "2020-02-20"
    assert [r["forecast"] for r in records] == forecast["forecast"].tolist()
    for line, record in zip(lines[1:], records, strict=True):
        assert float(line.split(",")[2]) == pytest.approx(record["forecast"], rel=1e-5)


def test_seasonal_change():
    """``seasonal_change`` is the difference over a season relative to the deviation, infinite without a season."""
    season = np.tile([0.0, 2.0], 50)
    series = [read_series(y) for y in (season, season + 0.5 * (np.arange(100) // 2 % 2))]
    exact, shifting = (seasonal_change(s, s.lengths, 2, 10) for s in series)
    assert exact == 0
    assert 0.4 < shifting < 0.6
    assert seasonal_change(series[0], series[0].lengths, 1, 10) == np.inf


@pytest.mark.parametrize(("swing", "regular"), [(10.0, True), (0.1, False)])
def test_regular_series_are_detected(swing: float, regular: bool):
    """The default of centering is chosen on the training data."""
    y = 50 + swing * np.sin(np.arange(200) * np.pi / 6) + np.random.default_rng(0).normal(size=200)
    job = Forecaster(horizon=6, season_length=12, epochs=1, steps_per_epoch=1, hidden_size=2).fit(y)
    assert job.predictor.window_plan.regular is regular
