"""Sampled futures of the forecaster: margins, dependence over steps and series, and what is saved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import norm

from lstmkit import Forecaster, load
from lstmkit.errors import SettingError, UserError
from lstmkit.jobs.forecaster.path_correlation import MAX_SERIES, PathCorrelation, normal_scores, values_at

NAN = np.nan
H = 4
LEVELS = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975]


def random_walks(n: int, steps: int, seed: int = 0, common: float = 0.0) -> np.ndarray:
    """``(n, steps)`` random walks whose shocks have the correlation ``common``."""
    rng = np.random.default_rng(seed)
    shocks = np.sqrt(common) * rng.standard_normal(steps) + np.sqrt(1 - common) * rng.standard_normal((n, steps))
    return 100 + shocks.cumsum(axis=1)


def long(series: np.ndarray, names: str = "abcdefghijklmnopqrst") -> pd.DataFrame:
    n, steps = series.shape
    days = np.tile(pd.date_range("2024-01-01", periods=steps), n)
    return pd.DataFrame({"unique_id": np.repeat(list(names[:n]), steps), "ds": days, "y": series.ravel()})


def forecaster(**options) -> Forecaster:
    small = {"horizon": H, "season_length": 1, "hidden_size": 4, "epochs": 1, "steps_per_epoch": 2, "num_samples": 10}
    return Forecaster(**{**small, **options})


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    """Fitted to three series that depend on each other."""
    return forecaster().fit(long(random_walks(3, 90, common=0.6)))


# ---- margins ---------------------------------------------------------------------------------------------------------


def test_quantiles_of_a_normal_distribution_give_it_back_with_its_tails():
    quantiles = 5 + 2 * norm.ppf(LEVELS)
    scores = np.linspace(-3.9, 3.9, 40)
    np.testing.assert_allclose(values_at(scores, quantiles, LEVELS), 5 + 2 * scores)
    np.testing.assert_allclose(normal_scores(5 + 2 * scores, quantiles, LEVELS), scores)


def test_scores_and_values_are_inverse_and_monotone():
    quantiles = np.random.default_rng(0).exponential(size=(20, 7)).cumsum(axis=1)
    scores = np.linspace(-3.9, 3.9, 101)[:, None]
    values = values_at(scores, quantiles, LEVELS)
    assert (np.diff(values, axis=0) > 0).all()
    np.testing.assert_allclose(normal_scores(values, quantiles[None], LEVELS), np.broadcast_to(scores, values.shape))
    np.testing.assert_allclose(values_at(norm.ppf(LEVELS)[:, None], quantiles, LEVELS), quantiles.T)


def test_a_value_of_equal_quantiles_has_the_score_in_the_middle():
    constant = np.full(7, 2.0)
    np.testing.assert_allclose(
        normal_scores(np.array([1.0, 2.0, 3.0, NAN]), constant, LEVELS), [-4, 0, 4, NAN], atol=1e-9
    )
    assert values_at(np.array([-9.0, 9.0]), constant, LEVELS).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("options", [{}, {"log_transform": True}, {"levels": (80,)}], ids=str)
def test_paths_have_the_predicted_quantiles(options: dict):
    data = long(random_walks(2, 90))
    job = forecaster(**options).fit(data)
    paths = job.sample_paths(data, 4000)
    by_step = paths.groupby(["unique_id", "ds"])["y"]
    expected = job.predict(data).set_index(["unique_id", "ds"])
    width = expected["forecast-hi-80"] - expected["forecast-lo-80"]
    for level, column in {0.1: "forecast-lo-80", 0.5: "forecast", 0.9: "forecast-hi-80"}.items():
        assert (np.abs(by_step.quantile(level) - expected[column]) / width).max() < 0.04, column


# ---- dependence ------------------------------------------------------------------------------------------------------


def simulated_scores(n_series: int, times: int, rho: float, common: float, seed: int = 0) -> np.ndarray:
    """Normal scores ``(n_series, times, H)`` with known correlations."""
    rng = np.random.default_rng(seed)
    shocks = np.sqrt(common) * rng.standard_normal((times, H))
    shocks = shocks + np.sqrt(1 - common) * rng.standard_normal((n_series, times, H))
    lags = np.abs(np.subtract.outer(np.arange(H), np.arange(H)))
    return shocks @ np.linalg.cholesky(rho**lags).T


def fit_to(scores: np.ndarray) -> PathCorrelation:
    n, times, _ = scores.shape
    ids = [str(i) for i in range(n) for _ in range(times)]
    return PathCorrelation.fit(
        scores.reshape(n * times, H), ids, np.tile(np.arange(times), n), np.full(n * times, True)
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_correlations_are_found_again(missing: float):
    scores = simulated_scores(3, 500, rho=0.7, common=0.5)
    scores[np.random.default_rng(1).random(scores.shape) < missing] = NAN
    scores[2] *= -1  # a series that moves against the others
    correlation = fit_to(scores)
    lags = np.abs(np.subtract.outer(np.arange(H), np.arange(H)))
    np.testing.assert_allclose(correlation.steps, 0.7**lags, atol=0.08)
    np.testing.assert_allclose(correlation.series, [[1, 0.5, -0.5], [0.5, 1, -0.5], [-0.5, -0.5, 1]], atol=0.08)
    sample = correlation.sample(["0", "2", "new"], 20_000, seed=0)
    expected = np.array([[1, correlation.series[0, 2], 0], [correlation.series[0, 2], 1, 0], [0, 0, 1]])
    moments = np.cov(sample.transpose(0, 2, 1).reshape(3 * H, -1))
    np.testing.assert_allclose(moments, np.kron(expected, correlation.steps), atol=0.04)


def test_of_many_series_all_pairs_have_the_mean_correlation():
    correlation = fit_to(simulated_scores(MAX_SERIES + 1, 60, rho=0.0, common=0.4))
    assert correlation.series == pytest.approx(0.4, abs=0.05)
    first, second, new = correlation.sample(["3", "1", "new"], 5000, seed=0)[..., 0]
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.4, abs=0.07)
    assert np.corrcoef(first, new)[0, 1] == pytest.approx(0, abs=0.05)


def test_one_window_gives_one_parameter():
    """A single window cannot say more than how alike neighboring steps are."""
    scores = np.array([[1.0, 2.0, 2.0, 1.0]])
    correlation = PathCorrelation.fit(scores, ["a"], np.array([0]), np.array([True]))
    rho = (2 + 4 + 2) / (2.5 + 4 + 2.5)
    np.testing.assert_allclose(correlation.steps[0], rho ** np.arange(4), atol=1e-6)
    assert correlation.ids == ()


def test_windows_without_values_give_no_correlation():
    scores = np.full((6, H), NAN)
    correlation = PathCorrelation.fit(scores, list("ababab"), np.array([0, 0, 1, 1, 2, 2]), np.full(6, True))
    np.testing.assert_array_equal(correlation.steps, np.eye(H))
    np.testing.assert_array_equal(correlation.series, np.eye(2))


def test_the_interval_of_a_sum_over_the_horizon_covers():
    """The sums of random walks are in the 80 % interval about as often; with independent steps much more rarely."""
    series = random_walks(20, 100)
    job = forecaster(test_windows=0).fit(long(series[:, :70]))
    rng = np.random.default_rng(0)
    inside, inside_independent = [], []
    for end in range(70, 97, H):
        paths = job.sample_paths(long(series[:, :end]), 300)["y"].to_numpy().reshape(20, 300, H)
        actual = series[:, end : end + H].sum(axis=1)
        for values, covered in ((paths, inside), (rng.permuted(paths, axis=1), inside_independent)):
            low, high = np.quantile(values.sum(axis=2), [0.1, 0.9], axis=1)
            covered += [(low <= actual) & (actual <= high)]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.08)
    assert np.mean(inside_independent) < 0.65


def test_paths_of_series_with_common_shocks_move_together(fitted: Forecaster):
    data = long(random_walks(3, 90, common=0.6))
    paths = fitted.sample_paths(data, 2000).pivot(index=["path", "ds"], columns="unique_id", values="y")
    first_step = paths.xs(pd.Timestamp("2024-03-31"), level="ds")
    assert first_step.corr().loc["a", "b"] > 0.25
    renamed = fitted.sample_paths(data.replace({"unique_id": {"b": "new"}}), 2000)
    paths = renamed.pivot(index=["path", "ds"], columns="unique_id", values="y")
    assert abs(paths.xs(pd.Timestamp("2024-03-31"), level="ds").corr().loc["a", "new"]) < 0.1


# ---- a fitted forecaster ---------------------------------------------------------------------------------------------


def test_a_saved_model_gives_equal_paths(fitted: Forecaster, tmp_path):
    data = long(random_walks(3, 90, common=0.6))
    fitted.save(tmp_path / "model")
    paths = fitted.sample_paths(data, 5, seed=3)
    pd.testing.assert_frame_equal(load(tmp_path / "model").sample_paths(data, 5, seed=3), paths, check_exact=True)
    assert not fitted.sample_paths(data, 5, seed=4)["y"].equals(paths["y"])
    pd.testing.assert_frame_equal(fitted.sample_paths(data, 5), fitted.sample_paths(data, 5, seed=0))


def test_a_calibration_replaces_an_earlier_one(fitted: Forecaster):
    before = fitted.predictor.state()
    series = fitted.read(long(random_walks(3, 90, common=0.6)))
    fitted.calibrate(fitted.split(series, None).valid)
    assert fitted.predictor.state()["path_correlation"] == before["path_correlation"]


def test_the_order_of_the_series_does_not_matter(fitted: Forecaster):
    data = long(random_walks(3, 90, common=0.6))
    key = ["unique_id", "path", "ds"]
    turned = pd.concat([data[data["unique_id"] == name] for name in "cab"])
    paths, others = (fitted.sample_paths(frame, 3).sort_values(key) for frame in (data, turned))
    np.testing.assert_allclose(others["y"], paths["y"], rtol=1e-6)


@pytest.mark.parametrize("method", ["direct", "recursive"])
def test_frames_have_the_names_and_the_kind_of_the_data(method: str):
    data = long(random_walks(2, 60)).rename(columns={"unique_id": "shop", "ds": "day", "y": "sold"})
    job = forecaster(method=method, id_col="shop", time_col="day", target_col="sold").fit(data)
    paths = job.sample_paths(pl.from_pandas(data), 3)
    assert isinstance(paths, pl.DataFrame)
    assert paths.columns == ["shop", "day", "path", "sold"]
    assert paths["path"].to_list() == [k for _ in range(2) for k in range(3) for _ in range(H)]
    days = pd.date_range("2024-03-01", periods=H)
    assert paths["day"].to_list() == 6 * days.to_pydatetime().tolist()


@pytest.mark.parametrize("method", ["direct", "recursive"])
def test_one_series_with_missing_values(method: str):
    series = random_walks(1, 60)[0]
    series[[20, 21, 50, 55]] = NAN
    paths = forecaster(method=method).fit(series).sample_paths(series, 20)
    assert len(paths) == 20 * H
    assert np.isfinite(paths["y"]).all()
    assert paths.groupby("ds")["y"].nunique().eq(20).all()


def test_recursive_paths_of_counts_are_whole_numbers_and_independent_of_other_series():
    counts = np.random.default_rng(0).poisson(5.0, 60).astype(float)
    data = long(np.stack([counts, counts]))
    job = forecaster(method="recursive", distribution="negative_binomial").fit(data)
    paths = job.sample_paths(data, 300)
    values = paths["y"].to_numpy().reshape(2, 300, H)
    assert (values >= 0).all()
    assert (values % 1 == 0).all()
    assert abs(np.corrcoef(values[:, :, 0])[0, 1]) < 0.2  # equal series have paths of their own
    alone = job.sample_paths(data[data["unique_id"] == "b"], 300)
    np.testing.assert_array_equal(alone["y"], values[1].ravel())


@pytest.mark.parametrize("num_paths", [0, -1, 2.5])
def test_a_wrong_number_of_paths_is_refused(fitted: Forecaster, num_paths):
    with pytest.raises(SettingError, match="num_paths must be a whole number from 1 up, got"):
        fitted.sample_paths(long(random_walks(3, 90)), num_paths)


def test_models_without_correlations_say_so(fitted: Forecaster):
    data = long(random_walks(2, 60))
    with pytest.raises(UserError, match="fit it again with a validation split"):
        forecaster(valid_fraction=0).fit(data).sample_paths(data)
    state = fitted.predictor.state()
    del state["path_correlation"]  # as in models of version 0.1
    assert type(fitted.predictor).from_state(fitted.snapshot(), state).path_correlation is None


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": [[1.0]]},
        {"steps": (np.eye(H) + 2 * np.ones((H, H))).tolist()},
        {"steps": np.full((H, H), NAN).tolist()},
        {"steps": np.where(np.eye(H), 1.0, -0.9).tolist()},
        {"steps": (np.eye(H) + np.eye(H, k=1) / 2).tolist()},
        {"ids": ["a", "a", "b"]},
        {"ids": ["a"]},
        {"series": 1.5},
    ],
    ids=["size", "diagonal", "NaN", "not positive definite", "not symmetric", "same ids", "few ids", "above 1"],
)
def test_damaged_correlations_are_refused(fitted: Forecaster, damage: dict):
    state = fitted.predictor.state()
    damaged = {**state, "path_correlation": {**state["path_correlation"], **damage}}
    with pytest.raises(ValueError, match=r"correlation|ids|reshape"):
        type(fitted.predictor).from_state(fitted.snapshot(), damaged)
