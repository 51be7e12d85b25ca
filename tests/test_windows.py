"""Forecast windows: scaling, windows, covariates and calendar features, and forecasts as data frames."""

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
from lstmkit.data.series.forecast_windows import Windows, rolling_origins
from lstmkit.data.series.series_set import SeriesSet, read_series
from lstmkit.data.series.window_scaling import WindowScaler
from lstmkit.errors import DataError

NAN = float("nan")
LEVELS, SCALES = ("none", "last", "mean", "season"), ("none", "std", "difference", "mean")
PLAIN = WindowScaler(level="none", scale="none")


def many(*values, freq: str | int = 1, start: pd.Timestamp | int = 0, **columns) -> SeriesSet:
    """Series ``a``, ``b``, … with the given values, missing ones at the ends included."""
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
        ("last", [*PAST[:-1], NAN], [2.0] * 9),  # the last known value
        ("mean", PAST, [17 / 5] * 9),
        ("season", PAST, [2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0]),
        ("season", PAST[1:], [6.0, 2.0, 6.0, 2.0, 6.0, 2.0, 6.0, 2.0]),  # the horizon continues the past
        (
            "season",
            [*PAST[:-1], NAN],
            [2.0, 5.0, 2.0, 5.0, 2.0, 5.0, 2.0, 5.0, 2.0],
        ),  # missing: the value of an older season
        ("season", [NAN, 3.0, NAN, 5.0], [4.0, 5.0, 4.0, 5.0, 4.0, 5.0, 4.0]),  # missing in every season: the mean
    ],
)
def test_levels_by_hand(level: str, past: list[float], base: list[float]):
    """The base of a window is its level, for a season of two steps and a horizon of three."""
    actual, _ = WindowScaler(level=level, scale="none", season=2).fit(np.array([past]), 3)
    assert actual.tolist() == [pytest.approx(base)]


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
    """The scale of a window uses known values only."""
    actual = WindowScaler(level=level, scale=scale, season=2).fit(np.array([past]), 2)[1]
    assert actual.shape == (1, 1)
    assert actual.item() == pytest.approx(expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("past", [[NAN] * 6, [5.0] * 6, [0.0] * 6, [NAN] * 5 + [2.0]])
def test_a_window_without_spread_has_a_positive_scale(level: str, scale: str, past: list[float]):
    """Missing, constant, zero or single values give a finite base and a finite scale above 0."""
    base, unit = WindowScaler(level=level, scale=scale, season=2).fit(np.array([past]), 2)
    assert np.isfinite(base).all()
    assert np.isfinite(unit).all()
    assert (unit > 0).all()


def test_log_scaling():
    """With ``log`` the level is that of the logarithms, and ``inverse`` is the exponential."""
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
def test_inverse_undoes_scaling(past: np.ndarray, scaling: WindowScaler):
    """``inverse`` restores the values of a window for all settings; missing values stay missing."""
    y = scaling.transform(past)
    base, scale = scaling.fit(y, 0)
    np.testing.assert_allclose(scaling.inverse((y - base) / scale, base, scale), past, rtol=1e-6)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_the_layout_of_a_window():
    """Inputs are the value, an observed flag and a horizon flag; targets are the horizon's values."""
    inputs, targets, base, scale = window(many([1, 2, NAN, 4, 5, 6]), (0, 4))
    assert inputs.tolist() == [[2, 1, 0], [0, 0, 0], [4, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert targets.tolist() == [5, 6]
    assert (base.tolist(), scale.tolist()) == ([0, 0], [1])


def test_values_are_scaled_and_the_base_continues_over_the_horizon():
    """Inputs and targets are ``(y - base) / scale``; the batch has base and scale to invert it."""
    scaling = WindowScaler(level="season", scale="difference", season=2)
    inputs, targets, base, scale = window(many([1, 5, 3, 9, 4, 11]), (0, 4), scaling, past=4)
    assert inputs[:4, 0].tolist() == pytest.approx([-2 / 3, -4 / 3, 0, 0])  # base 3, 9, 3, 9; unit (2 + 4) / 2
    assert targets.tolist() == pytest.approx([(4 - 3) / 3, (11 - 9) / 3])
    assert (base.tolist(), scale.tolist()) == ([3, 9], [3])


def test_autoregressive_inputs_are_shifted_by_one_step():
    """In an autoregressive window, step t reads the value of step t - 1 and has the target of step t."""
    inputs, targets, *_ = window(many([1, 2, NAN, 4, 5, 6]), (0, 4), past=4, autoregressive=True)
    assert inputs.tolist() == [[0, 0, 0], [1, 1, 0], [2, 1, 0], [0, 0, 0], [4, 1, 1], [5, 1, 1]]
    assert targets.tolist()[:2] == [1, 2]
    assert np.isnan(targets[2])
    assert targets.tolist()[3:] == [4, 5, 6]


def test_a_short_series_is_padded_on_the_left():
    """Steps before a short series count as missing, for the scale too."""
    inputs, targets, base, _ = window(many([8, 9], [1, 3, 5]), (1, 2), WindowScaler(level="mean"), past=4)
    assert inputs[:, :2].tolist() == [[0, 0], [0, 0], [-1, 1], [1, 1], [0, 0], [0, 0]]
    assert base.tolist() == [2, 2]
    assert targets[0] == 3
    assert np.isnan(targets[1])  # past the end of the series, where the horizon is not known


def test_series_do_not_run_into_each_other():
    """The steps before and after a series are missing, not values of another series."""
    series = many([1, 2, 3], [10, 20, 30], [100, 200, 300])
    inputs, *_ = window(series, (1, 1), past=5)
    assert inputs[:5, 0].tolist() == [0, 0, 0, 0, 10]
    _, targets, *_ = window(series, (1, 3), horizon=4, ahead=4)
    assert np.isnan(targets).all()


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_inputs_extend_into_the_horizon(ahead: int):
    """The inputs have ``ahead`` steps of the horizon; the targets do not depend on it."""
    inputs, targets, base, _ = window(many([1, 2, 3, 4, 5, 6]), (0, 3), ahead=ahead)
    assert inputs[:, 2].tolist() == [0, 0, 0] + [1] * ahead
    assert inputs[:3, 0].tolist() == [1, 2, 3]
    assert targets.tolist() == [4, 5]
    assert base.shape == (2,)


def test_targets_of_counts_are_not_scaled():
    """For counts the inputs are scaled and the targets are not."""
    inputs, targets, _, scale = window(
        many([2, 4, 6, 8, 10]), (0, 3), WindowScaler(level="none", scale="mean"), counts=True
    )
    assert scale.tolist() == [4]
    assert inputs[:3, 0].tolist() == [0.5, 1, 1.5]
    assert targets.tolist() == [8, 10]


def test_a_window_without_a_past_has_no_targets():
    """A window without known values before its origin has no scale, so its targets do not count."""
    _, targets, *_ = window(many([5, 5, NAN, NAN, NAN, 1e6, 1e6]), (0, 5), WindowScaler(level="last", scale="std"))
    assert np.isnan(targets).all()


def test_origins_must_lie_in_their_series():
    """An origin before the start or past the end of its series is refused."""
    for origin in ((0, -1), (0, 4)):
        with pytest.raises(ValueError, match="outside its series"):
            window(many([1, 2, 3]), origin)


def test_batches_have_the_requested_windows():
    """``batch(rows)`` has the windows ``rows`` in that order, and their numbers."""
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
    """A series, an origin in it, and the same series with other values from the origin on."""
    value = st.one_of(st.just(NAN), st.integers(-1000, 1000).map(float), st.floats(0.5, 1e3))
    y = draw(st.lists(value, min_size=2, max_size=12))
    origin = draw(st.integers(1, len(y) - 1))
    later = draw(st.lists(value, min_size=len(y) - origin, max_size=len(y) - origin))
    return y, origin, [*y[:origin], *later]


@given(leak=leaks(), scaling=scalings, autoregressive=st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_leaks_from_the_future(leak, scaling: WindowScaler, autoregressive: bool):
    """Changing values at or after the origin changes no input, base, scale or past covariate."""
    y, origin, other = leak
    scaling = replace(scaling, log=False)
    options = {"past": 5, "horizon": 4, "ahead": 4, "autoregressive": autoregressive}
    features = CovariateEncoder(past=(CovariateColumn("x", has_missing=True),))
    before, after = (
        window(many(v, covariates={"x": (np.array(v),)}), (0, origin), scaling, features, **options) for v in (y, other)
    )
    # Autoregressive inputs of the horizon after the first are true values: teacher forcing.
    compared = slice(0, 6 if autoregressive else None)
    np.testing.assert_array_equal(before[0][compared, :3], after[0][compared, :3])
    np.testing.assert_array_equal(before[0][:, 3:], after[0][:, 3:])
    np.testing.assert_array_equal(before[2], after[2])
    np.testing.assert_array_equal(before[3], after[3])


def test_covariates_over_the_horizon():
    """Past covariates and their flags are 0 there; future and static covariates keep their values."""
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
        ([1, 0], [4, 1], 2, [(0, 2), (0, 4), (1, 1)]),  # the last is always included
        ([5, 2], [4, 2], 1, [(1, 2)]),  # none if the last comes before the first
        ([5, 5], [4, 4], 1, []),
    ],
)
def test_rolling_origins(first, last, stride: int, expected):
    """Origins run from ``first`` to ``last`` of every series, counted back from the last."""
    origins = rolling_origins(many([1, 2], [3, 4]), first, last, stride)
    assert origins.shape == (len(expected), 2)
    assert [tuple(origin) for origin in origins.tolist()] == expected


# ---- covariates and calendar features --------------------------------------------------------------------------------


def table(n: int = 6, **columns) -> pd.DataFrame:
    return pd.DataFrame({"ds": range(n), "y": np.arange(1.0, n + 1), **columns})


def fitted(series: SeriesSet, calendar: bool = False, **columns) -> CovariateEncoder:
    return CovariateEncoder.fit(series, **{"past": (), "future": (), "static": (), **columns}, calendar=calendar)


def test_columns_are_fitted_on_the_training_part_only():
    """Mean, deviation and categories are those of the training steps, for future covariates too."""
    x = [1.0, 3.0, 1.0, 3.0, 100.0, 200.0]
    series = read_series(table(x=x, z=x, c=list("ababcc")), past=["x", "c"], future=["z"]).until([4])
    for column in (features := fitted(series, past=["x", "c"], future=["z"])).past[:1] + features.future:
        assert (column.mean, column.std, column.has_missing) == (2.0, 1.0, False)
    assert features.past[1].categories == ("a", "b")


def test_numbers_and_their_missing_flag():
    """Numbers are standardized; missing ones are 0, with a flag if training had missing values."""
    column = CovariateColumn.fit("x", np.array([1.0, 3.0, NAN]))
    assert column.width == 2
    assert column.transform(np.array([2.0, 3.0, NAN])).tolist() == [[0, 0], [1, 0], [0, 1]]
    column = CovariateColumn.fit("x", np.array([1.0, 3.0]))
    assert column.width == 1
    assert column.transform(np.array([3.0, NAN])).tolist() == [[1], [0]]


@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 1e9 + 0.1])
def test_a_constant_column_is_only_centered(constant: float):
    """Its deviation is rounding noise, so a new value becomes its distance from the constant."""
    column = CovariateColumn.fit("x", np.full(60, constant))
    assert column.transform(np.array([constant, constant + 1])).ravel().tolist() == pytest.approx([0, 1], abs=1e-4)


def test_known_and_unknown_categories():
    """Categories are one-hot; missing and unknown ones are all zeros; a number counts as its text."""
    column = CovariateColumn.fit("x", np.array(["b", "a", None, "7"], dtype=object))
    assert column.categories == ("7", "a", "b")
    encoded = column.transform(np.array(["a", "b", "c", None, "7"], dtype=object))
    assert encoded.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert column.transform(np.array([7.0, 8.0, NAN])).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_column_that_changes_its_type_is_refused():
    """Text is refused if training had numbers; a column of missing values is not text."""
    column = CovariateColumn.fit("price", np.array([1.0, NAN]))
    with pytest.raises(DataError, match=r"'price' is text here \('low'\) but was numbers"):
        column.transform(np.array([None, "low"], dtype=object))
    assert column.transform(np.array([None, None], dtype=object)).tolist() == [[0, 1], [0, 1]]


def test_a_column_without_a_value_is_refused():
    """A covariate without training values is refused, since its type is unknown."""
    for values in (np.array([NAN, NAN]), np.array([None, None], dtype=object)):
        with pytest.raises(DataError, match="'x' has no value in the training data"):
            CovariateColumn.fit("x", values)


def test_the_order_and_width_of_columns():
    """Past columns come first, then future, static and calendar columns; ``width`` is their number."""
    frame = table(60, p=np.arange(60.0), f=["u", "v"] * 30, s="one").assign(ds=pd.date_range("2020-01-01", periods=60))
    series = read_series(frame, past=["p"], future=["f"], static=["s"])
    features = fitted(series, past=["p"], future=["f"], static=["s"], calendar=True)
    assert features.calendar == ("weekday",)
    assert (features.n_past, features.width) == (1, 1 + 2 + 1 + 2)
    numbers = features.transform(series, 0, 62)
    assert numbers.shape == (62, 6)
    assert numbers.dtype == np.float32
    assert numbers[:2, 1:4].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert numbers[60:, 1:4].tolist() == [
        [0, 0, 1],
        [0, 0, 1],
    ]  # past the known values: missing; static columns continue
    angle = 2 * np.pi * 2 / 7  # the first of January 2020 was a Wednesday
    assert numbers[0, 4:].tolist() == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-6)


@pytest.mark.parametrize(
    ("freq", "n", "fields"),
    [
        ("h", 24, ()),  # a cycle that occurs once cannot be learned
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
    """A field varies from step to step, and the series has at least two of its cycles."""
    assert calendar_fields(dated(n, freq)) == fields


def test_integer_timestamps_have_no_calendar():
    """Timestamps that are not dates have no calendar features."""
    assert calendar_fields(many(np.arange(1000))) == ()
    assert fitted(many(np.arange(1000)), calendar=True).width == 0


def test_the_calendar_is_a_circle():
    """Each field is a point on the unit circle, and the last hour is next to the first."""
    timestamps = pd.date_range("2020-01-01", periods=24 * 400, freq="h").to_numpy()
    for name, field in CALENDAR_FEATURES.items():
        x, y = field(timestamps)
        np.testing.assert_allclose(x**2 + y**2, 1, err_msg=name)
    x, y = CALENDAR_FEATURES["hour"](timestamps[:25])
    steps = np.hypot(np.diff(x), np.diff(y))
    np.testing.assert_allclose(steps, steps[0])


def test_features_survive_json():
    """An encoder restored from JSON is equal and gives the same features."""
    frame = table(60, p=np.arange(60.0), c=["u", None] * 30, f=1.5, s="one")
    frame["ds"] = pd.date_range("2020-01-01", periods=60)
    series = read_series(frame, past=["p", "c"], future=["f"], static=["s"])
    features = fitted(series, past=["p", "c"], future=["f"], static=["s"], calendar=True)
    restored = CovariateEncoder.from_json(json.loads(json.dumps(features.to_json())))
    assert restored == features
    np.testing.assert_array_equal(restored.transform(series, 0, 70), features.transform(series, 0, 70))


# ---- frames ----------------------------------------------------------------------------------------------------------

FREQUENCIES = ("15min", "h", "D", "2D", "B", "W-SUN", "MS", "ME", "2MS", "QS-JAN", "QE-DEC", "YS-JAN")


@pytest.mark.parametrize("freq", FREQUENCIES)
def test_the_timestamps_of_a_forecast(freq: str):
    """``cutoff`` is the last known step, and ``ds`` are the steps after it, also past the end of the series."""
    series = dated(8, freq)
    timestamps = pd.date_range(series.starts[0], periods=11, freq=freq)
    frame = forecast_frame(series, np.array([[0, 4], [0, 8]]), np.zeros((2, 3, 3)), [80], "m")
    assert frame["cutoff"].tolist() == [timestamps[3]] * 3 + [timestamps[7]] * 3
    assert frame["ds"].tolist() == [*timestamps[4:7], *timestamps[8:11]]
    assert frame["y"].tolist()[:3] == [5, 6, 7]
    assert frame["y"].isna().tolist() == [False] * 3 + [True] * 3


def test_integer_timestamps_of_a_forecast():
    """With a frequency of 5, timestamps increase by 5."""
    frame = forecast_frame(many([1, 2, 3], freq=5, start=10), np.array([[0, 3]]), np.zeros((1, 2, 1)), [], "m")
    assert (frame["cutoff"].tolist(), frame["ds"].tolist()) == ([20, 20], [25, 30])


def test_the_time_zone_of_a_forecast():
    """The time zone is that of the data, across a clock change too."""
    timestamps = pd.date_range("2020-03-28", periods=24, freq="h", tz="Europe/Berlin")
    series = read_series(pd.DataFrame({"ds": timestamps, "y": np.arange(24.0)}))
    frame = forecast_frame(series, np.array([[0, 24]]), np.zeros((1, 4, 1)), [], "m")
    assert frame["ds"].tolist() == list(pd.date_range("2020-03-29", periods=4, freq="h", tz="Europe/Berlin"))


@pytest.mark.parametrize("levels", [[80, 50], [50, 80]])
def test_the_columns_of_a_forecast(levels: list[int]):
    """Quantiles increase from the lowest bound to the highest; columns of the narrowest interval come first."""
    quantiles = np.arange(5.0) + np.zeros((1, 2, 5))
    frame = forecast_frame(many([1, 2, 3], [4, 5, 6]), np.array([[1, 3]]), quantiles, levels, "m")
    assert list(frame) == ["unique_id", "cutoff", "ds", "y", "m", "m-lo-50", "m-hi-50", "m-lo-80", "m-hi-80"]
    assert frame["unique_id"].tolist() == ["b", "b"]
    assert frame.iloc[0, 4:].tolist() == [2, 1, 3, 0, 4]


def test_the_training_frame_has_the_known_values():
    """The frame has the first steps of each series and keeps missing values, so that seasons stay aligned."""
    frame = training_frame(many([1, NAN, 3, 4], [5, 6]), np.array([3, 1]))
    assert frame["unique_id"].tolist() == ["a", "a", "a", "b"]
    assert frame["ds"].tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(frame["y"], [1, NAN, 3, 5])


def test_histories_end_at_each_origin():
    """The first frame has every series up to its first origin, the next up to its second, in any order."""
    first, second = histories_by_origin(many([1, 2, 3, 4], [5, 6, 7]), np.array([[0, 3], [1, 2], [0, 2]]))
    assert (first["unique_id"].tolist(), first["y"].tolist()) == (["a", "a", "b", "b"], [1, 2, 5, 6])
    assert (second["unique_id"].tolist(), second["y"].tolist()) == (["a"] * 3, [1, 2, 3])
