"""Default settings beside baselines: what a recipe passes on, who wins, the record, and its page."""

from __future__ import annotations

import functools
import importlib
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from lstmkit import recipes
from lstmkit.jobs import job_names
from lstmkit.jobs.settings import settings_of
from lstmkit.settings import declared

ROOT = Path(__file__).parent.parent


def script(folder: str, name: str) -> ModuleType:
    """A script that imports others of its folder by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / folder)
        return importlib.import_module(name)


defaults = script("benchmarks", "defaults")
page = script("docs", "defaults_table")


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("gunpoint", {"test_fraction": 0.0}),
        ("airline", {"time_col": "Month", "target_col": "Passengers", "horizon": 12, "test_windows": 4}),
        ("exchange_rate", {"horizon": 96, "season_length": 1, "test_windows": 0}),
        ("ptb_regularised", {"tokenization": "whitespace", "test_fraction": 0.0}),
        ("trec", {"test_fraction": 0.0}),
        ("jsb_chorales", {}),
        ("jsb_chorales_independent", {"distribution": "independent"}),
    ],
)
def test_a_recipe_passes_on_only_what_states_its_task(name: str, stated: dict):
    assert defaults.stated(recipes.recipe(name)) == stated


def test_the_exceptions_are_used():
    """Every exception names a setting or a recipe that there is, so that none is left behind by a new name."""
    known = {recipe.name: recipe for recipe in recipes.all_recipes()}
    groups = {n: f.metadata["group"] for job in job_names() for n, f in declared(settings_of(job)).items()}
    assert {groups[name] for name in defaults.TUNED} <= {"data", "evaluation"}
    uses = {f"{of}.{name}" for r in known.values() for name in defaults.stated(r) for of in (r.job, r.name)}
    assert defaults.STATED.keys() <= uses
    for table in (defaults.LEFT_OUT, defaults.METRICS, defaults.MODEL_ROWS, defaults.NOT_BASELINES, defaults.FITS):
        assert table.keys() <= known.keys()
    for name, options in defaults.OPTIONS.items():
        assert options.keys() <= known[name].options.keys()


def test_the_job_has_default_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The protocol gets a job whose other settings are the defaults, and the row has the time of its two fits."""
    recipe, changed, fitted = recipes.recipe("gunpoint"), {}, []

    def protocol(job, fit, folder, options, progress):
        assert (folder, options) == (tmp_path, recipe.options)
        fields = declared(type(job)).items()
        changed.update({name: getattr(job, name) for name, f in fields if getattr(job, name) != f.default})
        monkeypatch.setattr(type(job), "fit", lambda self, data, validation, progress: fitted.append(data))
        fit("first")
        fit("second", validation=None)
        return pd.DataFrame({"model": ["LSTM", "majority class"], "accuracy": [0.75, 0.5]})

    monkeypatch.setattr(defaults.catalog, "locate", lambda name, download: tmp_path)
    monkeypatch.setattr(defaults, "protocols", lambda job: {recipe.protocol: protocol})
    monkeypatch.setattr(defaults, "time", SimpleNamespace(monotonic=iter([10, 12, 20, 20.5]).__next__))
    row = defaults.measure(recipe, "")
    assert changed == row["settings"] == {"test_fraction": 0.0}
    assert fitted == ["first", "second"]
    assert row["seconds"] == 2.5
    assert (row["set"], row["defaults"], row["best_baseline"], row["won"]) == ("gunpoint", 0.75, 0.5, True)


# ---- who wins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "score", "baselines", "best", "won"),
    [
        ("accuracy", 0.8, {"a": 0.7, "b": 0.75}, "b", True),
        ("accuracy", 0.7, {"a": 0.7}, "a", False),  # a tie is a loss
        ("perplexity", 90.0, {"a": 100.0, "b": 95.0}, "b", True),
        ("perplexity", 97.0, {"a": 100.0, "b": 95.0}, "b", False),
        ("accuracy", 0.8, {}, None, None),
    ],
)
def test_the_best_baseline_must_be_beaten(metric: str, score: float, baselines: dict, best: str | None, won: bool):
    compared = defaults.beside(score, baselines, metric)
    assert (compared["baseline"], compared["won"]) == (best, won)
    assert compared["best_baseline"] == baselines.get(best)


def test_variants_and_rows_without_score_are_no_baselines():
    table = pd.DataFrame(
        {
            "model": ["LSTM", "LSTM + cache (500)", "Kneser-Ney, 5-grams", "unigram"],
            "perplexity": [120.0, 90.0, 141.0, None],
        }
    )
    row = defaults.compared("ptb_regularised", table, "LSTM")
    assert (row["defaults"], row["baseline"], row["won"]) == (120.0, "Kneser-Ney, 5-grams", True)


def test_a_recipe_may_name_its_row_and_its_metric():
    an4 = pd.DataFrame({"model": ["LSTM, beam 16, language model", "LSTM", "empty text"], "CER": [5.0, 7.0, 100.0]})
    assert defaults.compared("an4", an4, "LSTM")["defaults"] == 7.0
    xquad = pd.DataFrame({"model": ["LSTM", "sentence"], "exact match": [0.1, 0.0], "F1": [0.15, 0.2]})
    assert defaults.compared("xquad", xquad, "LSTM")["won"] is False
    speech = pd.DataFrame(
        {"model": ["LSTM", "recorded-word concatenation", "mean-frame baseline"], "MCD": [7, 0.0, 8.0]}
    )
    assert defaults.compared("ljspeech_sample", speech, "LSTM")["baseline"] == "mean-frame baseline"
    assert defaults.compared("fsdd_george", speech, "LSTM")["baseline"] == "recorded-word concatenation"


def test_a_model_without_score_is_an_error():
    table = pd.DataFrame({"model": ["LSTM", "majority class"], "accuracy": [None, 0.5]})
    with pytest.raises(ValueError, match="trec: LSTM has no accuracy"):
        defaults.compared("trec", table, "LSTM")


# ---- runs and record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "minutes", "budget", "passed"),
    [
        ("babi", 12.4, 300.0, "300s"),
        ("babi", 4.0, 300.0, ""),
        ("babi", 12.4, 0.0, ""),
        ("mr", 10.0, 300.0, "30s"),  # ten fits
    ],
)
def test_the_budget_is_shared_by_the_fits_of_a_protocol(name: str, minutes: float, budget: float, passed: str):
    assert defaults.budget_of(name, {"training_minutes": minutes}, budget) == passed


def test_times_have_a_unit():
    assert [defaults.seconds_of(text) for text in ("90s", "5min", "1.5h")] == [90, 300, 5400]
    with pytest.raises(defaults.argparse.ArgumentTypeError, match="'5' is not a time such as 90s, 10min or 2h"):
        defaults.seconds_of("5")


def test_a_run_that_takes_too_long_is_ended():
    call = functools.partial(defaults.in_a_process, "gunpoint", "", 0.01)
    assert defaults.run_all({"gunpoint": call}, 1) == ["gunpoint (ended after 0.01 s)"]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recorded results of two recipes and of forecasts."""
    (tmp_path / "defaults").mkdir()
    for name in ("gunpoint.json", "trec.json", "defaults/forecasters.json"):
        shutil.copy(ROOT / "results" / name, tmp_path / name)
    monkeypatch.setattr(defaults, "RESULTS", tmp_path)
    return tmp_path


def row_of(name: str, score: float) -> dict:
    return {"set": name, "metric": "accuracy", "defaults": score, **defaults.beside(score, {"1-NN": 0.9}, "accuracy")}


def test_rows_are_written_when_they_are_there(results: Path):
    """A failed run leaves the other rows alone; a new row replaces the earlier one of its set."""

    def fails() -> dict:
        raise subprocess.CalledProcessError(1, ["python"])

    first = row_of("gunpoint", 0.5) | {"seconds": 1.0}
    assert defaults.run_all({"gunpoint": lambda: first, "trec": fails}, 1) == ["trec (exit code 1)"]
    record = json.loads((results / "defaults.json").read_text(encoding="utf-8"))
    assert record["not_run"] == ["trec"]
    assert [row["set"] for row in record["rows"] if row["job"] == "classifier"] == ["gunpoint"]
    assert len(record["rows"]) == 1 + 7
    defaults.run_all({"gunpoint": lambda: first | {"defaults": 0.95, "won": True}}, 1)
    rows = json.loads((results / "defaults.json").read_text(encoding="utf-8"))["rows"]
    assert rows[0]["defaults"] == 0.95
    assert rows[0]["tuned"] == json.loads((results / "gunpoint.json").read_text())["scores"][0]["accuracy"]
    assert [row["set"] for row in rows[1:]] == [row["set"] for row in record["rows"][1:]]


def test_forecasts_are_compared_with_plain_baselines_only(results: Path):
    """Neural networks of other libraries are left out, and the best of the others is found."""
    rows = [
        {"set": "m3_other", "model": name, "OWA": owa, "seconds": 1.0}
        for name, owa in (("lstmkit", 0.7), ("NHITS (neuralforecast)", 0.6), ("AutoETS", 0.8), ("Naive2", 1.0))
    ]
    (row,) = defaults.forecasting_rows({"seed": 0, "date": "2026-01-01", "rows": rows})
    assert (row["defaults"], row["baseline"], row["won"], row["tuned"]) == (0.7, "AutoETS", True, None)


def test_the_record_matches_the_others():
    """Jobs, tuned scores and forecasts are those of the recipes and of the other records."""
    record = json.loads((ROOT / "results/defaults.json").read_text(encoding="utf-8"))
    expected = defaults.completed(record["rows"])["rows"]
    assert record["rows"] == expected, "run python benchmarks/defaults.py"
    keys = {"job", "set", "metric", "defaults", "tuned", "best_baseline", "won", "seconds"}
    assert all(keys <= row.keys() for row in record["rows"])


# ---- the page --------------------------------------------------------------------------------------------------------


def shown(name: str, won: bool | None) -> dict:
    baseline = {"baseline": None, "best_baseline": None} if won is None else {"baseline": "1-NN", "best_baseline": 0.5}
    return {
        "job": "classifier",
        "set": name,
        "metric": "accuracy",
        "better": "high",
        "defaults": 0.75,
        "tuned": None,
        "won": won,
        "seconds": 1.0,
        "budget": "",
        **baseline,
    }


def test_rows_without_baseline_do_not_count():
    rows = [shown("a", True), shown("b", False), shown("c", None)]
    assert page.share(rows) == "Defaults beat every baseline on **1 of 2** rows (50%)."
    lines = page.table(rows).splitlines()[2:]
    assert lines == [
        "| **classifier** | | | | | |",
        "| a | accuracy&nbsp;↑ | **0.750** | – | 1-NN 0.500 | 1 |",
        "| b | accuracy&nbsp;↑ | 0.750 | – | 1-NN 0.500 | 1 |",
        "| c | accuracy&nbsp;↑ | 0.750 | – | – | 1 |",
    ]


def test_a_limited_training_time_is_marked():
    lines = page.table([shown("a", True) | {"budget": "300s"}]).splitlines()
    assert lines[-3:] == [
        "| a | accuracy&nbsp;↑ | **0.750** | – | 1-NN 0.500 | 1 † |",
        "",
        "† Training time was limited (`budget`).",
    ]


def test_each_loss_has_a_reason():
    rows = [shown("a", True), shown("b", False)]
    assert page.losses(rows, {"b": "Few examples."}) == "- `b`: 0.750, 1-NN 0.500. Few examples."
    with pytest.raises(ValueError, match=r"without a reason in docs/defaults_table\.py: b"):
        page.losses(rows, {})
    with pytest.raises(ValueError, match="reasons of sets that are not lost: a"):
        page.losses(rows, {"a": "Few examples.", "b": "Few examples."})
