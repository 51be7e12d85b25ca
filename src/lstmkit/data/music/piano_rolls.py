"""Piano rolls: read from MIDI files, .npz files of rolls, JSON files of chords, or lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.files import load_npz, read_bytes, reading
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import UTF, DataFormat, check_format
from lstmkit.data.music.midi import FILE_SUFFIXES, N_KEYS, read_midi
from lstmkit.data.music.rolls import DEFAULT_TEMPO, checked_roll, roll_of, shift_right
from lstmkit.data.padding import pad_sequences
from lstmkit.data.text_files import decode_text
from lstmkit.errors import DataError

SPLITS = ("train", "valid", "test")
_MEMORY_PER_BYTE = 5  # bytes that the pieces take in memory per byte of JSON


#: Formats of piano music.
FORMATS = (
    DataFormat("MIDI", FILE_SUFFIXES, notes="Drums and notes outside the 88 keys are dropped, with a note."),
    DataFormat("NumPy archive", (".npz",), notes="Arrays SPLIT_rolls, keys packed into bits, and SPLIT_offsets."),
    DataFormat("JSON", (".json",), gzip=True, encoding=UTF, notes="Lists of chords for each split."),
    DataFormat("folder of MIDI files", folder=True, notes="Searched recursively."),
)


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of music.

    Attributes:
        roll: ``(T, 88)`` of 0 and 1: the keys that sound at each step, the lowest (A0) first.
        name: Its name in messages and figures.
        tempo: Quarter notes per minute.
    """

    roll: np.ndarray
    name: str
    tempo: float = DEFAULT_TEMPO


@dataclass(frozen=True, eq=False)
class PianoRolls:
    """A set of pieces of music.

    Attributes:
        pieces: The pieces.
        name: Name of the data in messages.
        splits: Predefined split of each piece, ``train``, ``valid`` or ``test``; ``None`` without predefined splits.
        notes: What was dropped while reading.
    """

    pieces: tuple[Piece, ...]
    name: str
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return sum(len(piece.roll) for piece in self.pieces)

    def subset(self, rows: Sequence[int] | np.ndarray) -> PianoRolls:
        """The pieces ``rows``, without predefined splits."""
        return replace(self, pieces=tuple(self.pieces[i] for i in rows), splits=None)

    def predefined_split(self, name: str) -> PianoRolls | None:
        """Pieces of a predefined split; ``None`` if it has none."""
        rows = [i for i, split in enumerate(self.splits or ()) if split == name]
        return self.subset(rows) if rows else None

    def digest(self) -> str:
        """SHA-256 of the pieces."""
        digest = hashlib.sha256(repr(self.splits).encode())
        for piece in self.pieces:
            digest.update(repr(piece.roll.shape).encode() + np.packbits(piece.roll).tobytes())
        return digest.hexdigest()


def read_piano_rolls(data: Any, step: float = 0.5) -> PianoRolls:
    """Read pieces of music from files or lists.

    Args:
        data: A MIDI file, a folder of them (searched recursively), or a list of paths; a ``.npz`` or ``.json`` with the
            splits ``train``, ``valid`` and ``test``; or a list of pieces, each an array ``(T, 88)`` of 0 and 1 or a
            list of chords, each a list of MIDI numbers (60 is middle C).
        step: Grid step for MIDI files, in quarter notes.

    Raises:
        DataError: The data cannot be read, are empty, or have a piece without notes.

    >>> read_piano_rolls([[[60, 64, 67], [60, 65, 69]]]).pieces[0].roll.sum(axis=1).tolist()
    [3, 3]
    """
    if isinstance(data, PianoRolls):
        return data
    if isinstance(data, (str, Path)):
        return _from_path(Path(data), step)
    if not isinstance(data, (list, tuple)):
        raise DataError(f"give a path, or a list of paths or of pieces, not {type(data).__name__}")
    if not data:
        raise DataError("the list is empty: give at least one piece")
    if all(isinstance(entry, (str, Path)) for entry in data):
        return _from_files([Path(entry) for entry in data], step, "the list")
    pieces = (Piece(roll_of(entry, f"piece {i}"), f"piece {i}") for i, entry in enumerate(data, 1))
    return PianoRolls(tuple(pieces), "the list")


def _from_path(path: Path, step: float) -> PianoRolls:
    if path.is_dir():
        files = [file for file in visible_files(path) if file.suffix.lower() in FILE_SUFFIXES]
        if not files:
            raise DataError(f"{path} has no MIDI files ({', '.join(FILE_SUFFIXES)}): give a folder with some")
        return _from_files(files, step, path.name)
    check_format(path, FORMATS)
    name = path.name.lower()
    if name.endswith(".npz"):
        return _with_splits(path, _from_npz(path))
    if name.endswith((".json", ".json.gz")):
        return _with_splits(path, _from_json(path))
    return _from_files([path], step, path.name)


def _from_files(paths: list[Path], step: float, name: str) -> PianoRolls:
    pieces, dropped, drums = [], 0, 0
    for path in paths:
        midi = read_midi(path, step)
        pieces.append(Piece(midi.roll, path.stem, midi.tempo))
        dropped, drums = dropped + midi.dropped, drums + midi.drums
    counts = {"notes outside the 88 keys": dropped, "drum notes": drums}
    notes = tuple(f"{count:,} {what} were dropped." for what, count in counts.items() if count)
    return PianoRolls(tuple(pieces), name, notes=notes)


def _with_splits(path: Path, splits: dict[str, list[np.ndarray]]) -> PianoRolls:
    """Concatenate the splits of a file."""
    rolls = [(split, i, roll) for split in SPLITS for i, roll in enumerate(splits.get(split, []), 1)]
    if not rolls:
        raise DataError(f"{path.name} has no piece in {', '.join(SPLITS)}: give at least one")
    pieces = tuple(Piece(checked_roll(roll, f"{path.name}, {split} {i}"), f"{split} {i}") for split, i, roll in rolls)
    return PianoRolls(pieces, path.name, tuple(split for split, _, _ in rolls))


def _from_npz(path: Path) -> dict[str, list[np.ndarray]]:
    """Read arrays ``SPLIT_rolls (steps, 11)``, keys packed into bits, and ``SPLIT_offsets``, bounds of the pieces."""
    arrays = load_npz(path, "piano rolls")
    with reading(path.name, "is not a readable .npz of piano rolls", "create it with numpy.savez"):
        return {
            split: np.split(
                np.unpackbits(arrays[f"{split}_rolls"], axis=1)[:, :N_KEYS], arrays[f"{split}_offsets"][1:-1]
            )
            for split in SPLITS
            if f"{split}_rolls" in arrays
        }


def _from_json(path: Path) -> dict[str, list[np.ndarray]]:
    """Read JSON ``{split: [piece, …]}``; a piece is a list of chords, a chord a list of MIDI numbers."""
    with reading(path.name, "is not readable JSON", "correct it"):
        content = read_bytes(path, gzipped=path.suffix.lower() == ".gz", copies=_MEMORY_PER_BYTE)
        pieces = json.loads(decode_text(content, path.name))
    if not isinstance(pieces, dict) or not all(isinstance(pieces.get(split, []), list) for split in SPLITS):
        raise DataError(f"{path.name} must be an object with lists of pieces under {', '.join(SPLITS)}")
    return {
        split: [roll_of(piece, f"{path.name}, {split} {i}") for i, piece in enumerate(pieces.get(split, []), 1)]
        for split in SPLITS
    }


class PianoRollDataset:
    """Dataset of pieces, optionally split into windows and transposed.

    A window starts with the step before its first one as input, but with a new recurrent state.

    Args:
        rolls: The pieces.
        window: Maximum steps per window; 0 for whole pieces.
        max_transposition: Maximum transposition in semitones, up and down, as long as all keys stay on the piano. Every
            transposition is an example of its own.
    """

    def __init__(self, rolls: PianoRolls, window: int = 0, max_transposition: int = 0) -> None:
        self.rolls = [piece.roll for piece in rolls.pieces]
        self.windows = [
            (number, start, min(start + (window or len(roll)), len(roll)), shift)
            for number, roll in enumerate(self.rolls)
            for shift in _transpositions(roll, max_transposition)
            for start in range(0, len(roll), window or len(roll))
        ]
        self.lengths = np.array([end - start for _, start, end, _ in self.windows])

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 88)``: the previous step; targets ``(B, T, 88)``: the step."""
        windows = [self._window(*self.windows[row]) for row in rows]
        inputs, targets = ([pair[side] for pair in windows] for side in (0, 1))
        return Batch(
            torch.from_numpy(pad_sequences(inputs, 0)).float(),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(pad_sequences(targets, 0)).float(),
            rows=rows,
        )

    def _window(self, number: int, start: int, end: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of a window."""
        roll = np.roll(self.rolls[number][max(0, start - 1) : end], shift, axis=1)
        return (roll[:-1], roll[1:]) if start else (shift_right(roll), roll)


def _transpositions(roll: np.ndarray, max_shift: int) -> list[int]:
    """Possible transpositions of a piece in semitones, at most ``max_shift``; 0 is always among them."""
    keys = np.flatnonzero(roll.any(axis=0))
    return list(range(-min(max_shift, int(keys[0])), min(max_shift, N_KEYS - 1 - int(keys[-1])) + 1))
