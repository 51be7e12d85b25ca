"""Adaptive conformal inference: widths of intervals follow the coverage of earlier forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit import Forecaster, load
from lstmkit.decoding.adaptive_intervals import MAX_ANSWERED, adapted_widths, answered_origins

RATE = 0.1


def noise(steps: int, *, rises_at: int, seed: int = 0) -> np.ndarray:
    """Normal values around 100 whose standard deviation rises from 1 to 4."""
    deviation = np.where(np.arange(steps) < rises_at, 1.0, 4.0)
    return 100 + deviation * np.random.default_rng(seed).standard_normal(steps)


def frame(y: np.ndarray, name: str = "a") -> pd.DataFrame:
    return pd.DataFrame({"unique_id": name, "ds": np.arange(len(y)), "y": y})


def forecaster(**options) -> Forecaster:
    defaults = {"horizon": 3, "season_length": 1, "hidden_size": 4, "epochs": 1, "steps_per_epoch": 2, "window": 12}
    return Forecaster(**{**defaults, "smoothing_weight": 0.5, "test_windows": 1, **options})


def bounds(predictor, series, origins: list[tuple[int, int]]) -> np.ndarray:
    return predictor.quantiles(series, np.array(origins))


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [50, 80, 95])
def test_coverage_of_a_long_series_is_nominal_even_if_it_drifts(level: int):
    """The mean of misses differs from the nominal one by at most the range of widths over rate and steps."""
    rng = np.random.default_rng(level)
    scores = np.abs(np.cumsum(rng.standard_normal(2000)) / 10 + rng.standard_normal(2000))[:, None, None]
    misses, widths = 0, np.zeros((1, 1))
    for score in scores:
        misses += bool(score > widths)
        widths = adapted_widths(score[None], widths, [level], RATE)
    assert misses / 2000 == pytest.approx(1 - level / 100, abs=(scores.max() + RATE) / RATE / 2000)
    np.testing.assert_allclose(adapted_widths(scores, np.zeros((1, 1)), [level], RATE), widths)


def test_values_that_come_later_are_not_used():
    """Of three forecasts from steps before, step h of the horizon is known in the first 3 - h."""
    scores = np.full((3, 3, 1), 9.0)
    np.testing.assert_allclose(adapted_widths(scores, np.zeros((3, 1)), [80], RATE)[:, 0], [0.24, 0.16, 0.08])
    scores[0, 0] = np.nan
    np.testing.assert_allclose(adapted_widths(scores, np.zeros((3, 1)), [80], RATE)[:, 0], [0.16, 0.16, 0.08])
    np.testing.assert_array_equal(adapted_widths(scores[:0], np.ones((3, 1)), [80], RATE), np.ones((3, 1)))


def test_widths_follow_a_limited_number_of_forecasts():
    assert answered_origins(10, 13).tolist() == [10, 11, 12]
    assert answered_origins(10, 9).tolist() == []
    assert answered_origins(0, 10_000).tolist() == list(range(10_000 - MAX_ANSWERED, 10_000))


# ---- in the forecaster -----------------------------------------------------------------------------------------------


def test_intervals_grow_if_newer_values_vary_more():
    y = noise(400, rises_at=200)
    covered = []
    for rate in (0.0, RATE):
        constant_unit = {"scaling": "none", "usual_width_weight": 0}  # else widths follow the window's own deviation
        job = forecaster(adaptive_rate=rate, **constant_unit).fit(frame(y[:200]))
        evaluation = job.evaluate(frame(y), baselines=())
        forecasts = evaluation.details.iloc[-120:]
        inside = forecasts["y"].between(*(forecasts[f"LSTM (direct)-{side}-80"] for side in ("lo", "hi")))
        covered.append(inside.mean())
    assert covered[0] < 0.5
    assert covered[1] == pytest.approx(0.8, abs=0.1)


def test_only_values_before_the_forecast_count():
    y = noise(120, rises_at=80)
    job = forecaster(adaptive_rate=RATE).fit(frame(y[:90]))
    series = job.read(frame(y))
    changed = y.copy()
    changed[110:] = 0.0
    before, after = (bounds(job.predictor, s, [(0, 110), (0, 100)]) for s in (series, job.read(frame(changed))))
    np.testing.assert_array_equal(before, after)
    alone = bounds(job.predictor, series, [(0, 100)])
    np.testing.assert_allclose(alone[0], before[1], rtol=1e-6)
    changed[109] = 0.0
    assert np.abs(bounds(job.predictor, job.read(frame(changed)), [(0, 110)]) - before[0]).max() > 1


def test_without_newer_values_intervals_are_those_of_fit(tmp_path: Path):
    y = noise(90, rises_at=90)
    fixed, adaptive = (forecaster(adaptive_rate=rate).fit(frame(y)) for rate in (0.0, RATE))
    trained = y[: -fixed.horizon]  # without the test split
    pd.testing.assert_frame_equal(fixed.predict(frame(trained)), adaptive.predict(frame(trained)))
    adaptive.save(tmp_path / "run")
    pd.testing.assert_frame_equal(load(tmp_path / "run").predict(frame(y)), adaptive.predict(frame(y)))
    assert not fixed.predict(frame(y)).equals(adaptive.predict(frame(y)))


def test_the_median_stays_and_missing_values_change_nothing():
    y = noise(120, rises_at=80)
    y[95:100] = np.nan
    fixed, adaptive = (forecaster(adaptive_rate=rate).fit(frame(y[:90])) for rate in (0.0, RATE))
    forecasts = [job.predict(frame(y)) for job in (fixed, adaptive)]
    np.testing.assert_array_equal(forecasts[0]["forecast"], forecasts[1]["forecast"])
    assert np.isfinite(forecasts[1].filter(like="forecast").to_numpy()).all()


def test_each_series_has_widths_of_its_own():
    calm, wild = noise(150, rises_at=150), noise(150, rises_at=100, seed=1)
    job = forecaster(adaptive_rate=RATE).fit(pd.concat([frame(calm[:100]), frame(wild[:100], "b")]))
    both = job.predict(pd.concat([frame(calm), frame(wild, "b")])).set_index("unique_id")
    alone = job.predict(frame(wild, "b")).set_index("unique_id")
    np.testing.assert_allclose(both.loc["b", "forecast-hi-80"], alone["forecast-hi-80"], rtol=1e-6)
    width = both["forecast-hi-80"] - both["forecast-lo-80"]
    assert width["b"].mean() > 1.5 * width["a"].mean()


def test_a_model_without_validation_keeps_the_network_s_quantiles():
    y = noise(90, rises_at=90)
    job = forecaster(adaptive_rate=RATE, valid_fraction=0).fit(frame(y))
    same = forecaster(valid_fraction=0).fit(frame(y))
    np.testing.assert_array_equal(job.predict(frame(y))["forecast-hi-80"], same.predict(frame(y))["forecast-hi-80"])
