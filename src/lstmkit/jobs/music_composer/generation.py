"""Likelihood of pieces, and new steps sampled from a model, key by key from the highest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.music.midi import MAX_STEPS, MAX_TEMPO, MIN_TEMPO, N_KEYS
from lstmkit.data.music.piano_rolls import PianoRollDataset, PianoRolls, Piece, skyline
from lstmkit.decoding.generation import roll_out, sample_labels
from lstmkit.errors import SettingError
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.models.base import Ensemble, Model, State
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

CONDITIONS = ("start", "melody")
_BATCH_SIZE = 16  # pieces that are scored together


class CompositionOptions(NamedTuple):
    """How to compose; see :meth:`lstmkit.MusicComposer.predict`."""

    length: int
    condition: str
    prompt_steps: int
    temperature: float
    seed: int
    tempo: float

    def check(self) -> None:
        """Raise SettingError if a value is out of range."""
        if self.condition not in CONDITIONS:
            raise SettingError(f"condition must be one of {', '.join(CONDITIONS)}, got {self.condition!r}")
        whole = all(isinstance(number, int) for number in (self.length, self.prompt_steps, self.seed))
        in_range = whole and 1 <= self.length <= MAX_STEPS and self.prompt_steps >= -1 and 0 <= self.seed < 2**32
        if not in_range:
            raise SettingError(
                f"length must be 1 to {MAX_STEPS:,} steps, prompt_steps at least 0 (or -1 for all), seed within 0…2³², "
                f"whole numbers; got {self.length}, {self.prompt_steps}, {self.seed}"
            )
        if not 0 <= self.temperature < np.inf or not (self.tempo == 0 or MIN_TEMPO <= self.tempo <= MAX_TEMPO):
            raise SettingError(
                f"temperature must be at least 0, tempo {MIN_TEMPO:g} to {MAX_TEMPO:g} quarter notes per minute (or 0 "
                f"for the piece's own); got {self.temperature:g}, {self.tempo:g}"
            )


class _KeyPredictions:
    """Predictions for the keys of each step.

    Args:
        model: A network, or an ensemble, whose logits are averaged for each key given those above it.
        inputs: ``(B, T, 88)``, the keys of the step before each.
        state: The state to continue from.
        lengths: ``(B,)``; ``None`` if all have ``T`` steps.

    Attributes:
        state: The state after the last step.
        autoregressive: Whether a key depends on those above it.
    """

    def __init__(self, model: Model, inputs: Tensor, state: State | None, lengths: Tensor | None = None) -> None:
        members = list(model.members) if isinstance(model, Ensemble) else [model]
        results = [m(inputs, s, lengths) for m, s in zip(members, state or [None] * len(members), strict=True)]
        self._heads = [(head_of(member), outputs) for member, (outputs, _) in zip(members, results, strict=True)]
        self.state: State = tuple(state for _, state in results)
        self.autoregressive = any(head.autoregressive for head, _ in self._heads)

    def nll(self, keys: Tensor) -> Tensor:
        """Negative log-likelihood ``(B, T)`` of ``keys (B, T, 88)``, in nats."""
        logits = torch.stack([head.logits(outputs, keys) for head, outputs in self._heads]).mean(0)
        return F.binary_cross_entropy_with_logits(logits, keys, reduction="none").sum(-1)

    def below(self, keys: Tensor) -> Tensor:
        """Logits ``(B, 88)`` of the last step for the keys below all of ``keys (B, 88)``."""
        return torch.stack([head.below(outputs[:, -1], keys) for head, outputs in self._heads]).mean(0)


def head_of(model: Model | torch.nn.Module) -> MultilabelHead | NADEHead:
    """The head of one network."""
    head = model.head
    if not isinstance(head, (MultilabelHead, NADEHead)):
        raise TypeError(f"{type(head).__name__} does not predict keys")
    return head


def negative_log_likelihoods(
    model: Model, rolls: PianoRolls, device: torch.device, progress: Progress | None = None
) -> list[np.ndarray]:
    """Negative log-likelihood ``(T,)`` of each piece in nats: each step given those before, the first given silence."""

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        inputs, targets, lengths = batch.inputs, batch.targets, batch.lengths
        if targets is None or lengths is None:
            raise ValueError("a batch of piano rolls has targets and lengths")
        nll = _KeyPredictions(model, inputs, None, lengths).nll(targets).double().cpu().numpy()
        return [of_piece[:n] for of_piece, n in zip(nll, lengths.tolist(), strict=True)]

    return predict(model, Loader(PianoRollDataset(rolls), _BATCH_SIZE), decode, device=device, progress=progress)


def compose(
    model: Model,
    pieces: Sequence[Piece],
    options: CompositionOptions,
    quarters_per_step: float,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Composition]:
    """One composition per piece; the piece is the prompt or the melody."""
    with_melody = options.condition == "melody"

    def decode(model: Model, batch: Batch) -> list[Composition]:
        row = 0 if batch.rows is None else int(batch.rows[0])
        piece, device = pieces[row], batch.inputs.device
        melody = torch.from_numpy(_melody_mask(piece.roll)).to(device) if with_melody else None
        length = options.length if melody is None else len(melody)
        noise = torch.rand(length, 1, N_KEYS, generator=torch.Generator().manual_seed(options.seed + row)).to(device)
        nll: list[float] = []

        def step(keys: Tensor, t: int, state: State) -> tuple[Tensor, State]:
            predictions = _KeyPredictions(model, keys.unsqueeze(1), state)
            known = None if melody is None else melody[t : t + 1]
            sampled = sample_labels(predictions.below, noise[t], options.temperature, known, predictions.autoregressive)
            nll.append(float(predictions.nll(sampled.unsqueeze(1))))
            return sampled, predictions.state

        state = _KeyPredictions(model, batch.inputs[:, :-1], None).state if batch.inputs.shape[1] > 1 else None
        new = roll_out(step, batch.inputs[:, -1], state, length)[0].cpu().numpy().astype(np.uint8)
        prompt = piece.roll[: batch.inputs.shape[1] - 1]
        is_given = np.zeros(new.shape, dtype=bool) if melody is None else ~melody.isnan().cpu().numpy()
        return [
            Composition(
                piece.name,
                np.concatenate([prompt, new]),
                np.concatenate([np.ones(prompt.shape, dtype=bool), is_given]),
                tuple(nll),
                quarters_per_step,
                options.tempo or piece.tempo,
            )
        ]

    prompts = _Prompts(pieces, 0 if with_melody else options.prompt_steps)
    # One piece per batch, so that no composition depends on another piece.
    return predict(model, Loader(prompts, 1), decode, device=device, progress=progress, title="composing")


def _melody_mask(roll: np.ndarray) -> np.ndarray:
    """``(T, 88)``: 1 for the melody's key, 0 for those above it, NaN for those that are to be sampled."""
    melody = skyline(roll).astype(np.float32)
    at_or_above = np.cumsum(melody, axis=1) > 0
    return np.where(at_or_above, melody, np.float32(np.nan))


class _Prompts:
    """The first steps of pieces after a silent one, as a source of batches."""

    lengths = None

    def __init__(self, pieces: Sequence[Piece], prompt_steps: int) -> None:
        self.rolls = [piece.roll[: len(piece.roll) if prompt_steps < 0 else prompt_steps] for piece in pieces]

    def __len__(self) -> int:
        return len(self.rolls)

    def batch(self, rows: np.ndarray) -> Batch:
        (roll,) = (self.rolls[row] for row in rows)
        silence = np.zeros((1, N_KEYS), dtype=np.float32)
        return Batch(torch.from_numpy(np.concatenate([silence, roll.astype(np.float32)])).unsqueeze(0), rows=rows)
