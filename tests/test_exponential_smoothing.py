"""Exponential smoothing beside the network: two methods, the weight of two forecasts, interval widths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.holtwinters import Holt
from statsmodels.tsa.seasonal import seasonal_decompose

from lstmkit import Forecaster, load
from lstmkit.decoding.exponential_smoothing import seasonal_profile, smoothed_forecasts
from lstmkit.evaluation.calibration import combination_weight

NAN = np.nan


def walks(n: int = 5, steps: int = 60, season: int = 1, seed: int = 0) -> np.ndarray:
    """Random walks with a season, ``(n, steps)``."""
    rng = np.random.default_rng(seed)
    swing = 3 * np.sin(2 * np.pi * np.arange(steps) / season) if season > 1 else 0.0
    return np.cumsum(rng.standard_normal((n, steps)), axis=1) + swing


def long(series: np.ndarray) -> pd.DataFrame:
    """Series ``(N, T)`` as ``unique_id, ds, y``."""
    n, steps = series.shape
    return pd.DataFrame(
        {"unique_id": np.repeat(np.arange(n), steps), "ds": np.tile(np.arange(steps), n), "y": series.ravel()}
    )


def fitted(series: np.ndarray, **options) -> Forecaster:
    defaults = {"horizon": 4, "season_length": 6, "hidden_size": 4, "epochs": 1, "steps_per_epoch": 2}
    return Forecaster(**{**defaults, **options}).fit(long(series))


# ---- two methods -----------------------------------------------------------------------------------------------------


def theta(y: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The Theta method by pandas."""
    drift = np.polyfit(np.arange(len(y)), y, 1)[0] / 2
    without_drift = pd.Series(y - drift * np.arange(len(y)))
    best, level = np.inf, np.nan
    for alpha in np.linspace(0.1, 1, 10):
        levels = without_drift.ewm(alpha=alpha, adjust=False).mean()
        error = ((without_drift - levels.shift()) ** 2).sum()
        if error < best:
            best, level = error, levels.iloc[-1]
    return level + drift * (len(y) - 1 + steps)


def damped_trend(y: np.ndarray, n_steps: int) -> np.ndarray:
    """Exponential smoothing with a damped trend by statsmodels."""
    slope = np.polyfit(np.arange(len(y)), y, 1)[0]
    start = {"initialization_method": "known", "initial_level": y[0], "initial_trend": slope / 2}
    model = Holt(y[1:], damped_trend=True, **start)
    fits = [
        model.fit(smoothing_level=alpha, smoothing_trend=beta, damping_trend=phi, optimized=False)
        for alpha in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.99)
        for beta in (0.05, 0.15, 0.3, 0.6)
        for phi in (0.8, 0.9, 0.97)
    ]
    return min(fits, key=lambda fit: fit.sse).forecast(n_steps)


def test_forecasts_are_the_mean_of_those_of_pandas_and_statsmodels():
    for y in walks():
        expected = (theta(y, np.arange(1, 4)) + damped_trend(y, 3)) / 2
        np.testing.assert_allclose(smoothed_forecasts(y[None], 3, season=1)[0], expected)


@pytest.mark.parametrize("season", [4, 7, 12])
def test_the_profile_of_a_clear_season_is_that_of_statsmodels(season: int):
    n = 5 * season + 2
    y = np.tile(np.random.default_rng(season).uniform(-5, 5, season), 6)[:n] + 0.5 * np.arange(n)
    expected = seasonal_decompose(y, period=season, model="additive").seasonal
    profile = seasonal_profile(y[None], season)[0]
    np.testing.assert_allclose(np.resize(profile, 2 * season), np.resize(expected[n % season :], 2 * season), atol=1e-9)
    two_seasons = smoothed_forecasts(y[None], 2 * season, season)[0]
    without = two_seasons - np.resize(profile, 2 * season)
    assert np.abs(np.diff(without, 3)).max() < 0.1 * np.abs(np.diff(two_seasons, 3)).max()  # a smooth trend is left


@pytest.mark.parametrize("sign", [1, -1])
def test_a_season_that_grows_with_the_level_is_multiplicative(sign: int):
    t, season = np.arange(72), 12
    swing = 1 + 0.4 * np.sin(2 * np.pi * t / season)
    y = sign * (50 + 3.0 * t) * swing * np.exp(0.01 * np.random.default_rng(0).standard_normal(72))
    past, future = y[None, :60], y[60:]
    errors = [
        np.abs(smoothed_forecasts(past, 12, season, multiplicative=kind)[0] - future).mean() for kind in (True, False)
    ]
    assert errors[0] < 0.5 * errors[1]
    np.testing.assert_allclose(smoothed_forecasts(1e3 * past, 12, season), 1e3 * smoothed_forecasts(past, 12, season))


@pytest.mark.parametrize("changed", [-1.0, 0.0, 0.1])
def test_a_season_is_additive_if_a_value_has_another_sign_or_is_near_zero(changed: float):
    y = 20 + walks(season=6, seed=2) % 10
    y[:, 7] = changed
    additive = smoothed_forecasts(y, 6, 6, multiplicative=False)
    np.testing.assert_array_equal(smoothed_forecasts(y, 6, 6), additive)


def test_a_season_that_is_noise_vanishes():
    noise = np.random.default_rng(1).standard_normal((200, 48))
    assert (seasonal_profile(noise, 12) == 0).all(axis=1).mean() > 0.3
    assert np.abs(seasonal_profile(noise, 12)).mean() < 0.25 * np.abs(noise).mean()


@pytest.mark.parametrize(("unit", "offset"), [(1.0, 1e9), (1e-12, 0.0), (1e-200, 0.0), (1e12, 0.0), (-1.0, 0.0)])
def test_forecasts_move_with_the_data(unit: float, offset: float):
    y = walks(season=7)
    y[:, 20:23] = NAN
    expected = smoothed_forecasts(y, 9, 7)
    forecasts = (smoothed_forecasts(unit * y + offset, 9, 7) - offset) / unit
    np.testing.assert_allclose(forecasts, expected, atol=1e-5)


def test_missing_values_before_the_first_change_nothing():
    y = walks(season=4)
    padded = np.concatenate([np.full((len(y), 9), NAN), y], axis=1)
    np.testing.assert_allclose(smoothed_forecasts(padded, 5, 4), smoothed_forecasts(y, 5, 4))


@pytest.mark.parametrize("values", [[NAN] * 12, [NAN] * 11 + [3.0], [3.0] + [NAN] * 11, [5.0] * 12])
@pytest.mark.parametrize("season", [1, 4])
def test_windows_with_hardly_any_value(values: list[float], season: int):
    known = [v for v in values if v == v]
    expected = known[-1] if known else 0.0
    np.testing.assert_allclose(smoothed_forecasts(np.array([values]), 5, season), [[expected] * 5])


def test_one_window_does_not_change_another():
    y = walks(season=4)
    np.testing.assert_array_equal(smoothed_forecasts(y, 5, 4)[2:3], smoothed_forecasts(y[2:3], 5, 4))


# ---- the weight ------------------------------------------------------------------------------------------------------


def test_the_better_forecast_gets_the_weight_if_the_difference_is_certain():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((200, 3))
    close, far = y + 0.1 * rng.standard_normal(y.shape), y + 2 + rng.standard_normal(y.shape)
    everything, few = np.ones(200, dtype=bool), np.arange(200) < 1
    assert combination_weight(y, far, close, everything) >= 0.95
    assert combination_weight(y, close, far, everything) <= 0.05
    assert combination_weight(y, close, far, few) == 0.5
    y[:150] = NAN
    assert combination_weight(y, far, close, everything) >= 0.9


def test_the_better_quantiles_get_the_weight():
    """Both forecasts have the right median; the quantiles of the first are too narrow by a factor of four."""
    rng, levels = np.random.default_rng(0), (0.1, 0.5, 0.9)
    y, exact = rng.standard_normal((400, 2)), np.tile([-1.2816, 0, 1.2816], (400, 2, 1))
    everything = np.ones(400, dtype=bool)
    assert combination_weight(y, exact / 4, exact, everything, levels) >= 0.85
    assert combination_weight(y, exact, exact / 4, everything, levels) <= 0.15
    medians = y + 1, y - 0.5
    as_quantiles = [m[..., None] for m in medians]
    assert combination_weight(y, *medians, everything) == combination_weight(y, *as_quantiles, everything, (0.5,))


# ---- in the forecaster -----------------------------------------------------------------------------------------------


def test_the_median_is_the_weighted_mean_of_network_and_smoothing():
    series = walks(3, 80, season=6)
    medians = [
        fitted(series, smoothing_weight=w, valid_fraction=0).predict(long(series))["forecast"] for w in (0, 0.25, 1)
    ]
    network, mixed, smoothed = (m.to_numpy().reshape(3, 4) for m in medians)
    np.testing.assert_allclose(smoothed, smoothed_forecasts(series[:, -48:], 4, 6), rtol=1e-6)
    np.testing.assert_allclose(mixed, 0.75 * network + 0.25 * smoothed, rtol=1e-6)


def test_a_second_calibration_starts_from_the_network():
    """Also one in training, for scores of the validation split: it gives the same weight and widths."""
    series = walks(season=6)
    job = fitted(series)
    assert 0 < job.predictor.smoothing_weight < 1
    first = job.predictor.state()
    job.calibrate(job.split(job.read(long(series)), None).valid)
    job.keep_context(job.read(long(series)))
    assert job.predictor.state() == first


def test_a_saved_model_keeps_the_weight(tmp_path):
    series = walks(2, 80, season=6)
    job = fitted(series)
    assert 0 <= job.predictor.smoothing_weight <= 1
    assert "weight" in " ".join(job.evaluation.notes)
    job.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.predictor.smoothing_weight == job.predictor.smoothing_weight
    pd.testing.assert_frame_equal(loaded.predict(long(series)), job.predict(long(series)))


def test_the_test_split_does_not_choose_the_weight():
    series = walks(3, 80, season=6)
    other = series.copy()
    other[:, -4:] += 100
    weights = [fitted(data, test_windows=1).predictor.smoothing_weight for data in (series, other)]
    assert weights[0] == weights[1]


def test_without_validation_or_with_sampled_paths_the_network_is_alone():
    series = walks(2, 80, season=6)
    assert fitted(series, valid_fraction=0).predictor.smoothing_weight == 0
    assert fitted(series, method="recursive", num_samples=5).predictor.smoothing_weight == 0


# ---- widths of the intervals -----------------------------------------------------------------------------------------


def test_usual_widths_are_proportional_to_seasonal_differences():
    """With weight 1 the widths of two series differ by the factor of their mean absolute seasonal differences."""
    series = np.random.default_rng(0).standard_normal((2, 80)) * [[1.0], [30.0]]
    series[1] += np.arange(80) * 20  # a trend makes the deviation of a window larger than its seasonal differences say
    job = fitted(series, usual_width_weight=1)
    forecasts = job.predict(long(series))
    recent = series[:, -48:]
    unit = np.abs(recent[:, 6:] - recent[:, :-6]).mean(axis=1)
    for level in (50, 80, 95):
        widths = forecasts[f"forecast-hi-{level}"] - forecasts[f"forecast-lo-{level}"]
        first, second = widths.to_numpy().reshape(2, 4) / unit[:, None]
        np.testing.assert_allclose(second, first, rtol=1e-5)


def test_usual_widths_do_not_move_the_forecast():
    series = walks(3, 80, season=6)
    medians = [fitted(series, usual_width_weight=w).predict(long(series))["forecast"] for w in (0, 0.5, 1)]
    np.testing.assert_allclose(medians[1], medians[0])
    np.testing.assert_allclose(medians[2], medians[0])


def test_a_saved_model_keeps_the_usual_widths(tmp_path):
    series = walks(2, 80, season=6)
    job = fitted(series, usual_width_weight=0.5)
    job.save(tmp_path / "model")
    pd.testing.assert_frame_equal(load(tmp_path / "model").predict(long(series)), job.predict(long(series)))
    state = job.predictor.state()
    for damage in ({"usual_width_weight": 2}, {"usual_offsets": [[NAN] * 7] * 4}, {"usual_offsets": [1.0]}):
        with pytest.raises(ValueError):
            type(job.predictor).from_state(job.snapshot(), {**state, **damage})


def test_the_network_alone_sets_the_widths_without_validation_or_of_sampled_paths():
    series = walks(2, 80, season=6)
    for options in ({"valid_fraction": 0}, {"method": "recursive", "num_samples": 5}, {"usual_width_weight": 0}):
        intervals = fitted(series, **options).predictor.intervals
        assert intervals is None or intervals.usual_offsets is None
