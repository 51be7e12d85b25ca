"""A loaded model has the same baselines as a fitted one, or says which are missing and how to get them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from job_cases import CASES, make, predict_records
from lstmkit.errors import DataError
from lstmkit.jobs import load
from lstmkit.jobs.base import Evaluation, Job


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Job, Path, Evaluation]:
    """The name of a case, its fitted job, the run folder, and the scores of the fitted job. Do not change them."""
    run = tmp_path_factory.mktemp("case") / "run"
    with pytest.MonkeyPatch.context() as patch:  # the report page takes longer than everything else
        patch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))
        job = make(request.param).fit(CASES[request.param].data(), run=run)
    return request.param, job, run, evaluated(job, request.param)


def evaluated(job: Job, name: str) -> Evaluation:
    return job.evaluate(CASES[name].data())


def test_with_its_training_data_a_loaded_model_has_the_same_table(case: tuple[str, Job, Path, Evaluation]):
    """``load(run, train=…)`` gives every row and score that the fitted job gives, and leaves the model as it is."""
    name, fitted, run, expected = case
    assert expected.missing_baselines == ()
    loaded = load(run, train=CASES[name].data())
    pd.testing.assert_frame_equal(evaluated(loaded, name).table, expected.table, rtol=1e-6)
    assert predict_records(loaded) == predict_records(fitted)


def test_without_it_the_missing_baselines_are_named(case: tuple[str, Job, Path, Evaluation]):
    """Rows are left out only with a note; then no row is marked as the best, and the headline compares nothing."""
    name, _, run, expected = case
    actual = evaluated(load(run), name)
    if actual.table.notna().sum().sum() == expected.table.notna().sum().sum():
        assert actual.missing_baselines == ()
        return
    assert actual.missing_baselines
    assert "--train" in actual.notes[-1]
    assert all(baseline in actual.notes[-1] for baseline in actual.missing_baselines)
    assert not any("*" in line for line in str(actual).splitlines()[: 1 + len(actual.table)])
    assert "best baseline" not in actual.headline
    json.dumps(actual.to_json(), allow_nan=False)


def test_other_training_data_are_refused(case: tuple[str, Job, Path, Evaluation]):
    """Baselines are never fitted to other data than the model."""
    name, _, run, _ = case
    with pytest.raises(DataError, match="not the data that the run was fitted to"):
        load(run, train=CASES[name].other())
