"""Pieces of music as piano rolls: from MIDI files, files of rolls or of chords, or lists."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmkit.data.batch import Batch, beside
from lstmkit.data.music.midi import FILE_SUFFIXES, LOWEST_PITCH, MAX_STEPS, N_KEYS, read_midi
from lstmkit.errors import DataError, one_line

SPLITS = ("train", "valid", "test")
_TEMPO = 100.0  # quarter notes a minute, of a roll that does not say


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece.

    Attributes:
        roll: ``(T, 88)`` of 0 and 1: which keys sound at each step, the lowest, A0, first.
        name: What messages and pictures call it.
        tempo: Quarter notes a minute.
    """

    roll: np.ndarray
    name: str
    tempo: float = _TEMPO


@dataclass(frozen=True, eq=False)
class PianoRolls:
    """Pieces of music.

    Attributes:
        pieces: They.
        name: What messages call them.
        parts: For each which part it is given for, of ``train``, ``valid``, ``test``; ``None`` where that is open.
        remarks: What was left out in reading.
    """

    pieces: tuple[Piece, ...]
    name: str
    parts: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def steps(self) -> int:
        """Of all pieces together."""
        return sum(len(piece.roll) for piece in self.pieces)

    def part(self, rows: Sequence[int] | np.ndarray) -> PianoRolls:
        """These pieces, for whatever part."""
        return replace(self, pieces=tuple(self.pieces[i] for i in rows), parts=None)

    def given(self, part: str) -> PianoRolls | None:
        """The pieces that are given for a part; ``None`` if none is."""
        rows = [i for i, of in enumerate(self.parts or ()) if of == part]
        return self.part(rows) if rows else None

    def digest(self) -> str:
        """A fingerprint of all of it."""
        digest = hashlib.sha256(repr(self.parts).encode())
        for piece in self.pieces:
            digest.update(repr(piece.roll.shape).encode() + np.packbits(piece.roll).tobytes())
        return digest.hexdigest()


def read_piano_rolls(data: Any, step: float = 0.5) -> PianoRolls:
    """Pieces from wherever they are.

    Args:
        data: A MIDI file, a folder of them (with all folders in it), or a list of paths; a ``.npz`` or ``.json`` with
            the parts ``train``, ``valid``, ``test``; or a list of pieces, each an array ``(T, 88)`` of 0 and 1 or a
            list of chords, each a list of MIDI numbers (60 is middle C).
        step: Of what is read from MIDI files, in quarter notes.

    Raises:
        DataError: No such file, nothing in it, damaged, a piece without a note, or not what is told above.

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
        raise DataError("the list is empty: there is no piece in it")
    if all(isinstance(one, (str, Path)) for one in data):
        return _from_files([Path(one) for one in data], step, "the list")
    pieces = (Piece(_roll(one, f"piece {i}"), f"piece {i}") for i, one in enumerate(data, 1))
    return PianoRolls(tuple(pieces), "the list")


def _from_path(path: Path, step: float) -> PianoRolls:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in FILE_SUFFIXES and file.is_file())
        if not files:
            raise DataError(f"{path}: there is no MIDI file ({', '.join(FILE_SUFFIXES)}) in this folder")
        return _from_files(files, step, path.name)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file or folder")
    name = path.name.lower()
    if name.endswith(".npz"):
        return _with_splits(path, _from_npz(path))
    if name.endswith((".json", ".json.gz")):
        return _with_splits(path, _from_json(path))
    return _from_files([path], step, path.name)


def _from_files(paths: list[Path], step: float, name: str) -> PianoRolls:
    pieces, dropped, drums = [], 0, 0
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        read = read_midi(path, step)
        pieces.append(Piece(read.roll, path.stem, read.tempo))
        dropped, drums = dropped + read.dropped, drums + read.drums
    counts = {"outside of the 88 keys": dropped, "of drums": drums}
    remarks = tuple(f"{count:,} notes {what} were left out." for what, count in counts.items() if count)
    return PianoRolls(tuple(pieces), name, remarks=remarks)


def _with_splits(path: Path, parts: dict[str, list[np.ndarray]]) -> PianoRolls:
    """The parts of a file of rolls, one after the other."""
    rolls = [(part, i, roll) for part in SPLITS for i, roll in enumerate(parts.get(part, []), 1)]
    if not rolls:
        raise DataError(f"{path.name} has no piece in {', '.join(SPLITS)}")
    pieces = tuple(Piece(_checked(roll, f"{path.name}, {part} {i}"), f"{part} {i}") for part, i, roll in rolls)
    return PianoRolls(pieces, path.name, tuple(part for part, _, _ in rolls))


def _from_npz(path: Path) -> dict[str, list[np.ndarray]]:
    """``PART_rolls (steps, 11)``, the keys packed into bits, and ``PART_offsets``, where each piece begins and ends."""
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            arrays = dict(file)
        return {
            part: np.split(np.unpackbits(arrays[f"{part}_rolls"], axis=1)[:, :N_KEYS], arrays[f"{part}_offsets"][1:-1])
            for part in SPLITS
            if f"{part}_rolls" in arrays
        }
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as err:
        raise DataError(f"{path.name} is no .npz of piano rolls that can be read") from err


def _from_json(path: Path) -> dict[str, list[np.ndarray]]:
    """Of each part its pieces, of each piece its chords, of each chord its MIDI numbers."""
    try:
        content = path.read_bytes()
        told = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, ValueError, EOFError) as err:
        raise DataError(f"{path.name} is no JSON that can be read ({one_line(err)})") from err
    if not isinstance(told, dict) or not all(isinstance(told.get(part, []), list) for part in SPLITS):
        raise DataError(f"{path.name} must hold lists of pieces under {', '.join(SPLITS)}")
    return {
        part: [_roll(piece, f"{path.name}, {part} {i}") for i, piece in enumerate(told.get(part, []), 1)]
        for part in SPLITS
    }


def _roll(piece: Any, where: str) -> np.ndarray:
    """A piece of a list as a roll."""
    if isinstance(piece, np.ndarray):
        return _checked(piece, where)
    if not isinstance(piece, (list, tuple)) or not all(isinstance(chord, (list, tuple)) for chord in piece):
        raise DataError(
            f"{where} must be an array of (steps, {N_KEYS}), or a list of chords, each a list of MIDI numbers"
        )
    roll = np.zeros((len(piece), N_KEYS), dtype=np.uint8)
    for t, chord in enumerate(piece):
        for note in chord:
            if not isinstance(note, int) or not LOWEST_PITCH <= note < LOWEST_PITCH + N_KEYS:
                last = LOWEST_PITCH + N_KEYS - 1
                raise DataError(
                    f"{where}, step {t + 1}: {note!r} is no key of a piano, which MIDI numbers {LOWEST_PITCH}…{last}"
                )
            roll[t, note - LOWEST_PITCH] = 1
    return _checked(roll, where)


def _checked(roll: np.ndarray, where: str) -> np.ndarray:
    if roll.ndim != 2 or roll.shape[1] != N_KEYS or not np.isin(roll, (0, 1)).all():
        raise DataError(f"{where} must be 0 and 1 in the shape (steps, {N_KEYS}), not {roll.dtype} in {roll.shape}")
    if not roll.any():
        raise DataError(f"{where} has no note")
    if len(roll) > MAX_STEPS:
        raise DataError(f"{where} has {len(roll):,} steps, {MAX_STEPS:,} are the most: cut it")
    return roll.astype(np.uint8)


def shift_right(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: what sounds at the step before each, before the first silence."""
    return np.concatenate([np.zeros_like(roll[:1]), roll[:-1]])


def highest(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: 1 where the highest sounding key of each step is: the melody.

    >>> highest(np.array([[0, 1, 1, 0], [0, 0, 0, 0]])).tolist()
    [[0, 0, 1, 0], [0, 0, 0, 0]]
    """
    above = np.cumsum(roll[:, ::-1], axis=1)[:, ::-1]
    return roll * (above == 1)


class PianoRollDataset:
    """Pieces, cut into windows and moved to other keys, as a source of batches.

    A window goes on where the one before ended as far as it is told the step before its first; the state begins anew.

    Args:
        rolls: The pieces.
        window: Steps of a window at most; 0 for whole pieces.
        transpose: Semitones up and down by which they are moved as well, as far as all their keys stay on the piano.
    """

    def __init__(self, rolls: PianoRolls, window: int = 0, transpose: int = 0) -> None:
        self.rolls = [piece.roll for piece in rolls.pieces]
        self.cuts = [
            (number, start, min(start + (window or len(roll)), len(roll)), shift)
            for number, roll in enumerate(self.rolls)
            for shift in _transpositions(roll, transpose)
            for start in range(0, len(roll), window or len(roll))
        ]
        self.lengths = np.array([end - start for _, start, end, _ in self.cuts])

    def __len__(self) -> int:
        return len(self.cuts)

    def batch(self, rows: np.ndarray) -> Batch:
        """Inputs ``(B, T, 88)``, what sounded at the step before; targets ``(B, T, 88)``, what sounds."""
        cuts = [self._cut(*self.cuts[row]) for row in rows]
        inputs, targets = ([pair[side] for pair in cuts] for side in (0, 1))
        return Batch(
            torch.from_numpy(beside(inputs, 0)).float(),
            torch.from_numpy(self.lengths[rows]),
            torch.from_numpy(beside(targets, 0)).float(),
            rows=rows,
        )

    def _cut(self, number: int, start: int, end: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """The step before each, and each."""
        roll = np.roll(self.rolls[number][max(0, start - 1) : end], shift, axis=1)
        return (roll[:-1], roll[1:]) if start else (shift_right(roll), roll)


def _transpositions(roll: np.ndarray, most: int) -> list[int]:
    """By how many semitones a piece can be moved, at most so many; at least not at all."""
    keys = np.flatnonzero(roll.any(axis=0))
    return list(range(-min(most, int(keys[0])), min(most, N_KEYS - 1 - int(keys[-1])) + 1))
