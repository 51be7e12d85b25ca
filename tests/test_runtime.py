"""Exported jobs give the answers of the jobs, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from job_cases import CASES, make
from lstmkit import runtime
from lstmkit.errors import ModelFileError, UserError
from lstmkit.jobs import job_names
from lstmkit.jobs.base import Job
from lstmkit.modules.heads import DistributionHead
from lstmkit.runtime import forecaster

pytest.importorskip("onnx", reason="ONNX export needs the extra export")
pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

#: Options of predict with which the answers do not depend on random numbers.
DETERMINISTIC: dict[str, dict[str, Any]] = {"language_model": {"max_tokens": 5, "temperature": 0.0}}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def runtime_data(job: Job, name: str, data: Any) -> tuple[Any, dict[str, Any]]:
    """The data of a case as its runtime takes them, and options that belong to them."""
    if name == "classifier:video":
        return [clip.frames for clip in job.read(data).inputs], {}
    if name == "classifier:audio":
        return data[0], {"sample_rate": data[2]}
    if isinstance(data, pd.DataFrame):
        texts = data.assign(**{column: data[column].astype(str) for column in data if data[column].dtype.kind == "M"})
        return {str(column): texts[column].tolist() for column in texts}, {}
    return data[0] if isinstance(data, tuple) else data, {}


def case_data(data: Any, options: dict[str, Any]) -> Any:
    """The data of a case, with the covariates that options name."""
    names = options.get("past_covariates", ())
    return data.assign(**{name: np.arange(len(data)) % 7 * 1.0 for name in names}) if names else data


@pytest.fixture
def no_random_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recursive forecaster draws the location of each distribution, plus a part of the spread by path."""

    class Drawn:
        def __init__(self, head: DistributionHead, outputs: torch.Tensor, scale: torch.Tensor) -> None:
            self.parameters = head.parameters_of(outputs)

        def sample(self) -> torch.Tensor:
            return self.parameters[:, 0] + self.parameters[:, 1] * torch.linspace(-1, 1, len(self.parameters))

        def log_prob(self, values: torch.Tensor) -> torch.Tensor:
            return -((values - self.parameters[..., 0]) ** 2)

    def draw(family: str, parameters: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
        return parameters[:, 0] + parameters[:, 1] * np.linspace(-1, 1, len(parameters))

    monkeypatch.setattr(DistributionHead, "distribution", lambda *arguments: Drawn(*arguments))
    monkeypatch.setattr(forecaster, "draw", draw)


CASES_AND_OPTIONS = [
    pytest.param(name, options, id=f"{name}-{options}")
    for name, case in CASES.items()
    if name.partition(":")[0] in runtime.job_names()
    for options in ({}, *case.options)
]


def assert_same(got: Any, expected: Any, where: str = "answer") -> None:
    """Equal but for rounding of floating-point numbers."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(got[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple, np.ndarray)):
        assert len(got) == len(expected), where
        for k, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{k}]")
    elif isinstance(expected, (float, np.floating)):
        np.testing.assert_allclose(got, expected, **CLOSE, err_msg=where)
    else:
        assert got == expected, where


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("no_random_paths")
@pytest.mark.parametrize(("name", "options"), CASES_AND_OPTIONS)
def test_an_exported_job_gives_the_answers_of_the_job(name: str, options: dict[str, Any], tmp_path: Path):
    case = CASES[name]
    job = make(name, **options).fit(case_data(case.data(), options))
    other = case_data(case.other(), options)
    predict = {**case.predict_options, **DETERMINISTIC.get(name, {})}
    files = job.export(tmp_path / "export")
    assert sorted(tmp_path.joinpath("export").iterdir()) == sorted(files)
    data, own = runtime_data(job, name, other)
    answers = runtime.load(tmp_path / "export").predict(data, **predict, **own)
    assert_same(answers, job.to_records(job.predict(other, **predict)))


@pytest.mark.parametrize("name", sorted(set(job_names()) - set(runtime.job_names())))
def test_a_job_without_a_runtime_says_so(name: str):
    with pytest.raises(UserError, match=f"{name} cannot be exported"):
        make(name).exported()


#: Runs an export in a process in which only the standard library, lstmkit, and a few libraries can be imported.
WITHOUT_TORCH = """
import json, sys
ALLOWED = {"lstmkit", "numpy", "onnxruntime", "tokenizers", "typing_extensions", "flatbuffers", "google", "packaging"}
class Only:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in ALLOWED or top in sys.stdlib_module_names or top.startswith("_")
        return self.finder.find_spec(name, path, target) if known else None
    def __getattr__(self, name): return getattr(self.finder, name)
sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
from lstmkit import runtime
answers = runtime.load(sys.argv[1]).predict(json.loads(sys.argv[2]), **json.loads(sys.argv[3]))
assert "torch" not in sys.modules
print(json.dumps(answers))
"""


@pytest.mark.parametrize("name", ["anomaly_detector", "classifier", "forecaster", "language_model"])
def test_an_exported_job_runs_without_torch(name: str, tmp_path: Path):
    case, options = CASES[name], DETERMINISTIC.get(name, {})
    job = make(name).fit(case.data())
    job.export(tmp_path / "export")
    data, own = runtime_data(job, name, case.other())
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "export"), json.dumps(data), json.dumps(options | own)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_same(json.loads(done.stdout), job.to_records(job.predict(case.other(), **options)))


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an exported classifier."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    job = make("classifier").fit(CASES["classifier"].data())
    return {path.name: path.read_bytes() for path in job.export(folder)}


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def changed(files: dict[str, bytes], **values: Any) -> dict[str, bytes]:
    return {**files, "export.json": json.dumps({**json.loads(files["export.json"]), **values}).encode()}


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"format": 99}, "newer lstmkit"),
        ({"format": "1"}, "no description of an export"),
        ({"job": "abacus"}, "export of the job 'abacus'"),
        ({"job": "../classifier"}, "which this lstmkit does not have"),
        ({"job": "base"}, "which this lstmkit does not have"),
        ({"graphs": ["../network"]}, "is damaged"),
        ({"graphs": [3]}, "is damaged"),
        ({"graphs": ["other"]}, r"other\.onnx is missing"),
        ({"settings": []}, "is damaged"),
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(exported: dict[str, bytes], values: Any, phrase: str, tmp_path: Path):
    with pytest.raises(ModelFileError, match=phrase):
        runtime.load(written(changed(exported, **values), tmp_path))


def test_a_damaged_graph_is_refused(exported: dict[str, bytes], tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"network\.onnx is damaged"):
        runtime.load(written({**exported, "network.onnx": b"no graph"}, tmp_path))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"null"], ids=lambda content: repr(content[:9]))
def test_a_description_that_is_no_json_is_refused(exported: dict[str, bytes], content: bytes, tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"export\.json"):
        runtime.load(written({**exported, "export.json": content}, tmp_path))


def test_a_folder_without_an_export_is_refused(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"has no export\.json"):
        runtime.load(tmp_path)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path):
    job = make("classifier").fit(CASES["classifier"].data())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="has other files"):
        job.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        job.export(tmp_path / "file")
    for _ in range(2):
        job.export(tmp_path / "export")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"format": "keras2"}, "format must be one of"),
        ({"quantize": "int4"}, "quantize must be one of none, int8, got 'int4'"),
        ({"opset": 3}, "opset must be 17 to 23, got 3"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused(arguments: dict[str, Any], phrase: str, tmp_path: Path):
    job = make("classifier").fit(CASES["classifier"].data())
    with pytest.raises(UserError, match=phrase):
        job.export(tmp_path / "export", **arguments)
    assert not (tmp_path / "export").exists()
