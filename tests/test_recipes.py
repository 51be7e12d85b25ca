"""Recipes: each can be run, and each protocol scores as published."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstmkit import recipes, settings
from lstmkit.data import catalog
from lstmkit.errors import UserError
from lstmkit.jobs import job_class
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.jobs.translator.job import Translator
from lstmkit.progress import Progress
from lstmkit.recipes import forecaster as protocols
from scored import run_protocol

H = 4
SILENT = Progress()

every_recipe = pytest.mark.parametrize("recipe", recipes.all_recipes(), ids=lambda r: r.name)


def tiny(**options) -> Forecaster:
    defaults = {
        "horizon": H,
        "season_length": 4,
        "epochs": 1,
        "steps_per_epoch": 2,
        "hidden_size": 4,
        "test_windows": 0,
    }
    return Forecaster(**{**defaults, **options})


def wave(n: int, seed: int) -> np.ndarray:
    return 10 + 3 * np.sin(np.arange(n) * np.pi / 2) + np.random.default_rng(seed).standard_normal(n)


@every_recipe
def test_every_recipe_is_valid(recipe: recipes.Recipe):
    """The job takes the settings, the data are in the catalog, and protocol and files exist."""
    job = job_class(recipe.job)(**recipe.settings)
    for name, value in recipe.settings.items():
        assert settings.values(job)[name] == value
    files = {file.name for file in catalog.entry(recipe.data).files}
    named = {v.removesuffix(".gz") for v in recipe.options.values() if isinstance(v, str)}
    assert named
    for name in named:  # or the end of the names of several
        assert any(file.removesuffix(".gz").endswith(name) for file in files)
    assert recipe.protocol in recipes.protocols(recipe.job)
    assert recipe.title


@every_recipe
def test_published_figures_have_a_source(recipe: recipes.Recipe):
    """A published figure has a name, a metric, a value and a source."""
    for published in recipe.published:
        assert published.keys() == {"name", "metric", "value", "source"}
        assert isinstance(published["value"], float)
        assert any(c.isdigit() for c in published["source"])  # at least a year


def test_an_unknown_recipe_gets_the_nearest_name():
    """The message suggests the nearest name."""
    with pytest.raises(UserError, match="unknown recipe 'airlin': did you mean 'airline'"):
        recipes.recipe("airlin")


# ---- protocols -------------------------------------------------------------------------------------------------------


def m4_files(folder: Path, last: float = 0.0) -> dict[str, object]:
    """Two series of different lengths in M4's format, one per row; ``last`` is added to the test part."""
    values = {"H1": wave(44, 1), "H2": 50 + wave(33, 2)}
    cut = {name: len(v) - H for name, v in values.items()}
    train = pd.DataFrame({k: pd.Series(v[: cut[k]]) for k, v in values.items()}).T
    test = pd.DataFrame({k: v[cut[k] :] + last for k, v in values.items()}).T
    for name, table in (("train", train), ("test", test)):
        table.columns = [f"V{i + 2}" for i in range(table.shape[1])]
        table.rename_axis("V1").reset_index().to_csv(folder / f"{name}.csv", index=False)
    return {"train": "train.csv", "test": "test.csv", "naive2_smape": 10.0, "naive2_mase": 2.0}


def test_m4_scores_by_the_competitions_rules(tmp_path: Path):
    """sMAPE and MASE of the seasonal naive forecast equal a computation by hand; OWA is their mean over Naive2's."""
    table = run_protocol(protocols.m4, tiny(), tmp_path, m4_files(tmp_path)).set_index("model")
    assert table.index.tolist() == ["LSTM (direct)", "SeasonalNaive", "AutoETS"]
    smape, mase = [], []
    for y in (wave(44, 1), 50 + wave(33, 2)):
        train, test = y[:-H], y[-H:]
        naive = train[-4:]
        smape.append((200 * np.abs(test - naive) / (np.abs(test) + np.abs(naive))).mean())
        mase.append(np.abs(test - naive).mean() / np.abs(train[4:] - train[:-4]).mean())
    assert table.loc["SeasonalNaive", "sMAPE"] == pytest.approx(np.mean(smape))
    assert table.loc["SeasonalNaive", "MASE"] == pytest.approx(np.mean(mase))
    owa = (table["sMAPE"] / 10.0 + table["MASE"] / 2.0) / 2
    assert table["OWA"].tolist() == pytest.approx(owa.tolist())


def test_m4_does_not_show_the_test_part_to_the_model(tmp_path: Path):
    """The forecast does not depend on the test part; only the scores do."""
    jobs = []
    for last in (0.0, 100.0):
        options = m4_files(tmp_path, last)
        jobs.append(tiny())
        run_protocol(protocols.m4, jobs[-1], tmp_path, options)
    first, second = (job.predict(protocols._m4_long(tmp_path / "train.csv")) for job in jobs)
    pd.testing.assert_frame_equal(first, second)


def two_variables(n: int = 100) -> pd.DataFrame:
    return pd.DataFrame({"date": pd.date_range("2020-01-01", periods=n), "a": wave(n, 1), "b": 1000 * wave(n, 2)})


def test_every_window_scores_every_window(tmp_path: Path):
    """The naive scores equal a computation by hand: every origin of the test part, in training deviations."""
    data = two_variables()
    data.to_csv(tmp_path / "data.csv", index=False)
    options = {"file": "data.csv", "train": 60, "valid": 20, "test": 18, "naive_lags": [1, 4]}
    job = tiny(valid_fraction=0.25)
    table = run_protocol(protocols.every_window, job, tmp_path, options)
    names = ["LSTM (direct)", "last value", "seasonal naive (4 steps)", f"AutoETS (every {H}th window)"]
    assert table["model"].tolist() == names
    values = data[["a", "b"]].to_numpy()
    values = (values - values[:60].mean(0)) / values[:60].std(0)
    origins = range(80, 80 + 18 - H + 1)
    for lag, row in ((1, 1), (4, 2)):
        errors = [values[t + h, k] - values[t - lag + h % lag, k] for k in range(2) for t in origins for h in range(H)]
        assert table["MSE"][row] == pytest.approx(np.mean(np.square(errors)))
        assert table["MAE"][row] == pytest.approx(np.mean(np.abs(errors)))
        assert table["windows"][row] == len(origins)
    # Fitted to training and validation only, so that the model knows nothing of the test part.
    assert set(job.predictor.last_trained_timestamps.values()) == {str(data["date"][79])}


def test_every_window_reads_files_without_timestamps(tmp_path: Path):
    """A file without a header and dates has variables 0, 1, … over steps 0, 1, …"""
    two_variables()[["a", "b"]].to_csv(tmp_path / "data.txt", index=False, header=False)
    options = {"file": "data.txt", "headless": True, "train": 60, "valid": 20, "test": 20, "naive_lags": [1]}
    table = run_protocol(protocols.every_window, tiny(), tmp_path, options)
    assert table["windows"].tolist()[:2] == [20 - H + 1] * 2
    assert table.notna().all(axis=None)


def test_held_out_equals_the_jobs_backtest(tmp_path: Path):
    """The windows that fit held out at the end of the file are scored once."""
    two_variables()[["date", "a"]].to_csv(tmp_path / "data.csv", index=False)
    job = tiny(time_col="date", target_col="a", test_windows=2)
    table = run_protocol(protocols.held_out, job, tmp_path, {"file": "data.csv"})
    pd.testing.assert_frame_equal(table, job.evaluate(tmp_path / "data.csv").table)


def test_translations_with_predefined_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each split has two files; the test split is used neither for training nor for validation."""
    for part, words in (("train", "abc"), ("val", "abd"), ("test", "xyz")):
        (tmp_path / f"{part}.en").write_text("\n".join(words), encoding="utf-8")
        (tmp_path / f"{part}.de").write_text("\n".join(words.upper()), encoding="utf-8")
    monkeypatch.setattr(catalog, "locate", lambda name, file: tmp_path / file)
    options = {
        f"{split}_{side}": f"{part}.{ending}"
        for split, part in (("train", "train"), ("valid", "val"), ("test", "test"))
        for side, ending in (("source", "en"), ("target", "de"))
    }
    job = Translator(tokenization="words", epochs=1, hidden_size=2, test_fraction=0.0)
    table = run_protocol(importlib.import_module("lstmkit.recipes.translator").given_parts, job, tmp_path, options)
    assert table["model"].tolist() == ["LSTM", "translation memory", "copy of the source"]
    assert "a" in job.predictor.source_tokenizer
    assert "d" not in job.predictor.source_tokenizer
    assert "x" not in job.predictor.source_tokenizer


# ---- results ---------------------------------------------------------------------------------------------------------


def test_an_unknown_protocol_gets_the_nearest_name(monkeypatch: pytest.MonkeyPatch):
    """The protocol is checked before any data are located."""
    recipe = recipes.Recipe("toy", "A toy", "tagger", "toys", "hold_out", {"file": "data.conll"}, {}, [], [])
    monkeypatch.setattr(recipes, "all_recipes", lambda: [recipe])
    with pytest.raises(UserError, match="recipe 'toy': unknown protocol 'hold_out': did you mean 'held_out'"):
        recipes.reproduce("toy", SILENT)


def test_reproducing_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The job is fitted with the recipe's settings, and the result file has all that is needed to repeat it."""
    two_variables()[["date", "a"]].to_csv(tmp_path / "data.csv", index=False)
    small = {"horizon": H, "epochs": 1, "steps_per_epoch": 1, "hidden_size": 2, "time_col": "date", "target_col": "a"}
    published = [{"name": "A. N. Other", "metric": "MASE", "value": 0.5, "source": "Other 1999, table 1"}]
    recipe = recipes.Recipe(
        "toy", "A toy", "forecaster", "toys", "held_out", {"file": "data.csv"}, small, published, ["It is small."]
    )
    monkeypatch.setattr(recipes, "all_recipes", lambda: [recipe])
    monkeypatch.setattr(catalog, "locate", lambda name, download: tmp_path if (name, download) == ("toys", True) else 0)
    outcome = recipes.reproduce("toy", SILENT)
    path = outcome.write(tmp_path / "new" / "results")
    result = json.loads(path.read_text())
    assert path.name == "toy.json"
    assert result["settings"] == small
    assert result["scores"][0]["model"] == "LSTM (direct)"
    assert result["published"] == published
    assert {"date", "versions", "machine", "remarks", "training_minutes"} <= result.keys()
    assert {"lstmkit", "torch", "python"} <= result["versions"].keys()
    text = str(outcome)
    for phrase in ("A toy", "LSTM (direct)", "SeasonalNaive", "A. N. Other: MASE 0.5 (Other 1999, table 1)"):
        assert phrase in text


def test_a_recipe_that_was_stopped_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Finished fits of a cross-validation are not repeated; without resume a run is not overwritten."""
    rng = np.random.default_rng(0)
    lines = [f"{label} {' '.join(rng.choice([label * 3, 'and', 'the'], 5))}" for label in "01" * 30]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    small = {"hidden_size": 2, "embedding_size": 2, "epochs": 2, "test_fraction": 0.0}
    options = {"file": "lines.txt", "folds": 3}
    recipe = recipes.Recipe("toy", "A toy", "classifier", "toys", "cross_validation", options, small, [], [])
    monkeypatch.setattr(recipes, "all_recipes", lambda: [recipe])
    monkeypatch.setattr(catalog, "locate", lambda name, download: tmp_path)
    run = tmp_path / "run"
    first = recipes.reproduce("toy", SILENT, run)
    assert len(list(run.rglob("last.safetensors"))) == 3
    shutil.rmtree(run / "fit-3")  # stopped before the last
    before = {path: path.stat().st_mtime_ns for path in run.rglob("last.safetensors")}
    resumed = recipes.reproduce("toy", SILENT, run, resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(run.rglob("last.safetensors"))) == 3
    pd.testing.assert_frame_equal(first.table, resumed.table)
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "locate", None)  # refused before anything is done
        with pytest.raises(UserError, match="holds a run already"):
            recipes.reproduce("toy", SILENT, run)
    pd.testing.assert_frame_equal(first.table, recipes.reproduce("toy", SILENT, run, overwrite=True).table)
    assert {path.stat().st_mtime_ns for path in before}.isdisjoint(before.values())
    with pytest.raises(UserError, match="no run to resume"):
        recipes.reproduce("toy", SILENT, tmp_path / "none", resume=True)


def test_a_real_recipe_on_its_real_data(monkeypatch: pytest.MonkeyPatch):
    """The airline recipe runs on the catalog's file, here with hardly any training."""
    try:
        folder = catalog.locate("classic_series", download=False)
    except UserError as err:
        pytest.skip(f"needs the data set: {err}")
    recipe = recipes.recipe("airline")
    small = {**recipe.settings, "epochs": 1, "steps_per_epoch": 1, "hidden_size": 2, "ensemble_size": 1}
    known_recipes = [recipes.Recipe(**{**vars(recipe), "settings": small})]
    monkeypatch.setattr(recipes, "all_recipes", lambda: known_recipes)
    outcome = recipes.reproduce("airline", SILENT)
    y = pd.read_csv(folder / "airline-passengers.csv")["Passengers"]
    last_year = (y - y.shift(12)).abs().iloc[-48:].mean()  # the test is four years
    assert outcome.table.set_index("model").loc["SeasonalNaive", "MAE"] == pytest.approx(last_year)
