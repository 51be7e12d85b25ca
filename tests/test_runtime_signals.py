"""Exported jobs of sound, text lines and ink: the kinds of data and options that the shared cases lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from job_cases import make
from lstmkit import runtime
from lstmkit.data.audio.griffin_lim import griffin_lim
from lstmkit.errors import DataError, SettingError
from lstmkit.jobs.base import Job
from lstmkit.modules.mixture_density import PenMixture as TorchMixture
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.pen import PenMixture
from same_answers import assert_same, torch_noise

pytest.importorskip("onnx", reason="ONNX export needs the extra export")
pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

pytestmark = [
    pytest.mark.filterwarnings("ignore:low confidence"),  # the networks are hardly trained
    pytest.mark.usefixtures("onnx_functions_parsed_once"),
]

RATE = 4000  # Hz
LEARNS = {"lr": 0.02, "epochs": 25, "steps_per_epoch": 8, "hidden_size": 16, "dropout": 0.0}  # a few letters


def exported(job: Job, folder: Path) -> ExportedJob:
    job.export(folder)
    return runtime.load(folder)


def assert_same_as(job: Job, exported: ExportedJob, data: Any, given: Any, own: Any = None, **options: Any) -> None:
    assert_same(exported.predict(given, **options, **(own or {})), job.to_records(job.predict(data, **options)))


# ---- transcriber -----------------------------------------------------------------------------------------------------


def clip(text: str, seed: int = 0) -> np.ndarray:
    """A noisy tone of an eighth of a second for each letter."""
    tones = [np.sin(2 * np.pi * {"a": 300, "b": 700, " ": 0}[c] * np.arange(500) / RATE) for c in text]
    samples = 0.5 * np.concatenate(tones)
    return (samples + 0.01 * np.random.default_rng(seed).standard_normal(len(samples))).astype(np.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["bidirectional", "unidirectional"])
def listener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, ExportedJob]:
    texts = [f"{a}{b}" for a in "ab" for b in "ab"] * 5
    options = {"bidirectional": request.param, "mean_normalization": request.param, "max_seconds": 1.0}
    job = make("transcriber", sample_rate=RATE, n_mels=8, strides=(2,), **LEARNS, **options)
    job.fit(([(clip(text, seed), RATE) for seed, text in enumerate(texts)], texts))
    return job, exported(job, tmp_path_factory.mktemp("listener"))


def test_clips_are_transcribed_as_by_the_job(listener: tuple[Job, ExportedJob]):
    """Also less than a frame, and more than max_seconds: cut at pauses, or streamed."""
    clips = [clip("ab", 50), clip("b a", 51), np.full(9, 0.1, np.float32), clip("abba bab a bb ab", 52)]
    for beam_size in (1, 3):
        assert_same_as(*listener, [(c, RATE) for c in clips], clips, beam_size=beam_size)


def test_clips_of_another_rate_are_resampled(listener: tuple[Job, ExportedJob]):
    pytest.importorskip("soxr", reason="resampling needs the extra sound")
    clips = [clip("ab", 60), clip("ba", 61)]
    assert_same_as(*listener, [(c, 5000) for c in clips], clips, {"sample_rate": 5000})


@pytest.mark.parametrize(
    ("clips", "phrase"),
    [
        ([], "no examples"),
        ([np.zeros((4, 2))], "samples of one channel"),
        ([[0.0, np.nan]], "NaN or infinite"),
        (["a.wav"], "no array of numbers"),
    ],
    ids=str,
)
def test_what_is_no_clip_is_refused(listener: tuple[Job, ExportedJob], clips: Any, phrase: str):
    with pytest.raises(DataError, match=phrase):
        listener[1].predict(clips)


def line(text: str, seed: int) -> np.ndarray:
    """An image ``(12, W)`` with a bar at the top or at the bottom for each letter."""
    image = np.full((12, 8 * len(text) + 3), 250.0)
    for i, c in enumerate(text):
        image[(2, 8)["ab".index(c)] : (4, 10)["ab".index(c)], 8 * i + 2 : 8 * i + 7] = 10
    return (image + np.random.default_rng(seed).normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("reading_order", ["left-to-right", "right-to-left"])
def test_text_lines_are_transcribed_as_by_the_job(reading_order: str, tmp_path: Path):
    texts = ["ab", "ba", "aab", "bb", "abb"] * 5
    options = {"height": 12, "conv_channels": 3, "line_normalization": False, "reading_order": reading_order}
    job = make("transcriber", **LEARNS, image_augmentation=0.0, **options)
    job.fit(([line(text, seed) for seed, text in enumerate(texts)], texts))
    images, without_torch = [line("abab", 70), line("b", 71)], exported(job, tmp_path / "export")
    assert_same_as(job, without_torch, images, images)
    for bad, phrase in ((np.zeros((9, 4), np.uint8), r"\(12, W\)"), (np.full((12, 4), 2.0), "out of range")):
        with pytest.raises(DataError, match=phrase):
            without_torch.predict([bad])


def strokes(text: str, seed: int) -> np.ndarray:
    """A zigzag for each letter, high or low; the pen is lifted after it."""
    steps = {"a": [[3, 6, 0], [3, -6, 1]], "b": [[3, 2, 0], [1, -2, 0], [3, 2, 1]]}
    points = np.array([step for c in text for step in steps[c]], dtype=np.float32)
    points[:, :2] += np.random.default_rng(seed).normal(0, 0.1, (len(points), 2))
    return points


def test_strokes_are_transcribed_as_by_the_job(tmp_path: Path):
    texts = ["ab", "ba", "aab", "bb", "abb"] * 5
    job = make("transcriber", input_type="strokes", strides=(2,), **LEARNS)
    job.fit(([strokes(text, seed) for seed, text in enumerate(texts)], texts))
    inks, without_torch = [strokes("abab", 80), strokes("b", 81)], exported(job, tmp_path / "export")
    assert_same_as(job, without_torch, inks, [ink.tolist() for ink in inks])
    with pytest.raises(DataError, match="same position"):
        without_torch.predict([[[1, 1, 0], [0, 0, 1]]])


def test_a_language_model_is_fused_and_an_ensemble_is_one_network(tmp_path: Path):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ab "), 3)).strip() + "a" for _ in range(30)]
    model = make("language_model", tokenization="chars").fit(texts)
    model.save(tmp_path / "lm")
    features = [np.repeat(np.eye(3)[["ab ".index(c) for c in text]], 4, axis=0) for text in texts]
    features = [one + 0.5 * rng.standard_normal(one.shape) for one in features]
    options = {"lm": str(tmp_path / "lm"), "beam_size": 4, "insertion_bonus": 0.5, "ensemble_size": 2}
    job = make("transcriber", **LEARNS, **options).fit((features, texts))
    without_torch = exported(job, tmp_path / "export")
    assert sorted(without_torch.graphs) == ["language_model", "network"]
    assert_same_as(job, without_torch, features[:8], features[:8])
    assert_same_as(job, without_torch, features[:8], features[:8], lm_weight=2.0, beam_size=2)
    with pytest.raises(SettingError, match="needs a beam search"):
        without_torch.predict(features[:1], beam_size=1)
    with pytest.raises(DataError, match="model expects 3"):
        without_torch.predict([np.zeros((4, 2))])


# ---- speech synthesizer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize(("n_fft", "hop", "window"), [(64, 16, 64), (64, 10, 41)])
def test_griffin_lim_gives_the_samples_of_librosa(iterations: int, n_fft: int, hop: int, window: int):
    librosa = pytest.importorskip("librosa", reason="librosa is the reference")
    magnitudes = np.random.default_rng(0).random((20, n_fft // 2 + 1)).astype(np.float32)
    expected = librosa.griffinlim(
        magnitudes.T, n_iter=iterations, hop_length=hop, win_length=window, n_fft=n_fft, random_state=0
    )
    samples = griffin_lim(magnitudes, iterations, n_fft, hop, window)
    np.testing.assert_allclose(samples, expected, atol=1e-4 * np.abs(expected).max())


def test_texts_that_cannot_be_spoken_are_refused(tmp_path: Path):
    hums = [(0.5 * np.sin(np.arange(900) * pitch), RATE) for pitch in (0.3, 0.8)] * 6
    without_torch = exported(make("speech_synthesizer").fit((hums, ["ah", "oh"] * 6)), tmp_path / "export")
    (record,) = without_torch.predict("ah!")
    assert record["unknown"] == ["!"]
    assert len(record["samples"]) == round(record["seconds"] * RATE)
    for texts, phrase in (([], "nothing to speak"), (["a", " ", "b"], "text 2 is blank"), (["??"], "use some of aho")):
        with pytest.raises(DataError, match=phrase):
            without_torch.predict(texts)


# ---- handwriting synthesizer -----------------------------------------------------------------------------------------

ZIGZAG = [[1, 1, 0], [1, -1, 0], [1, 2, 1], [1, -2, 0], [1, 1, 1]]


@pytest.mark.parametrize("options", [{}, {"ensemble_size": 2}], ids=str)
def test_drawings_are_made_and_continued_as_by_the_job(options: dict[str, Any], tmp_path: Path):
    job = make("handwriting_synthesizer", **options).fit([ZIGZAG, ZIGZAG[::-1]] * 10)
    without_torch, noise = exported(job, tmp_path / "export"), {"noise": torch_noise}
    assert_same_as(job, without_torch, 3, 3, noise, bias=1.0, seed=4)
    assert_same_as(job, without_torch, [ZIGZAG], [ZIGZAG], noise, prime_points=2, max_new_points=3)
    assert_same_as(job, without_torch, 2, 2, noise, prime=[ZIGZAG])
    for data, phrase in ((0, "1 to 1,000 drawings"), (["a"], "trained without texts"), ([[[1, 1, 1]]], "at least 2")):
        with pytest.raises(DataError, match=phrase):
            without_torch.predict(data)
    with pytest.raises(SettingError, match="bias must be"):
        without_torch.predict(1, bias=99)


def test_texts_are_written_in_the_style_of_a_prime(tmp_path: Path):
    job = make("handwriting_synthesizer").fit([(ZIGZAG, "ab"), (ZIGZAG[:3], "a")] * 10)
    without_torch, noise = exported(job, tmp_path / "export"), {"noise": torch_noise}
    assert_same_as(job, without_torch, ["ab", "b"], ["ab", "b"], noise, prime=[(ZIGZAG, "ab")], bias=0.5)
    assert without_torch.predict(["ab"], seed=3) == without_torch.predict(["ab"], seed=3)
    for data, options, phrase in (
        (2, {}, "writes texts"),
        (["c"], {}, "characters that the training split lacks"),
        (["a"], {"prime": [ZIGZAG]}, "has no text"),
    ):
        with pytest.raises(DataError, match=phrase):
            without_torch.predict(data, **options)


@pytest.mark.parametrize("bias", [0.0, 1.5])
@pytest.mark.parametrize("has_end", [True, False])
def test_points_are_sampled_and_scored_as_by_the_network(has_end: bool, bias: float):
    torch.manual_seed(0)
    parts = [torch.randn(3), torch.randn(3, 2), 0.3 * torch.randn(3, 2), torch.randn(3).tanh(), torch.tensor(0.3)]
    theirs = TorchMixture(*parts, torch.tensor(-0.2) if has_end else None)
    ours = PenMixture(*(part.numpy().astype(np.float64) for part in parts), -0.2 if has_end else None)
    for noise in torch.rand(50, 5):
        point = theirs.sample(noise, bias)
        np.testing.assert_allclose(ours.sample(noise.numpy(), bias), point.numpy(), rtol=1e-4, atol=1e-5)
        assert ours.nll(point.numpy()) == pytest.approx(float(theirs.nll(point)[:2].sum()), rel=1e-4, abs=1e-5)
