"""Explanations of forecasts: contributions sum to the forecast, and are those that the data were made with."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import lstmkit
from lstmkit import Forecaster
from lstmkit.data.series.covariates import CovariateColumn, CovariateEncoder
from lstmkit.errors import DataError
from lstmkit.jobs.forecaster.explanation_section import explanation_sections
from lstmkit.jobs.forecaster.report import forecast_sections

H, N = 3, 50  # horizon, and steps with a value
NAN = float("nan")


def tiny(**options) -> Forecaster:
    plain = {"horizon": H, "season_length": 4, "epochs": 1, "steps_per_epoch": 2, "hidden_size": 4, "batch_size": 8}
    return Forecaster(**{**plain, "num_samples": 10, **options})


def sales(n: int = N, **columns) -> pd.DataFrame:
    """Two shops with covariates known over the horizon, and more columns, each for both shops."""
    frames = []
    for k, shop in enumerate(("north", "south")):
        rng, steps = np.random.default_rng(k), np.arange(n + H)
        frame = {"unique_id": shop, "ds": pd.date_range("2020-01-01", periods=n + H)}
        frame |= {"promo": rng.integers(0, 2, n + H), "weather": rng.choice(["sun", "rain", "snow"], n + H)}
        frame |= {"y": np.where(steps < n, 10 + 5 * k + rng.standard_normal(n + H), NAN), "kind": ["mall", "street"][k]}
        frames.append(pd.DataFrame({**frame, **columns}))
    return pd.concat(frames, ignore_index=True)


COVARIATES = {"future_covariates": ("promo", "weather"), "static_covariates": ("kind",)}


def by_step(explanation: pd.DataFrame) -> pd.DataFrame:
    """A row per series and step, a column per input, and ``baseline`` and ``forecast``."""
    index = ["unique_id", "ds"]
    wide = explanation.pivot(index=index, columns="input", values="contribution")
    return wide.join(explanation.groupby(index)[["baseline", "forecast"]].first())


def check_sums(fitted: Forecaster, data: pd.DataFrame) -> pd.DataFrame:
    """Check that contributions and baseline sum to the median forecast."""
    explanation = fitted.explain(data)
    forecast = fitted.predict(data).set_index(["unique_id", "ds"])["forecast"]
    wide = by_step(explanation)
    total = wide.drop(columns="forecast").sum(axis=1).reindex(forecast.index)
    np.testing.assert_allclose(total, forecast, rtol=1e-6)
    assert np.isfinite(explanation["contribution"]).all()
    return wide


class FixedNetwork(nn.Module):
    """A direct forecaster's network: all quantiles are ``weights`` of the inputs over the horizon, in scaled units."""

    def __init__(self, weights: dict[int, float]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        median = sum(w * inputs[:, -H:, column] for column, w in self.weights.items())
        assert isinstance(median, Tensor)
        return median[..., None].expand(-1, -1, 7), None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"readout": "last_state", "window": 8, "patch_length": 2},
        {"centering": "seasonal_naive", "smoothing_weight": 0.5},
        {"centering": "none", "scaling": "mean", "smoothing_weight": 1.0},
        {"centering": "mean", "log_transform": True, "smoothing_weight": 0.5},
        {"ensemble_size": 2},
        {"method": "recursive"},
        {"method": "recursive", "distribution": "negative_binomial"},
    ],
    ids=str,
)
def test_contributions_sum_to_the_forecast(options: dict):
    """With every method the contributions and the baseline sum to the median forecast."""
    data = sales(25, past_only=[*range(25), *[NAN] * H])
    data["y"] = data["y"].round()
    data.loc[[3, 4], "promo"] = NAN
    data.loc[5, "weather"] = None
    fitted = tiny(**options, **COVARIATES, past_covariates=("past_only",)).fit(data)
    wide = check_sums(fitted, data)
    assert set(wide) == {"history", "past_only", "promo", "weather", "kind", "calendar", "baseline", "forecast"}


def test_contributions_of_a_known_network():
    """A number contributes its distance from the training mean, a category from the mean over its frequencies."""
    data = sales()
    data.loc[0, "weather"] = None
    fitted = tiny(centering="last", scaling="none", smoothing_weight=0.0, **COVARIATES).fit(data)
    promo, weather = fitted.predictor.covariates.future
    assert weather.categories == ("rain", "snow", "sun")
    fitted.predictor.model = FixedNetwork({3: 5 * promo.std, 4: 1.0, 5: 2.0, 6: 7.0})
    wide = check_sums(fitted, data)
    train = fitted.split(fitted.read(data), None).train.series.to_frame()
    ahead = data[data["y"].isna()].set_index(["unique_id", "ds"])
    effect = {"rain": 1.0, "snow": 2.0, "sun": 7.0}
    assert promo.mean == pytest.approx(train["promo"].mean())
    np.testing.assert_allclose(wide["promo"], 5 * (ahead["promo"] - train["promo"].mean()), rtol=1e-5)
    mean_effect = train["weather"].map(effect).fillna(0.0).mean()
    np.testing.assert_allclose(wide["weather"], ahead["weather"].map(effect) - mean_effect, rtol=1e-5)
    np.testing.assert_allclose(wide[["history", "calendar", "kind"]], 0.0, atol=1e-5)
    last = data[data["y"].notna()].groupby("unique_id")["y"].last()
    np.testing.assert_allclose(wide["baseline"], np.repeat(last, H) + mean_effect, rtol=1e-5)


def test_a_fitted_network_finds_the_effect():
    """On ``5 * promo`` plus noise promo contributes about ``5 * (promo - mean)``, an unrelated covariate about 0."""
    rng, n = np.random.default_rng(0), 400
    promo = rng.integers(0, 2, n + 7).astype(float)
    y = 50 + 5 * promo + 0.5 * rng.standard_normal(n + 7)
    y[n:] = NAN
    data = pd.DataFrame({"y": y, "ds": np.arange(n + 7), "promo": promo, "unrelated": rng.standard_normal(n + 7)})
    options = {"steps_per_epoch": 20, "hidden_size": 16, "lr": 0.02, "window": 14, "dropout": 0.0, "linear_experts": 0}
    options |= {"future_covariates": ("promo", "unrelated"), "smoothing_weight": 0.0, "batch_size": 64}
    fitted = tiny(**options, horizon=7, epochs=4).fit(data)
    wide = by_step(fitted.explain(data).assign(unique_id="series"))
    np.testing.assert_allclose(wide["promo"], 5 * (promo[n:] - promo[:n].mean()), atol=1.0)
    assert wide["unrelated"].abs().max() < 0.5


@pytest.mark.parametrize("readout", ["last_state", "horizon_states"])
def test_a_future_covariate_is_that_of_the_horizon(readout: str):
    """Past values of a future covariate belong to the history; a network that reads no others does not use it."""
    data = sales()
    fitted = tiny(readout=readout, future_covariates=("promo",), calendar_features=False, smoothing_weight=0.0)
    fitted.fit(data)
    mean = fitted.predictor.covariates.future[0].mean
    wide = by_step(fitted.explain(data.assign(promo=data["promo"].where(data["y"].notna(), mean))))
    np.testing.assert_allclose(wide["promo"], 0.0, atol=1e-6)
    moved = by_step(fitted.explain(data.assign(promo=data["promo"].where(data["y"].notna(), mean + 3))))
    assert (moved["promo"].abs().max() > 1e-4) == (readout == "horizon_states")
    still = data.assign(y=data["y"].where(data["y"].isna(), 7.0))
    assert by_step(fitted.explain(still))["history"].abs().max() > 1e-9


@pytest.mark.parametrize("centering", ["last", "mean", "seasonal_naive", "none"])
def test_exponential_smoothing_belongs_to_the_history(centering: str):
    """With all the weight on exponential smoothing only the history contributes, to a base that ignores it."""
    data = sales()
    fitted = tiny(centering=centering, smoothing_weight=1.0, **COVARIATES).fit(data)
    wide = check_sums(fitted, data)
    np.testing.assert_allclose(wide[["promo", "weather", "kind", "calendar"]], 0.0, atol=1e-12)
    past = data[data["y"].notna()].groupby("unique_id")["y"]
    window = fitted.predictor.window_plan.past
    expected = {
        "last": np.repeat(past.last(), H),
        "seasonal_naive": past.apply(lambda y: y.iloc[-4 : -4 + H]),
        "mean": np.repeat(past.apply(lambda y: y.tail(window).mean()), H),
    }
    np.testing.assert_allclose(wide["baseline"], expected["mean" if centering == "none" else centering], rtol=1e-9)


@pytest.mark.parametrize("method", ["direct", "recursive"])
def test_a_constant_history_adds_nothing(method: str):
    """Values that stand still are a typical history: it contributes nothing."""
    data = sales()
    fitted = tiny(method=method, past_covariates=("promo",)).fit(data)
    still = data.assign(y=data["y"].where(data["y"].isna(), 7.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = fitted.explain(still)
    history = explanation[explanation["input"] == "history"]
    np.testing.assert_allclose(history["contribution"], 0.0, atol=1e-12)


def test_without_covariates_history_and_calendar_contribute():
    """A model without covariates has the inputs history and calendar; without a calendar the history alone."""
    data = sales()
    assert set(check_sums(tiny().fit(data), data)) == {"history", "calendar", "baseline", "forecast"}
    wide = check_sums(tiny(calendar_features=False).fit(data), data)
    np.testing.assert_allclose(wide["history"], wide["forecast"] - wide["baseline"], atol=1e-12)


def test_many_covariates_are_sampled():
    """With more than eight inputs orders are sampled; the contributions still sum to the forecast."""
    rng = np.random.default_rng(0)
    names = [f"x{k}" for k in range(8)]
    data = sales().assign(**{name: rng.standard_normal(2 * (N + H)) for name in names})
    fitted = tiny(future_covariates=names).fit(data)
    check_sums(fitted, data)
    pd.testing.assert_frame_equal(fitted.explain(data), fitted.explain(data), check_exact=True)


def test_one_series_is_explained_as_among_others():
    """``series`` chooses one; its contributions do not depend on the others, nor on their number."""
    data = sales()
    fitted = tiny(**COVARIATES).fit(data)
    explanation, alone = fitted.explain(data), fitted.explain(data, series="south")
    expected = explanation[explanation["unique_id"] == "south"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, rtol=1e-5)
    with pytest.raises(DataError, match=r"no series 'west' in the data .series: north, south."):
        fitted.explain(data, series="west")


def test_blocks_of_windows(monkeypatch: pytest.MonkeyPatch):
    """Explanations are the same if the windows are explained one after the other."""
    data = sales()
    fitted = tiny(**COVARIATES).fit(data)
    whole = fitted.explain(data)
    monkeypatch.setattr("lstmkit.jobs.forecaster.explanation._ROWS_AT_ONCE", 1)
    pd.testing.assert_frame_equal(fitted.explain(data), whole, rtol=1e-5)


def test_future_covariates_are_needed():
    """``explain`` needs the future covariates as ``predict`` does, in the data or in a second table."""
    data = sales()
    fitted = tiny(**COVARIATES).fit(data)
    known, ahead = data[data["y"].notna()], data.loc[data["y"].isna(), ["unique_id", "ds", "promo", "weather"]]
    with pytest.raises(DataError, match="future covariate 'promo' of series 'north' is missing"):
        fitted.explain(known)
    pd.testing.assert_frame_equal(fitted.explain(known, future_data=ahead), fitted.explain(data), check_exact=True)


def test_series_shorter_than_the_window():
    """The steps before a series stay missing: a category there is none, not all by their frequency."""
    data = sales()
    fitted = tiny(**COVARIATES, window=30).fit(data)
    short = data.groupby("unique_id").tail(H + 2).reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_sums(fitted, short)
    assert fitted.predictor.window_plan.past == 30


def test_frames_have_names_and_kind_of_the_data():
    """The frame has the data's names of columns, and is a Polars frame for one; a covariate may be named calendar."""
    data = sales().rename(columns={"unique_id": "shop", "ds": "day", "y": "sold", "promo": "calendar"})
    names = {"id_col": "shop", "time_col": "day", "target_col": "sold", "future_covariates": ("calendar",)}
    fitted = tiny(**names).fit(data)
    explanation = fitted.explain(pl.from_pandas(data))
    assert isinstance(explanation, pl.DataFrame)
    assert explanation.columns == ["shop", "day", "input", "contribution", "baseline", "forecast"]
    assert explanation["input"].head(3).to_list() == ["history", "calendar (covariate)", "calendar"]


def test_saved_models_explain_alike(tmp_path):
    """A loaded model gives the same explanation; one of version 0.1, without frequencies, has an unknown category."""
    data = sales()
    fitted = tiny(**COVARIATES).fit(data)
    loaded = lstmkit.load(fitted.save(tmp_path / "model"))
    assert isinstance(loaded, Forecaster)
    pd.testing.assert_frame_equal(loaded.explain(data), fitted.explain(data), check_exact=True)
    state = fitted.predictor.covariates.to_json()
    for columns in (state["future"], state["static"]):
        for column in columns:
            del column["means"]
    old = CovariateEncoder.from_json(state)
    assert old.means.tolist() == [0.0] * old.width
    loaded.predictor.covariates = old
    check_sums(loaded, data)
    with pytest.raises(ValueError, match="'x' has 1 columns, and other means"):
        CovariateEncoder.from_json({**state, "future": [{"name": "x", "categories": None, "means": [0.0, 1.0]}]})


def test_means_of_encoded_columns():
    """The means are those of the encoded training values: with a missing fraction, and the frequency of categories."""
    for values in ([1.0, 2.0, 6.0], [1.0, NAN, NAN, 2.0], ["b", "a", None, "b"]):
        column = CovariateColumn.fit("x", np.array(values, dtype=object if "b" in values else float))
        encoded = column.transform(np.array(values, dtype=object if "b" in values else float))
        np.testing.assert_allclose(column.means, encoded.mean(axis=0), atol=1e-7)


def test_report_shows_contributions():
    """The report has a section on the inputs if there are covariates and forecasts take no sampled paths."""
    data = sales()
    fitted = tiny(**COVARIATES).fit(data)
    (section,) = explanation_sections(fitted.predictor, fitted.read(data))
    assert section.table is not None
    assert section.figure is not None
    assert set(section.table["input"]) == {"history", "promo", "weather", "kind", "calendar"}
    assert section.table["share, %"].sum() == pytest.approx(100)
    assert section.table["mean absolute contribution"].is_monotonic_decreasing
    page = forecast_sections(fitted.predictor, fitted.read(data), None)
    assert section.title in [shown.title for shown in page]
    for without in (tiny(), tiny(method="recursive", **COVARIATES)):
        without.fit(data)
        assert explanation_sections(without.predictor, without.read(data)) == []


def test_explaining_leaves_the_random_state_alone():
    """Sampling orders and paths does not change the global random state."""
    data = sales()
    fitted = tiny(method="recursive", future_covariates=("promo",)).fit(data)
    torch.manual_seed(1)
    fitted.explain(data)
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)
