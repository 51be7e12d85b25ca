"""What a user is told: options of every job, names of keywords in errors, scores without a test split."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from job_cases import CASES, make
from lstmkit import AnomalyDetector, Forecaster
from lstmkit import command_options as options
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import Job
from lstmkit.settings import declared, in_effect

every_job = pytest.mark.parametrize("name", job_names())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a run, whose page is not drawn."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))
    return tmp_path / "run"


@every_job
def test_every_option_of_predict_and_evaluate_is_explained(name: str):
    """The help of the command line is the section ``Args`` of the docstring."""
    for method in (job_class(name).predict, job_class(name).evaluate):
        assert set(options.keywords(method)) <= options.documented(method).keys()
        defaults = [inspect.signature(method).parameters[keyword].default for keyword in options.keywords(method)]
        assert inspect.Parameter.empty not in defaults


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no column 'ds': give time_col='sold on'", "no column 'ds': give --time-col 'sold on'"),
        ("give value_cols=['A', 'B'] and id_col=NAME", "give --value-cols A,B and --id-col NAME"),
        ("give ensemble_size=1 or crf=False", "give --ensemble-size 1 or --no-crf"),
        ("give resume=True, overwrite=True, or another folder", "give --resume, --overwrite, or another folder"),
        ("levels must be different, got [1, 1]", "--levels must be different, got [1, 1]"),
        ("a window of method=recursive: drop log_transform", "a window of --method recursive: drop --log-transform"),
        ("no column 'time_col' in /data/method=x/time_col.csv", "no column 'time_col' in /data/method=x/time_col.csv"),
        ("the method must run", "the method must run"),
    ],
)
def test_errors_name_what_is_typed(message: str, expected: str):
    """A keyword becomes its option; words, paths and quoted names of columns stay."""
    names = ["time_col", "id_col", "value_cols", "ensemble_size", "crf", "resume", "overwrite", "levels", "method"]
    assert options.as_typed(message, [*names, "log_transform", "window"]) == expected
    assert options.as_typed(expected, [*names, "log_transform", "window"]) == expected


def held_out(name: str, **settings: Any) -> Job:
    return make(name, **settings).fit(CASES[name].data())


def test_without_a_run_the_evaluation_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    """The test split is scored when it is first asked for, and never again."""
    job = held_out("tagger")
    first = job.evaluation
    assert first is not None
    assert first.scored == "test"
    monkeypatch.setattr(type(job), "evaluate_examples", None)
    assert job.evaluation is first


def test_a_loaded_model_has_the_evaluation_of_fit(run: Path):
    fitted = make("tagger").fit(CASES["tagger"].data(), run=run)
    loaded = load(run).evaluation
    assert loaded is not None
    assert fitted.evaluation is not None
    pd.testing.assert_frame_equal(loaded.table, fitted.evaluation.table)
    assert (loaded.scored, loaded.is_from_file) == ("test", True)
    assert loaded.directions == fitted.evaluation.directions
    assert loaded.headline == fitted.evaluation.headline
    (run / "metrics.json").unlink()
    assert load(run).evaluation is None


@pytest.mark.parametrize("name", ["tagger", "forecaster"])
def test_without_a_test_split_the_validation_split_is_scored_and_named(name: str, run: Path):
    fraction = {"test_windows": 0} if name == "forecaster" else {"test_fraction": 0}
    job = make(name, **fraction).fit(CASES[name].data(), run=run)
    assert job.evaluation is not None
    assert job.evaluation.scored == "validation"
    assert "on the validation split" in job.evaluation.headline
    assert any("Early stopping and calibration used it" in note for note in job.evaluation.notes)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"] is None
    assert metrics["validation"] == job.evaluation.to_json()


def test_nothing_held_out_is_not_scored():
    assert held_out("tagger", test_fraction=0, valid_fraction=0).evaluation is None


def test_validation_data_alone_are_refused(run: Path):
    make("tagger").fit(CASES["tagger"].data(), run=run)
    with pytest.raises(SettingError, match="give both"):
        load(run, validation=CASES["tagger"].data())


def test_a_recommender_says_that_it_knows_no_item():
    job = held_out("recommender")
    with pytest.raises(DataError, match="no item is in the catalog, so there is nothing to recommend from"):
        job.predict([["unheard of"], ["nor this"]])
    with pytest.warns(UserWarning, match="1 of 2 sessions have no item of the catalog"):
        assert [len(one.items) > 0 for one in job.predict([["a"], ["unheard of"]])] == [True, False]


def test_settings_without_effect_are_not_listed():
    """ "How this was made" has no setting of another method."""
    direct, recursive = (set(in_effect(Forecaster(method=method), ())) for method in ("direct", "recursive"))
    assert recursive - direct == {"distribution", "num_samples"}
    assert direct - recursive == {"readout", "linear_experts", "adaptive_rate"}
    dynamic = in_effect(AnomalyDetector(threshold_method="dynamic"), ())
    assert "pruning" in dynamic
    assert not {"false_alarm_rate", "latent_size"} & dynamic.keys()
    for name in job_names():
        declared_settings = declared(job_class(name))
        for setting in declared_settings.values():
            for other, allowed in setting.metadata["only_with"].items():
                assert set(allowed) < set(declared_settings[other].metadata["choices"])


@pytest.mark.parametrize(
    ("job", "given"),
    [
        ("forecaster", {"smoothing_weight": -0.5}),
        ("forecaster", {"usual_width_weight": -0.1}),
        ("classifier", {"ngram_weight": -0.01}),
        ("classifier", {"convolution_weight": -0.5}),
        ("tagger", {"budget": "ten"}),
        ("tagger", {"budget": "0s"}),
    ],
)
def test_a_setting_that_means_nothing_is_refused(job: str, given: dict):
    """A weight is -1, to choose it, or from 0; a budget is a time with its unit."""
    ((name, value),) = given.items()
    form = "a time such as 90s, 10min or 2h" if name == "budget" else "-1, which is to choose it, or a weight from 0"
    with pytest.raises(SettingError, match=rf"^{name} must be {form}, got {value!r}$"):
        job_class(job)(**given)
