"""MIDI files as piano rolls, and rolls as MIDI: mido reads them, pretty_midi writes them and lets them sound."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.errors import DataError, UserError, one_line

LOWEST_PITCH, N_KEYS = 21, 88  #: A piano's lowest key as MIDI numbers it, A0, and how many keys it has, up to C8.
MAX_STEPS = 100_000  #: Of a piece: eighths for seven hours.
SLOWEST, FASTEST = 5.0, 1000.0  #: Tempi, in quarter notes a minute.
FILE_SUFFIXES = (".mid", ".midi")
_MAX_BYTES = 20_000_000  # of a file: a symphony has some hundred thousand
_DRUM_CHANNEL = 9  # the channel, from 0
_DEFAULT_TEMPO = 500_000  # microseconds, where a file says nothing
_VELOCITY = 80  # of what is written; 1…127


class MidiRoll(NamedTuple):
    """What a MIDI file has for a piano.

    Attributes:
        roll: ``(T, 88)`` of 0 and 1: which keys sound. It begins and ends with a step that is not silent.
        tempo: Quarter notes a minute at the beginning, within 5…1000.
        dropped: Notes outside of the 88 keys, which are left out.
        drums: Notes of the drums, which are left out too.
    """

    roll: np.ndarray
    tempo: float
    dropped: int
    drums: int


def read_midi(path: Path, step: float) -> MidiRoll:
    """A file's notes on a grid of steps, all its tracks and channels together, without the drums' channel.

    Steps are parts of a quarter note by the file's own beat, whatever the tempo: a note sounds from the step nearest to
    its beginning up to the one nearest to its end, and for one step at least.

    Args:
        path: The file.
        step: Of the grid, in quarter notes.

    Raises:
        DataError: No MIDI file, damaged, without a note, too long, or of a kind that has no beat.
    """
    mido = _library("mido")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path.name} has more than {_MAX_BYTES // 1_000_000} MB: no MIDI file of a piece has")
    with path.open("rb") as raw:
        if raw.read(4) != b"MThd":
            raise DataError(f"{path.name} is no MIDI file: it does not begin as one")
    try:
        file = mido.MidiFile(str(path))
    except EOFError as err:
        raise DataError(f"{path.name} is cut short: get it again") from err
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, mido.KeySignatureError) as err:
        if isinstance(err, PermissionError):
            raise
        raise DataError(
            f"{path.name} is no MIDI file that can be read ({one_line(err) or type(err).__name__})"
        ) from err
    if file.ticks_per_beat < 1:
        raise DataError(f"{path.name} counts time by frames of a film, not by beats: save it with a beat")
    if file.type == 2:
        raise DataError(f"{path.name} has several pieces in one file (type 2): save each as a file of its own")
    notes, drums, tempo = _notes(file)
    on_keys = [note for note in notes if LOWEST_PITCH <= note[0] < LOWEST_PITCH + N_KEYS]
    if not on_keys:
        beside = f" (beside {len(notes)} outside of them and {drums} of drums)" if notes or drums else ""
        raise DataError(f"{path.name} has no note that a piano's 88 keys could play{beside}")
    roll = _on_grid(on_keys, step * file.ticks_per_beat, path.name)
    return MidiRoll(roll, tempo, len(notes) - len(on_keys), drums)


def _notes(file: Any) -> tuple[list[tuple[int, int, int]], int, float]:
    """``(pitch, start, end)`` in ticks of all notes but the drums', how many those have, and the first tempo.

    A note ends where its pitch is let go or struck anew in its track and channel, or with its track.
    """
    notes: list[tuple[int, int, int]] = []
    drums, tempos = 0, []
    for track in file.tracks:
        held: dict[tuple[int, int], int] = {}
        now = 0
        for message in track:
            now += message.time
            if message.type == "set_tempo":
                tempos.append((now, message.tempo))
            if message.type not in ("note_on", "note_off"):
                continue
            if message.channel == _DRUM_CHANNEL:
                drums += message.type == "note_on" and message.velocity > 0
                continue
            key = message.channel, message.note
            if key in held:
                notes.append((message.note, held.pop(key), now))
            if message.type == "note_on" and message.velocity:
                held[key] = now
        notes += [(pitch, start, now) for (_, pitch), start in held.items()]
    quarter = min(tempos, key=lambda told: told[0])[1] if tempos else _DEFAULT_TEMPO
    return notes, drums, min(max(60e6 / max(1, quarter), SLOWEST), FASTEST)


def _on_grid(notes: list[tuple[int, int, int]], ticks: float, name: str) -> np.ndarray:
    pitches, starts, ends = np.array(notes, dtype=np.int64).T
    first = np.floor(starts / ticks + 0.5).astype(np.int64)
    last = np.maximum(first + 1, np.floor(ends / ticks + 0.5).astype(np.int64))
    begin, steps = first.min(), int(last.max() - first.min())
    if steps > MAX_STEPS:
        raise DataError(f"{name} has {steps:,} steps, {MAX_STEPS:,} are the most: cut it, or give a greater --step")
    roll = np.zeros((steps, N_KEYS), dtype=np.uint8)
    for pitch, start, end in zip(pitches - LOWEST_PITCH, first - begin, last - begin, strict=True):
        roll[start:end, pitch] = 1
    return roll


def roll_to_midi(roll: np.ndarray, step: float, tempo: float) -> Any:
    """A roll as a ``pretty_midi.PrettyMIDI`` with one piano. A key that sounds in steps on end is held: one note.

    Args:
        roll: ``(T, 88)``.
        step: Quarter notes in a step.
        tempo: Quarter notes a minute.
    """
    pretty_midi = _library("pretty_midi")
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


def sound(midi: Any, rate: int = 44_100) -> np.ndarray:
    """``(N,)`` samples in -1…1, loudest 0.9: a sampled piano where pyfluidsynth is installed, else plain sine tones."""
    if not any(instrument.notes for instrument in midi.instruments):
        return np.zeros(rate)
    has_synthesiser = find_spec("fluidsynth") is not None
    samples = midi.fluidsynth(fs=rate) if has_synthesiser else midi.synthesize(fs=rate)
    return 0.9 * samples / np.abs(samples).max()


def note_name(key: int) -> str:
    """The name of key ``0…87``, middle C being C4.

    >>> note_name(39), note_name(0)
    ('C4', 'A0')
    """
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    pitch = LOWEST_PITCH + key
    return f"{names[pitch % 12]}{pitch // 12 - 1}"


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise UserError(f"MIDI files need {err.name}: pip install 'lstmkit[music]'") from err
