"""Forecasts and scores do not depend on the level and the unit of the data."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit import AnomalyDetector, Forecaster, load
from lstmkit.data.labeled_examples import Columns, read_labeled_examples
from lstmkit.data.series.covariates import CovariateColumn
from lstmkit.data.series.series_set import read_series
from lstmkit.data.series.window_scaling import WindowScaler, usual_scales
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.progress import Progress

TRANSFORMATIONS = [(1.0, 1e6), (1.0, 1e9), (1e-12, 0.0), (1e-200, 0.0), (1e12, 0.0), (1e-12, 1e-3), (1e3, -1e9)]


def noisy(n: int = 120, seed: int = 0) -> np.ndarray:
    """A season of 7 with noise, around 0, ``(n,)``."""
    return np.sin(2 * np.pi * np.arange(n) / 7) + 0.3 * np.random.default_rng(seed).standard_normal(n)


def daily(values: np.ndarray, name: str = "a") -> pd.DataFrame:
    return pd.DataFrame({"unique_id": name, "ds": pd.date_range("2022-01-01", periods=len(values)), "y": values})


def forecaster(**options) -> Forecaster:
    return Forecaster(**{"horizon": 3, "hidden_size": 8, "epochs": 1, "steps_per_epoch": 5, **options})


def detector(**options) -> AnomalyDetector:
    return AnomalyDetector(**{"hidden_size": 8, "epochs": 1, "steps_per_epoch": 5, "window": 20, **options})


@pytest.mark.parametrize(("unit", "offset"), TRANSFORMATIONS)
@pytest.mark.parametrize("level", ["last", "mean", "season"])
@pytest.mark.parametrize("scale", ["std", "difference"])
@pytest.mark.parametrize("constant", [0, 40])
def test_scaled_windows_have_no_level_and_no_unit(level, scale, unit, offset, constant):
    """A window, also one that is constant for 30 steps, is the same number of scales of its series everywhere."""
    y = noisy()
    y[constant : constant + 30 if constant else 0] = 0.5
    scaling, z = WindowScaler(level=level, scale=scale, season=7), []
    for values in (y, unit * y + offset):
        usual = usual_scales(read_series(daily(values)).y, scaling, past=21)[:, None]
        past = values[None, 45:66]
        base, divisor = scaling.fit(past, 0, usual)
        z.append((past - base) / divisor)
    np.testing.assert_allclose(z[1], z[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["direct", "recursive"])
@pytest.mark.parametrize(("unit", "offset"), TRANSFORMATIONS)
def test_forecasts_move_with_the_data(method, unit, offset):
    """The forecast of ``unit * y + offset`` is ``unit * forecast + offset``, intervals included."""
    y, options = noisy(), {"method": method, "num_samples": 20} if method == "recursive" else {}
    forecasts = []
    for values in (y, unit * y + offset):
        frame = daily(values)
        forecasts.append(forecaster(**options).fit(frame).predict(frame).iloc[:, 2:].to_numpy(dtype=float))
    np.testing.assert_allclose((forecasts[1] - offset) / unit, forecasts[0], atol=0.01)


def test_scores_move_with_the_data(tmp_path: Path):
    """Level 1e9 with a swing of 1 has the MASE of the same series less 1e9, and its CSV shows the swing."""
    tables = []
    for number, offset in enumerate((0.0, 1e9)):
        job = forecaster().fit(daily(noisy() + offset), run=tmp_path / str(number))
        assert job.evaluation is not None
        tables.append(job.evaluation.table.set_index("model")["MASE"].loc[["LSTM (direct)", "SeasonalNaive"]])
    assert np.isfinite(tables[0]).all()
    np.testing.assert_allclose(tables[1], tables[0], rtol=0.01)
    predictions = job.predict(daily(noisy() + 1e9))
    shown = np.array([float(line.split(",")[2]) for line in job.to_text(predictions).splitlines()[1:]])
    np.testing.assert_allclose(shown, predictions["forecast"], rtol=0, atol=0.01)


@pytest.mark.parametrize(("unit", "offset"), TRANSFORMATIONS)
@pytest.mark.parametrize("method", ["prediction", "reconstruction"])
def test_anomaly_scores_do_not_depend_on_level_and_unit(method, unit, offset):
    x = np.stack([noisy(200, 1), noisy(200, 2)], axis=1)
    scores = [detector(method=method).fit(values).decision_function(values) for values in (x, unit * x + offset)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("unit", "offset"), TRANSFORMATIONS)
@pytest.mark.parametrize("as_table", [False, True])
def test_classified_sequences_are_standardized_before_they_are_rounded(as_table, unit, offset):
    """A swing of 1 at a level of 1e9 is far below the steps of float32 there, 64: it is kept."""
    y = np.stack([noisy(40, 1), noisy(40, 2)], axis=1)
    encoded = []
    for values in (y, unit * y + offset):
        if as_table:
            table = pd.DataFrame({"id": np.repeat([1, 2], 20), "a": values[:, 0], "b": values[:, 1], "label": "x"})
            inputs = read_labeled_examples(table, Columns(values=("a", "b"), id="id")).inputs
        else:
            inputs = read_labeled_examples(([values[:20], values[20:]], ["x", "x"]), Columns()).inputs
        front_end = StandardizedFrontEnd()
        front_end.fit(inputs, Progress())
        encoded.append(np.concatenate(front_end.encode(inputs)))
    np.testing.assert_allclose(encoded[1], encoded[0], rtol=1e-3, atol=1e-3)


def test_rounding_errors_of_a_constant_column_are_not_scaled_up():
    """0.1 in float64 has a mean that differs in the last digit: the column is constant all the same."""
    front_end, values = StandardizedFrontEnd(), np.full((33, 1), 0.1)
    front_end.fit([values, values[:7]], Progress())
    assert np.abs(front_end.encode([values])[0]).max() < 1e-6
    assert CovariateColumn.fit("a", 1e9 + noisy()).std == pytest.approx(noisy().std(), rel=1e-6)
    assert CovariateColumn.fit("a", np.full(33, 0.1)).std == 1.0


@pytest.mark.parametrize("value", [0.0, 5.0, -3e17, 5e-324, 1e-310])
def test_constants_and_denormals_have_finite_answers(value: float):
    """Nothing is divided by 0 or by rounding errors."""
    y = np.full(100, value)
    frame = daily(y)
    forecasts = forecaster().fit(frame).predict(frame).iloc[:, 2:].to_numpy(dtype=float)
    assert np.isfinite(forecasts).all()
    assert np.abs(forecasts - value).max() <= max(1.0, 1e-3 * abs(value))
    long = np.full(200, value)
    (result,) = detector().fit(long).predict(long)
    assert np.isfinite(result.scores).all()
    assert not result.alarms.any()


def test_a_series_of_zeros_beside_others_has_their_unit():
    """Windows of zeros are not scaled by 1, whatever the unit of the data."""
    frame = pd.concat([daily(1e-9 * (5 + noisy())), daily(np.zeros(120), "zero")])
    scales = usual_scales(read_series(frame).y, WindowScaler(scale="std"), past=14)
    assert 0 < scales[1] == scales[0] < 1e-8


def test_a_history_too_short_warns_and_keeps_the_usual_width(tmp_path: Path):
    """With a season or less there is no seasonal difference: the width is that of training, not 0.0001 of the level."""
    frame = pd.concat([daily(50 + 10 * noisy(60, k), str(k)) for k in range(3)])
    job = forecaster(horizon=7, scaling="seasonal_difference", centering="seasonal_naive").fit(frame)
    widths = {}
    for steps in (1, 2, 7, 21):
        history = daily(50 + 10 * noisy(steps, 9), "new")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            predicted = job.predict(history)
        widths[steps] = float((predicted["forecast-hi-95"] - predicted["forecast-lo-95"]).median())
        messages = [str(w.message) for w in caught]
        assert ("the model needs 14" in " ".join(messages)) == (steps < 14)
    assert min(widths.values()) > 0.4 * widths[21]
    job.save(tmp_path / "run")
    loaded = load(tmp_path / "run").predict(daily(50 + 10 * noisy(21, 9), "new"))
    assert float((loaded["forecast-hi-95"] - loaded["forecast-lo-95"]).median()) == pytest.approx(widths[21])


def test_models_of_the_first_version_keep_their_unit():
    """Without usual scales, a window without spread is divided by 0.0001 of its level."""
    assert WindowScaler(level="last").fit(np.full((1, 5), 20.0), 0)[1].item() == pytest.approx(2e-3)
