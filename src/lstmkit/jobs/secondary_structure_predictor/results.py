"""Predicted secondary structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmkit.data.proteins.residues import STATES
from lstmkit.jobs.secondary_structure_predictor.state_mapping import joint_states

StateStrings = dict[str, tuple[str, ...]]  #: By alphabet, for each chain one letter per residue.


@dataclass(frozen=True, eq=False)
class SecondaryStructure:
    """The predicted structure of one chain.

    Attributes:
        id: The chain's id.
        sequence: One letter per residue.
        states: By alphabet (``"ss3"``, ``"ss8"``) one letter per residue; the two never contradict each other.
        probabilities: By alphabet ``(T, C)``, in the order of ``STATES``.
    """

    id: str
    sequence: str
    states: dict[str, str]
    probabilities: dict[str, np.ndarray]

    def confidence(self, alphabet: str) -> np.ndarray:
        """``(T,)``: the probability of each residue's state."""
        return _chosen(self.probabilities[alphabet], self.states[alphabet], alphabet)


@dataclass(frozen=True)
class StateProbabilities:
    """By alphabet, for each chain probabilities ``(T, C)``.

    Attributes:
        calibrated: With the fitted temperature.
        uncalibrated: With temperature 1.
        mapping: The 3-state class of each of the eight states, if both alphabets are predicted; else ``None``.
    """

    calibrated: dict[str, list[np.ndarray]]
    uncalibrated: dict[str, list[np.ndarray]]
    mapping: str | None

    def subset(self, rows: Sequence[int]) -> StateProbabilities:
        """Those of some chains."""
        calibrated, uncalibrated = (
            {alphabet: [chains[i] for i in rows] for alphabet, chains in of.items()}
            for of in (self.calibrated, self.uncalibrated)
        )
        return StateProbabilities(calibrated, uncalibrated, self.mapping)

    def most_likely(self) -> StateStrings:
        """The most likely state of every residue; of the eight states, the most likely one of the 3-state class."""
        if self.mapping is None:
            return {
                alphabet: indices_to_states([p.argmax(axis=1) for p in chains], alphabet)
                for alphabet, chains in self.calibrated.items()
            }
        pairs = zip(self.calibrated["ss3"], self.calibrated["ss8"], strict=True)
        chains = [joint_states(ss3, ss8, self.mapping) for ss3, ss8 in pairs]
        by_alphabet = zip(("ss3", "ss8"), zip(*chains, strict=True), strict=True)
        return {alphabet: indices_to_states(states, alphabet) for alphabet, states in by_alphabet}

    def confidences(self, alphabet: str) -> list[np.ndarray]:
        """For each chain ``(T,)``: the probability of each residue's most likely state."""
        chains = zip(self.calibrated[alphabet], self.most_likely()[alphabet], strict=True)
        return [_chosen(p, states, alphabet) for p, states in chains]


def _chosen(probabilities: np.ndarray, states: str, alphabet: str) -> np.ndarray:
    """The probability ``(T,)`` of each of the states, of ``probabilities (T, C)``."""
    (indices,) = states_to_indices([states], alphabet)
    return probabilities[np.arange(len(indices)), indices]


def states_to_indices(chains: Sequence[str], alphabet: str) -> list[np.ndarray]:
    """Letters as indices into ``STATES[alphabet]``."""
    index = {letter: i for i, letter in enumerate(STATES[alphabet])}
    return [np.array([index[letter] for letter in states]) for states in chains]


def indices_to_states(chains: Sequence[np.ndarray], alphabet: str) -> tuple[str, ...]:
    """Indices as letters."""
    return tuple("".join(STATES[alphabet][i] for i in states.tolist()) for states in chains)
