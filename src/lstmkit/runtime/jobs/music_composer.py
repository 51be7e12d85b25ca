"""Pieces of music that are continued or harmonized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.music.midi import LOWEST_PITCH, N_KEYS
from lstmkit.data.music.rolls import DEFAULT_TEMPO, melody_mask, roll_of
from lstmkit.decoding.composition_options import NUM_PARTICLES, CompositionOptions
from lstmkit.runtime.base import ExportedJob
from lstmkit.runtime.label_sampling import sample_labels
from lstmkit.runtime.particles import particle_filter

States = list[np.ndarray]


class MusicComposer(ExportedJob):
    """Composes, key by key from the highest."""

    def predict(
        self,
        data: Any,
        *,
        length: int = 64,
        condition: str = "start",
        prompt_steps: int = -1,
        temperature: float = 1.0,
        seed: int = 0,
        tempo: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Compose with each piece; at ``temperature=0`` what the job composes.

        Other temperatures have the same distribution, but not the same random numbers.

        Args:
            data: Pieces: lists of chords, each a list of MIDI numbers, or rolls ``(T, 88)`` of 0 and 1.
            length, condition, prompt_steps, temperature, seed, tempo: As in :meth:`lstmkit.MusicComposer.predict`.

        Returns:
            ``name, quarters_per_step, tempo, chords, composed, nll_per_step`` of each piece.

        Raises:
            DataError: A piece is none.
            SettingError: An option is out of range.
        """
        CompositionOptions(length, condition, prompt_steps, temperature, seed, tempo).check()
        records = []
        for row, piece in enumerate(data):
            roll = roll_of(piece, f"piece {row + 1}")
            rng = np.random.default_rng((seed, row))
            if condition == "melody":
                prompt = roll[:0]
                new, nll = self._harmonize(melody_mask(roll), temperature, rng)
            else:
                prompt = roll if prompt_steps < 0 else roll[:prompt_steps]
                new, nll = self._continue(prompt, length, temperature, rng)
            steps = np.concatenate([prompt, new.astype(np.uint8)])
            records.append(
                {
                    "name": f"piece {row + 1}",
                    "quarters_per_step": self.settings["quarters_per_step"],
                    "tempo": tempo or DEFAULT_TEMPO,
                    "chords": [[LOWEST_PITCH + int(key) for key in np.flatnonzero(step)] for step in steps],
                    "composed": len(nll),
                    "nll_per_step": nll,
                }
            )
        return records

    def _continue(
        self, prompt: np.ndarray, length: int, temperature: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[float]]:
        """Sampled steps ``(length, 88)`` after ``prompt (T, 88)``, and their negative log-likelihoods in nats."""
        keys = np.concatenate([np.zeros((1, N_KEYS)), prompt])[None]
        states, steps, nll = self.network.zero_states(rows=1), [], []
        for _ in range(length):
            outputs, states = self._outputs(keys, states)
            sampled = sample_labels(self._below(outputs), rng.random((1, N_KEYS)), temperature)
            nll.append(float(self._nll_by_key(outputs, sampled).sum()))
            steps.append(sampled[0])
            keys = sampled[None]
        return np.stack(steps), nll

    def _harmonize(
        self, melody: np.ndarray, temperature: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[float]]:
        """Steps ``(T, 88)`` given a melody ``(T, 88)`` of 0, 1 and NaN, and their negative log-likelihoods in nats."""
        n = NUM_PARTICLES if temperature else 1  # without randomness all particles are equal
        nll: list[np.ndarray] = []

        def step(keys: np.ndarray, t: int, states: States) -> tuple[np.ndarray, np.ndarray, States]:
            outputs, states = self._outputs(keys[:, None], states)
            known = np.broadcast_to(melody[t], keys.shape)
            sampled = sample_labels(self._below(outputs), rng.random(keys.shape), temperature, known)
            by_key = self._nll_by_key(outputs, sampled)
            nll.append(by_key.sum(1))
            return sampled, -(by_key * ~np.isnan(known)).sum(1), states

        states = self.network.zero_states(rows=n)
        values, rows = particle_filter(step, np.zeros((n, N_KEYS)), states, len(melody), _select_rows, rng)
        return values, [float(nll[t][row]) for t, row in enumerate(rows)]

    def _outputs(self, keys: np.ndarray, states: Sequence[np.ndarray]) -> tuple[np.ndarray, States]:
        (outputs,), states = self.network.step(states, keys=keys)
        return outputs, list(states)

    def _below(self, outputs: np.ndarray) -> Any:
        return lambda keys: self.graphs["below"](outputs=outputs, keys=keys)[0]

    def _nll_by_key(self, outputs: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Negative log-likelihood ``(B, 88)`` of each of ``keys (B, 88)``, in nats."""
        logits = self.graphs["logits"](outputs=outputs, keys=keys)[0]
        return np.logaddexp(0, logits) - keys * logits


def _select_rows(states: States, rows: np.ndarray) -> States:
    """Rows of states, whose second dimension is the batch."""
    return [state[:, rows] for state in states]
