"""A loaded model has the same baselines as a fitted one, or says which are missing and how to get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from job_cases import CASES, make, predict_records
from lstmkit.errors import DataError
from lstmkit.jobs import load
from lstmkit.jobs.base import Job

every_case = pytest.mark.parametrize("name", list(CASES))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a run; its report page, which takes longer than everything else, is not drawn."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))
    return tmp_path / "run"


def evaluated(job: Job, name: str) -> Any:
    return job.evaluate(CASES[name].data())


@every_case
def test_with_its_training_data_a_loaded_model_has_the_same_table(name: str, run: Path):
    """``load(run, train=…)`` gives every row and score that the fitted job gives, and leaves the model as it is."""
    fitted = make(name).fit(CASES[name].data(), run=run)
    expected = evaluated(fitted, name)
    assert expected.missing_baselines == ()
    loaded = load(run, train=CASES[name].data())
    pd.testing.assert_frame_equal(evaluated(loaded, name).table, expected.table, rtol=1e-6)
    assert predict_records(loaded) == predict_records(fitted)


@every_case
def test_without_it_the_missing_baselines_are_named(name: str, run: Path):
    """Rows are left out only with a note; then no row is marked as the best, and the headline compares nothing."""
    fitted = make(name).fit(CASES[name].data(), run=run)
    expected, actual = evaluated(fitted, name), evaluated(load(run), name)
    if actual.table.notna().sum().sum() == expected.table.notna().sum().sum():
        assert actual.missing_baselines == ()
        return
    assert actual.missing_baselines
    assert "--train" in actual.notes[-1]
    assert all(baseline in actual.notes[-1] for baseline in actual.missing_baselines)
    assert not any("*" in line for line in str(actual).splitlines()[: 1 + len(actual.table)])
    assert "best baseline" not in actual.headline
    json.dumps(actual.to_json(), allow_nan=False)


@every_case
def test_other_training_data_are_refused(name: str, run: Path):
    """Baselines are never fitted to other data than the model."""
    make(name).fit(CASES[name].data(), run=run)
    with pytest.raises(DataError, match="not the data that the run was fitted to"):
        load(run, train=CASES[name].other())
