"""What a model tells of the keys of a step, how likely it finds pieces, and new steps drawn from it."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.audio.audio_io import check_writable
from lstmkit.data.batch import Batch, Loader
from lstmkit.data.music.midi import (
    FASTEST,
    FILE_SUFFIXES,
    LOWEST_PITCH,
    MAX_STEPS,
    N_KEYS,
    SLOWEST,
    note_name,
    roll_to_midi,
    sound,
)
from lstmkit.data.music.piano_rolls import PianoRollDataset, PianoRolls, Piece, highest
from lstmkit.decoding.generation import roll_out, sample_labels
from lstmkit.errors import SettingError, UserError
from lstmkit.models.base import Ensemble, Model, State
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

GIVEN = ("start", "melody")
_TOGETHER = 16  # pieces that are scored side by side
_RATE = 44_100  # samples a second of what is written as sound


@dataclass(frozen=True, eq=False)
class Composition:
    """A piece, given in part.

    Attributes:
        name: Of the piece that was given.
        roll: ``(T, 88)`` of 0 and 1: which keys sound at each step, A0 first.
        given: ``(T, 88)`` true where that was not composed: the steps of a start, or the keys of a melody.
        nats: How unlikely the model found each step it composed.
        step: Quarter notes in a step.
        tempo: Quarter notes a minute.
    """

    name: str
    roll: np.ndarray
    given: np.ndarray
    nats: tuple[float, ...]
    step: float
    tempo: float

    @property
    def chords(self) -> list[list[int]]:
        """The MIDI numbers that sound at each step, from below."""
        return [[LOWEST_PITCH + int(key) for key in np.flatnonzero(row)] for row in self.roll]

    def text(self) -> str:
        """A line a step: the names of its keys from below, ``-`` where it is silent."""
        lines = (" ".join(note_name(pitch - LOWEST_PITCH) for pitch in chord) for chord in self.chords)
        return "\n".join(line or "-" for line in lines)

    def midi(self) -> Any:
        """A ``pretty_midi.PrettyMIDI`` with one piano: to be changed, drawn, written."""
        return roll_to_midi(self.roll, self.step, self.tempo)

    def write(self, path: str | Path) -> None:
        """A MIDI file; or, where the name ends with ``.wav``, the sound of it; with any other ending :meth:`text`."""
        path = Path(path)
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
        check_writable(path, [".wav"])
        if path.suffix.lower() in FILE_SUFFIXES:
            self.midi().write(str(path))
        elif path.suffix.lower() == ".wav":
            _write_wave(path, sound(self.midi(), _RATE))
        else:
            path.write_text(self.text() + "\n", encoding="utf-8")


def _write_wave(path: Path, samples: np.ndarray) -> None:
    """One channel, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((32_767 * samples).round().astype("<i2").tobytes())


class Wish(NamedTuple):
    """What is to be composed, see :meth:`lstmkit.MusicComposer.predict`."""

    length: int
    given: str
    first: int
    temperature: float
    seed: int
    tempo: float

    def check(self) -> None:
        """Raise a SettingError for a number out of its range."""
        if self.given not in GIVEN:
            raise SettingError(f"given must be one of {', '.join(GIVEN)}, got {self.given!r}")
        whole = all(isinstance(number, int) for number in (self.length, self.first, self.seed))
        if not whole or not 1 <= self.length <= MAX_STEPS or self.first < -1 or not 0 <= self.seed < 2**32:
            raise SettingError(
                f"length must be 1 to {MAX_STEPS:,} steps, first at least 0 (or -1 for all), seed within 0…2³², whole "
                f"numbers; got {self.length}, {self.first}, {self.seed}"
            )
        if not 0 <= self.temperature < np.inf or not (self.tempo == 0 or SLOWEST <= self.tempo <= FASTEST):
            raise SettingError(
                f"temperature must be at least 0, tempo {SLOWEST:g} to {FASTEST:g} quarters a minute (or 0 for the "
                f"piece's own); got {self.temperature:g}, {self.tempo:g}"
            )


class _Told:
    """What a model tells of steps.

    Args:
        model: One, or an ensemble, whose logits are averaged: of each key given those above it.
        inputs: ``(B, T, 88)``, the keys of the step before each.
        state: What the model carries.
        lengths: ``(B,)``, or ``None`` where all have ``T``.

    Attributes:
        state: To go on from.
        chained: Whether a key hangs on those above it.
    """

    def __init__(self, model: Model, inputs: Tensor, state: State | None, lengths: Tensor | None = None) -> None:
        members = list(model.members) if isinstance(model, Ensemble) else [model]
        found = [m(inputs, s, lengths) for m, s in zip(members, state or [None] * len(members), strict=True)]
        self._heads = [(head_of(member), outputs) for member, (outputs, _) in zip(members, found, strict=True)]
        self.state: State = tuple(state for _, state in found)
        self.autoregressive = any(head.autoregressive for head, _ in self._heads)

    def nats(self, keys: Tensor) -> Tensor:
        """``(B, T)``: minus the log-likelihood of ``keys (B, T, 88)``."""
        logits = torch.stack([head.logits(outputs, keys) for head, outputs in self._heads]).mean(0)
        return F.binary_cross_entropy_with_logits(logits, keys, reduction="none").sum(-1)

    def below(self, keys: Tensor) -> Tensor:
        """``(B, 88)``: of the last step the logits of the keys below all of ``keys (B, 88)``."""
        return torch.stack([head.below(outputs[:, -1], keys) for head, outputs in self._heads]).mean(0)


def head_of(model: Model | torch.nn.Module) -> MultilabelHead | NADEHead:
    """The head of one network."""
    assert isinstance(model, SequenceModel)
    assert isinstance(model.head, (MultilabelHead, NADEHead))
    return model.head


def negative_log_likelihoods(
    model: Model, rolls: PianoRolls, device: torch.device, progress: Progress | None = None
) -> list[np.ndarray]:
    """``(T,)`` of each piece: minus the log-likelihood of every step given those before it, the first given silence."""

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.targets is not None
        assert batch.lengths is not None
        each = _Told(model, batch.inputs, None, batch.lengths).nats(batch.targets).double().cpu().numpy()
        return [nats[:n] for nats, n in zip(each, batch.lengths.tolist(), strict=True)]

    return predict(model, Loader(PianoRollDataset(rolls), _TOGETHER), decode, device=device, progress=progress)


def compose(
    model: Model,
    pieces: Sequence[Piece],
    wish: Wish,
    step: float,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Composition]:
    """One for each piece, which stands for what is given: its start, or its melody."""

    def decode(model: Model, batch: Batch) -> list[Composition]:
        assert batch.rows is not None
        row = int(batch.rows[0])
        piece, device = pieces[row], batch.inputs.device
        melody = torch.from_numpy(_under(piece.roll)).to(device) if wish.given == "melody" else None
        length = wish.length if melody is None else len(melody)
        noise = torch.rand(length, 1, N_KEYS, generator=torch.Generator().manual_seed(wish.seed + row)).to(device)
        nats: list[float] = []

        def one(keys: Tensor, t: int, state: State) -> tuple[Tensor, State]:
            told = _Told(model, keys.unsqueeze(1), state)
            known = None if melody is None else melody[t : t + 1]
            drawn = sample_labels(told.below, noise[t], wish.temperature, known, told.autoregressive)
            nats.append(float(told.nats(drawn.unsqueeze(1))))
            return drawn, told.state

        state = _Told(model, batch.inputs[:, :-1], None).state if batch.inputs.shape[1] > 1 else None
        new = roll_out(one, batch.inputs[:, -1], state, length)[0].cpu().numpy().astype(np.uint8)
        start = piece.roll[: batch.inputs.shape[1] - 1]
        fresh = np.zeros(new.shape, dtype=bool) if melody is None else ~melody.isnan().cpu().numpy()
        return [
            Composition(
                piece.name,
                np.concatenate([start, new]),
                np.concatenate([np.ones(start.shape, dtype=bool), fresh]),
                tuple(nats),
                step,
                wish.tempo or piece.tempo,
            )
        ]

    first = 0 if wish.given == "melody" else wish.first
    # One piece at a time, so that what is composed hangs on no other.
    return predict(
        model, Loader(_Starts(pieces, first), 1), decode, device=device, progress=progress, title="composing"
    )


def _under(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: 1 for the key of the melody, 0 for those above it, NaN for those that are to be drawn."""
    melody = highest(roll).astype(np.float32)
    at_or_above = np.cumsum(melody, axis=1) > 0
    return np.where(at_or_above, melody, np.float32(np.nan))


class _Starts:
    """The first steps of pieces after a silent one, as a source of batches."""

    lengths = None

    def __init__(self, pieces: Sequence[Piece], first: int) -> None:
        self.rolls = [piece.roll[: len(piece.roll) if first < 0 else first] for piece in pieces]

    def __len__(self) -> int:
        return len(self.rolls)

    def batch(self, rows: np.ndarray) -> Batch:
        (roll,) = (self.rolls[row] for row in rows)
        silence = np.zeros((1, N_KEYS), dtype=np.float32)
        return Batch(torch.from_numpy(np.concatenate([silence, roll.astype(np.float32)])).unsqueeze(0), rows=rows)
