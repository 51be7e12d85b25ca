"""What the music composer's ``fit`` leaves: key counts of the training split, and the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from lstmkit.data.music.midi import N_KEYS
from lstmkit.data.music.piano_rolls import PianoRolls, Piece
from lstmkit.decoding.composition_options import CompositionOptions
from lstmkit.jobs.music_composer import generation
from lstmkit.jobs.music_composer.baselines import key_probabilities
from lstmkit.jobs.music_composer.results import Composition
from lstmkit.jobs.music_composer.settings import ComposerSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress


class ComposerPredictor(Predictor[ComposerSettings]):
    """Scores piano rolls and composes.

    Attributes:
        key_counts: ``(2, 2, 88)``, see :func:`lstmkit.jobs.music_composer.baselines.key_transition_counts`.
        max_transposition: Semitones that training pieces are moved by at most.
    """

    def __init__(self, settings: ComposerSettings, key_counts: np.ndarray, max_transposition: int) -> None:
        super().__init__(settings)
        self.key_counts = key_counts
        self.max_transposition = max_transposition

    def build(self) -> Model:
        settings = self.settings
        encoder = PatchEncoder(N_KEYS, 1, settings.embedding_size, settings.dropout)
        trunk = build_trunk(
            settings.cell,
            settings.embedding_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            variational=True,
        )
        if settings.distribution == "nade":
            head = NADEHead(trunk.output_size, N_KEYS, settings.nade_hidden_size, settings.dropout)
        else:
            head = MultilabelHead(trunk.output_size, N_KEYS, settings.dropout)
        frequencies = torch.from_numpy(key_probabilities(self.key_counts.sum(axis=0)))
        with torch.no_grad():  # start from the key frequencies of the training split, not from one half
            head.linear.bias[:N_KEYS] = frequencies.logit()
        return SequenceModel(encoder, trunk, head)

    def compose(
        self, pieces: tuple[Piece, ...], options: CompositionOptions, progress: Progress | None = None
    ) -> list[Composition]:
        """One composition per piece; the piece is the prompt or the melody."""
        step = self.settings.quarters_per_step
        return generation.compose(self.model, pieces, options, step, self.device, progress)

    def compose_from_silence(self, length: int, seed: int) -> Composition:
        """A piece without a prompt."""
        silence = Piece(np.zeros((0, N_KEYS), dtype=np.uint8), "a new piece")
        return self.compose((silence,), CompositionOptions(length, "start", -1, 1.0, seed, 0.0))[0]

    def negative_log_likelihoods(self, rolls: PianoRolls, progress: Progress | None = None) -> list[np.ndarray]:
        """Negative log-likelihood ``(T,)`` of each piece, in nats."""
        return generation.negative_log_likelihoods(self.model, rolls, self.device, progress)

    def state(self) -> dict[str, Any]:
        counts = " ".join(map(str, self.key_counts.ravel().tolist()))
        return {"counts": counts, "max_transposition": self.max_transposition}

    @classmethod
    def from_state(cls, settings: ComposerSettings, state: Mapping[str, Any]) -> Self:
        counts = np.array([int(count) for count in state["counts"].split()], dtype=np.int64)
        if counts.size != 4 * N_KEYS or (counts < 0).any():
            raise ValueError("the key counts do not fit 88 keys")
        # Models of version 0.1 have the setting alone.
        max_transposition = int(state.get("max_transposition", settings.max_transposition))
        if max_transposition < 0:
            raise ValueError("the transposition is below 0")
        return cls(settings, counts.reshape(2, 2, N_KEYS), max_transposition)
