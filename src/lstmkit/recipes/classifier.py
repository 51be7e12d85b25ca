"""Protocols of classification: how each public data set is split and scored."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.audio.audio_io import AudioClip
from lstmkit.data.media_files import MediaColumns, from_file
from lstmkit.data.vision.idx import read_idx
from lstmkit.jobs.classifier.job import Classifier
from lstmkit.progress import Progress
from lstmkit.recipes import Fit
from lstmkit.recipes._moving_mnist import digits, write_motions

Pairs = tuple[list[Any], list[str]]


class _SpokenDigit(NamedTuple):
    """A recording with its label, speaker and number."""

    clip: AudioClip
    label: str
    speaker: str
    number: int


def questions(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """TREC: ``CLASS:subclass question`` lines; the coarse class is the label. Official training and test parts."""
    parts = [_lines(folder, options[part]) for part in ("train", "test")]
    return _given(job, fit, [(texts, [label.split(":")[0] for label in labels]) for texts, labels in parts], progress)


def sentences(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """SST-2: ``label sentence`` lines; official training, validation and test parts."""
    return _given(job, fit, [_lines(folder, options[part]) for part in ("train", "valid", "test")], progress)


def cross_validation(
    job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """``label sentence`` lines: line ``i`` is in fold ``i % folds``; the mean over all folds."""
    texts, labels = _lines(folder, options["file"])
    tables = []
    for fold in range(options["folds"]):
        split = [
            (_rows(texts, options["folds"], fold, held), _rows(labels, options["folds"], fold, held)) for held in (0, 1)
        ]
        tables.append(_given(job, fit, split, progress))
    mean = pd.concat(tables).groupby("model", sort=False).mean()
    return mean.reset_index()


def reviews(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """IMDB: lines of label, stars, number and text; official training and test parts."""
    parts = []
    for part in ("train", "test"):
        rows = [line.split("\t", 3) for line in _read(folder, options[part]).decode("utf-8").split("\n") if line]
        parts.append(([text for *_, text in rows], [label for label, *_ in rows]))
    return _given(job, fit, parts, progress)


def images(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """MNIST: an image is a sequence of rows or of pixels; official training and test parts."""
    width = 1 if options["pixels"] else 28
    parts = []
    for part in ("train", "test"):
        pixels, labels = (read_idx(_read(folder, options[f"{part}_{what}"])) for what in ("images", "labels"))
        steps = pixels.reshape(-1, 784 // width, width).astype(np.float32) / 255
        parts.append((list(steps), [str(label) for label in labels]))
    return _given(job, fit, parts, progress)


def series(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """UCR and UEA archives: dimensions separated by ``:``, the class last; official training and test parts."""
    return _given(job, fit, [_ts(folder, options[part]) for part in ("train", "test")], progress)


def connections(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """NSL-KDD: each record is a sequence of one step, normal or an attack. Categorical columns are one-hot encoded."""
    train, test = (pd.read_csv(io.BytesIO(_read(folder, options[part])), header=None) for part in ("train", "test"))
    words = [name for name in train.columns[:41] if train[name].dtype == object]
    values = {name: sorted(train[name].unique()) for name in words}
    return _given(job, fit, [_records(part, values) for part in (train, test)], progress)


def _records(frame: pd.DataFrame, values: dict[int, list[str]]) -> Pairs:
    """Numbers are log-transformed; a category that is not in the training part is encoded as zeros."""
    numbers = frame.iloc[:, :41].drop(columns=list(values)).to_numpy(dtype=np.float32)
    columns = [np.log1p(numbers), *(frame[[name]].to_numpy() == np.array(of) for name, of in values.items())]
    steps = np.concatenate(columns, axis=1, dtype=np.float32)[:, None]
    return list(steps), ["normal" if label == "normal" else "attack" for label in frame[41]]


def takes(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """FSDD: ``label_speaker_number.wav`` in a zip file; numbers below ``tested`` are the test part."""
    sounds = _recordings(folder / options["file"])
    parts = [[one for one in sounds if (one.number < options["tested"]) == held] for held in (False, True)]
    return _given(job, fit, [_pairs(part) for part in parts], progress)


def speakers(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """FSDD, leave one speaker out: the mean over speakers, and the accuracy of each."""
    sounds = _recordings(folder / options["file"])
    tables: dict[str, pd.DataFrame] = {}
    for who in sorted({one.speaker for one in sounds}):
        parts = [[one for one in sounds if (one.speaker == who) == held] for held in (False, True)]
        tables[who] = _given(job, fit, [_pairs(part) for part in parts], progress)
    mean = pd.concat(tables.values()).groupby("model", sort=False).mean().reset_index()
    each = {f"accuracy, {who}": table["accuracy"].to_numpy() for who, table in tables.items()}
    return mean.assign(**each)


def listed(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Recordings in a zip file; a table names the word and the part (train, valid or test) of each."""
    clips = {media.id: media.read() for media in from_file(folder / options["file"], MediaColumns()).iterate()}
    table = pd.read_csv(folder / options["table"])
    in_part = [table[table["split"] == part] for part in ("train", "valid", "test")]
    parts = [([clips[file] for file in rows["file"]], rows["word"].tolist()) for rows in in_part]
    return _given(job, fit, parts, progress)


def gestures(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Sliding windows of hand keypoints: each class is split into blocks that share no frame."""
    names = _read(folder, options["names"]).decode("utf-8-sig").splitlines()
    rows = np.loadtxt(io.BytesIO(_read(folder, options["points"])), delimiter=",", dtype=np.float32)
    classes, steps = rows[:, 0].astype(int), rows[:, 1:].reshape(len(rows), options["frames"], -1)
    steps = np.diff(steps, axis=1, prepend=steps[:, :1])  # motion from frame to frame
    parts: list[Pairs] = [([], []), ([], []), ([], [])]
    for number, name in enumerate(names):
        for (inputs, labels), block in zip(parts, _blocks(np.flatnonzero(classes == number), options), strict=True):
            inputs.extend(steps[block])
            labels.extend([name] * len(block))
    return _given(job, fit, parts, progress)


def _blocks(rows: np.ndarray, options: dict[str, Any]) -> list[np.ndarray]:
    """Consecutive rows as training, validation and test blocks; windows that overlap the next block are dropped.

    >>> [block.tolist() for block in _blocks(np.arange(10), {"test": 0.2, "valid": 0.3, "frames": 2})]
    [[0, 1, 2], [5], [8, 9]]
    """
    test = round(len(rows) * (1 - options["test"]))
    valid = round(len(rows) * (1 - options["test"] - options["valid"]))
    apart = options["frames"]
    return [rows[: valid - apart], rows[valid : test - apart], rows[test:]]


def motions(job: Classifier, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Moving MNIST digits, written as MP4 files in one folder per motion; official training and test digits."""
    with tempfile.TemporaryDirectory() as made:
        train, test = (Path(made, part) for part in ("train", "test"))
        for seed, part in enumerate((train, test)):
            write_motions(digits(folder, options, part.name), options[f"{part.name}_clips"], part, seed)
        fit(train)
        return job.evaluate(test, progress=progress).table


PROTOCOLS: dict[str, Callable[..., pd.DataFrame]] = {
    "questions": questions,
    "sentences": sentences,
    "cross_validation": cross_validation,
    "reviews": reviews,
    "images": images,
    "series": series,
    "connections": connections,
    "takes": takes,
    "speakers": speakers,
    "listed": listed,
    "gestures": gestures,
    "motions": motions,
}


def _given(job: Classifier, fit: Fit, parts: Sequence[Pairs], progress: Progress) -> pd.DataFrame:
    """Fit to the first part, validate on the second if there are three, and evaluate on the last."""
    train, *valid, test = parts
    fit(train, validation=valid[0] if valid else None)
    return job.evaluate(test, progress=progress).table


def _rows(of: list[str], folds: int, fold: int, held: int) -> list[str]:
    return [one for i, one in enumerate(of) if (i % folds == fold) == bool(held)]


def _recordings(path: Path) -> list[_SpokenDigit]:
    """The recordings of a zip file; their names say label, speaker and number."""
    found = []
    for take in from_file(path, MediaColumns()).iterate():
        label, speaker, number = PurePosixPath(take.id).stem.split("_")
        sound = take.read()
        assert isinstance(sound, AudioClip)
        found.append(_SpokenDigit(sound, label, speaker, int(number)))
    return found


def _pairs(sounds: Sequence[_SpokenDigit]) -> Pairs:
    return [one.clip for one in sounds], [one.label for one in sounds]


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    return path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())


def _lines(folder: Path, name: str) -> Pairs:
    """Texts and labels. Lines end at newlines only: some sentences contain other line ends of Latin-1."""
    rows = [line.split(" ", 1) for line in _read(folder, name).decode("latin-1").split("\n") if line.strip()]
    return [text for _, text in rows], [label for label, _ in rows]


def _ts(folder: Path, name: str) -> Pairs:
    lines = _read(folder, name).decode("utf-8").splitlines()
    begins = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    cases = [line.strip().split(":") for line in lines[begins:] if line.strip()]
    sequences = [np.array([dim.split(",") for dim in dims], dtype=np.float32).T for *dims, _ in cases]
    return sequences, [label for *_, label in cases]
