"""Piano rolls as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkit.data.music.midi import LOWEST_PITCH, MAX_STEPS, N_KEYS
from lstmkit.errors import DataError

DEFAULT_TEMPO = 100.0  #: Quarter notes per minute, if unknown.


def roll_of(piece: Any, where: str) -> np.ndarray:
    """The roll ``(T, 88)`` of a piece.

    Args:
        piece: A roll, or a list of chords, each a list of MIDI numbers.
        where: The piece in messages.

    Raises:
        DataError: It is neither, or has no note.
    """
    if isinstance(piece, np.ndarray):
        return checked_roll(piece, where)
    if not isinstance(piece, (list, tuple)) or not all(isinstance(chord, (list, tuple)) for chord in piece):
        raise DataError(f"{where} must be an array (T, {N_KEYS}), or a list of chords, each a list of MIDI numbers")
    roll = np.zeros((len(piece), N_KEYS), dtype=np.uint8)
    for t, chord in enumerate(piece):
        for note in chord:
            if not isinstance(note, int) or not LOWEST_PITCH <= note < LOWEST_PITCH + N_KEYS:
                last = LOWEST_PITCH + N_KEYS - 1
                raise DataError(
                    f"{where}, step {t + 1}: {note!r} is not a piano key: give MIDI numbers {LOWEST_PITCH}…{last}"
                )
            roll[t, note - LOWEST_PITCH] = 1
    return checked_roll(roll, where)


def checked_roll(roll: np.ndarray, where: str) -> np.ndarray:
    """A roll ``(T, 88)`` of 0 and 1 as uint8. Raises DataError if it is none, has no note or is too long."""
    if roll.ndim != 2 or roll.shape[1] != N_KEYS or not np.isin(roll, (0, 1)).all():
        raise DataError(f"{where} has dtype {roll.dtype} and shape {roll.shape}: give 0 and 1 of shape (T, {N_KEYS})")
    if not roll.any():
        raise DataError(f"{where} has no note: leave it out")
    if len(roll) > MAX_STEPS:
        raise DataError(f"{where} has {len(roll):,} steps, the maximum is {MAX_STEPS:,}: split it")
    return roll.astype(np.uint8)


def shift_right(roll: np.ndarray) -> np.ndarray:
    """Roll of the previous step ``(T, 88)``; silence before the first."""
    return np.concatenate([np.zeros_like(roll[:1]), roll[:-1]])


def skyline(roll: np.ndarray) -> np.ndarray:
    """Skyline melody ``(T, 88)``: only the highest key of each step.

    >>> skyline(np.array([[0, 1, 1, 0], [0, 0, 0, 0]])).tolist()
    [[0, 0, 1, 0], [0, 0, 0, 0]]
    """
    above = np.cumsum(roll[:, ::-1], axis=1)[:, ::-1]
    return roll * (above == 1)


def melody_mask(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: 1 for the melody's key, 0 for those above it, NaN for those that are to be sampled."""
    melody = skyline(roll).astype(np.float32)
    at_or_above = np.cumsum(melody, axis=1) > 0
    return np.where(at_or_above, melody, np.float32(np.nan))
