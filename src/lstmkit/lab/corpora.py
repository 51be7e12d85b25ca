"""Real sequences for the laboratory: Bach's chorales chord by chord, Shakespeare by letters, digits by pixels."""

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
from lstmkit.data.batch import Batch, beside
from lstmkit.data.music.midi import N_KEYS
from lstmkit.data.music.piano_rolls import highest, read_piano_rolls, shift_right
from lstmkit.data.vision.idx import read_idx
from lstmkit.modules.heads import MultilabelHead, StepClassificationHead, last_step

_SEQUENCE_LENGTH = 100  # letters in a sequence


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences and what is to be told of each, or of its every step from those before.

    Attributes:
        inputs: ``(T, F)`` each.
        targets: Labels ``(T, labels)`` each, or classes ``(T,)``, or a class ``()``.
    """

    inputs: list[np.ndarray]
    targets: list[np.ndarray]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(x) for x in self.inputs])

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, share: float) -> Sequences:
        """The first ``share`` of them, at least one."""
        count = max(1, round(share * len(self)))
        return Sequences(self.inputs[:count], self.targets[:count])

    def batch(self, rows: np.ndarray) -> Batch:
        """These sequences side by side; a class past a sequence's end is -1."""
        inputs, targets = [self.inputs[row] for row in rows], [self.targets[row] for row in rows]
        classes = targets[0].ndim < 2
        return Batch(
            torch.from_numpy(beside(inputs, 0)),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(beside(targets, -1 if classes else 0)),
            rows=rows,
        )


class Corpus(NamedTuple):
    """A data set cut in three.

    Attributes:
        train, valid, test: Its parts.
        input_size: ``F``.
        head: What answers from features of a width.
        unit: Of the loss.
        right: Which outputs ``(B, T, outputs)`` answer a batch rightly, ``(B,)``; ``None`` where the loss says it all.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    input_size: int
    head: Callable[[int], nn.Module]
    unit: str
    right: Callable[[Tensor, Batch], Tensor] | None = None


def chorales() -> Corpus:
    """JSB chorales in quarter notes: which of 88 keys sound next? Split by Boulanger-Lewandowski et al. 2012.

    Raises:
        DataError: The set is not to be had.
    """
    pieces = read_piano_rolls(catalog.locate("jsb_chorales", "jsb-chorales-quarter.json", download=True))

    def part(name: str) -> Sequences:
        given = pieces.given(name)
        assert given is not None
        rolls = [piece.roll.astype(np.float32) for piece in given.pieces]
        return Sequences([shift_right(roll) for roll in rolls], rolls)

    return Corpus(
        part("train"),
        part("valid"),
        part("test"),
        N_KEYS,
        lambda width: MultilabelHead(width, N_KEYS),
        "nats a time step",
    )


def harmony() -> Corpus:
    """The chorales again: the melody, the highest voice, is given; which other keys sound at each of its notes?

    All of the melody is known beforehand, so that a reversed direction may read it.

    Raises:
        DataError: The set is not to be had.
    """
    told = chorales()

    def part(sequences: Sequences) -> Sequences:
        melodies = [highest(roll) for roll in sequences.targets]
        rest = [roll - melody for roll, melody in zip(sequences.targets, melodies, strict=True)]
        return Sequences(melodies, rest)

    return told._replace(train=part(told.train), valid=part(told.valid), test=part(told.test))


def shakespeare() -> Corpus:
    """Tiny Shakespeare in pieces of 100 letters, each for itself: which letter is next?

    The first nine tenths are for training, half of the rest each for validation and test.

    Raises:
        DataError: The set is not to be had.
    """
    text = _read(catalog.locate("tinyshakespeare", "input.txt", download=True))
    letters = sorted(set(text))
    ids = _ids(text, letters)
    count = len(ids) // _SEQUENCE_LENGTH
    pieces = ids[: count * _SEQUENCE_LENGTH].reshape(count, _SEQUENCE_LENGTH)
    one_hot = np.eye(len(letters), dtype=np.float32)

    def part(rows: np.ndarray) -> Sequences:
        return Sequences([one_hot[row[:-1]] for row in rows], [row[1:] for row in rows])

    ends = [round(0.9 * count), round(0.95 * count)]
    train, valid, test = (part(rows) for rows in np.split(pieces, ends))
    return Corpus(
        train, valid, test, len(letters), lambda width: StepClassificationHead(width, len(letters)), "nats a letter"
    )


def _ids(text: str, letters: list[str]) -> np.ndarray:
    known = {letter: i for i, letter in enumerate(letters)}
    return np.fromiter((known[letter] for letter in text), dtype=np.int64, count=len(text))


def digits() -> Corpus:
    """MNIST, a pixel a step from the upper left: which digit is it? (Le, Jaitly and Hinton 2015)

    The last 5,000 pictures of the training part are for validation.

    Raises:
        DataError: The set is not to be had.
    """

    def part(name: str, rows: slice) -> Sequences:
        pixels = _mnist(f"{name}-images-idx3-ubyte")[rows].astype(np.float32) / 255
        answers = _mnist(f"{name}-labels-idx1-ubyte")[rows].astype(np.int64)
        return Sequences(list(pixels.reshape(len(pixels), -1, 1)), list(map(np.asarray, answers)))

    def right(outputs: Tensor, batch: Batch) -> Tensor:
        return last_step(outputs, batch.lengths).argmax(-1) == batch.targets

    train, valid, test = part("train", slice(-5000)), part("train", slice(-5000, None)), part("t10k", slice(None))
    return Corpus(train, valid, test, 1, lambda width: StepClassificationHead(width, 10), "nats a picture", right)


def _mnist(name: str) -> np.ndarray:
    return read_idx(_bytes(catalog.locate("mnist", name, download=True)))


def _read(path: Path) -> str:
    return _bytes(path).decode("utf-8")


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


CORPORA: dict[str, Callable[[], Corpus]] = {
    "jsb_chorales": chorales,
    "jsb_harmony": harmony,
    "tinyshakespeare": shakespeare,
    "mnist": digits,
}
