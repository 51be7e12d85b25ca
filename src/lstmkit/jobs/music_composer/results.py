"""A composed piece: piano roll, chords, MIDI, sound."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmkit.data.audio.audio_io import check_writable
from lstmkit.data.music.midi import FILE_SUFFIXES, LOWEST_PITCH, note_name, roll_to_midi, synthesize
from lstmkit.errors import UserError

_SAMPLE_RATE = 44_100  # Hz, of WAV files


@dataclass(frozen=True, eq=False)
class Composition:
    """A piece, composed in part.

    Attributes:
        name: Name of the prompt or melody.
        roll: ``(T, 88)`` of 0 and 1: which keys sound at each step, A0 first.
        is_given: ``(T, 88)``: true for what was not composed: the steps of a prompt, or the keys of a melody.
        nll_per_step: Negative log-likelihood in nats of each composed step.
        quarters_per_step: Quarter notes per step.
        tempo: Quarter notes per minute.
    """

    name: str
    roll: np.ndarray
    is_given: np.ndarray
    nll_per_step: tuple[float, ...]
    quarters_per_step: float
    tempo: float

    @property
    def chords(self) -> list[list[int]]:
        """The MIDI numbers that sound at each step, from the lowest."""
        return [[LOWEST_PITCH + int(key) for key in np.flatnonzero(row)] for row in self.roll]

    def text(self) -> str:
        """One line per step: the names of its keys from the lowest, ``-`` for silence."""
        lines = (" ".join(note_name(pitch - LOWEST_PITCH) for pitch in chord) for chord in self.chords)
        return "\n".join(line or "-" for line in lines)

    def midi(self) -> Any:
        """A ``pretty_midi.PrettyMIDI`` with one piano."""
        return roll_to_midi(self.roll, self.quarters_per_step, self.tempo)

    def write(self, path: str | Path) -> None:
        """Write a MIDI file (``.mid``), its sound (``.wav``), or :meth:`text` with any other ending."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
        check_writable(path, [".wav"])
        if path.suffix.lower() in FILE_SUFFIXES:
            self.midi().write(str(path))
        elif path.suffix.lower() == ".wav":
            _write_wav(path, synthesize(self.midi(), _SAMPLE_RATE))
        else:
            path.write_text(self.text() + "\n", encoding="utf-8")


def _write_wav(path: Path, samples: np.ndarray) -> None:
    """One channel, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes((32_767 * samples).round().astype("<i2").tobytes())
