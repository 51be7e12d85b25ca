"""Real sequences for the laboratory: Bach's chorales, note by note, and Shakespeare, letter by letter."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lstmkit.data import catalog
from lstmkit.data.batch import Batch
from lstmkit.parts.heads import ClassHead, LabelsHead

_LOWEST, _KEYS = 21, 88  # of a piano, as MIDI numbers them
_PIECE = 100  # letters in a sequence


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences whose every step is to be told from those before.

    Attributes:
        inputs: ``(T, F)`` each.
        targets: ``(T, labels)`` or ``(T,)`` each.
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
        lengths = self.lengths[rows]
        inputs = np.zeros((len(rows), lengths.max(), self.inputs[0].shape[1]), dtype=np.float32)
        classes = self.targets[0].ndim == 1
        shape = inputs.shape[:2] if classes else (*inputs.shape[:2], self.targets[0].shape[1])
        targets = np.full(shape, -1 if classes else 0.0, dtype=np.int64 if classes else np.float32)
        for i, row in enumerate(rows):
            inputs[i, : lengths[i]], targets[i, : lengths[i]] = self.inputs[row], self.targets[row]
        return Batch(torch.from_numpy(inputs), torch.from_numpy(lengths), torch.from_numpy(targets), rows=rows)


class Corpus(NamedTuple):
    """A data set cut in three.

    Attributes:
        train, valid, test: Its parts.
        input_size: ``F``.
        head: What answers from features of a width.
        unit: Of the loss.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    input_size: int
    head: Callable[[int], nn.Module]
    unit: str


def chorales() -> Corpus:
    """JSB chorales in quarter notes: which of 88 keys sound next? Split by Boulanger-Lewandowski et al. 2012.

    Raises:
        DataError: The set is not to be had.
    """
    pieces = json.loads(_read(catalog.locate("jsb_chorales", "jsb-chorales-quarter.json", download=True)))

    def part(name: str) -> Sequences:
        rolls = [_roll(piece) for piece in pieces[name]]
        before = [np.vstack([np.zeros_like(roll[:1]), roll[:-1]]) for roll in rolls]
        return Sequences(before, rolls)

    return Corpus(
        part("train"), part("valid"), part("test"), _KEYS, lambda width: LabelsHead(width, _KEYS), "nats a time step"
    )


def harmony() -> Corpus:
    """The chorales again: the melody, the highest voice, is given; which other keys sound at each of its notes?

    All of the melody is known beforehand, so that a reversed direction may read it.

    Raises:
        DataError: The set is not to be had.
    """
    told = chorales()

    def part(sequences: Sequences) -> Sequences:
        melodies = [_highest(roll) for roll in sequences.targets]
        rest = [roll - melody for roll, melody in zip(sequences.targets, melodies, strict=True)]
        return Sequences(melodies, rest)

    return told._replace(train=part(told.train), valid=part(told.valid), test=part(told.test))


def _highest(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: 1 where the highest sounding key of each step is."""
    found = np.zeros_like(roll)
    steps = np.flatnonzero(roll.any(axis=1))
    found[steps, _KEYS - 1 - roll[steps, ::-1].argmax(axis=1)] = 1
    return found


def _roll(piece: list[list[int]]) -> np.ndarray:
    """``(T, 88)``: 1 where a key sounds."""
    roll = np.zeros((len(piece), _KEYS), dtype=np.float32)
    for t, chord in enumerate(piece):
        roll[t, [note - _LOWEST for note in chord]] = 1
    return roll


def shakespeare() -> Corpus:
    """Tiny Shakespeare in pieces of 100 letters, each for itself: which letter is next?

    The first nine tenths are for training, half of the rest each for validation and test.

    Raises:
        DataError: The set is not to be had.
    """
    text = _read(catalog.locate("tinyshakespeare", "input.txt", download=True))
    letters = sorted(set(text))
    ids = _ids(text, letters)
    count = len(ids) // _PIECE
    pieces = ids[: count * _PIECE].reshape(count, _PIECE)
    one_hot = np.eye(len(letters), dtype=np.float32)

    def part(rows: np.ndarray) -> Sequences:
        return Sequences([one_hot[row[:-1]] for row in rows], [row[1:] for row in rows])

    ends = [round(0.9 * count), round(0.95 * count)]
    train, valid, test = (part(rows) for rows in np.split(pieces, ends))
    return Corpus(train, valid, test, len(letters), lambda width: ClassHead(width, len(letters)), "nats a letter")


def _ids(text: str, letters: list[str]) -> np.ndarray:
    known = {letter: i for i, letter in enumerate(letters)}
    return np.fromiter((known[letter] for letter in text), dtype=np.int64, count=len(text))


def _read(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


CORPORA: dict[str, Callable[[], Corpus]] = {
    "jsb_chorales": chorales,
    "jsb_harmony": harmony,
    "tinyshakespeare": shakespeare,
}
