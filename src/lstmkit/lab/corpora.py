"""Real sequences for the laboratory: JSB chorales, Tiny Shakespeare by characters, MNIST by pixels."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.data import catalog
from lstmkit.data.batch import Batch
from lstmkit.data.music.midi import N_KEYS
from lstmkit.data.music.piano_rolls import read_piano_rolls
from lstmkit.data.music.rolls import shift_right, skyline
from lstmkit.data.padding import pad_sequences
from lstmkit.data.vision.idx import read_idx
from lstmkit.modules.heads import MultilabelHead, StepClassificationHead, last_step

_SEQUENCE_LENGTH = 100  # characters


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences with targets for each step or for the whole sequence.

    Attributes:
        inputs: ``(T, F)`` each.
        targets: Binary labels ``(T, labels)``, classes ``(T,)``, or one class ``()`` each.
    """

    inputs: list[np.ndarray]
    targets: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        """``(N,)`` steps of each sequence."""
        return np.array([len(x) for x in self.inputs])

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, fraction: float) -> Sequences:
        """The first ``fraction`` of the sequences, at least one."""
        count = max(1, round(fraction * len(self)))
        return Sequences(self.inputs[:count], self.targets[:count])

    def batch(self, rows: np.ndarray) -> Batch:
        """A padded batch of the sequences ``rows``; classes are padded with -1."""
        inputs, targets = [self.inputs[row] for row in rows], [self.targets[row] for row in rows]
        classes = targets[0].ndim < 2
        return Batch(
            torch.from_numpy(pad_sequences(inputs, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(pad_sequences(targets, -1 if classes else 0)),
            rows=rows,
        )


class Corpus(NamedTuple):
    """A data set split into training, validation and test set.

    Attributes:
        train, valid, test: The three sets.
        input_size: Features per step, ``F``.
        head: Builds the head for features of a given width.
        unit: Unit of the loss.
        is_correct: Whether outputs ``(B, T, outputs)`` are correct for a batch, ``(B,)``; ``None`` if only the loss is
            reported.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    input_size: int
    head: Callable[[int], nn.Module]
    unit: str
    is_correct: Callable[[Tensor, Batch], Tensor] | None = None


def chorales() -> Corpus:
    """JSB chorales in quarter notes: predict the next chord of 88 keys. Split of Boulanger-Lewandowski et al. 2012.

    Raises:
        DataError: The data set cannot be found or downloaded.
    """
    pieces = read_piano_rolls(catalog.locate("jsb_chorales", "jsb-chorales-quarter.json", download=True))

    def read_split(name: str) -> Sequences:
        split = pieces.predefined_split(name)
        assert split is not None
        rolls = [piece.roll.astype(np.float32) for piece in split.pieces]
        return Sequences([shift_right(roll) for roll in rolls], rolls)

    return Corpus(
        read_split("train"),
        read_split("valid"),
        read_split("test"),
        N_KEYS,
        lambda width: MultilabelHead(width, N_KEYS),
        "nats per time step",
    )


def harmony() -> Corpus:
    """Harmonization of the JSB chorales: predict the other keys at each note of the melody, the highest voice.

    The whole melody is known in advance, so a bidirectional layer may read it.

    Raises:
        DataError: The data set cannot be found or downloaded.
    """
    corpus = chorales()

    def harmonize(sequences: Sequences) -> Sequences:
        melodies = [skyline(roll) for roll in sequences.targets]
        harmonies = [roll - melody for roll, melody in zip(sequences.targets, melodies, strict=True)]
        return Sequences(melodies, harmonies)

    return corpus._replace(train=harmonize(corpus.train), valid=harmonize(corpus.valid), test=harmonize(corpus.test))


def shakespeare() -> Corpus:
    """Tiny Shakespeare in independent sequences of 100 characters: predict the next character.

    The first 90 % are for training, 5 % each for validation and test.

    Raises:
        DataError: The data set cannot be found or downloaded.
    """
    text = _read_text(catalog.locate("tinyshakespeare", "input.txt", download=True))
    characters = sorted(set(text))
    ids = _encode(text, characters)
    count = len(ids) // _SEQUENCE_LENGTH
    sequences = ids[: count * _SEQUENCE_LENGTH].reshape(count, _SEQUENCE_LENGTH)
    one_hot = np.eye(len(characters), dtype=np.float32)

    def select(rows: np.ndarray) -> Sequences:
        return Sequences([one_hot[row[:-1]] for row in rows], [row[1:] for row in rows])

    ends = [round(0.9 * count), round(0.95 * count)]
    train, valid, test = (select(rows) for rows in np.split(sequences, ends))
    n_classes = len(characters)
    return Corpus(
        train, valid, test, n_classes, lambda width: StepClassificationHead(width, n_classes), "nats per character"
    )


def _encode(text: str, characters: list[str]) -> np.ndarray:
    ids = {character: i for i, character in enumerate(characters)}
    return np.fromiter((ids[character] for character in text), dtype=np.int64, count=len(text))


def digits() -> Corpus:
    """Sequential MNIST: classify a digit from its pixels, one per step (Le, Jaitly and Hinton 2015).

    The last 5,000 images of the training set are for validation.

    Raises:
        DataError: The data set cannot be found or downloaded.
    """

    def read_images(name: str, rows: slice) -> Sequences:
        pixels = _read_mnist(f"{name}-images-idx3-ubyte")[rows].astype(np.float32) / 255
        labels = _read_mnist(f"{name}-labels-idx1-ubyte")[rows].astype(np.int64)
        return Sequences(list(pixels.reshape(len(pixels), -1, 1)), list(map(np.asarray, labels)))

    def is_correct(outputs: Tensor, batch: Batch) -> Tensor:
        return last_step(outputs, batch.lengths).argmax(-1) == batch.targets

    train, valid, test = (
        read_images("train", slice(-5000)),
        read_images("train", slice(-5000, None)),
        read_images("t10k", slice(None)),
    )
    return Corpus(train, valid, test, 1, lambda width: StepClassificationHead(width, 10), "nats per image", is_correct)


def _read_mnist(name: str) -> np.ndarray:
    return read_idx(_read_bytes(catalog.locate("mnist", name, download=True)))


def _read_text(path: Path) -> str:
    return _read_bytes(path).decode("utf-8")


def _read_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


CORPORA: dict[str, Callable[[], Corpus]] = {
    "jsb_chorales": chorales,
    "jsb_harmony": harmony,
    "tinyshakespeare": shakespeare,
    "mnist": digits,
}
