"""What every job promises, shown for every job there is. A new job brings its tiny data in ``CASES``."""

from __future__ import annotations

import html.parser
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lstmkit import look, settings
from lstmkit.errors import DataError, ModelFileError, SettingError, UserError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import Evaluation, Job
from lstmkit.models.base import Ensemble
from lstmkit.progress import Progress, Task
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import is_unfinished


@dataclass(frozen=True)
class Case:
    """What a job is tested with.

    Attributes:
        settings: That make it tiny; all that a constructor of the job needs.
        data: Tiny data, the same each time.
        other: Data of the same form that say something else.
        bad: Data that the job must refuse.
        options: A setting with another value than the default's, of each kind worth a run of its own.
        asks: Options of predict that make it short.
    """

    settings: dict[str, Any]
    data: Callable[[], Any]
    other: Callable[[], Any]
    bad: Callable[[], Any]
    options: tuple[dict[str, Any], ...] = ()
    asks: dict[str, Any] = field(default_factory=dict)


def _crosses(seed: int, n: int = 40) -> tuple[np.ndarray, list[str]]:
    """Upright and lying strokes, and which each is."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((n, 5, 4), dtype=np.float32)
    for i, picture in enumerate(pictures):
        picture[(slice(None), rng.integers(4)) if i % 2 else (rng.integers(5), slice(None))] = rng.uniform(0.6, 1)
    return pictures, ["up" if i % 2 else "along" for i in range(n)]


def _series(seed: int, n: int = 40) -> pd.DataFrame:
    rng, steps = np.random.default_rng(seed), np.arange(n)
    timestamps = pd.date_range("2020-01-01", periods=n)
    frames = [
        pd.DataFrame({"unique_id": k, "ds": timestamps, "y": 10 + np.sin(steps) + 0.1 * rng.standard_normal(n)})
        for k in "ab"
    ]
    return pd.concat(frames, ignore_index=True)


def _lines(seed: int, n: int = 40) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(["the", "cat", "sat", "on", "a", "mat"], 6)) for _ in range(n)]


def _sentences(seed: int, n: int = 40) -> list[tuple[list[str], list[str]]]:
    rng = np.random.default_rng(seed)
    kinds = {"D": ["the", "a"], "N": ["cat", "mat"], "V": ["sat", "is"]}
    tags = [[str(tag) for tag in rng.choice(list(kinds), int(rng.integers(1, 6)))] for _ in range(n)]
    return [([str(rng.choice(kinds[tag])) for tag in some], some) for some in tags]


def _labelled(seed: int, n: int = 40) -> tuple[list[str], list[str]]:
    texts = _lines(seed, n)
    return texts, ["cat" if "cat" in text else "none" for text in texts]


def _pairs(seed: int, n: int = 40) -> list[tuple[str, str]]:
    """Words in the other order and the other case."""
    return [(line, " ".join(reversed(line.upper().split()))) for line in _lines(seed, n)]


def _questions(seed: int, n: int = 40) -> list[tuple[str, str, str]]:
    """Two move, one is asked for."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        where = {who: str(rng.choice(["garden", "kitchen", "hall"])) for who in ("Mary", "John")}
        who = str(rng.choice(list(where)))
        story = "\n".join(f"{each} went to the {place}." for each, place in where.items())
        found.append((story, f"Where is {who}?", where[who]))
    return found


def _chains(seed: int, n: int = 40) -> pd.DataFrame:
    """A helix of alanines, a strand of valines, and coils of anything."""
    rng = np.random.default_rng(seed)
    parts = [[("A" * 4, "H"), ("V" * 3, "E"), ("".join(rng.choice(list("GPX"), 2)), "C")] for _ in range(n)]
    picked = [[part[i] for i in rng.integers(0, 3, int(rng.integers(1, 4)))] for part in parts]
    sequences = ["".join(residues for residues, _ in one) for one in picked]
    states = ["".join(len(residues) * state for residues, state in one) for one in picked]
    eight = [one.replace("HH", "HG") for one in states]
    return pd.DataFrame({"id": [f"c{i}" for i in range(n)], "sequence": sequences, "ss3": states, "ss8": eight})


def _pieces(seed: int, n: int = 12) -> list[list[list[int]]]:
    """A key that climbs, with another above it every second step."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 7, n).tolist()
    return [[[60 + (start + t) % 7, *([72] if t % 2 else [])] for t in range(6)] for start in starts]


def _recordings(seed: int, n: int = 200) -> pd.DataFrame:
    t, rng = np.arange(n), np.random.default_rng(seed)
    frame = pd.DataFrame({"a": np.sin(t / 3), "b": np.cos(t / 4)}) + 0.05 * rng.standard_normal((n, 2))
    frame.loc[180:185, "a"] += 2
    return frame.assign(label=((t >= 180) & (t < 186)).astype(int))


def _sessions(seed: int, n: int = 40) -> list[list[str]]:
    """Each letter is mostly followed by the next."""
    rng = np.random.default_rng(seed)
    letters = "abcdef"
    return [[letters[(start + k) % 6] for k in range(int(rng.integers(1, 7)))] for start in rng.integers(0, 6, n)]


def _drawings(seed: int, n: int = 20) -> list[list[list[float]]]:
    """Zigzags of one or two strokes."""
    rng = np.random.default_rng(seed)
    down = rng.normal(2, 0.2, n)
    return [[[1, d, 0], [1, -d, k % 2], [1, d, 0], [1, -d, 1]] for k, d in enumerate(down.tolist())]


def _lettered(seed: int) -> list[tuple[list[list[float]], str]]:
    """The same, each with a text."""
    return [(points, "ab" if points[1][2] else "a") for points in _drawings(seed)]


def _voice(seed: int, n: int = 10) -> tuple[list[tuple[np.ndarray, int]], list[str]]:
    """A hum for each letter, the one after the other."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list("aou"), int(rng.integers(1, 4)))) for _ in range(n)]
    hums = {letter: np.sin(np.arange(320) * pitch) for letter, pitch in zip("aou", (0.3, 0.8, 1.5), strict=True)}
    return [(np.concatenate([hums[letter] for letter in text]), 4000) for text in texts], texts


def _tones(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str], int]:
    """Low and high ones, an eighth of a second, at 8,000 samples a second."""
    rng = np.random.default_rng(seed)
    hertz = [(300, 1500)[i % 2] * rng.uniform(0.9, 1.1) for i in range(n)]
    waves = [0.3 * np.sin(2 * np.pi * f * np.arange(1000) / 8000).astype(np.float32) for f in hertz]
    noisy = [(wave + 0.01 * rng.standard_normal(1000)).astype(np.float32) for wave in waves]
    return noisy, [("low", "high")[i % 2] for i in range(n)], 8000


def _clips(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str]]:
    """A bright square that goes left or right, four to six frames of 16 by 16 dots."""
    rng = np.random.default_rng(seed)
    clips = [np.zeros((int(rng.integers(4, 7)), 16, 16), dtype=np.uint8) for _ in range(n)]
    for i, frames in enumerate(clips):
        top = int(rng.integers(0, 12))
        for t, frame in enumerate(frames):
            left = 2 * t if i % 2 else 12 - 2 * t
            frame[top : top + 4, left : left + 4] = 200
    return clips, [("left", "right")[i % 2] for i in range(n)]


def _told(seed: int) -> tuple[list[np.ndarray], list[str]]:
    """The same with a sentence each."""
    clips, ways = _clips(seed)
    return clips, [f"a square goes {way}" for way in ways]


def _seen(seed: int, n: int = 40) -> tuple[np.ndarray, list[list[str]]]:
    """A red or blue square somewhere, with one sentence or two."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((n, 16, 16, 3), dtype=np.uint8)
    sentences = []
    for i, picture in enumerate(pictures):
        down, right = rng.integers(0, 11, 2)
        picture[down : down + 5, right : right + 5, 2 * (i % 2)] = rng.integers(150, 256)
        name = ("red", "blue")[i % 2]
        sentences.append([f"a {name} square", f"one square is {name}"][: 1 + i % 3 // 2])
    return pictures, sentences


def _signs(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str]]:
    """Features of characters, four steps each, and what they say."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list("abé "), int(rng.integers(1, 5)))).strip() + "é" for _ in range(n)]
    inputs = [np.repeat(np.eye(4)["abé ".index(c)][None], 4, axis=0) for text in texts for c in text]
    ends = np.cumsum([len(text) for text in texts])
    drawn = [np.concatenate(inputs[end - len(text) : end]) for text, end in zip(texts, ends, strict=True)]
    return [one + 0.1 * rng.standard_normal(one.shape) for one in drawn], texts


#: A job that reads several kinds of data has a case for each: ``job:kind``, as its state calls the kind.
CASES = {
    "anomaly_detector": Case(
        settings={"window": 12, "burn_in": 4, "vus_buffer": 4},
        data=lambda: _recordings(0),
        other=lambda: _recordings(1),
        bad=lambda: _recordings(0)[["label"]],
        options=(
            {"method": "reconstruction", "latent_size": 2, "smoothing_half_life": 0.0},
            {"threshold_method": "dynamic", "threshold_window": 60, "covariates": ("b",), "score_aggregation": "max"},
            {"threshold_method": "pot", "horizon": 1, "test_fraction": 0.0},
        ),
    ),
    "question_answerer": Case(
        settings={},
        data=lambda: _questions(0),
        other=lambda: _questions(1),
        bad=lambda: [("a story", "a question")],
        options=(
            {"answer_type": "span", "max_answer_tokens": 1, "embedding_size": 3},
            {"hops": 1, "max_sentences": 1, "hidden_size": 5},
        ),
    ),
    "captioner": Case(
        settings={
            "height": 16,
            "width": 16,
            "conv_channels": 4,
            "conv_stages": 2,
            "feature_size": 4,
            "max_tokens": 6,
            "lr": 0.01,
        },
        data=lambda: _seen(0),
        other=lambda: _seen(1),
        bad=lambda: ([np.full((16, 16, 3), np.nan)], ["a square"]),
        options=(
            {"color": False, "tokenization": "bpe", "vocab_size": 270, "horizontal_flip": True, "attention": "general"},
            {
                "height": 20,
                "conv_stages": 3,
                "min_count": 3,
                "embedding_size": 3,
                "label_smoothing": 0.1,
                "length_penalty": 0.0,
            },
        ),
    ),
    "captioner:clips": Case(
        settings={
            "height": 16,
            "width": 16,
            "color": False,
            "conv_channels": 4,
            "conv_stages": 2,
            "feature_size": 4,
            "lr": 0.01,
        },
        data=lambda: _told(0),
        other=lambda: _told(1),
        bad=lambda: ([np.full((4, 16, 16), np.nan)], ["a square"]),
        options=({"color": True, "frame_rate": 0.0, "max_translation": 0.0, "input_dropout": 0.0}, {"num_layers": 2}),
        asks={"beam_size": 1},
    ),
    "classifier": Case(
        settings={},
        data=lambda: _labelled(0),
        other=lambda: _labelled(1),
        bad=lambda: (["", " "], ["a", "b"]),
        options=(
            {"pooling": "attention", "tokenization": "bpe", "vocab_size": 270, "class_weight": "balanced"},
            {"pooling": "last", "bidirectional": False, "embedding_size": 3, "max_tokens": 4},
            {"pooling": "mean", "label_sep": "|", "threshold": 0.3, "class_weight": "balanced"},
        ),
    ),
    "classifier:sound": Case(
        settings={"n_mels": 8, "conv_channels": 2},
        data=lambda: _tones(0),
        other=lambda: _tones(1),
        bad=lambda: ([np.zeros(0)], ["a"], 8000),
        options=(
            {"min_snr_db": 0.0, "speed_perturbation": 0.0, "max_time_shift": 0.0, "spec_augment_masks": 0},
            {"sample_rate": 4000, "spec_augment_masks": 2, "pooling": "mean"},
        ),
    ),
    "classifier:video": Case(
        settings={"height": 16, "width": 16, "color": False, "feature_size": 4, "dropout": 0.0, "lr": 0.01},
        data=lambda: _clips(0),
        other=lambda: _clips(1),
        bad=lambda: ([np.full((4, 16, 16), np.nan)], ["a"]),
        options=(
            {"color": True, "pooling": "mean", "max_translation": 0.0},
            {"bidirectional": False, "pooling": "last", "height": 20, "input_dropout": 0.0},
        ),
    ),
    "music_composer": Case(
        settings={"embedding_size": 5, "nade_hidden_size": 3},
        data=lambda: _pieces(0),
        other=lambda: _pieces(1),
        bad=lambda: [[[], []]],
        options=(
            {"distribution": "independent", "max_steps": 4},
            {"max_transposition": 0, "max_steps": 0, "quarters_per_step": 1.0, "ensemble_size": 2},
        ),
    ),
    "forecaster": Case(
        settings={"horizon": 3, "test_windows": 1, "num_samples": 10},
        data=lambda: _series(0),
        other=lambda: _series(1),
        bad=lambda: _series(0).assign(y=float("nan")),
        options=({"method": "recursive"}, {"past_covariates": ("x",), "calendar_features": False}),
    ),
    "image_generator": Case(
        settings={"height": 5, "width": 4, "glimpses": 2, "latent_size": 2, "read_size": 2, "write_size": 2},
        data=lambda: _crosses(0),
        other=lambda: _crosses(1),
        bad=lambda: np.zeros((20, 5, 4)),
        options=(
            {"class_conditional": True, "binarization": "threshold", "num_layers": 2},
            {"read_size": 0, "write_size": 0, "binarization": "none", "ema_decay": 0.0},
            {"read_size": 1, "write_size": 3, "ensemble_size": 2},
        ),
    ),
    "recommender": Case(
        settings={},
        data=lambda: _sessions(0),
        other=lambda: _sessions(1),
        bad=lambda: [["a"], ["b"]],
        options=(
            {"split_strategy": "leave_one_out", "seen_items": "exclude", "max_items": 2, "min_count": 2},
            {"loss": "bpr-max", "num_negatives": 3, "tie_weights": False, "embedding_size": 3},
            {"loss": "top1-max", "embedding_size": 3, "item_dropout": 0.2},
            {"num_negatives": 4, "ensemble_size": 2, "eval_k": 2},
        ),
    ),
    "speech_synthesizer": Case(
        settings={
            "sample_rate": 4000,
            "n_mels": 8,
            "prenet_size": 4,
            "attention_size": 3,
            "attention_kernel_size": 3,
            "griffin_lim_iterations": 1,
            "max_seconds": 0.5,
        },
        data=lambda: _voice(0),
        other=lambda: _voice(1),
        bad=lambda: ([(np.zeros(900), 4000)], ["a"]),
        options=(
            {"reduction_factor": 1, "embedding_size": 3, "guided_attention_weight": 0.0, "lowercase": False},
            {"reduction_factor": 5, "trim_db": 0.0, "hop_seconds": 0.02, "window_seconds": 0.064, "ensemble_size": 2},
        ),
    ),
    "tagger": Case(
        settings={"char_feature_size": 4, "embedding_size": 3},
        data=lambda: _sentences(0),
        other=lambda: _sentences(1),
        bad=lambda: [(["the", "cat"], ["D"])],
        options=({"crf": True}, {"char_feature_size": 0, "bidirectional": False}),
    ),
    "language_model": Case(
        settings={"bptt_steps": 5, "batch_size": 4},
        data=lambda: _lines(0),
        other=lambda: _lines(1),
        asks={"max_tokens": 5},
        bad=lambda: ["", " "],
        options=(
            {"tokenization": "chars", "cache_size": 9, "dynamic_eval_lr": 0.1},
            {"tokenization": "bpe", "vocab_size": 270, "optimizer": "asgd", "weight_drop": 0.2},
            {
                "tie_weights": False,
                "cutoffs": (3,),
                "embedding_size": 3,
                "activation_reg": 1.0,
                "temporal_activation_reg": 1.0,
            },
            {"embedding_size": 6, "lowercase": True, "steps_per_epoch": 0},
        ),
    ),
    "secondary_structure_predictor": Case(
        settings={"embedding_size": 4, "conv_channels": 2, "kernel_sizes": (3,)},
        data=lambda: _chains(0),
        other=lambda: _chains(1),
        bad=lambda: _chains(0).assign(ss3="H"),
        options=({"kernel_sizes": (), "bidirectional": False}, {"max_residues": 3, "num_layers": 2}, {"ss3_col": ""}),
    ),
    "summarizer": Case(
        settings={"max_tokens": 9},
        data=lambda: [(f"{a}\n{a}, Zoë!", b) for a, b in _pairs(0)],
        other=lambda: [(f"{a}\n{a}, Zoë!", b) for a, b in _pairs(1)],
        bad=lambda: [("", "a"), ("b", " ")],
        options=(
            {"vocab_size": 9, "coverage_weight": 1.0, "no_repeat_ngram_size": 1, "ensemble_size": 2},
            {"tokenization": "bpe", "vocab_size": 270, "attention": "dot", "label_smoothing": 0.1},
            {
                "tokenization": "chars",
                "min_count": 99,
                "max_summary_tokens": 30,
                "input_feeding": True,
                "scheduled_sampling": 0.5,
            },
            {"copy_mechanism": False, "tie_weights": False, "post_attention_layers": 0, "no_repeat_ngram_size": 0},
        ),
    ),
    "transcriber": Case(
        settings={"feature_size": 5, "strides": (2,), "num_layers": 1},
        data=lambda: _signs(0),
        other=lambda: _signs(1),
        bad=lambda: (_signs(0)[0], [""] * 40),
        options=(
            {"beam_size": 3, "spec_augment_masks": 0, "lm_weight": 0.0},
            {"strides": (1, 2), "bidirectional": False, "dropout": 0.0, "ema_decay": 0.0},
        ),
    ),
    "translator": Case(
        settings={"tokenization": "words"},
        data=lambda: _pairs(0),
        other=lambda: _pairs(1),
        bad=lambda: [("", "a"), ("b", " ")],
        options=(
            {"tokenization": "bpe", "vocab_size": 270, "attention": "dot"},
            {
                "attention": "general",
                "post_attention_layers": 0,
                "input_feeding": True,
                "tie_weights": False,
                "embedding_size": 3,
            },
            {
                "coverage_weight": 1.0,
                "scheduled_sampling": 0.5,
                "scheduled_sampling_steps": 3,
                "share_vocab": True,
                "lowercase": True,
                "ensemble_size": 2,
            },
            {"copy_mechanism": True, "min_count": 40, "no_repeat_ngram_size": 2},
            {
                "tokenization": "chars",
                "max_tokens": 21,
                "post_attention_layers": 2,
                "attention": "dot",
                "coverage_weight": 0.5,
            },
        ),
    ),
    "handwriting_synthesizer": Case(
        settings={"mixture_components": 2, "window_components": 2},
        data=lambda: _lettered(0),
        other=lambda: _lettered(1),
        bad=lambda: [([[1, 1, 1]], "a")],
        options=(
            {"num_layers": 1, "ensemble_size": 2},
            {"mixture_components": 1, "window_components": 1, "num_layers": 3},
        ),
    ),
}
TINY = {"hidden_size": 4, "epochs": 3, "steps_per_epoch": 3, "batch_size": 8}
CELLS = ("lstm", "gru", "rnn")

every_job = pytest.mark.parametrize("name", job_names())
every_case = pytest.mark.parametrize("name", list(CASES))


def make(name: str, **options: Any) -> Job:
    return job_class(name.partition(":")[0])(**{**TINY, **CASES[name].settings, **options})


def case_name(job: Job) -> str:
    """What a fitted job's case is called."""
    of_kind = f"{job.name}:{job.predictor.state().get('reads')}"
    return of_kind if of_kind in CASES else job.name


def answer(job: Job, data: Any = None) -> list[dict[str, Any]]:
    case = CASES[case_name(job)]
    return job.to_records(job.predict(case.data() if data is None else data, **case.asks))


def weights(job: Job) -> dict[str, torch.Tensor]:
    return dict(job.model.state_dict())


def same(a: Job, b: Job) -> bool:
    return weights(a).keys() == weights(b).keys() and all(torch.equal(t, weights(b)[n]) for n, t in weights(a).items())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class StopAt(Progress):
    """Raises as soon as ``done`` steps of a task with ``title`` are done: Ctrl-C, or anything else."""

    def __init__(self, title: str, done: int, error: BaseException | None = None) -> None:
        self.title, self.done, self.error = title, done, error or KeyboardInterrupt()

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        yield _Stopping(self) if title == self.title else _Going()


class _Going:
    def update(self, done: int, note: str = "") -> None:
        pass


class _Stopping:
    def __init__(self, stop: StopAt) -> None:
        self.stop = stop

    def update(self, done: int, note: str = "") -> None:
        if done >= self.stop.done:
            raise self.stop.error


class Killed(BaseException):
    """What nothing catches, as nothing is caught where a process is killed."""


@pytest.fixture(scope="module", params=list(CASES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A job fitted into a run folder. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp(request.param.replace(":", "_")) / "run"
    return make(request.param).fit(CASES[request.param].data(), run=folder), folder


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without its page, which takes longer than all the rest."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))


@pytest.fixture
def copied(finished: tuple[Job, Path], tmp_path: Path) -> tuple[Job, Path]:
    shutil.copytree(finished[1], tmp_path / "run")
    return finished[0], tmp_path / "run"


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_job_has_its_tiny_data():
    """Being in ``jobs/`` means being tested."""
    assert {name.partition(":")[0] for name in CASES} == set(job_names())


@every_job
def test_a_job_says_what_it_is(name: str):
    """Its name is its module's, its summary one line, and its class takes settings by name only."""
    cls = job_class(name)
    assert cls.name == name
    assert cls.summary.endswith(".")
    assert "\n" not in cls.summary
    with pytest.raises(SettingError, match="takes settings by name"):
        cls(3)  # type: ignore[call-arg]


@every_job
def test_every_setting_is_explained_and_its_default_is_allowed(name: str):
    """Each has a meaning, a default in its own range, and reads back from the text that the command line shows."""
    cls = job_class(name)
    for setting, declared in settings.declared(cls).items():
        assert declared.metadata["help"]
        default = declared.default
        assert settings.checked(cls, setting, default) == default
        text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert settings.parse(cls, setting, text) == default


@every_job
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str):
    """A typing error never passes in silence."""
    with pytest.raises(SettingError, match="unknown setting 'hiden_size': did you mean 'hidden_size'"):
        make(name, hiden_size=3)


@every_job
@pytest.mark.parametrize(
    ("setting", "value", "phrase"),
    [
        ("hidden_size", 0, "hidden_size must be at least 1"),
        ("dropout", 1.0, "dropout must be at most 0.95"),
        ("epochs", 2.5, "epochs must be a whole number"),
        ("epochs", True, "epochs must be a whole number"),
        ("lr", "fast", "lr must be a number"),
        ("lr", float("nan"), "lr must be"),
        ("cell", "lsmt", "cell must be one of lstm, gru, rnn"),
        ("seed", 2**70, "seed must be at most"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name: str, setting: str, value: Any, phrase: str):
    """With its name and what it must be."""
    with pytest.raises(SettingError, match=phrase):
        make(name, **{setting: value})


@every_job
@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(name: str, device: str, tmp_path: Path):
    """Before anything is written."""
    with pytest.raises(SettingError, match=f"device '{device}' is not available"):
        make(name, device=device).fit(CASES[name].data(), run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


# ---- fitted, saved, loaded -------------------------------------------------------------------------------------------


@every_case
def test_before_fit_it_says_so(name: str, tmp_path: Path):
    """Whatever needs a model asks for fit or load."""
    job, data = make(name), CASES[name].data()
    for ask in (job.predict, job.evaluate, job.example_sequences, lambda _: job.save(tmp_path / "model")):
        with pytest.raises(UserError, match=r"is not fitted: call fit first, or lstmkit\.load"):
            ask(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.sampled(2)
@every_case
@pytest.mark.parametrize(
    "options", [{"cell": cell} for cell in CELLS] + [{"ensemble_size": 2}, {"num_layers": 2}], ids=str
)
def test_saved_and_loaded_it_predicts_the_same(name: str, options: dict[str, Any], tmp_path: Path):
    """To the last bit, with every cell, in a stack and as an ensemble; also when saved once more."""
    case = CASES[name]
    job = make(name, **options).fit(case.data())
    again = load(job.save(tmp_path / "model"))
    assert type(again) is type(job)
    assert settings.values(again) == settings.values(job)
    assert isinstance(again.model, Ensemble) == (job.ensemble_size == 2)
    for data in (case.data(), case.other()):
        assert answer(again, data) == answer(job, data)
    again.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name, case in CASES.items() for o in case.options], ids=str
)
def test_a_jobs_own_settings_are_saved_too(name: str, options: dict[str, Any], tmp_path: Path):
    """Also what it prepared for them."""
    data = CASES[name].data()
    data = data.assign(x=np.arange(len(data)) % 5) if "past_covariates" in options else data
    job = make(name, **options).fit(data)
    assert answer(load(job.save(tmp_path)), data) == answer(job, data)


@every_case
def test_answers_have_a_text_records_and_a_picture(name: str):
    """Text for a file, records that are JSON, a figure; data that were predicted on are not changed."""
    job, data = make(name).fit(CASES[name].data()), CASES[name].data()
    found = job.predict(data)
    assert job.to_text(found).strip()
    assert json.loads(json.dumps(job.to_records(found), allow_nan=False))
    assert job.plot(data, found).axes
    assert look.sections(job.network, job.example_sequences(data))[-1].title == "One step of the cell"
    assert repr(data) == repr(CASES[name].data())


@every_case
def test_the_same_seed_gives_the_same_weights(name: str):
    """And another seed, or other data, other ones; the caller's random numbers neither matter nor change."""
    case = CASES[name]
    torch.manual_seed(5)
    one = make(name).fit(case.data())
    after = torch.rand(2)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(2), after)
    assert same(make(name).fit(case.data()), one)
    assert not same(make(name, seed=1).fit(case.data()), one)
    assert not same(make(name).fit(case.other()), one)


@every_case
def test_evaluate_sets_the_model_beside_baselines(name: str):
    """This model is the first row, baselines follow, every score has a rule for the best, and all of it is JSON."""
    found = make(name).fit(CASES[name].data()).evaluate(CASES[name].data())
    assert len(found.table) >= 2
    assert {*found.directions} == {*found.table.columns} - {"model"}
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["table"][0]["model"] == found.table["model"][0]
    assert all(model in str(found) for model in found.table["model"])


# ---- the run folder --------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything(finished: tuple[Job, Path]):
    """Model, history, metrics, report and checkpoints, each readable, and nothing half-written beside them."""
    job, run = finished
    names = {"weights.safetensors", "model.json", "run.json", "history.csv", "metrics.json", "report.html"}
    assert {p.name for p in run.iterdir()} == names | {"checkpoints"}
    about = json.loads((run / "run.json").read_text())
    assert (about["job"], about["settings"]) == (job.name, settings.values(job))
    rows = pd.read_csv(run / "history.csv")
    assert rows[["seed", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert np.isfinite(rows[["train_loss", "valid_loss", "lr"]]).all(axis=None)
    metrics = json.loads((run / "metrics.json").read_text())
    assert job.evaluation is not None
    assert metrics == {"test": job.evaluation.to_json(), "training": ["all epochs done"]}
    assert answer(load(run)) == answer(job)


class _Page(html.parser.HTMLParser):
    """What a page has in it, and what it refers to."""

    VOID = ("meta", "img", "br", "hr", "link", "input", "col")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "action", "data", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_needs_nothing_else(finished: tuple[Job, Path]):
    """A whole page with tables and pictures, every reference inside it, no script; with the scores and settings."""
    job, run = finished
    text = (run / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    assert {"table", "img"} <= {*page.tags}
    assert "script" not in page.tags
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "url(" not in text
    assert "@import" not in text
    assert job.evaluation is not None
    for phrase in (*job.evaluation.table["model"], "hidden_size"):
        assert phrase in page.text


def test_resuming_a_finished_run_changes_nothing(copied: tuple[Job, Path]):
    """Not a byte of any file, nor the answers."""
    job, run = copied
    before = contents(run)
    again = make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)
    assert same(again, job)
    assert answer(again) == answer(job)
    assert contents(run) == before


@pytest.mark.usefixtures("no_report")
@every_case
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()], ids=["Ctrl-C", "kill"])
def test_a_run_stopped_between_epochs_resumes_to_the_same_weights(name: str, error: BaseException, tmp_path: Path):
    """Stopped in the second seed: Ctrl-C leaves a model to use, a kill none; resumed, the bits are the same."""
    data, run = CASES[name].data(), tmp_path / "run"
    whole = make(name, ensemble_size=2).fit(data)
    stop = StopAt("training 2/2", 3, error)
    if isinstance(error, KeyboardInterrupt):
        make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        assert not same(load(run), whole)
        assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]
    else:
        with pytest.raises(Killed):
            make(name, ensemble_size=2).fit(data, run=run, progress=stop)
        with pytest.raises(ModelFileError, match="stopped before its model was saved: go on with --resume"):
            load(run)
    resumed = make(name, ensemble_size=2).fit(data, run=run, resume=True)
    assert same(resumed, whole)
    assert same(load(run), whole)
    assert len(pd.read_csv(run / "history.csv")) == 6
    assert json.loads((run / "metrics.json").read_text())["training"] == ["all epochs done", "all epochs done"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_run_stopped_in_its_first_epoch_has_no_model(name: str, tmp_path: Path):
    """A model that has learnt nothing is not kept as if it had: Ctrl-C goes on up, and the run can be resumed."""
    data, run = CASES[name].data(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        make(name).fit(data, run=run, progress=StopAt("training", 1))
    assert is_unfinished(run)
    with pytest.raises(ModelFileError, match="go on with --resume"):
        load(run)
    assert same(make(name).fit(data, run=run, resume=True), make(name).fit(data))


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_seed_stopped_in_its_first_epoch_is_left_out(name: str, tmp_path: Path):
    """Of two seeds the first is done and the second has learnt nothing: the first alone is the model."""
    data = CASES[name].data()
    stopped = make(name, ensemble_size=2).fit(data, run=tmp_path / "run", progress=StopAt("training 2/2", 1))
    assert same(stopped, make(name).fit(data))
    assert answer(load(tmp_path / "run")) == answer(stopped)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["training"] == ["all epochs done", "interrupted"]


@pytest.mark.usefixtures("no_report")
@every_case
def test_a_crash_while_the_model_is_saved_leaves_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights without their description do not load; resumed, the model is there."""
    data, run = CASES[name].data(), tmp_path / "run"

    def full(path: Path, content: Any, write: Callable[..., None] = checkpoint.write_json) -> None:
        if path.name == "model.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            make(name).fit(data, run=run)
    with pytest.raises(ModelFileError, match="go on with --resume"):
        load(run)
    make(name).fit(data, run=run, resume=True)
    assert same(load(run), make(name).fit(data))


@pytest.mark.usefixtures("no_report")
def test_a_run_is_resumed_with_its_own_settings_and_data(copied: tuple[Job, Path]):
    """Another setting is named, other data are refused, as data or to validate on; the run stays as it was."""
    job, run = copied
    case, before = CASES[case_name(job)], contents(run)
    with pytest.raises(SettingError, match="was started with epochs=3, not 4"):
        make(case_name(job), epochs=4).fit(case.data(), run=run, resume=True)
    with pytest.raises(UserError, match="was started on other data"):
        make(case_name(job)).fit(case.other(), run=run, resume=True)
    with pytest.raises(UserError, match="was started on other data"):
        make(case_name(job)).fit(case.data(), validation=case.other(), run=run, resume=True)
    assert contents(run) == before


@pytest.mark.usefixtures("no_report")
def test_a_run_that_is_there_is_not_lost(copied: tuple[Job, Path]):
    """Without being asked to, nothing is overwritten; and nothing is when settings or data are bad."""
    job, run = copied
    case, before = CASES[case_name(job)], contents(run)
    with pytest.raises(UserError, match="holds a run already: --resume it, --overwrite it"):
        make(case_name(job)).fit(case.other(), run=run)
    with pytest.raises(DataError):
        make(case_name(job)).fit(case.bad(), run=run, overwrite=True)
    assert contents(run) == before
    fresh = make(case_name(job)).fit(case.other(), run=run, overwrite=True)
    assert answer(load(run)) == answer(fresh)
    assert answer(fresh) != answer(job)


@every_case
def test_a_mistake_leaves_no_folder_behind(name: str, tmp_path: Path):
    """Bad data, to train or to validate on, and a run to resume that is not there: nothing is written."""
    case, run = CASES[name], tmp_path / "new" / "run"
    with pytest.raises(DataError):
        make(name).fit(case.bad(), run=run)
    with pytest.raises(DataError):
        make(name).fit(case.data(), validation=case.bad(), run=run)
    with pytest.raises(UserError, match="holds no run to resume"):
        make(name).fit(case.data(), run=run, resume=True)
    assert not list(tmp_path.iterdir())


@every_case
def test_a_folder_with_other_files_is_not_touched(name: str, tmp_path: Path):
    """Nor is a file; not even with ``overwrite``."""
    (tmp_path / "thesis.txt").write_text("my only copy")
    for path, phrase in ((tmp_path, "holds other files"), (tmp_path / "thesis.txt", "is a file")):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=phrase):
                make(name).fit(CASES[name].data(), run=path, overwrite=overwrite)
    assert contents(tmp_path) == {"thesis.txt": b"my only copy"}


# ---- damaged ---------------------------------------------------------------------------------------------------------


def refused(run: Path) -> str:
    """What ``load`` says of a damaged model: one line."""
    with pytest.raises(ModelFileError) as caught:
        load(run)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_model_without_one_of_its_files(name: str, copied: tuple[Job, Path]):
    """The file that is missing is named; without ``run.json``, where it is a model alone."""
    (copied[1] / "run.json").unlink()
    (copied[1] / name).unlink()
    assert f"{name} is missing" in refused(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, -1])
def test_a_file_cut_short(name: str, keep: float, copied: tuple[Job, Path]):
    """Wherever it ends, it is found out and named."""
    path = copied[1] / name
    content = path.read_bytes()
    cut = int(keep * len(content)) if isinstance(keep, float) else keep
    path.write_bytes(content[:cut].rstrip() if name == "model.json" else content[:cut])
    if name == "model.json" and keep == -1:
        path.write_bytes(content.rstrip()[:-1])
    assert name in refused(copied[1])


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_file_of_noise(name: str, copied: tuple[Job, Path]):
    """Bytes that mean nothing are named as damage."""
    (copied[1] / name).write_bytes(np.random.default_rng(0).bytes(500))
    assert f"{name} is damaged" in refused(copied[1])


def test_one_bit_of_the_weights(copied: tuple[Job, Path]):
    """The weights must be those that the description tells of."""
    path = copied[1] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "is not the file that model.json describes" in refused(copied[1])


def test_files_of_two_models(copied: tuple[Job, Path], tmp_path: Path):
    """The weights of another fit, of the same shapes or not, are not taken for this one's."""
    job, run = copied
    for options in ({"seed": 7}, {"hidden_size": 5}, {"ensemble_size": 2}):
        other = make(case_name(job), **options).fit(CASES[case_name(job)].data()).save(tmp_path / "other")
        shutil.copy(other / "weights.safetensors", run)
        assert "is not the file that model.json describes" in refused(run)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"model"', '{"format": "1"}', '{"format": 1}', "{"])
def test_a_description_of_nothing(content: str, copied: tuple[Job, Path]):
    """JSON that is not a model's."""
    (copied[1] / "model.json").write_text(content)
    assert "model.json" in refused(copied[1])


def test_a_newer_or_another_model(copied: tuple[Job, Path]):
    """A format or a job that this version does not know asks for an upgrade or says so."""
    path = copied[1] / "model.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "format": 99}))
    assert "has format 99, this lstmkit reads up to 1: upgrade lstmkit" in refused(copied[1])
    for job in ("astrology", None, ["forecaster"], "../base", "base"):
        path.write_text(json.dumps({**description, "job": job}))
        assert "which this lstmkit does not have" in refused(copied[1])


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in it."""
    if path:
        yield path
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        yield from _places(value, (*path, key))


def _changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    content = json.loads(json.dumps(content))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return content


#: What a model can do without: the version that wrote it, settings (the default is taken), what training has seen of
#: one series (it then counts as new).
DISPENSABLE = (("lstmkit",), ("settings", "*"), ("state", "trained_until", "*"))


def _dispensable(place: tuple[Any, ...]) -> bool:
    parts = [part for part in DISPENSABLE if len(part) <= len(place)]
    return any(all(a in ("*", b) for a, b in zip(part, place, strict=False)) for part in parts)


def test_a_description_with_something_missing(copied: tuple[Job, Path]):
    """Whatever is taken out of what was prepared, or of what makes it a model, is found out on loading."""
    path = copied[1] / "model.json"
    description = json.loads(path.read_text())
    for place in _places(description):
        if _dispensable(place):
            continue
        path.write_text(json.dumps(_changed(description, place, lambda inner, key: inner.pop(key))))
        assert refused(copied[1]), place


@pytest.mark.sampled(3)
@pytest.mark.parametrize("garbage", [None, "garbage", -1, 0, 10**30, [[]], {"a": 1}], ids=str)
def test_a_description_with_garbage_in_it(garbage: Any, copied: tuple[Job, Path]):
    """In any place: it is refused in one line on loading, or at the latest on predicting, or does not matter."""
    job, run = copied
    path = run / "model.json"
    description = json.loads(path.read_text())
    data = CASES[case_name(job)].data()
    data = data[:3] if isinstance(data, list) else data  # it is read and answered some hundred times

    def put(inner: Any, key: Any) -> None:
        inner[key] = garbage

    for place in _places(description):
        if place in (("settings", "hidden_size"), ("settings", "num_layers"), ("members",)) and garbage == 10**30:
            continue  # would be built at that size
        path.write_text(json.dumps(_changed(description, place, put)))
        try:
            load(run).predict(data)
        except UserError as err:
            said = str(err)
        except Exception as err:
            raise AssertionError(f"{place}: {type(err).__name__}: {err}") from err
        else:
            said = ""
        assert "\n" not in said


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"job": "forecaster"}', '{"settings": 3}'])
def test_a_damaged_run_is_not_resumed(content: str, copied: tuple[Job, Path]):
    """Of a run whose ``run.json`` says nothing, one line says so."""
    job, run = copied
    (run / "run.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"run\.json is damaged"):
        make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("damage", ["cut", "noise", "gone"])
def test_damaged_checkpoints(damage: str, copied: tuple[Job, Path]):
    """A damaged checkpoint is named; without any the training starts anew, to the same weights."""
    job, run = copied
    for path in (run / "checkpoints").rglob("*.safetensors"):
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"noise" * 50)
    if damage == "gone":
        assert same(make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True), job)
    else:
        with pytest.raises(ModelFileError, match=r"\.safetensors is damaged"):
            make(case_name(job)).fit(CASES[case_name(job)].data(), run=run, resume=True)


def test_what_is_no_folder_of_a_model(tmp_path: Path):
    """A path that is not there, a file, an empty folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "is not a folder" in refused(tmp_path / "file")
    assert "holds no complete model" in refused(tmp_path / "empty")


def test_an_unknown_job_gets_the_nearest_name():
    """As everywhere else."""
    with pytest.raises(UserError, match="unknown job 'forcast': did you mean 'forecaster'"):
        job_class("forcast")
    with pytest.raises(UserError, match="unknown job 'base'"):
        job_class("base")


def test_a_headline_sends_to_the_baseline_only_where_it_is_better():
    for way, better, worse in (("high", 0.4, 0.6), ("low", 0.6, 0.4)):
        for rival, sent in ((better, False), (0.5, False), (worse, True)):
            table = pd.DataFrame({"model": ["LSTM", "plain"], "score": [0.5, rival]})
            said = Evaluation(table, {"score": way}, pd.DataFrame()).headline
            assert said.endswith("use that one.") == sent
