"""Tiny data and settings for every job. Add those of a new job to ``CASES``."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.jobs import job_class
from lstmkit.jobs.base import Job
from lstmkit.jobs.settings import settings_of


@dataclass(frozen=True)
class Case:
    """Data and settings for the tests of a job.

    Attributes:
        settings: Settings of a tiny model, with all that the constructor requires.
        data: Tiny data, the same at each call.
        other: Data of the same form with other content.
        bad: Data that the job must refuse.
        options: Settings other than the defaults, each tested in a separate run.
        predict_options: Options that make predict fast.
        extra: The extra that these data need, by default that of the job.
    """

    settings: dict[str, Any]
    data: Callable[[], Any]
    other: Callable[[], Any]
    bad: Callable[[], Any]
    options: tuple[dict[str, Any], ...] = ()
    predict_options: dict[str, Any] = field(default_factory=dict)
    extra: str = ""


def _stroke_images(seed: int, n: int = 40) -> tuple[np.ndarray, list[str]]:
    """Images of a vertical or a horizontal stroke, and their labels."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 5, 4), dtype=np.float32)
    for i, image in enumerate(images):
        image[(slice(None), rng.integers(4)) if i % 2 else (rng.integers(5), slice(None))] = rng.uniform(0.6, 1)
    return images, ["up" if i % 2 else "along" for i in range(n)]


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
    return [([str(rng.choice(kinds[tag])) for tag in sentence_tags], sentence_tags) for sentence_tags in tags]


def _labeled(seed: int, n: int = 40) -> tuple[list[str], list[str]]:
    texts = _lines(seed, n)
    return texts, ["cat" if "cat" in text else "none" for text in texts]


def _pairs(seed: int, n: int = 40) -> list[tuple[str, str]]:
    """Lower-case sentences, and their upper-case words in reverse order."""
    return [(line, " ".join(reversed(line.upper().split()))) for line in _lines(seed, n)]


def _questions(seed: int, n: int = 40) -> list[tuple[str, str, str]]:
    """Stories in which two people move, and a question about one of them."""
    rng = np.random.default_rng(seed)
    questions = []
    for _ in range(n):
        places = {person: str(rng.choice(["garden", "kitchen", "hall"])) for person in ("Mary", "John")}
        person = str(rng.choice(list(places)))
        story = "\n".join(f"{name} went to the {place}." for name, place in places.items())
        questions.append((story, f"Where is {person}?", places[person]))
    return questions


def _proteins(seed: int, n: int = 40) -> pd.DataFrame:
    """Chains with helices of alanine, strands of valine and coils of other residues."""
    rng = np.random.default_rng(seed)
    parts = [[("A" * 4, "H"), ("V" * 3, "E"), ("".join(rng.choice(list("GPX"), 2)), "C")] for _ in range(n)]
    picked = [[part[i] for i in rng.integers(0, 3, int(rng.integers(1, 4)))] for part in parts]
    sequences = ["".join(residues for residues, _ in chain) for chain in picked]
    states = ["".join(len(residues) * state for residues, state in chain) for chain in picked]
    states8 = [chain.replace("HH", "HG") for chain in states]
    return pd.DataFrame({"id": [f"c{i}" for i in range(n)], "sequence": sequences, "ss3": states, "ss8": states8})


def _pieces(seed: int, n: int = 12) -> list[list[list[int]]]:
    """A rising note, with a higher note at every second step."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 7, n).tolist()
    return [[[60 + (start + t) % 7, *([72] if t % 2 else [])] for t in range(6)] for start in starts]


def _sensor_series(seed: int, n: int = 200) -> pd.DataFrame:
    t, rng = np.arange(n), np.random.default_rng(seed)
    frame = pd.DataFrame({"a": np.sin(t / 3), "b": np.cos(t / 4)}) + 0.05 * rng.standard_normal((n, 2))
    frame.loc[180:185, "a"] += 2
    return frame.assign(label=((t >= 180) & (t < 186)).astype(int))


def _machines(seed: int, n: int = 24) -> pd.DataFrame:
    """Machines whose target is the sum of their loads so far; some loads, kinds and targets are missing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 10, n)
    size = int(lengths.sum())
    frame = pd.DataFrame(
        {
            "id": np.repeat([f"m{k}" for k in range(n)], lengths),
            "time": pd.date_range("2024-01-01", periods=size, freq="5h"),
            "load": rng.standard_normal(size).round(3),
            "kind": rng.choice(["a", "b", None], size),
            "size": np.repeat(rng.integers(1, 4, n), lengths),
        }
    )
    frame["target"] = (frame.groupby("id")["load"].cumsum() + frame["size"] / 4).where(rng.random(size) > 0.1)
    frame["time"] += pd.to_timedelta(rng.integers(0, 60, size), unit="m")
    return frame.assign(load=frame["load"].mask(rng.random(size) < 0.1))


def _sessions(seed: int, n: int = 40) -> list[list[str]]:
    """Sessions in which the next item is the next letter."""
    rng = np.random.default_rng(seed)
    letters = "abcdef"
    return [[letters[(start + k) % 6] for k in range(int(rng.integers(1, 7)))] for start in rng.integers(0, 6, n)]


def _drawings(seed: int, n: int = 20) -> list[list[list[float]]]:
    """Zigzags of one or two strokes."""
    rng = np.random.default_rng(seed)
    heights = rng.normal(2, 0.2, n)
    return [[[1, d, 0], [1, -d, k % 2], [1, d, 0], [1, -d, 1]] for k, d in enumerate(heights.tolist())]


def _labeled_drawings(seed: int) -> list[tuple[list[list[float]], str]]:
    """Zigzags with a text each."""
    return [(points, "ab" if points[1][2] else "a") for points in _drawings(seed)]


def _speech(seed: int, n: int = 10) -> tuple[list[tuple[np.ndarray, int]], list[str]]:
    """Audio with a tone for each letter of a text, and the texts."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list("aou"), int(rng.integers(1, 4)))) for _ in range(n)]
    hums = {letter: np.sin(np.arange(320) * pitch) for letter, pitch in zip("aou", (0.3, 0.8, 1.5), strict=True)}
    return [(np.concatenate([hums[letter] for letter in text]), 4000) for text in texts], texts


def _tones(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str], int]:
    """Low and high tones of an eighth of a second, with a sample rate of 8,000 Hz."""
    rng = np.random.default_rng(seed)
    hertz = [(300, 1500)[i % 2] * rng.uniform(0.9, 1.1) for i in range(n)]
    waves = [0.3 * np.sin(2 * np.pi * f * np.arange(1000) / 8000).astype(np.float32) for f in hertz]
    noisy = [(wave + 0.01 * rng.standard_normal(1000)).astype(np.float32) for wave in waves]
    return noisy, [("low", "high")[i % 2] for i in range(n)], 8000


def _clips(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str]]:
    """Clips of a bright square that moves left or right: four to six frames of 16 by 16 pixels."""
    rng = np.random.default_rng(seed)
    clips = [np.zeros((int(rng.integers(4, 7)), 16, 16), dtype=np.uint8) for _ in range(n)]
    for i, frames in enumerate(clips):
        row = int(rng.integers(0, 12))
        for t, frame in enumerate(frames):
            column = 2 * t if i % 2 else 12 - 2 * t
            frame[row : row + 4, column : column + 4] = 200
    return clips, [("left", "right")[i % 2] for i in range(n)]


def _captioned_clips(seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Clips with a sentence each."""
    clips, directions = _clips(seed)
    return clips, [f"a square goes {direction}" for direction in directions]


def _captioned_images(seed: int, n: int = 40) -> tuple[np.ndarray, list[list[str]]]:
    """Images of a red or blue square, with one or two sentences each."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 16, 16, 3), dtype=np.uint8)
    sentences = []
    for i, image in enumerate(images):
        row, column = rng.integers(0, 11, 2)
        image[row : row + 5, column : column + 5, 2 * (i % 2)] = rng.integers(150, 256)
        color = ("red", "blue")[i % 2]
        sentences.append([f"a {color} square", f"one square is {color}"][: 1 + i % 3 // 2])
    return images, sentences


def _transcribed(seed: int, n: int = 40) -> tuple[list[np.ndarray], list[str]]:
    """Sequences of features, four steps for each character of a text, and the texts."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list("abé "), int(rng.integers(1, 5)))).strip() + "é" for _ in range(n)]
    steps = [np.repeat(np.eye(4)["abé ".index(c)][None], 4, axis=0) for text in texts for c in text]
    ends = np.cumsum([len(text) for text in texts])
    sequences = [np.concatenate(steps[end - len(text) : end]) for text, end in zip(texts, ends, strict=True)]
    return [features + 0.1 * rng.standard_normal(features.shape) for features in sequences], texts


def _events(seed: int, n: int = 240) -> pd.DataFrame:
    """Payments of six cards; one of a large amount in a new shop is fraud, more often after another one."""
    rng = np.random.default_rng(seed)
    amount, shop = rng.exponential(10, n).round(2), rng.choice(["grocer", "baker", "online"], n)
    fraud = (amount > 12) & (shop == "online") | (rng.random(n) < 0.02)
    frame = pd.DataFrame({"id": rng.integers(0, 6, n), "time": pd.date_range("2024-01-01", periods=n, freq="5h")})
    frame = frame.assign(amount=amount, shop=shop, label=np.where(fraud, "fraud", "genuine"))
    frame.loc[::9, "label"] = None
    frame.loc[::11, ["amount", "shop"]] = None
    return frame.assign(time=frame["time"].astype(str))


def _boxed_clips(seed: int, n: int = 12) -> list[tuple[np.ndarray, list[list[tuple[Any, ...]]]]]:
    """Clips of a bright square that moves left or right, with its box and identity; one frame of each is empty."""
    rng = np.random.default_rng(seed)
    clips = []
    for i in range(n):
        row, frames, boxes = int(rng.integers(0, 12)), np.zeros((int(rng.integers(5, 8)), 16, 16), dtype=np.uint8), []
        for t, frame in enumerate(frames[1:]):
            column = 2 * t if i % 2 else 12 - 2 * t
            frame[row : row + 4, column : column + 4] = 200
            boxes.append([("square", column, row, 4, 4, 1)])
        clips.append((frames, [[], *boxes]))
    return clips


#: A job that reads several kinds of data has a case for each, ``job:kind``; the kind is the name in the job's state.
CASES = {
    "anomaly_detector": Case(
        settings={"window": 12, "burn_in": 4, "vus_buffer": 4},
        data=lambda: _sensor_series(0),
        other=lambda: _sensor_series(1),
        bad=lambda: _sensor_series(0)[["label"]],
        options=(
            {
                "method": "reconstruction",
                "latent_size": 2,
                "smoothing_half_life": 0.0,
                "threshold_method": "quantile",
            },
            {"threshold_method": "dynamic", "threshold_window": 60, "covariates": ("b",), "score_aggregation": "max"},
            {"threshold_method": "pot", "horizon": 1, "test_fraction": 0.0},
        ),
    ),
    "event_classifier": Case(
        settings={"encoder_size": 6, "numeric_bins": 4, "window": 16, "lr": 0.01},
        data=lambda: _events(0),
        other=lambda: _events(1),
        bad=lambda: _events(0).assign(time=None),
        options=(
            {"class_weight": "balanced", "threshold_method": "cost", "bidirectional": True, "numeric_bins": 0},
            {"focal_gamma": 2.0, "threshold_method": "alarms", "alarms_per_day": 1.0, "known_positives": "drop"},
            {"split_strategy": "entity", "time_features": False, "min_count": 1, "ensemble_size": 2},
            {"label_delay_days": 1.0, "positive_label": "genuine", "categorical_cols": ("amount",)},
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
        data=lambda: _captioned_images(0),
        other=lambda: _captioned_images(1),
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
        data=lambda: _captioned_clips(0),
        other=lambda: _captioned_clips(1),
        bad=lambda: ([np.full((4, 16, 16), np.nan)], ["a square"]),
        options=({"color": True, "frame_rate": 0.0, "max_translation": 0.0, "input_dropout": 0.0}, {"num_layers": 2}),
        predict_options={"beam_size": 1},
    ),
    "classifier": Case(
        settings={},
        data=lambda: _labeled(0),
        other=lambda: _labeled(1),
        bad=lambda: (["", " "], ["a", "b"]),
        options=(
            {"pooling": "attention", "tokenization": "bpe", "vocab_size": 270, "class_weight": "balanced"},
            {"pooling": "last", "bidirectional": False, "embedding_size": 3, "max_tokens": 4},
            {"pooling": "mean", "label_sep": "|", "threshold": 0.3, "class_weight": "balanced"},
        ),
    ),
    "classifier:audio": Case(
        settings={"n_mels": 8, "conv_channels": 2},
        data=lambda: _tones(0),
        other=lambda: _tones(1),
        bad=lambda: ([np.zeros(0)], ["a"], 8000),
        options=(
            {"min_snr_db": 0.0, "speed_perturbation": 0.0, "max_time_shift": 0.0, "spec_augment_masks": 0},
            {"sample_rate": 4000, "spec_augment_masks": 2, "pooling": "mean"},
        ),
        extra="sound",
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
        data=lambda: _stroke_images(0),
        other=lambda: _stroke_images(1),
        bad=lambda: np.zeros((20, 5, 4)),
        options=(
            {"class_conditional": True, "binarization": "threshold", "num_layers": 2},
            {"read_size": 0, "write_size": 0, "binarization": "none", "ema_decay": 0.0},
            {"read_size": 1, "write_size": 3, "ensemble_size": 2},
        ),
    ),
    "object_detector": Case(
        settings={"height": 16, "width": 16, "conv_channels": 4, "bptt_steps": 4, "segment_batches": 2, "lr": 0.01},
        data=lambda: _boxed_clips(0),
        other=lambda: _boxed_clips(1),
        bad=lambda: [(np.zeros((2, 16, 16)), [[("square", 1, 1, -4, 4)], []])] * 12,
        options=(
            {"recurrent": False, "color": True, "horizontal_flip": True, "blank_probability": 0.0},
            {"bottleneck": True, "conv_stages": 3, "kernel_size": 1, "max_noise": 0.0, "brightness": 0.0},
            {"frame_step": 2, "height": 24, "width": 32, "max_unseen": 0, "max_translation": 0.0},
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
    "regressor": Case(
        settings={"lr": 0.01},
        data=lambda: _machines(0),
        other=lambda: _machines(1),
        bad=lambda: _machines(0).assign(target="high"),
        options=(
            {"loss": "pinball", "levels": (50,), "split_strategy": "time"},
            {"entity_aware": True, "static_cols": ("size",), "loss": "nse", "output_dropout": 0.2},
            {"predict_at": "last_step", "loss": "huber", "max_target": 3.0},
            {"target_cols": ("target", "load"), "bptt_steps": 3, "segment_steps": 5, "burn_in": 1, "rul_score": True},
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
        data=lambda: _speech(0),
        other=lambda: _speech(1),
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
        predict_options={"max_tokens": 5},
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
        data=lambda: _proteins(0),
        other=lambda: _proteins(1),
        bad=lambda: _proteins(0).assign(ss3="H"),
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
        data=lambda: _transcribed(0),
        other=lambda: _transcribed(1),
        bad=lambda: (_transcribed(0)[0], [""] * 40),
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
        data=lambda: _labeled_drawings(0),
        other=lambda: _labeled_drawings(1),
        bad=lambda: [([[1, 1, 1]], "a")],
        options=(
            {"num_layers": 1, "ensemble_size": 2},
            {"mixture_components": 1, "window_components": 1, "num_layers": 3},
        ),
    ),
}
TINY = {"hidden_size": 4, "epochs": 3, "steps_per_epoch": 3, "batch_size": 8}


def extra_of(name: str) -> str:
    """The extra that is enough for a case."""
    return CASES[name].extra or settings_of(name.partition(":")[0]).extra


def make(name: str, **options: Any) -> Job:
    return job_class(name.partition(":")[0])(**{**TINY, **CASES[name].settings, **options})


@functools.cache
def fitted(name: str, ensemble_size: int = 1) -> Job:
    """The job of a case, fitted without a run folder. All tests of a process share it: do not change it."""
    return make(name, ensemble_size=ensemble_size).fit(CASES[name].data())


def case_name(job: Job) -> str:
    """The key in ``CASES`` of a fitted job."""
    name = f"{job.name}:{job.predictor.state().get('reads')}"
    return name if name in CASES else job.name


def predict_records(job: Job, data: Any = None) -> list[dict[str, Any]]:
    """Predictions of a fitted job as records, by default for the data of its case."""
    case = CASES[case_name(job)]
    return job.to_records(job.predict(case.data() if data is None else data, **case.predict_options))


def without_sum(path: Path) -> dict[str, Any]:
    """The content of a summed JSON file as version 0.1 wrote it, without a SHA-256; to change it and write it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sha256"]
    return {**content, "format": 1}
