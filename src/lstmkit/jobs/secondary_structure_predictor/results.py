"""Predicted secondary structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmkit.data.proteins.chains import STATES

StateStrings = dict[str, tuple[str, ...]]  #: By alphabet, for each chain one letter per residue.


@dataclass(frozen=True, eq=False)
class SecondaryStructure:
    """The predicted structure of one chain.

    Attributes:
        id: The chain's id.
        sequence: One letter per residue.
        states: By alphabet (``"ss3"``, ``"ss8"``) one letter per residue.
        probabilities: By alphabet ``(T, C)``, in the order of ``STATES``.
    """

    id: str
    sequence: str
    states: dict[str, str]
    probabilities: dict[str, np.ndarray]

    def confidence(self, alphabet: str) -> np.ndarray:
        """``(T,)``: the probability of each residue's state."""
        return self.probabilities[alphabet].max(axis=1)


@dataclass(frozen=True)
class StateProbabilities:
    """By alphabet, for each chain probabilities ``(T, C)``.

    Attributes:
        calibrated: With the fitted temperature.
        uncalibrated: With temperature 1.
    """

    calibrated: dict[str, list[np.ndarray]]
    uncalibrated: dict[str, list[np.ndarray]]

    def subset(self, rows: Sequence[int]) -> StateProbabilities:
        """Those of some chains."""
        parts = (
            {alphabet: [chains[i] for i in rows] for alphabet, chains in of.items()}
            for of in (self.calibrated, self.uncalibrated)
        )
        return StateProbabilities(*parts)

    def most_likely(self) -> StateStrings:
        """The most likely state of every residue."""
        return {
            alphabet: indices_to_states([p.argmax(axis=1) for p in chains], alphabet)
            for alphabet, chains in self.calibrated.items()
        }


def states_to_indices(chains: Sequence[str], alphabet: str) -> list[np.ndarray]:
    """Letters as indices into ``STATES[alphabet]``."""
    index = {letter: i for i, letter in enumerate(STATES[alphabet])}
    return [np.array([index[letter] for letter in states]) for states in chains]


def indices_to_states(chains: Sequence[np.ndarray], alphabet: str) -> tuple[str, ...]:
    """Indices as letters."""
    return tuple("".join(STATES[alphabet][i] for i in states.tolist()) for states in chains)
