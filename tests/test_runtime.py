"""Exported jobs give the answers of the jobs, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from job_cases import CASES, fitted, make
from lstmkit import runtime
from lstmkit.decoding import generation
from lstmkit.errors import DataError, ModelFileError, SettingError, UserError
from lstmkit.jobs import job_names
from lstmkit.jobs.base import Job
from lstmkit.modules.heads import DistributionHead
from lstmkit.runtime import label_sampling, particles, sampling
from lstmkit.runtime.jobs import forecaster
from lstmkit.runtime.jobs.captioner import Captioner
from lstmkit.runtime.jobs.question_answerer import QuestionAnswerer
from lstmkit.runtime.jobs.summarizer import Summarizer
from lstmkit.runtime.jobs.translator import Translator
from same_answers import assert_same, torch_noise, without_ties

pytest.importorskip("onnx", reason="ONNX export needs the extra export")
pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

pytestmark = pytest.mark.usefixtures("onnx_functions_parsed_once")

ExportedCase = Callable[[str], Path]  #: :func:`conftest.exported_case`

#: Options of predict with which the answers do not depend on random numbers.
DETERMINISTIC: dict[str, dict[str, Any]] = {
    "language_model": {"max_tokens": 5, "temperature": 0.0},
    "music_composer": {"length": 8, "temperature": 0.0},
}


def runtime_data(job: Job, name: str, data: Any) -> tuple[Any, dict[str, Any]]:
    """The data of a case as its runtime takes them, and options that belong to them."""
    if name == "object_detector":
        return [each.clip.frames for each in job.read(data).clips], {}
    if name in ("classifier:video", "captioner:clips"):
        return [clip.frames for clip in job.read(data).inputs], {}
    if name == "captioner":
        return job.read(data).inputs, {}
    if name in ("summarizer", "translator"):
        return [source for source, _ in data], {}
    if name == "classifier:audio":
        return data[0], {"sample_rate": data[2]}
    if name == "image_generator":
        images = job.read(data)
        return images.pixels, {"labels": images.labels}
    if name == "tagger":
        return [tokens for tokens, _ in data], {}
    if name == "secondary_structure_predictor":
        return data[["id", "sequence"]].to_dict("records"), {}
    if name == "transcriber":
        return [features.tolist() for features in data[0]], {}
    if name == "speech_synthesizer":
        return data[1], {}
    if name == "handwriting_synthesizer":
        return [text for _, text in data], {"noise": torch_noise}
    if isinstance(data, pd.DataFrame):
        texts = data.assign(**{column: data[column].astype(str) for column in data if data[column].dtype.kind == "M"})
        return {str(column): texts[column].tolist() for column in texts}, {}
    return data[0] if isinstance(data, tuple) else data, {}


def case_data(data: Any, options: dict[str, Any]) -> Any:
    """The data of a case, with the covariates that options name."""
    names = options.get("past_covariates", ())
    return data.assign(**{name: np.arange(len(data)) % 7 * 1.0 for name in names}) if names else data


@contextmanager
def no_random_paths() -> Iterator[None]:
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistributionHead, "distribution", lambda *arguments: Drawn(*arguments))
        patch.setattr(forecaster, "draw", draw)
        yield


CASES_AND_OPTIONS = [
    pytest.param(name, options, id=f"{name}-{options}")
    for name, case in CASES.items()
    for options in ({}, *case.options)
]


@pytest.mark.sampled(20, each=("name",))
@pytest.mark.parametrize(("name", "options"), CASES_AND_OPTIONS)
def test_an_exported_job_gives_the_answers_of_the_job(
    name: str, options: dict[str, Any], exported_case: ExportedCase, tmp_path: Path
):
    case, folder = CASES[name], tmp_path / "export"
    if options:
        job = make(name, **options).fit(case_data(case.data(), options))
        assert sorted(job.export(folder)) == sorted(folder.iterdir())
    else:
        job, folder = fitted(name), exported_case(name)
    other = case_data(case.other(), options)
    predict = {**case.predict_options, **DETERMINISTIC.get(name, {})}
    data, own = runtime_data(job, name, other)
    with no_random_paths():
        answers = runtime.load(folder).predict(data, **predict, **own)
        assert_same(*without_ties(answers, job.to_records(job.predict(other, **predict))))


def test_every_job_has_a_runtime():
    assert runtime.job_names() == job_names()


#: Cases whose data are JSON values.
JSON_DATA = (
    *("anomaly_detector", "classifier", "forecaster", "language_model", "question_answerer", "speech_synthesizer"),
    *("summarizer", "tagger", "transcriber", "translator"),
)

#: The start of a process in which only the standard library, lstmkit, and a few libraries can be imported.
WITHOUT_TORCH = """
import importlib, json, sys
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
"""
ANSWERS = """
answers = runtime.load(sys.argv[1]).predict(json.loads(sys.argv[2]), **json.loads(sys.argv[3]))
assert "torch" not in sys.modules
print(json.dumps(answers))
"""


def test_every_runtime_is_imported_without_torch():
    imports = "for name in runtime.job_names(): importlib.import_module(f'lstmkit.runtime.jobs.{name}')"
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + imports], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", JSON_DATA)
def test_an_exported_job_runs_without_torch(name: str, exported_case: ExportedCase):
    case, options = CASES[name], DETERMINISTIC.get(name, {})
    job, folder = fitted(name), exported_case(name)
    data, own = runtime_data(job, name, case.other())
    arguments = [str(folder), json.dumps(data), json.dumps(options | own)]
    command = [sys.executable, "-c", WITHOUT_TORCH + ANSWERS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers, expected = json.loads(done.stdout), job.to_records(job.predict(case.other(), **options))
    # Two summaries of one text have the same score to the last bit.
    assert_same(*(without_ties(answers, expected) if name == "summarizer" else (answers, expected)))


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(exported_case: ExportedCase) -> dict[str, bytes]:
    """The files of an exported classifier."""
    return {path.name: path.read_bytes() for path in exported_case("classifier").iterdir()}


def written(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def changed(files: dict[str, bytes], **values: Any) -> dict[str, bytes]:
    return {**files, "export.json": json.dumps({**json.loads(files["export.json"]), **values}).encode()}


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"version": 99}, "newer lstmkit"),
        ({"version": "1"}, "no description of an export"),
        ({"format": "torch"}, "export the run with format onnx"),
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


def test_another_number_of_features_is_refused(tmp_path: Path):
    series = np.random.default_rng(0).normal(size=(40, 12, 2))
    job = make("classifier").fit((list(series), ["up" if one[-1, 0] > 0 else "down" for one in series]))
    job.export(tmp_path / "export")
    classifier = runtime.load(tmp_path / "export")
    assert_same(classifier.predict(series[:5]), job.to_records(job.predict(list(series[:5]))))
    for data in (series[:2, :, :1], np.zeros((2, 12, 3)), np.zeros((2, 12))):
        with pytest.raises(DataError, match=r"the data have the shape .*, the model reads \(any, any, 2\)"):
            classifier.predict(data)


def test_a_damaged_graph_is_refused(exported: dict[str, bytes], tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"network\.onnx is damaged"):
        runtime.load(written({**exported, "network.onnx": b"no graph"}, tmp_path))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"null"], ids=lambda content: repr(content[:9]))
def test_a_description_that_is_no_json_is_refused(exported: dict[str, bytes], content: bytes, tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"export\.json"):
        runtime.load(written({**exported, "export.json": content}, tmp_path))


def test_a_tokenizer_is_read_once(exported: dict[str, bytes], tmp_path: Path):
    folder, tokenizer = written(exported, tmp_path), tmp_path / "tokenizer.json"
    classifier = runtime.load(folder)
    tokenizer.write_bytes(b"no tokenizer")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json cannot be read"):
        classifier.predict(["a good film"])
    tokenizer.write_bytes(exported["tokenizer.json"])
    answers = classifier.predict(["a good film"])
    tokenizer.unlink()
    assert classifier.predict(["a good film"]) == answers
    with pytest.raises(ModelFileError, match=r"tokenizer\.json cannot be read"):
        runtime.load(folder).predict(["a good film"])


def test_a_folder_without_an_export_is_refused(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"has no export\.json"):
        runtime.load(tmp_path)


def test_an_export_replaces_an_export_and_nothing_else(exported_case: ExportedCase, tmp_path: Path):
    job = fitted("classifier")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="has other files"):
        job.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        job.export(tmp_path / "file")
    shutil.copytree(exported_case("classifier"), tmp_path / "export")
    job.export(tmp_path / "export")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"format": "keras2"}, "format must be one of onnx, torch, safetensors, got 'keras2'$"),
        ({"format": "rtneural"}, "lstmkit.export_rtneural writes layers"),
        ({"format": "torch", "quantize": "int8"}, "quantize='int8' is for the formats onnx and safetensors"),
        ({"quantize": "int4"}, "quantize must be one of none, int8, got 'int4'"),
        ({"opset": 3}, "opset must be 17 to 23, got 3"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused(arguments: dict[str, Any], phrase: str, tmp_path: Path):
    with pytest.raises(UserError, match=phrase):
        fitted("classifier").export(tmp_path / "export", **arguments)
    assert not (tmp_path / "export").exists()


# ---- jobs with random numbers ----------------------------------------------------------------------------------------


def test_new_images_from_the_same_noise_are_the_same(tmp_path: Path):
    job = make("image_generator", class_conditional=True, ensemble_size=2, batch_size=2)
    job.fit(CASES["image_generator"].data()).export(tmp_path / "export")
    generator = runtime.load(tmp_path / "export")
    noise = torch.randn(5, job.glimpses, job.latent_size, generator=torch.Generator().manual_seed(3)).numpy()
    expected = job.to_records(job.predict(5, seed=3))
    assert_same(generator.predict(5, noise=noise), expected)
    assert generator.predict(5) != expected
    assert {record["label"] for record in generator.predict(2, label="up")} == {"up"}
    with pytest.raises(SettingError, match="unknown label 'cat': the model knows along, up"):
        generator.predict(2, label="cat")


def test_a_melody_is_harmonized_as_the_job_does(exported_case: ExportedCase):
    job, composer = fitted("music_composer"), runtime.load(exported_case("music_composer"))
    pieces = CASES["music_composer"].other()
    options = {"condition": "melody", "temperature": 0.0}
    assert_same(composer.predict(pieces, **options), job.to_records(job.predict(pieces, **options)))
    for piece, record in zip(pieces, composer.predict(pieces, condition="melody", seed=1), strict=True):
        assert [max(chord) for chord in record["chords"]] == [max(chord) for chord in piece]
    assert composer.predict(pieces, length=20, seed=1) != composer.predict(pieces, length=20, seed=2)


def test_sampled_tokens_have_the_distribution_of_the_logits():
    rng, logits = np.random.default_rng(0), np.log(np.array([0.5, 0.3, 0.2]))
    drawn = [sampling.draw(sampling.filter_logits(logits, 1.0, 0, 0.7), rng) for _ in range(4000)]
    counts = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(counts, [0.625, 0.375, 0.0], atol=0.03)


def test_sampled_labels_are_those_of_the_job():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 6))
    for temperature in (0.0, 0.5, 1.0):
        noise = rng.random((4, 6))
        expected = generation.sample_labels(
            lambda labels: labels @ torch.from_numpy(weights) - 0.2, torch.from_numpy(noise), temperature
        )
        found = label_sampling.sample_labels(lambda labels: labels @ weights - 0.2, noise, temperature)
        assert found.tolist() == expected.tolist()


def test_a_particle_filter_samples_from_the_posterior():
    """Two coins in a row are the same coin; the second toss is seen. The first is as likely as the second says."""
    rng, firsts = np.random.default_rng(0), []

    def step(values: np.ndarray, t: int, state: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        if t == 0:
            values = rng.integers(0, 2, len(values)).astype(float)
        return values, np.zeros(len(values)) if t == 0 else np.log(np.where(values == 1, 0.9, 0.1)), state

    for _ in range(600):
        values, _ = particles.particle_filter(step, np.zeros(32), None, 2, lambda state, rows: state, rng)
        firsts.append(values[0])
    assert abs(np.mean(firsts) - 0.9) < 0.05


SEARCH = {"length_penalty": 1.0, "no_repeat_ngram_size": 0, "max_output_tokens": [2, 10]}
IMAGES = {**SEARCH, "reads": "images", "shape": [4, 4, 3], "grid": [1, 1]}
CLIPS = {**IMAGES, "reads": "clips"}
FEATURES = {**IMAGES, "reads": "features", "shape": [2], "grid": []}


@pytest.mark.parametrize(
    ("cls", "settings", "data", "options", "phrase"),
    [
        (Translator, SEARCH, [], {}, "there is no text: give at least one"),
        (Translator, SEARCH, ["a", 3], {}, "input 2 is int: give texts"),
        (Translator, SEARCH, ["a"], {"n_best": 6}, "n_best must be from 1 to beam_size, got n_best 6 and beam_size 5"),
        (Summarizer, SEARCH, ["a"], {"beam_size": 0}, "got n_best 1 and beam_size 0"),
        (QuestionAnswerer, {}, [], {}, r"give at least one \(story, question\) pair"),
        (QuestionAnswerer, {}, "questions.json", {}, r"give at least one \(story, question\) pair, not str"),
        (QuestionAnswerer, {}, [("story", "question"), ("story",)], {}, "question 2 is .* give each as"),
        (QuestionAnswerer, {}, [("story", 3)], {}, "question 1 is .* give each as"),
        (Captioner, IMAGES, [], {}, "give at least one array of images"),
        (Captioner, IMAGES, "a.png", {}, "give at least one array of images, not str 'a.png'"),
        (Captioner, IMAGES, [np.zeros((4, 4, 3))], {}, r"float64: give \(4, 4, 3\) of uint8"),
        (Captioner, IMAGES, np.zeros((1, 4, 5, 3), np.uint8), {}, r"shape \(4, 5, 3\), uint8: give \(4, 4, 3\)"),
        (Captioner, IMAGES, [[[1], [2, 3]]], {}, "input 1 is not an array"),
        (Captioner, IMAGES, np.zeros((1, 4, 4, 3), np.uint8), {"n_best": 4}, "n_best 4 and beam_size 3"),
        (Captioner, CLIPS, np.zeros((1, 0, 4, 4, 3), np.uint8), {}, r"give \(T, 4, 4, 3\) of uint8"),
        (
            Captioner,
            CLIPS,
            np.zeros((1, 2, 4, 4, 3), np.uint8),
            {"frame_rate": 0.0},
            "frame_rate must be above 0",
        ),
        (Captioner, FEATURES, np.full((1, 3, 2), np.nan), {}, "input 1 has NaN or infinite features"),
        (Captioner, FEATURES, [["a", "b"]], {}, r"give \(S, 2\) of numbers"),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else str(value)[:20],
)
def test_data_of_another_kind_are_refused(cls: Any, settings: Any, data: Any, options: Any, phrase: str):
    with pytest.raises(UserError, match=phrase):
        cls(Path(), [], settings, 1).predict(data, **options)
