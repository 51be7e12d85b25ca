"""From series to what a model is fed: windows, scaling, covariates as numbers, and forecasts as frames again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit.data.series.covariates import CALENDAR_FEATURES, CovariateColumn, CovariateEncoder, calendar_fields
from lstmkit.data.series.forecast_frames import forecast_frame, histories_by_origin, training_frame
from lstmkit.data.series.forecast_windows import Windows, WindowScaler, rolling_origins
from lstmkit.data.series.series_set import SeriesSet, read_series
from lstmkit.errors import DataError

NAN = float("nan")
LEVELS, SCALES = ("none", "last", "mean", "season"), ("none", "std", "difference", "mean")
PLAIN = WindowScaler(level="none", scale="none")


def many(*values, freq: str | int = 1, start: pd.Timestamp | int = 0, **columns) -> SeriesSet:
    """Series ``a``, ``b``, … with the values as they stand, be they missing at an end."""
    ys = tuple(np.array(v, dtype=float) for v in values)
    return SeriesSet(ids=tuple("abcdef"[: len(ys)]), freq=freq, starts=(start,) * len(ys), y=ys, **columns)


def dated(n: int, freq: str, start: str = "2020-01-01") -> SeriesSet:
    timestamps = pd.date_range(start, periods=n, freq=freq)
    return read_series(pd.DataFrame({"ds": timestamps, "y": np.arange(1.0, n + 1)}), freq=freq)


def window(series: SeriesSet, origin: tuple[int, int], scaling: WindowScaler = PLAIN, features=None, **options):
    """One window: inputs ``(T, F)``, targets, base, scale."""
    options = {"past": 3, "horizon": 2, "ahead": 2, **options}
    windows = Windows(series, features or CovariateEncoder(), scaling, np.array([origin]), **options)
    batch = windows.batch(np.array([0]))
    assert batch.targets is not None
    parts = (batch.inputs, batch.targets, batch.extras["base"], batch.extras["scale"])
    return tuple(part[0].double().numpy() for part in parts)


# ---- scaling ---------------------------------------------------------------------------------------------------------

PAST = [1.0, 3.0, NAN, 5.0, 2.0, 6.0]


@pytest.mark.parametrize(
    ("level", "past", "base"),
    [
        ("none", PAST, [0.0] * 9),
        ("last", PAST, [6.0] * 9),
        ("last", [*PAST[:-1], NAN], [2.0] * 9),  # the last that is known
        ("mean", PAST, [17 / 5] * 9),
        ("season", PAST, [2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0]),
        ("season", PAST[1:], [6.0, 2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0]),  # the horizon goes on where the past ends
        ("season", [*PAST[:-1], NAN], [2.0, 5.0, 2.0, 5.0, 2.0, 5.0, 2.0, 5.0, 2.0]),  # an older season's where missing
        ("season", [NAN, 3.0, NAN, 5.0], [4.0, 5.0, 4.0, 5.0, 4.0, 5.0, 4.0]),  # the mean where no season has it
    ],
)
def test_levels_by_hand(level: str, past: list[float], base: list[float]):
    """What is taken out of a window is what the level says, with a season of two steps and a horizon of three."""
    found, _ = WindowScaler(level=level, scale="none", season=2).fit(np.array([past]), 3)
    assert found.tolist() == [pytest.approx(base)]


@pytest.mark.parametrize(
    ("level", "scale", "past", "expected"),
    [
        ("mean", "none", PAST, 1.0),
        ("none", "mean", [-1.0, 3.0, NAN, 5.0], 3.0),
        ("mean", "std", [1.0, 3.0, NAN, 5.0], np.sqrt(8 / 3)),
        ("last", "std", [1.0, 3.0, NAN, 5.0], np.sqrt((16 + 4 + 0) / 3)),  # around the base, not the mean
        ("mean", "difference", PAST, (2 + 1) / 2),  # |5 - 3| and |6 - 5|: pairs two steps apart, both known
    ],
)
def test_scales_by_hand(level: str, scale: str, past: list[float], expected: float):
    """The unit of a window is what the scale says, of known values only."""
    found = WindowScaler(level=level, scale=scale, season=2).fit(np.array([past]), 2)[1]
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("past", [[NAN] * 6, [5.0] * 6, [0.0] * 6, [NAN] * 5 + [2.0]])
def test_a_window_without_spread_has_a_unit(level: str, scale: str, past: list[float]):
    """Missing, constant, all 0 or a single value: base and scale are numbers and the scale is above 0."""
    base, unit = WindowScaler(level=level, scale=scale, season=2).fit(np.array([past]), 2)
    assert np.isfinite(base).all()
    assert np.isfinite(unit).all()
    assert (unit > 0).all()


def test_the_logarithm_is_of_the_values():
    """With ``log`` the level is that of the logarithms, and the way back is the exponential."""
    scaling = WindowScaler(log=True, level="mean", scale="none")
    base, scale = scaling.fit(scaling.transform(np.array([[1.0, np.e**2]])), 1)
    assert base.tolist() == [pytest.approx([1.0, 1.0, 1.0])]
    assert scaling.inverse(np.zeros((1, 1)), base[:, -1:], scale).item() == pytest.approx(np.e)


@st.composite
def pasts(draw) -> np.ndarray:
    """Windows ``(B, L)`` of numbers above 0, some missing, in any unit."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9)))
    unit = draw(st.sampled_from([1e-9, 1.0, 1e9]))
    numbers = st.one_of(st.just(NAN), st.floats(0.5, 100))
    flat = draw(st.lists(numbers, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return unit * np.array(flat).reshape(shape)


scalings = st.builds(
    WindowScaler,
    log=st.booleans(),
    level=st.sampled_from(LEVELS),
    scale=st.sampled_from(SCALES),
    season=st.integers(1, 4),
)


@given(past=pasts(), scaling=scalings)
@settings(max_examples=150, deadline=None)
def test_scaling_there_and_back_again(past: np.ndarray, scaling: WindowScaler):
    """``inverse`` undoes what was done to a window, whatever the settings; missing stays missing."""
    y = scaling.transform(past)
    base, scale = scaling.fit(y, 0)
    np.testing.assert_allclose(scaling.inverse((y - base) / scale, base, scale), past, rtol=1e-6)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_the_layout_of_a_window():
    """Value, whether it was observed, whether it lies in the horizon; the targets are the horizon's values."""
    inputs, targets, base, scale = window(many([1, 2, NAN, 4, 5, 6]), (0, 4))
    assert inputs.tolist() == [[2, 1, 0], [0, 0, 0], [4, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert targets.tolist() == [5, 6]
    assert (base.tolist(), scale.tolist()) == ([0, 0], [1])


def test_values_are_scaled_and_the_base_goes_on_over_the_horizon():
    """Inputs and targets are ``(y - base) / scale``; the batch has what turns answers back."""
    scaling = WindowScaler(level="season", scale="difference", season=2)
    inputs, targets, base, scale = window(many([1, 5, 3, 9, 4, 11]), (0, 4), scaling, past=4)
    assert inputs[:4, 0].tolist() == pytest.approx([-2 / 3, -4 / 3, 0, 0])  # base 3, 9, 3, 9; unit (2 + 4) / 2
    assert targets.tolist() == pytest.approx([(4 - 3) / 3, (11 - 9) / 3])
    assert (base.tolist(), scale.tolist()) == ([3, 9], [3])


def test_the_fed_layout_shows_the_value_before():
    """Fed its own values, step t has the value of step t - 1 and answers for all steps, of which the first is blind."""
    inputs, targets, *_ = window(many([1, 2, NAN, 4, 5, 6]), (0, 4), past=4, autoregressive=True)
    assert inputs.tolist() == [[0, 0, 0], [1, 1, 0], [2, 1, 0], [0, 0, 0], [4, 1, 1], [5, 1, 1]]
    assert targets.tolist()[:2] == [1, 2]
    assert np.isnan(targets[2])
    assert targets.tolist()[3:] == [4, 5, 6]


def test_a_short_series_is_missing_on_the_left():
    """Where a series has fewer steps than the window, the rest counts as missing, also to the scale."""
    inputs, targets, base, _ = window(many([8, 9], [1, 3, 5]), (1, 2), WindowScaler(level="mean"), past=4)
    assert inputs[:, :2].tolist() == [[0, 0], [0, 0], [-1, 1], [1, 1], [0, 0], [0, 0]]
    assert base.tolist() == [2, 2]
    assert targets[0] == 3
    assert np.isnan(targets[1])  # past the end of the series, where the horizon is not known


def test_series_do_not_run_into_each_other():
    """The step before a series' first and the one after its last are missing, not another series' values."""
    series = many([1, 2, 3], [10, 20, 30], [100, 200, 300])
    inputs, *_ = window(series, (1, 1), past=5)
    assert inputs[:5, 0].tolist() == [0, 0, 0, 0, 10]
    _, targets, *_ = window(series, (1, 3), horizon=4, ahead=4)
    assert np.isnan(targets).all()


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_how_far_the_inputs_go_on(ahead: int):
    """``ahead`` steps of input over the horizon: none, or what fills up a patch; the targets stay the horizon's."""
    inputs, targets, base, _ = window(many([1, 2, 3, 4, 5, 6]), (0, 3), ahead=ahead)
    assert inputs[:, 2].tolist() == [0, 0, 0] + [1] * ahead
    assert inputs[:3, 0].tolist() == [1, 2, 3]
    assert targets.tolist() == [4, 5]
    assert base.shape == (2,)


def test_counts_are_targets_as_they_are():
    """For counts the inputs are in units of the scale, the targets are not."""
    inputs, targets, _, scale = window(
        many([2, 4, 6, 8, 10]), (0, 3), WindowScaler(level="none", scale="mean"), counts=True
    )
    assert scale.tolist() == [4]
    assert inputs[:3, 0].tolist() == [0.5, 1, 1.5]
    assert targets.tolist() == [8, 10]


def test_a_window_without_a_past_teaches_nothing():
    """With nothing known before its origin a window has no unit, so that its targets do not count."""
    _, targets, *_ = window(many([5, 5, NAN, NAN, NAN, 1e6, 1e6]), (0, 5), WindowScaler(level="last", scale="std"))
    assert np.isnan(targets).all()


def test_origins_must_lie_in_their_series():
    """An origin before the start or past the end would read another series: it is refused."""
    for origin in ((0, -1), (0, 4)):
        with pytest.raises(ValueError, match="outside its series"):
            window(many([1, 2, 3]), origin)


def test_batches_are_the_windows_asked_for():
    """``batch(rows)`` has the windows ``rows`` in that order, and says which they are."""
    windows = Windows(
        many([1, 2, 3, 4]), CovariateEncoder(), PLAIN, np.array([[0, 1], [0, 2], [0, 3]]), past=1, horizon=1, ahead=0
    )
    batch = windows.batch(np.array([2, 0]))
    assert len(windows) == 3
    assert batch.inputs[:, 0, 0].tolist() == [3, 1]
    assert batch.rows is not None
    assert batch.rows.tolist() == [2, 0]


@st.composite
def leaks(draw):
    """A series, an origin in it, and the same series with anything else from the origin on."""
    value = st.one_of(st.just(NAN), st.integers(-1000, 1000).map(float), st.floats(0.5, 1e3))
    y = draw(st.lists(value, min_size=2, max_size=12))
    origin = draw(st.integers(1, len(y) - 1))
    later = draw(st.lists(value, min_size=len(y) - origin, max_size=len(y) - origin))
    return y, origin, [*y[:origin], *later]


@given(leak=leaks(), scaling=scalings, fed=st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_leaks_from_the_future(leak, scaling: WindowScaler, fed: bool):
    """Changing any value at or after the origin changes no input, base or scale, nor what past covariates show."""
    y, origin, other = leak
    scaling = replace(scaling, log=False)
    options = {"past": 5, "horizon": 4, "ahead": 4, "autoregressive": fed}
    features = CovariateEncoder(past=(CovariateColumn("x", has_missing=True),))
    before, after = (
        window(many(v, covariates={"x": (np.array(v),)}), (0, origin), scaling, features, **options) for v in (y, other)
    )
    # Fed, the steps of the horizon after the first are shown the values before them: teacher forcing.
    seen = slice(0, 6 if fed else None)
    np.testing.assert_array_equal(before[0][seen, :3], after[0][seen, :3])
    np.testing.assert_array_equal(before[0][:, 3:], after[0][:, 3:])
    np.testing.assert_array_equal(before[2], after[2])
    np.testing.assert_array_equal(before[3], after[3])


def test_what_covariates_show_over_the_horizon():
    """There, past covariates are 0, flags included, and future and static ones are what they are."""
    x, z = np.arange(1.0, 7.0), np.arange(11.0, 17.0)
    series = many([1, 2, 3, 4], covariates={"x": (x[:4],), "z": (z,)}, future=("z",), static={"s": (7.0,)})
    features = CovariateEncoder(
        past=(CovariateColumn("x", has_missing=True),), future=(CovariateColumn("z"),), static=(CovariateColumn("s"),)
    )
    inputs, *_ = window(series, (0, 4), features=features)
    assert inputs[:, 3].tolist() == [2, 3, 4, 0, 0]
    assert inputs[:, 4].tolist() == [0, 0, 0, 0, 0]
    assert inputs[:, 5].tolist() == [12, 13, 14, 15, 16]
    assert inputs[:, 6].tolist() == [7] * 5


@pytest.mark.parametrize(
    ("first", "last", "stride", "expected"),
    [
        ([1, 3], [3, 4], 1, [(0, 1), (0, 2), (0, 3), (1, 3), (1, 4)]),
        ([1, 0], [4, 1], 2, [(0, 2), (0, 4), (1, 1)]),  # the last always among them
        ([5, 2], [4, 2], 1, [(1, 2)]),  # none where the last comes before the first
        ([5, 5], [4, 4], 1, []),
    ],
)
def test_every_origin(first, last, stride: int, expected):
    """``first .. last`` of every series, both included, counted back from the last."""
    origins = rolling_origins(many([1, 2], [3, 4]), first, last, stride)
    assert origins.shape == (len(expected), 2)
    assert [tuple(origin) for origin in origins.tolist()] == expected


# ---- covariates and calendar as numbers ------------------------------------------------------------------------------


def table(n: int = 6, **columns) -> pd.DataFrame:
    return pd.DataFrame({"ds": range(n), "y": np.arange(1.0, n + 1), **columns})


def fitted(series: SeriesSet, calendar: bool = False, **columns) -> CovariateEncoder:
    return CovariateEncoder.fit(series, **{"past": (), "future": (), "static": (), **columns}, calendar=calendar)


def test_columns_are_fitted_on_the_training_part_only():
    """Mean, deviation and categories of the first steps alone, even where a future covariate is known further."""
    x = [1.0, 3.0, 1.0, 3.0, 100.0, 200.0]
    series = read_series(table(x=x, z=x, c=list("ababcc")), past=["x", "c"], future=["z"]).until([4])
    for column in (features := fitted(series, past=["x", "c"], future=["z"])).past[:1] + features.future:
        assert (column.mean, column.std, column.has_missing) == (2.0, 1.0, False)
    assert features.past[1].categories == ("a", "b")


def test_numbers_and_their_missing_flag():
    """Numbers are standardised; missing ones are 0, with a flag where training had missing ones to learn it from."""
    column = CovariateColumn.fit("x", np.array([1.0, 3.0, NAN]))
    assert column.width == 2
    assert column.transform(np.array([2.0, 3.0, NAN])).tolist() == [[0, 0], [1, 0], [0, 1]]
    column = CovariateColumn.fit("x", np.array([1.0, 3.0]))
    assert column.width == 1
    assert column.transform(np.array([3.0, NAN])).tolist() == [[1], [0]]


@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 1e9 + 0.1])
def test_a_constant_column_is_not_blown_up(constant: float):
    """Its deviation is rounding noise: another value later is its distance from the constant, no more."""
    column = CovariateColumn.fit("x", np.full(60, constant))
    assert column.transform(np.array([constant, constant + 1])).ravel().tolist() == pytest.approx([0, 1], abs=1e-4)


def test_categories_and_what_training_did_not_show():
    """A column a category; missing and unknown ones are all zeros; a number counts as its text."""
    column = CovariateColumn.fit("x", np.array(["b", "a", None, "7"], dtype=object))
    assert column.categories == ("7", "a", "b")
    shown = column.transform(np.array(["a", "b", "c", None, "7"], dtype=object))
    assert shown.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert column.transform(np.array([7.0, 8.0, NAN])).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_column_that_changes_its_kind_is_refused():
    """Text where training had numbers is named; a column that is all missing is not text."""
    column = CovariateColumn.fit("price", np.array([1.0, NAN]))
    with pytest.raises(DataError, match=r"'price' is text here \('low'\) but was numbers"):
        column.transform(np.array([None, "low"], dtype=object))
    assert column.transform(np.array([None, None], dtype=object)).tolist() == [[0, 1], [0, 1]]


def test_a_column_without_a_value_is_refused():
    """From a covariate that training never shows nothing can be learnt, and its kind is not known."""
    for values in (np.array([NAN, NAN]), np.array([None, None], dtype=object)):
        with pytest.raises(DataError, match="'x' has no value in the training data"):
            CovariateColumn.fit("x", values)


def test_the_order_and_width_of_columns():
    """Past-known columns first, then future, static, calendar; ``width`` is how many there are."""
    frame = table(60, p=np.arange(60.0), f=["u", "v"] * 30, s="one").assign(ds=pd.date_range("2020-01-01", periods=60))
    series = read_series(frame, past=["p"], future=["f"], static=["s"])
    features = fitted(series, past=["p"], future=["f"], static=["s"], calendar=True)
    assert features.calendar == ("weekday",)
    assert (features.n_past, features.width) == (1, 1 + 2 + 1 + 2)
    numbers = features.transform(series, 0, 62)
    assert numbers.shape == (62, 6)
    assert numbers.dtype == np.float32
    assert numbers[:2, 1:4].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert numbers[60:, 1:4].tolist() == [[0, 0, 1], [0, 0, 1]]  # past what is given: missing; static goes on
    angle = 2 * np.pi * 2 / 7  # the first of January 2020 was a Wednesday
    assert numbers[0, 4:].tolist() == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-6)


@pytest.mark.parametrize(
    ("freq", "n", "fields"),
    [
        ("h", 24, ()),  # what was seen once cannot be learnt
        ("h", 24 * 3, ("hour",)),
        ("h", 24 * 20, ("hour", "weekday")),
        ("h", 24 * 800, ("hour", "weekday", "yearday")),
        ("12h", 60, ("weekday",)),
        ("D", 20, ("weekday",)),
        ("D", 70, ("weekday", "monthday")),
        ("D", 800, ("weekday", "monthday", "yearday")),
        ("B", 30, ("weekday",)),
        ("W-SUN", 200, ("monthday", "yearday")),
        ("MS", 36, ("yearday",)),
        ("QE-DEC", 12, ("yearday",)),
        ("YS-JAN", 30, ()),
    ],
)
def test_the_calendar_fits_the_frequency(freq: str, n: int, fields: tuple[str, ...]):
    """Fields that a step does not leap over and that the series has seen twice."""
    assert calendar_fields(dated(n, freq)) == fields


def test_whole_numbers_have_no_calendar():
    """Steps that are no dates have no weekday."""
    assert calendar_fields(many(np.arange(1000))) == ()
    assert fitted(many(np.arange(1000)), calendar=True).width == 0


def test_the_calendar_is_a_circle():
    """The last hour lies beside the first, and every point at distance 1 from the middle."""
    timestamps = pd.date_range("2020-01-01", periods=24 * 400, freq="h")
    for name, field in CALENDAR_FEATURES.items():
        x, y = field(timestamps)
        np.testing.assert_allclose(x**2 + y**2, 1, err_msg=name)
    x, y = CALENDAR_FEATURES["hour"](timestamps[:25])
    steps = np.hypot(np.diff(x), np.diff(y))
    np.testing.assert_allclose(steps, steps[0])


def test_features_survive_json():
    """What was fitted comes back from JSON text as it was, and says the same of the same series."""
    frame = table(60, p=np.arange(60.0), c=["u", None] * 30, f=1.5, s="one")
    frame["ds"] = pd.date_range("2020-01-01", periods=60)
    series = read_series(frame, past=["p", "c"], future=["f"], static=["s"])
    features = fitted(series, past=["p", "c"], future=["f"], static=["s"], calendar=True)
    again = CovariateEncoder.from_json(json.loads(json.dumps(features.to_json())))
    assert again == features
    np.testing.assert_array_equal(again.transform(series, 0, 70), features.transform(series, 0, 70))


# ---- frames ----------------------------------------------------------------------------------------------------------

FREQUENCIES = ("15min", "h", "D", "2D", "B", "W-SUN", "MS", "ME", "2MS", "QS-JAN", "QE-DEC", "YS-JAN")


@pytest.mark.parametrize("freq", FREQUENCIES)
def test_the_stamps_of_a_forecast(freq: str):
    """``cutoff`` is the last step that was known, ``ds`` the ones after it, within the series and past its end."""
    series = dated(8, freq)
    timestamps = pd.date_range(series.starts[0], periods=11, freq=freq)
    frame = forecast_frame(series, np.array([[0, 4], [0, 8]]), np.zeros((2, 3, 3)), [80], "m")
    assert frame["cutoff"].tolist() == [timestamps[3]] * 3 + [timestamps[7]] * 3
    assert frame["ds"].tolist() == [*timestamps[4:7], *timestamps[8:11]]
    assert frame["y"].tolist()[:3] == [5, 6, 7]
    assert frame["y"].isna().tolist() == [False] * 3 + [True] * 3


def test_the_stamps_of_a_forecast_of_whole_numbers():
    """A step of 5 goes on in fives."""
    frame = forecast_frame(many([1, 2, 3], freq=5, start=10), np.array([[0, 3]]), np.zeros((1, 2, 1)), [], "m")
    assert (frame["cutoff"].tolist(), frame["ds"].tolist()) == ([20, 20], [25, 30])


def test_the_time_zone_of_a_forecast():
    """It is the data's, over a change of the clocks too."""
    timestamps = pd.date_range("2020-03-28", periods=24, freq="h", tz="Europe/Berlin")
    series = read_series(pd.DataFrame({"ds": timestamps, "y": np.arange(24.0)}))
    frame = forecast_frame(series, np.array([[0, 24]]), np.zeros((1, 4, 1)), [], "m")
    assert frame["ds"].tolist() == list(pd.date_range("2020-03-29", periods=4, freq="h", tz="Europe/Berlin"))


@pytest.mark.parametrize("levels", [[80, 50], [50, 80]])
def test_the_columns_of_a_forecast(levels: list[int]):
    """Quantiles rise from the lowest bound to the highest; the narrowest interval's columns come first."""
    quantiles = np.arange(5.0) + np.zeros((1, 2, 5))
    frame = forecast_frame(many([1, 2, 3], [4, 5, 6]), np.array([[1, 3]]), quantiles, levels, "m")
    assert list(frame) == ["unique_id", "cutoff", "ds", "y", "m", "m-lo-50", "m-hi-50", "m-lo-80", "m-hi-80"]
    assert frame["unique_id"].tolist() == ["b", "b"]
    assert frame.iloc[0, 4:].tolist() == [2, 1, 3, 0, 4]


def test_the_training_frame_is_what_was_known():
    """The first steps of each series; a missing value keeps its place, so that a season apart stays a season apart."""
    frame = training_frame(many([1, NAN, 3, 4], [5, 6]), np.array([3, 1]))
    assert frame["unique_id"].tolist() == ["a", "a", "a", "b"]
    assert frame["ds"].tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(frame["y"], [1, NAN, 3, 5])


def test_histories_are_what_was_known_at_each_origin():
    """The first frame has every series up to its first origin, the next up to its second, whatever their order."""
    first, second = histories_by_origin(many([1, 2, 3, 4], [5, 6, 7]), np.array([[0, 3], [1, 2], [0, 2]]))
    assert (first["unique_id"].tolist(), first["y"].tolist()) == (["a", "a", "b", "b"], [1, 2, 5, 6])
    assert (second["unique_id"].tolist(), second["y"].tolist()) == (["a"] * 3, [1, 2, 3])
