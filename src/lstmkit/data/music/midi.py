"""Convert MIDI files to piano rolls (with mido), and piano rolls to MIDI and audio (with pretty_midi)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.files import check_regular_file, reading
from lstmkit.errors import DataError
from lstmkit.libraries import import_library

LOWEST_PITCH, N_KEYS = 21, 88  #: MIDI number of a piano's lowest key, A0; number of keys, up to C8.
MAX_STEPS = 100_000  #: Maximum steps of a piece.
MIN_TEMPO, MAX_TEMPO = 5.0, 1000.0  #: Range of tempos, in quarter notes per minute.
FILE_SUFFIXES = (".mid", ".midi")
_MAX_BYTES = 20_000_000  # of a file; a symphony has some 100 kB
_DRUM_CHANNEL = 9  # counted from 0
_DEFAULT_TEMPO = 500_000  # microseconds per quarter note, if a file has no tempo
_VELOCITY = 80  # of written notes, 1…127


class MidiRoll(NamedTuple):
    """Piano roll of a MIDI file.

    Attributes:
        roll: ``(T, 88)`` of 0 and 1: the keys that sound at each step. The first and last step are not silent.
        tempo: Initial tempo in quarter notes per minute, within 5…1000.
        dropped: Number of notes outside the 88 keys, which are dropped.
        drums: Number of drum notes, which are dropped too.
    """

    roll: np.ndarray
    tempo: float
    dropped: int
    drums: int


def read_midi(path: Path, step: float) -> MidiRoll:
    """Read a MIDI file as a piano roll of all tracks and channels, without drums.

    Notes are quantized to a grid in beats, independent of the tempo: start and end are rounded to the nearest step, and
    a note has at least one step.

    Args:
        path: The file.
        step: Grid step in quarter notes.

    Raises:
        DataError: The file is not MIDI, is damaged, too long, has no notes, or has no beats (SMPTE time).
    """
    mido = import_library("mido", "music", "MIDI")
    if check_regular_file(path).stat().st_size > _MAX_BYTES:
        raise DataError(f"{path.name} has more than {_MAX_BYTES // 1_000_000} MB, too much for MIDI: give a MIDI file")
    with path.open("rb") as raw:
        if raw.read(4) != b"MThd":
            raise DataError(f"{path.name} is not a MIDI file (no MThd header): give a .mid file")
    with reading(path.name, "is not a readable MIDI file", "export it again"):
        try:
            file = mido.MidiFile(str(path))
        except EOFError as err:
            raise DataError(f"{path.name} is truncated: download or export it again") from err
    if file.ticks_per_beat < 1:
        raise DataError(f"{path.name} has SMPTE time instead of beats: export it with ticks per beat")
    if file.type == 2:
        raise DataError(f"{path.name} has several pieces in one file (type 2): save each as its own file")
    notes, drums, tempo = _notes(file)
    on_keys = [note for note in notes if LOWEST_PITCH <= note[0] < LOWEST_PITCH + N_KEYS]
    if not on_keys:
        dropped = f" ({len(notes)} notes are outside of them, {drums} are drums)" if notes or drums else ""
        raise DataError(f"{path.name} has no note on the 88 keys of a piano{dropped}: leave it out")
    roll = _quantize(on_keys, step * file.ticks_per_beat, path.name)
    return MidiRoll(roll, tempo, len(notes) - len(on_keys), drums)


def _notes(file: Any) -> tuple[list[tuple[int, int, int]], int, float]:
    """Notes ``(pitch, start, end)`` in ticks without drums, the number of drum notes, and the initial tempo.

    A note ends when its key is released or struck again in its track and channel, or at the end of the track.
    """
    notes: list[tuple[int, int, int]] = []
    drums, tempos = 0, []
    for track in file.tracks:
        held: dict[tuple[int, int], int] = {}
        time = 0
        for message in track:
            time += message.time
            if message.type == "set_tempo":
                tempos.append((time, message.tempo))
            if message.type not in ("note_on", "note_off"):
                continue
            if message.channel == _DRUM_CHANNEL:
                drums += message.type == "note_on" and message.velocity > 0
                continue
            key = message.channel, message.note
            if key in held:
                notes.append((message.note, held.pop(key), time))
            if message.type == "note_on" and message.velocity:
                held[key] = time
        notes += [(pitch, start, time) for (_, pitch), start in held.items()]
    quarter = min(tempos, key=lambda event: event[0])[1] if tempos else _DEFAULT_TEMPO
    return notes, drums, min(max(60e6 / max(1, quarter), MIN_TEMPO), MAX_TEMPO)


def _quantize(notes: list[tuple[int, int, int]], ticks: float, name: str) -> np.ndarray:
    pitches, starts, ends = np.array(notes, dtype=np.int64).T
    first = np.floor(starts / ticks + 0.5).astype(np.int64)
    last = np.maximum(first + 1, np.floor(ends / ticks + 0.5).astype(np.int64))
    begin, steps = first.min(), int(last.max() - first.min())
    if steps > MAX_STEPS:
        raise DataError(
            f"{name} has {steps:,} steps, the maximum is {MAX_STEPS:,}: split it, or increase quarters_per_step"
        )
    roll = np.zeros((steps, N_KEYS), dtype=np.uint8)
    for pitch, start, end in zip(pitches - LOWEST_PITCH, first - begin, last - begin, strict=True):
        roll[start:end, pitch] = 1
    return roll


def roll_to_midi(roll: np.ndarray, step: float, tempo: float) -> Any:
    """Convert a piano roll to a ``pretty_midi.PrettyMIDI`` with one piano. Successive steps of a key are one note.

    Args:
        roll: ``(T, 88)`` of 0 and 1.
        step: Quarter notes per step.
        tempo: Quarter notes per minute.
    """
    pretty_midi = import_library("pretty_midi", "music", "MIDI")
    piece = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    piano = pretty_midi.Instrument(program=0)
    seconds = step * 60 / tempo
    silence = np.zeros((1, N_KEYS), dtype=np.int8)
    changes = np.diff(np.concatenate([silence, roll.astype(np.int8), silence]), axis=0).T
    for key, change in enumerate(changes):
        for start, end in zip(np.flatnonzero(change > 0), np.flatnonzero(change < 0), strict=True):
            piano.notes.append(pretty_midi.Note(_VELOCITY, LOWEST_PITCH + key, start * seconds, end * seconds))
    piece.instruments.append(piano)
    return piece


def synthesize(midi: Any, sample_rate: int = 44_100) -> np.ndarray:
    """Render MIDI as samples ``(N,)`` with peak 0.9: a sampled piano if pyfluidsynth is installed, else sine tones."""
    if not any(instrument.notes for instrument in midi.instruments):
        return np.zeros(sample_rate)
    has_fluidsynth = find_spec("fluidsynth") is not None
    samples = midi.fluidsynth(fs=sample_rate) if has_fluidsynth else midi.synthesize(fs=sample_rate)
    return 0.9 * samples / np.abs(samples).max()


def note_name(key: int) -> str:
    """Name of key ``0…87``; middle C is C4.

    >>> note_name(39), note_name(0)
    ('C4', 'A0')
    """
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    pitch = LOWEST_PITCH + key
    return f"{names[pitch % 12]}{pitch // 12 - 1}"
