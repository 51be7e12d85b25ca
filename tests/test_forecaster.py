"""The forecaster: every method works on tiny data, and what the documentation promises holds."""

from __future__ import annotations

import json

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
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.models.base import Ensemble
from lstmkit.modules.heads import DistributionHead

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
    """A season of four steps, and noise."""
    return mean + 3 * np.sin(np.arange(n) * np.pi / 2) + 0.3 * np.random.default_rng(seed).standard_normal(n)


def counts(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(5.0, n).astype(float)


def long(freq: str = "D", **series) -> pd.DataFrame:
    """Series by name, in long form, all from the first of January 2020."""
    frames = [
        pd.DataFrame({"unique_id": name, "ds": pd.date_range("2020-01-01", periods=len(y), freq=freq), "y": y})
        for name, y in series.items()
    ]
    return pd.concat(frames, ignore_index=True)


def two(n: int = 50) -> pd.DataFrame:
    return long(a=wave(n, 1), b=wave(n - 7, 2))


def check_forecast(forecast: pd.DataFrame, horizon: int = H) -> None:
    """Numbers everywhere, a horizon for each series, intervals that lie in each other with the median in them."""
    assert (forecast.groupby("unique_id", sort=False).size() == horizon).all()
    numbers = forecast[QUANTILES].to_numpy()
    assert np.isfinite(numbers).all()
    assert (np.diff(numbers, axis=1) >= 0).all()


def same_weights(a: Forecaster, b: Forecaster) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# ---- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_method_forecasts(name: str, cell: str):
    """Each method and distribution gives the steps after each series' end, with intervals around the median."""
    data = long(a=counts(50), b=counts(41, 1))
    forecast = tiny(cell=cell, **METHODS[name]).fit(data).predict(data)
    check_forecast(forecast)
    assert forecast["unique_id"].tolist() == ["a"] * H + ["b"] * H
    assert forecast["ds"].tolist() == [
        *pd.date_range("2020-01-01", periods=50 + H)[50:],
        *pd.date_range("2020-01-01", periods=41 + H)[41:],
    ]


def test_counts_are_forecast_as_counts():
    """The negative binomial never goes below 0, and its bounds lie on the grid of counts up to interpolation."""
    data = long(a=np.where(np.arange(60) % 7 == 0, 1.0, 0.0))
    forecast = tiny(**METHODS["recursive, negative_binomial"]).fit(data).predict(data)
    check_forecast(forecast)
    assert (forecast[QUANTILES] >= 0).all(axis=None)


@pytest.mark.parametrize(
    ("values", "options", "phrase"),
    [
        (wave(50), {}, "whole numbers from 0 up"),
        (-counts(50) - 1, {}, "whole numbers from 0 up"),
        (counts(50) + 1, {"log_transform": True}, "drop --log-transform"),
        (counts(50), {"centering": "mean"}, "centering must be none, got 'mean'"),
    ],
)
def test_values_that_are_not_counts_are_refused(values: np.ndarray, options: dict, phrase: str):
    """The negative binomial refuses fractions, values below 0, logarithms and centering."""
    with pytest.raises(UserError, match=phrase):
        tiny(**METHODS["recursive, negative_binomial"], **options).fit(values)


def test_the_recursive_method_takes_no_patches():
    """It forecasts one step at a time: a patch is refused, not ignored."""
    with pytest.raises(SettingError, match="patch_length must be 1 with method=recursive"):
        tiny(method="recursive", patch_length=2).fit(wave(50))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@DIRECT_AND_RECURSIVE
def test_an_ensemble_of_deep_models_forecasts_and_shows_its_gates(cell: str, method: str):
    """Two seeds, two layers, either method: a forecast, and gates where the cell has some."""
    fitted = tiny(cell=cell, method=method, ensemble_size=2, num_layers=2).fit(two())
    check_forecast(fitted.predict(two()))
    example_sequences = fitted.example_sequences(two(), "b")
    assert example_sequences[0].name == "b, the last window"
    shown = {
        section.title: section
        for section in look.sections(fitted.network, example_sequences, look.InspectionOptions(layer=2))
    }
    assert shown["Gates"].figure is not None
    assert ("Saturation" in shown) == (cell != "rnn")


def test_an_ensemble_is_of_the_seeds():
    """Its members are the models of the seeds 0 and 1, and its output is the mean of theirs."""
    both = tiny(ensemble_size=2).fit(two())
    assert isinstance(both.model, Ensemble)
    members = list(both.model.members)
    for seed, member in enumerate(members):
        alone = tiny(seed=seed).fit(two()).model
        for one, other in zip(alone.state_dict().values(), member.state_dict().values(), strict=True):
            assert torch.equal(one, other)
    inputs = torch.randn(2, both.predictor.window_plan.past, 5)
    mean = (members[0](inputs)[0] + members[1](inputs)[0]) / 2
    torch.testing.assert_close(both.model(inputs)[0], mean)


LEARN = {"steps_per_epoch": 15, "hidden_size": 8, "lr": 0.02, "dropout": 0.0, "batch_size": 16}


def test_the_direct_method_learns():
    """On a season with a trend, which the seasonal naive forecast misses by a season's rise, it does far better."""
    y = wave(160) + np.arange(160)
    fitted = tiny(**LEARN, epochs=4, centering="last", scaling="seasonal_difference").fit(y)
    ours, naive = fitted.evaluate(y, baselines=["SeasonalNaive"]).table["MAE"]
    assert ours < 0.3 * naive


def test_the_recursive_method_learns():
    """It finds the season: its error is a fraction of what the mean's would be, and its intervals are narrow."""
    y = wave(160)
    fitted = tiny(**LEARN, epochs=8, method="recursive", distribution="normal").fit(y)
    details = fitted.evaluate(y, baselines=[]).details
    swing = np.abs(y - y.mean()).mean()
    assert (details["y"] - details["LSTM (recursive)"]).abs().mean() < 0.4 * swing
    assert (details["LSTM (recursive)-hi-50"] - details["LSTM (recursive)-lo-50"]).mean() < swing


# ---- invariances -----------------------------------------------------------------------------------------------------


@DIRECT_AND_RECURSIVE
def test_the_same_seed_gives_the_same_forecast(method: str):
    """Bit for bit, whatever the state of the global random generator, which is left as it was."""
    torch.manual_seed(1)
    first = tiny(method=method).fit(two()).predict(two())
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    second = tiny(method=method).fit(two())
    pd.testing.assert_frame_equal(second.predict(two()), first, check_exact=True)
    pd.testing.assert_frame_equal(second.predict(two()), first, check_exact=True)
    assert not same_weights(second, tiny(method=method, seed=1).fit(two()))


@DIRECT_AND_RECURSIVE
def test_a_forecast_does_not_depend_on_the_series_beside_it(method: str):
    """A series' forecast is the same alone, among others, in any order, and with the rows mixed."""
    data = long(a=wave(50, 1), b=100 * wave(43, 2), c=wave(12, 3))
    fitted = tiny(method=method).fit(data.query("unique_id != 'c'"))
    alone = pd.concat([fitted.predict(data[data["unique_id"] == name]) for name in "cab"], ignore_index=True)
    mixed = fitted.predict(data.iloc[::-1].reset_index(drop=True))
    assert mixed["unique_id"].unique().tolist() == ["c", "b", "a"]
    for other in (fitted.predict(data), mixed):
        found = other.set_index(["unique_id", "ds"]).loc[list(zip(alone["unique_id"], alone["ds"], strict=True))]
        np.testing.assert_allclose(found[QUANTILES], alone[QUANTILES], rtol=1e-5)


def test_levels_may_come_in_any_order():
    """The columns are in order and the numbers the same."""
    sorted_, shuffled = (tiny(levels=levels).fit(two()).predict(two()) for levels in ((50, 80, 95), (95, 50, 80)))
    pd.testing.assert_frame_equal(sorted_, shuffled, check_exact=True)
    assert list(sorted_)[2:5] == ["forecast", "forecast-lo-50", "forecast-hi-50"]


@pytest.mark.parametrize("levels", [(), (50, 50)])
def test_levels_must_be_some_and_different(levels: tuple[int, ...]):
    """No level, or the same twice, is refused."""
    with pytest.raises(SettingError, match="levels must be different percentages, at least one"):
        tiny(levels=levels).fit(two())


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
def test_another_unit_is_the_same_forecast_in_that_unit(unit: float, options: dict):
    """In kilograms or in tonnes: the forecast of ``unit * y`` is ``unit`` times the forecast of ``y``."""
    data = two()
    other = data.assign(y=unit * data["y"])
    plain, scaled = (tiny(**options).fit(d).predict(d) for d in (data, other))
    np.testing.assert_allclose(scaled[QUANTILES] / unit, plain[QUANTILES], rtol=1e-4)


@DIRECT_AND_RECURSIVE
def test_values_below_zero(method: str):
    """Series below 0 or around it are forecast like any other; with a level taken out, from where they are."""
    data = long(a=wave(50, mean=-500), b=wave(50, mean=0))
    forecast = tiny(method=method, centering="mean", scaling="std").fit(data).predict(data)
    check_forecast(forecast)
    assert (forecast.loc[:2, QUANTILES] < -450).all(axis=None)


@pytest.mark.parametrize("value", [5.0, 0.0, -1e9])
@DIRECT_AND_RECURSIVE
def test_a_constant_series_is_forecast_as_constant(value: float, method: str):
    """Without any spread the forecast is the constant, give or take a thousandth (or a unit, around 0)."""
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
def test_intervals_lie_in_each_other(fitted_forecasters, data: list[list[float]], last: int):
    """Of any data: the wider interval holds the narrower, all of them the median, and all are numbers."""
    frame = long(**{f"s{i}": [*y, float(last)] for i, y in enumerate(data)})
    for fitted in fitted_forecasters:
        check_forecast(fitted.predict(frame))


@pytest.fixture(scope="module")
def fitted_forecasters() -> list[Forecaster]:
    """Both methods; the third forecaster has interval widths that would invert the intervals."""
    forecasters = [tiny().fit(two()), tiny(method="recursive").fit(two()), tiny().fit(two())]
    forecasters[2].predictor.interval_widths = np.array([[3.0, -5.0, 1.0], [-9.0, -9.0, -9.0], [0.0, 7.0, -1.0]])
    return forecasters


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W-SUN", "MS", "ME", "QS-JAN", "QE-DEC", "YS-JAN"])
def test_dates_of_every_frequency(freq: str):
    """The forecast goes on in the frequency of the data, with the season and the calendar that it has."""
    data = long(freq, a=wave(60))
    fitted = tiny(season_length=0).fit(data)
    expected = pd.date_range("2020-01-01", periods=60 + H, freq=freq)
    assert fitted.predictor.window_plan.freq == freq
    assert fitted.predict(data)["ds"].tolist() == list(expected[60:])


def test_whole_number_stamps():
    """In steps of 5 from 10."""
    data = pd.DataFrame({"ds": np.arange(10, 260, 5), "y": wave(50)})
    assert tiny().fit(data).predict(data)["ds"].tolist() == [260, 265, 270]


def test_time_zones_are_kept():
    """Stamps with a zone are forecast and evaluated with it; with and without do not go together."""
    data = two()
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
    """A horizon longer than the season, a window longer than the series or of one step, a season longer than both."""
    fitted = tiny(method=method, **options).fit(two())
    check_forecast(fitted.predict(two()), options.get("horizon", H))


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
    """A week of hours in patches of days; else three seasons, at least twice the horizon, at most the series."""
    plain = {"horizon": 24, "season": 0, "window": 0, "patch": 0, "autoregressive": False}
    assert plan_windows(freq, longest, **{**plain, **options}) == expected


# ---- missing values --------------------------------------------------------------------------------------------------


@DIRECT_AND_RECURSIVE
def test_missing_values_anywhere(method: str):
    """A third missing at random, and a gap longer than the window: fitted, evaluated and forecast with numbers."""
    y = wave(120)
    y[np.random.default_rng(0).random(120) < 0.3] = NAN
    y[30:60] = NAN
    data = long(a=y)
    fitted = tiny(method=method, window=8).fit(data)
    check_forecast(fitted.predict(data))
    assert fitted.evaluate(data).table.notna().all(axis=None)


def test_missing_values_are_not_targets():
    """A missing value and a missing row give the same weights; the value itself gives others."""
    y = wave(60)
    holes = np.where(np.arange(60) % 5 == 2, NAN, y)
    rows = pd.DataFrame({"ds": np.arange(60), "y": holes})
    as_gaps, as_rows = tiny().fit(rows.dropna()), tiny().fit(rows)
    assert same_weights(as_gaps, as_rows)
    assert not same_weights(as_rows, tiny().fit(y))


def test_a_gap_longer_than_the_window_does_not_drown_the_rest():
    """Windows without a known value are not part of the loss."""
    y = 1e6 * wave(120)
    y[30:60] = NAN
    fitted = tiny(window=8, steps_per_epoch=0, epochs=1).fit(y)
    assert fitted._histories[0].rows[0]["train_loss"] < 1000


def test_a_forecast_starts_after_the_last_known_value():
    """The forecast starts at values that are missing at the end."""
    data = long(a=[*wave(50), NAN, NAN])
    forecast = tiny().fit(data).predict(data)
    assert forecast["ds"].iloc[0] == data["ds"].iloc[50]


# ---- covariates ------------------------------------------------------------------------------------------------------


def promoted(n: int = 50, ahead: int = H) -> pd.DataFrame:
    """Sales of two shops with covariates of every kind, the future ones known for ``ahead`` further steps."""
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
    """Past, future and static ones, numbers and categories, missing ones among them: fitted, forecast, evaluated."""
    data = promoted()
    data.loc[5, ["visitors", "promo", "weather"]] = None
    fitted = tiny(method=method, readout=readout, **COVARIATES).fit(data)
    check_forecast(fitted.predict(data))
    assert len(fitted.evaluate(data, baselines=()).table) == 1


@pytest.mark.parametrize(("name", "part"), [(n, p) for p, names in COVARIATES.items() for n in names])
@DIRECT_AND_RECURSIVE
def test_every_covariate_changes_the_forecast(name: str, part: str, method: str):
    """Another value of any covariate gives another forecast; of a future one also where only the horizon differs."""
    data = promoted()
    fitted = tiny(method=method, steps_per_epoch=10, lr=0.05, **COVARIATES).fit(data)
    other = data.copy()
    rows = other["y"].isna() if part == "future" else slice(None)
    values = other.loc[rows, name]
    shift = {"sun": "rain", "rain": "sun", "no": "yes", "yes": "tv", "tv": "no", "mall": "street", "street": "mall"}
    other.loc[rows, name] = values.map(shift) if values.dtype == object else 3 * values
    assert not np.allclose(fitted.predict(other)["forecast"], fitted.predict(data)["forecast"], rtol=1e-7)


def test_future_covariates_in_a_second_table(tmp_path):
    """``future_data`` as a file gives the same forecast as the rows in the data themselves."""
    data = promoted()
    fitted = tiny(**COVARIATES).fit(data)
    known, ahead = data[data["y"].notna()], data[data["y"].isna()]
    ahead[["unique_id", "ds", "price", "promo"]].to_csv(tmp_path / "ahead.csv", index=False)
    forecast = fitted.predict(known, future_data=tmp_path / "ahead.csv")
    pd.testing.assert_frame_equal(forecast, fitted.predict(data), check_exact=True)


def test_the_missing_span_of_a_covariate_is_named():
    """Future covariates that do not reach over the horizon are refused with series, name and span."""
    data = promoted()
    fitted = tiny(**COVARIATES).fit(data)
    short = data[~((data["unique_id"] == "south") & (data["ds"] > "2020-02-20"))]
    text = r"'price' of series 'south' is missing from 2020-02-21 to 2020-02-22 \(2 of 3 steps"
    with pytest.raises(DataError, match=text):
        fitted.predict(short)
    assert len(fitted.evaluate(data[data["y"].notna()], baselines=()).table) == 1  # needs none past the end


def test_a_covariate_of_another_kind_is_refused():
    """Text where training had numbers, in the data or in the validation data, is a mistake of the data."""
    data = promoted()
    text = data.assign(price="cheap")
    with pytest.raises(DataError, match="'price' is text"):
        tiny(**COVARIATES).fit(data).predict(text)
    with pytest.raises(DataError, match="'price' is text"):
        tiny(**COVARIATES).fit(data, validation=text)


def test_a_covariate_that_training_does_not_show_is_refused():
    """One that begins in the validation part cannot have been learnt from."""
    data = long(a=wave(50)).assign(x=[None] * 45 + ["new"] * 5)
    with pytest.raises(DataError, match="'x' has no value in the training data"):
        tiny(past_covariates="x").fit(data)


def test_the_calendar_can_be_left_out():
    """``calendar_features=False`` has fewer inputs and still forecasts."""
    inputs = [
        tiny(calendar_features=c).fit(two()).model.state_dict()["encoder.linear.weight"].shape[1] for c in (True, False)
    ]
    assert inputs[0] == inputs[1] + 2  # the weekday, as a point on a circle


# ---- logarithms ------------------------------------------------------------------------------------------------------


def test_logarithms_keep_forecasts_above_zero():
    """Of values just above 0 that swing by a factor, every bound is above 0."""
    y = np.exp(wave(60, mean=0))
    forecast = tiny(log_transform=True).fit(y).predict(y)
    check_forecast(forecast)
    assert (forecast[QUANTILES] > 0).all(axis=None)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_logarithms_need_values_above_zero(value: float):
    """Others are refused with the series' name, in fit, as validation, in predict and in evaluate."""
    good = two()
    bad = good.assign(y=good["y"].where(good.index != 60, value))  # of series b
    fitted = tiny(log_transform=True).fit(good)
    for refuse in (
        tiny(log_transform=True).fit,
        lambda d: tiny(log_transform=True).fit(good, validation=d),
        fitted.predict,
        fitted.evaluate,
    ):
        with pytest.raises(
            DataError, match="series 'b' has values at or below 0, which log_transform=true cannot take"
        ):
            refuse(bad)


# ---- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "options", "train", "seen"),
    [
        ([100], {}, [73], [85]),  # a fifth is 20 steps: five windows of 3; then .15 of the other 85
        ([100, 30], {}, [80, 21], [94, 24]),  # as many windows as the shortest has room for; a horizon at least
        ([100], {"test_windows": 0}, [85], [100]),
        ([100], {"valid_fraction": 0.0}, [85], [85]),
        ([11], {}, [5], [8]),
    ],
)
def test_split_by_time(lengths: list[int], options: dict, train: list[int], seen: list[int]):
    """Test at the end, before it validation, at least a horizon of each, and the rest to train on."""
    series = read_series(long(**{f"s{i}": wave(n) for i, n in enumerate(lengths)}))
    found = split_by_time(series, H, **{"valid_fraction": 0.15, "test_windows": -1, **options})
    assert [part.tolist() for part in found] == [train, seen]


def test_parts_do_not_overlap():
    """No horizon of a training window reaches into validation, none of a validation window into the test."""
    series = read_series(two(60))
    train_end, seen_end = split_by_time(series, H, valid_fraction=0.2, test_windows=2)
    plan = plan_windows("D", 60, H, season=4, window=0, patch=0, autoregressive=False)
    train = training_windows(series, train_end, H, plan)
    valid = validation_windows(series, train_end, seen_end, H)
    for part, first, end in ((train, 0 * train_end, train_end), (valid, train_end, seen_end)):
        i, origin = part.origins.T
        assert (origin >= first[i]).all()
        assert (origin + H <= end[i]).all()
        assert (part.series.lengths == end).all()


@DIRECT_AND_RECURSIVE
def test_nothing_of_the_test_part_reaches_the_model(method: str):
    """Whatever comes in the test part, covariates too: weights, intervals and what was prepared are the same."""
    data = promoted(60, ahead=0)
    held_out = data["ds"] > "2020-02-23"  # two windows of three steps
    other = data.copy()
    other.loc[held_out, ["y", "visitors"]] *= 100
    other.loc[held_out, "promo"] = "flyer"
    options = {"method": method, "test_windows": 2, "epochs": 3, **COVARIATES}
    one, two_ = tiny(**options).fit(data), tiny(**options).fit(other)
    assert same_weights(one, two_)
    assert one.predictor.state() == two_.predictor.state()


def test_a_series_too_short_is_named_with_what_it_needs():
    """The message names the shortest series and how many steps would do; with that many it works."""
    data = long(long=wave(60), short=wave(9))
    with pytest.raises(
        DataError,
        match=r"series 'short' has 9 steps, but horizon 3 needs 11 \(5 for training, 6 for validation and test\)",
    ):
        tiny().fit(data)
    tiny().fit(long(long=wave(60), short=wave(11)))


def test_test_windows_may_be_none():
    """``test_windows=0`` trains and validates on everything, so that there is nothing to evaluate on."""
    fitted = tiny(test_windows=0).fit(two())
    check_forecast(fitted.predict(two()))
    with pytest.raises(DataError, match="no series has 3 steps after the training and validation data"):
        fitted.evaluate(two())


def test_validation_may_be_none():
    """``valid_fraction=0`` runs all epochs without a validation loss; the intervals are the model's own."""
    fitted = tiny(valid_fraction=0.0, epochs=3, patience=1).fit(two())
    rows = fitted._histories[0].rows
    assert len(rows) == 3
    assert all("valid_loss" not in row for row in rows)
    assert fitted.predictor.state()["widths"] is None
    check_forecast(fitted.predict(two()))


def test_validation_data_take_the_place_of_a_part():
    """With ``validation`` all but the test part is trained on, and the other data are validated on."""
    data, valid = long(a=wave(50)), long(v=wave(30, 5))
    fitted = tiny(test_windows=1).fit(data, validation=valid)
    assert fitted.predictor.last_trained_timestamps == {"a": "2020-02-16 00:00:00", "v": "2020-01-30 00:00:00"}
    assert "valid_loss" in fitted._histories[0].rows[0]
    shifted = tiny(test_windows=1).fit(data, validation=valid.assign(y=valid["y"] + wave(30, 6)))
    assert fitted._histories[0].rows[0]["train_loss"] == shifted._histories[0].rows[0]["train_loss"]
    assert fitted._histories[0].rows[0]["valid_loss"] != shifted._histories[0].rows[0]["valid_loss"]


@pytest.mark.parametrize(
    ("valid", "phrase"),
    [
        (long("h", a=wave(30)), "of frequency 'h', the data of frequency 'D'|frequency 'h', the data have|'h'.*'D'"),
        (wave(30), "frequency 1.*'D'"),
        (long(a=wave(2)), "no validation series has the"),
        (long(a=wave(30)).assign(ds=pd.date_range("2020", periods=30, tz="UTC")), "time zone"),
    ],
    ids=["hours", "whole numbers", "short", "time zone"],
)
def test_validation_data_that_do_not_go_with_the_data(valid, phrase: str):
    """Another frequency or kind of stamps, or no room for a window, is said."""
    with pytest.raises(DataError, match=phrase):
        tiny().fit(two(), validation=valid)


@DIRECT_AND_RECURSIVE
def test_evaluate_scores_only_what_fit_has_not_seen(method: str):
    """Cutoffs lie at or after the end of training and validation, each horizon once, each actual value as it came."""
    data = two()
    fitted = tiny(method=method, test_windows=2).fit(data.iloc[:-4])  # of series b the last 4 steps come later
    details = fitted.evaluate(data, baselines=()).details
    assert not details.duplicated(["unique_id", "ds"]).any()
    assert details.groupby("unique_id").size().to_dict() == {"a": 6, "b": 9}
    for name, rows in details.groupby("unique_id"):
        assert rows["cutoff"].min() >= pd.Timestamp(fitted.predictor.last_trained_timestamps[str(name)])
    came = details.merge(data, on=["unique_id", "ds"], suffixes=("", "_given"))
    assert (came["y"] == came["y_given"]).all()


def test_evaluate_does_not_score_validation_data():
    """What training was stopped on is not evidence: series given as validation are only scored after their end."""
    data = long(a=wave(80, 1), v=wave(80, 2))
    early = data[data["ds"] <= "2020-02-29"]  # sixty steps
    fitted = tiny(test_windows=0).fit(early.query("unique_id == 'a'"), validation=early.query("unique_id == 'v'"))
    with pytest.raises(DataError, match="no series has 3 steps after the training"):
        fitted.evaluate(early)
    details = fitted.evaluate(data, baselines=()).details
    assert details.groupby("unique_id")["ds"].min().min() > pd.Timestamp("2020-02-29")


def test_evaluate_of_series_it_has_not_seen():
    """They are given two windows of past where they have it; too short ones are left out, or refused if alone."""
    fitted = tiny(window=6).fit(two())
    new = long(new=wave(40, 9), short=wave(10, 8), shorter=wave(2, 7))
    details = fitted.evaluate(new).details
    assert details.groupby("unique_id")["cutoff"].min().to_dict() == {
        "new": pd.Timestamp("2020-01-13"),
        "short": pd.Timestamp("2020-01-07"),
    }
    with pytest.raises(DataError, match="no series has 3 steps after the training"):
        fitted.evaluate(long(shorter=wave(2, 7)))


def test_evaluate_again_gives_the_table_of_the_run(tmp_path):
    """On the data of the fit, ``evaluate`` scores the very windows that fit held out."""
    fitted = tiny().fit(two(), run=tmp_path / "run")
    assert fitted.evaluation is not None
    again = fitted.evaluate(two())
    pd.testing.assert_frame_equal(again.table, fitted.evaluation.table)
    assert again.table["model"].tolist() == ["LSTM (direct)", "SeasonalNaive", "AutoETS"]
    scores = {"MASE", "sMAPE", "MAE", "RMSE", "CRPS", "coverage-50", "coverage-80", "coverage-95"}
    assert scores == {*again.directions} == {*again.table.columns} - {"model"}


def test_scores_are_of_the_forecasts_in_the_details():
    """MAE and coverage by hand from ``details``: means over steps, then over series."""
    found = tiny().fit(two()).evaluate(two(), baselines=["SeasonalNaive"])
    rows = found.details
    for model, mae in zip(found.table["model"], found.table["MAE"], strict=True):
        assert (rows["y"] - rows[model]).abs().groupby(rows["unique_id"]).mean().mean() == pytest.approx(mae)
    low, high = rows["LSTM (direct)-lo-80"], rows["LSTM (direct)-hi-80"]
    covered = rows["y"].between(low, high).groupby(rows["unique_id"]).mean().mean()
    assert found.table["coverage-80"].iloc[0] == pytest.approx(100 * covered)


def test_the_seasonal_naive_forecast_is_that():
    """In every window: the value a season before, from what was known at its origin."""
    data = two()
    rows = tiny(test_windows=2).fit(data).evaluate(data, baselines=["SeasonalNaive"]).details
    known = data.set_index(["unique_id", "ds"])["y"]
    for uid, ds, naive in rows[["unique_id", "ds", "SeasonalNaive"]].itertuples(index=False):
        assert naive == pytest.approx(known[uid, ds - pd.Timedelta(days=4)])


def test_an_unknown_baseline_is_refused():
    """With the nearest name."""
    with pytest.raises(SettingError, match="did you mean 'AutoETS'"):
        tiny().fit(two()).evaluate(two(), baselines=["AutoETF"])


def test_intervals_cover_what_they_say_on_the_validation_part():
    """Calibration makes the share of validation values in each interval at least what it states."""
    y = wave(300)
    fitted = tiny(valid_fraction=0.3, test_windows=0).fit(y)
    series = fitted.read(y)
    origins = np.array([[0, t] for t in range(210, 298)])
    found = fitted.predictor.quantiles(series, origins)
    truth = np.stack([y[t : t + H] for _, t in origins])
    for k, level in enumerate((95, 80, 50)):
        covered = (truth >= found[..., k]) & (truth <= found[..., 6 - k])
        assert covered.mean() >= level / 100 - 0.01
    assert np.shape(fitted.predictor.state()["widths"]) == (H, 3)


def test_each_interval_is_widened_by_its_own_width():
    """A step's width is added to both bounds of its own interval, in units of the window's scale."""
    fitted = tiny(centering="none", scaling="none", valid_fraction=0.0).fit(two())
    plain = fitted.predict(two())
    widths = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    fitted.predictor.interval_widths = widths
    wide = fitted.predict(two())
    for k, level in enumerate((50, 80, 95)):
        by_step = np.tile(widths[:, k], 2)
        assert (plain[f"forecast-lo-{level}"] - wide[f"forecast-lo-{level}"]).tolist() == pytest.approx(by_step)
        assert (wide[f"forecast-hi-{level}"] - plain[f"forecast-hi-{level}"]).tolist() == pytest.approx(by_step)
    assert wide["forecast"].equals(plain["forecast"])


def test_paths_are_fed_their_own_values(monkeypatch: pytest.MonkeyPatch):
    """Each value that is drawn is the next step's input, and counts as observed: as if it had come."""
    fitted = tiny(method="recursive", distribution="normal", num_samples=2).fit(two())
    sharp = lambda head, outputs, scale: Normal(outputs[..., 0], 1e-6)  # noqa: E731
    monkeypatch.setattr(DistributionHead, "distribution", sharp)
    series = fitted.read(two())
    batch = fitted.source(ForecastExamples(series, np.array([[0, 50]]))).batch(np.array([0]))
    with torch.no_grad():
        path = fitted.predictor.sample_paths(fitted.model, batch)[0, 0]
        inputs, past = batch.inputs.clone(), fitted.predictor.window_plan.past
        inputs[0, past + 1 :, 0], inputs[0, past + 1 :, 1] = path[:-1], 1.0
        means = fitted.model(inputs)[0][0, past:, 0]
    torch.testing.assert_close(means, path, rtol=0, atol=1e-4)
    assert (path[1:] - path[:-1]).abs().min() > 1e-3  # so that it would be seen


# ---- a fitted forecaster ---------------------------------------------------------------------------------------------


def test_fitting_again_forgets():
    """A second fit, on data of another frequency, is as if it were the first."""
    fitted = tiny().fit(long("h", x=wave(60)), validation=long("h", v=wave(30)))
    again, fresh = fitted.fit(two()), tiny().fit(two())
    assert same_weights(again, fresh)
    assert again.predictor.state() == fresh.predictor.state()


def test_the_digest_depends_on_all_data():
    """It changes with a value, a timestamp, a series id, a covariate of any kind."""
    job, data = tiny(**COVARIATES), promoted()
    changes = {"y": 0.5, "visitors": 0.5, "weather": "fog", "price": 9.0, "promo": "flyer"}
    prints = [job.data_digest(job.read(data))]
    for name, value in changes.items():
        prints.append(job.data_digest(job.read(data.assign(**{name: data[name].where(data.index != 3, value)}))))
    prints.append(job.data_digest(job.read(data.assign(area=data["area"] + 1))))
    prints.append(job.data_digest(job.read(data.assign(ds=data["ds"] + pd.Timedelta(days=1)))))
    prints.append(job.data_digest(job.read(data.assign(unique_id=data["unique_id"] + "!"))))
    assert len(set(prints)) == len(prints)
    assert job.data_digest(job.read(data.copy())) == prints[0]


def test_the_trace_is_of_the_last_window():
    """``(window + horizon) / patch`` steps of every gate; without the horizon where the model answers from the past."""
    for options, steps in (({"window": 8}, 8), ({"window": 8, "patch_length": 2, "readout": "horizon_states"}, 4 + 2)):
        trace = tiny(**options).fit(two()).trace(two(), "b")
        assert trace.gates[0, 0]["forget"].shape == (1, steps, 4)


def test_an_unknown_series_is_named_with_those_there_are():
    """Asking to look at one that is not in the data says which are."""
    fitted = tiny().fit(two())
    for ask in (fitted.trace, fitted.example_sequences):
        with pytest.raises(DataError, match=r"no series 'c' in the data .series: a, b."):
            ask(two(), "c")


def test_text_and_records_are_the_forecast():
    """The CSV reads back to six digits, the JSON exactly; stamps as text."""
    forecast = (fitted := tiny().fit(two())).predict(two())
    lines = fitted.to_text(forecast).splitlines()
    assert lines[0] == ",".join(forecast.columns)
    assert len(lines) == 1 + len(forecast)
    records = json.loads(json.dumps(fitted.to_records(forecast), allow_nan=False))
    assert records[0]["ds"] == "2020-02-20"
    assert [r["forecast"] for r in records] == forecast["forecast"].tolist()
    for line, record in zip(lines[1:], records, strict=True):
        assert float(line.split(",")[2]) == pytest.approx(record["forecast"], rel=1e-5)


def test_seasonal_change():
    """The share of a window's deviation by which values a season apart differ: none, half of it, or no season."""
    season = np.tile([0.0, 2.0], 50)
    read = [read_series(y) for y in (season, season + 0.5 * (np.arange(100) // 2 % 2))]
    exact, shifting = (seasonal_change(s, s.lengths, 2, 10) for s in read)
    assert exact == 0
    assert 0.4 < shifting < 0.6
    assert seasonal_change(read[0], read[0].lengths, 1, 10) == np.inf


@pytest.mark.parametrize(("swing", "regular"), [(10.0, True), (0.1, False)])
def test_a_regular_series_is_forecast_from_its_last_season(swing: float, regular: bool):
    """The default of centering is chosen on the training part."""
    y = 50 + swing * np.sin(np.arange(200) * np.pi / 6) + np.random.default_rng(0).normal(size=200)
    job = Forecaster(horizon=6, season_length=12, epochs=1, steps_per_epoch=1, hidden_size=2).fit(y)
    assert job.predictor.window_plan.regular is regular
