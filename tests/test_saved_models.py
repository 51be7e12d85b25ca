"""Models saved by version 0.1 load as current jobs and predict the same; so do models saved today.

``data/saved_0_1/JOB`` or ``JOB_KIND`` holds ``model.json``, ``weights.safetensors``, ``run.json`` and ``answer.json``:
the records of the predictions of version 0.1 on the data of the job's case. Only the 8-state answers of the
secondary structure predictor are newer: in version 0.1 they contradicted the 3-state answers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lstmkit
from job_cases import CASES, make, predict_records
from lstmkit import settings
from lstmkit.errors import ModelFileError
from lstmkit.jobs import class_name, job_names

SAVED = Path(__file__).parent / "data" / "saved_0_1"
FOLDERS = sorted(path.name for path in SAVED.iterdir())

#: The jobs of version 0.1, by their current names.
JOBS_OF_0_1 = {
    "anomaly_detector", "captioner", "classifier", "forecaster",
    "handwriting_synthesizer", "image_generator", "language_model", "music_composer",
    "question_answerer", "recommender", "secondary_structure_predictor", "speech_synthesizer",
    "summarizer", "tagger", "transcriber", "translator",
}  # fmt: skip

every_saved_model = pytest.mark.parametrize("name", FOLDERS)


def job_of(folder: str) -> str:
    """The job of a folder: ``classifier_sound`` has a model of the classifier."""
    return max((job for job in job_names() if folder == job or folder.startswith(f"{job}_")), key=len)


def leaves(value: Any) -> Iterator[Any]:
    """All numbers and texts in order, without the keys."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def as_json(records: Any) -> list[Any]:
    return list(leaves(json.loads(json.dumps(records, default=str))))


def assert_same(actual: list[Any], expected: list[Any]) -> None:
    """Numbers to 1e-5, since another CPU may round otherwise; everything else exactly."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        exact = isinstance(b, (str, bool)) or b is None
        assert a == (b if exact else pytest.approx(b, rel=1e-5, abs=1e-5))


def test_every_job_of_version_0_1_has_a_saved_model():
    """The jobs have their current names; a job that was added later has no saved model."""
    assert {job_of(folder) for folder in FOLDERS} == JOBS_OF_0_1


@every_saved_model
def test_a_model_of_version_0_1_predicts_the_same(name: str):
    """It loads as the current job, even if the job or its settings had other names.

    The summaries were written again after a fault of beam search was mended: none has a lower score than that of 0.1.
    """
    description = json.loads((SAVED / name / "model.json").read_text(encoding="utf-8"))
    assert description["lstmkit"] == "0.1.0"
    job = lstmkit.load(SAVED / name)
    assert type(job) is getattr(lstmkit, class_name(job_of(name)))
    expected = json.loads((SAVED / name / "answer.json").read_text(encoding="utf-8"))
    assert_same(as_json(predict_records(job)), list(leaves(expected)))


@every_saved_model
def test_settings_of_version_0_1_keep_their_values(name: str):
    """Every saved value is that of a current setting; every other setting has its default."""
    description = json.loads((SAVED / name / "model.json").read_text(encoding="utf-8"))
    job = lstmkit.load(SAVED / name)
    saved = type(job).current(description["settings"])
    assert len(saved) == len(description["settings"])
    current = settings.values(job)
    assert saved.keys() <= current.keys()
    for key, value in current.items():
        default = settings.declared(type(job))[key].default
        assert value == saved.get(key, list(default) if isinstance(default, tuple) else default), key


@every_saved_model
def test_a_model_of_version_0_1_is_saved_under_current_names(name: str, tmp_path: Path):
    """Saved again, it has the current job and settings, and still predicts the same."""
    job = lstmkit.load(SAVED / name)
    reloaded = lstmkit.load(job.save(tmp_path / "model"))
    description = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert description["job"] == job_of(name)
    assert description["settings"] == settings.values(job)
    assert as_json(predict_records(reloaded)) == as_json(predict_records(job))


@pytest.mark.parametrize("name", list(CASES))
def test_current_settings_are_saved_and_loaded(name: str, tmp_path: Path):
    """Each setting keeps its value and its type, whether default or not."""
    changed = make(name, **(CASES[name].options[0] if CASES[name].options else {}), lr=0.002, cell="gru")
    job = changed.fit(CASES[name].data())
    loaded = lstmkit.load(job.save(tmp_path / "model"))
    assert type(loaded) is type(job)
    assert loaded.get_params() == job.get_params() == changed.get_params()
    assert {key: type(value) for key, value in loaded.get_params().items()} == {
        key: type(value) for key, value in job.get_params().items()
    }


@every_saved_model
def test_an_unknown_setting_in_an_old_model_is_refused(name: str, tmp_path: Path):
    """The message names the folder, the job and the setting."""
    shutil.copytree(SAVED / name, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["settings"]["hidden_sise"] = 4
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"model is not a valid .* model \(unknown setting 'hidden_sise'"):
        lstmkit.load(tmp_path / "model")


@pytest.mark.parametrize("job", ["forecast_2", "writers", "", None, ["writer"]])
def test_an_unknown_job_in_an_old_model_is_refused(job: Any, tmp_path: Path):
    """Only the names of version 0.1 and the current names are known."""
    shutil.copytree(SAVED / "forecaster", tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "job": job}), encoding="utf-8")
    with pytest.raises(ModelFileError, match="which this lstmkit does not have"):
        lstmkit.load(tmp_path / "model")
