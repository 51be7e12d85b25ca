"""Likelihood of pieces, and new steps sampled from a model, key by key from the highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.music.midi import N_KEYS
from lstmkit.data.music.piano_rolls import PianoRollDataset, PianoRolls, Piece
from lstmkit.data.music.rolls import melody_mask
from lstmkit.decoding.composition_options import NUM_PARTICLES, CompositionOptions
from lstmkit.decoding.generation import roll_out, sample_labels
from lstmkit.decoding.particles import particle_filter
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.models.base import Ensemble, Model, State, map_state
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

_BATCH_SIZE = 16  # pieces that are scored together


class _KeyPredictions:
    """Predictions for the keys of each step.

    Args:
        model: A network, or an ensemble, whose logits are averaged for each key given those above it.
        inputs: ``(B, T, 88)``, the keys of the step before each.
        state: The state to continue from.
        lengths: ``(B,)``; ``None`` if all have ``T`` steps.

    Attributes:
        state: The state after the last step.
    """

    def __init__(self, model: Model, inputs: Tensor, state: State | None, lengths: Tensor | None = None) -> None:
        members = list(model.members) if isinstance(model, Ensemble) else [model]
        results = [m(inputs, s, lengths) for m, s in zip(members, state or [None] * len(members), strict=True)]
        self._heads = [(head_of(member), outputs) for member, (outputs, _) in zip(members, results, strict=True)]
        self.state: State = tuple(state for _, state in results)

    def nll_by_key(self, keys: Tensor) -> Tensor:
        """Negative log-likelihood ``(B, T, 88)`` of each of ``keys (B, T, 88)``, in nats."""
        logits = torch.stack([head.logits(outputs, keys) for head, outputs in self._heads]).mean(0)
        return F.binary_cross_entropy_with_logits(logits, keys, reduction="none")

    def nll(self, keys: Tensor) -> Tensor:
        """Negative log-likelihood ``(B, T)`` of ``keys (B, T, 88)``, in nats."""
        return self.nll_by_key(keys).sum(-1)

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
        piece = pieces[row]
        generator = torch.Generator().manual_seed(options.seed + row)
        prompt = piece.roll[: batch.inputs.shape[1] - 1]
        if with_melody:
            melody = melody_mask(piece.roll)
            new, nll = _harmonize(model, batch.inputs, torch.from_numpy(melody), options.temperature, generator)
            is_given = ~np.isnan(melody)
        else:
            new, nll = _continue(model, batch.inputs, options.length, options.temperature, generator)
            is_given = np.zeros(new.shape, dtype=bool)
        roll = np.concatenate([prompt, new.cpu().numpy().astype(np.uint8)])
        is_given = np.concatenate([np.ones(prompt.shape, dtype=bool), is_given])
        tempo = options.tempo or piece.tempo
        return [Composition(piece.name, roll, is_given, tuple(nll), quarters_per_step, tempo)]

    prompts = _Prompts(pieces, 0 if with_melody else options.prompt_steps)
    # One piece per batch, so that no composition depends on another piece.
    return predict(model, Loader(prompts, 1), decode, device=device, progress=progress, title="composing")


def _continue(
    model: Model, prompt: Tensor, length: int, temperature: float, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """Sampled steps ``(length, 88)`` after ``prompt (1, T, 88)``, and their negative log-likelihoods."""
    noise = torch.rand(length, 1, N_KEYS, generator=generator).to(prompt.device)
    nll: list[float] = []

    def step(keys: Tensor, t: int, state: State) -> tuple[Tensor, State]:
        predictions = _KeyPredictions(model, keys.unsqueeze(1), state)
        sampled = sample_labels(predictions.below, noise[t], temperature)
        nll.append(float(predictions.nll(sampled.unsqueeze(1)).sum()))
        return sampled, predictions.state

    state = _KeyPredictions(model, prompt[:, :-1], None).state if prompt.shape[1] > 1 else None
    return roll_out(step, prompt[:, -1], state, length)[0], nll


def _harmonize(
    model: Model, silence: Tensor, melody: Tensor, temperature: float, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """Steps ``(T, 88)`` sampled given the whole melody, and their negative log-likelihoods.

    Each particle is an accompaniment. Its weight is the likelihood of the melody's keys, and of silence above them,
    given the steps before: an accompaniment that the melody does not follow from is dropped.

    Args:
        model: A network, or an ensemble.
        silence: ``(1, 1, 88)``, the step before the first.
        melody: ``(T, 88)`` of 0, 1 and NaN, see :func:`lstmkit.data.music.rolls.melody_mask`.
        temperature: See :func:`lstmkit.decoding.generation.sample_labels`.
        generator: Random generator on the CPU.
    """
    n = NUM_PARTICLES if temperature else 1  # without randomness all particles are equal
    melody = melody.to(silence.device)
    nll: list[Tensor] = []

    def step(keys: Tensor, t: int, state: State) -> tuple[Tensor, Tensor, State]:
        predictions = _KeyPredictions(model, keys.unsqueeze(1), state)
        known = melody[t].expand_as(keys)
        noise = torch.rand(n, N_KEYS, generator=generator).to(keys.device)
        sampled = sample_labels(predictions.below, noise, temperature, known)
        nll_by_key = predictions.nll_by_key(sampled.unsqueeze(1))[:, 0]
        nll.append(nll_by_key.sum(1))
        return sampled, -(nll_by_key * ~known.isnan()).sum(1), predictions.state

    first = silence[:, 0].expand(n, -1)
    sampled = particle_filter(step, first, None, len(melody), select=_select_rows, generator=generator)
    return sampled.values, [float(nll[t][row]) for t, row in enumerate(sampled.rows)]


def _select_rows(state: State, rows: Tensor) -> State:
    """Rows of a state, whose second dimension is the batch."""
    return map_state(state, lambda part: part.index_select(1, rows))


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
