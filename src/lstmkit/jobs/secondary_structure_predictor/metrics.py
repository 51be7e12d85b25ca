"""Scores of the predicted structure and of the baselines, on the same residues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.proteins.chains import ProteinChains
from lstmkit.data.proteins.residues import N_RESIDUE_IDS, STATES, encode_residues
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.secondary_structure_predictor.baselines import WINDOW_SIZE, windowed_logistic_regression
from lstmkit.jobs.secondary_structure_predictor.results import (
    StateProbabilities,
    StateStrings,
    indices_to_states,
    states_to_indices,
)
from lstmkit.jobs.secondary_structure_predictor.segment_overlap import mean_segment_overlap
from lstmkit.progress import Progress


def baselines(
    train: ProteinChains | None, most_frequent: dict[str, str], test: ProteinChains, seed: int, progress: Progress
) -> dict[str, StateStrings]:
    """States of the test chains by each baseline.

    Args:
        train: The training split, for the regression; ``None`` if it is not known any more.
        most_frequent: By alphabet the most frequent state of each residue id.
        test: The chains.
        seed: Seed of the choice of training residues.
        progress: Where to report progress.
    """
    ids = [encode_residues(sequence) for sequence in test.sequences]
    predicted: dict[str, StateStrings] = {}
    if train is not None:
        train_ids = [encode_residues(sequence) for sequence in train.sequences]
        predicted[f"logistic regression, {WINDOW_SIZE} residues"] = {
            alphabet: indices_to_states(
                windowed_logistic_regression(
                    (train_ids, states_to_indices(train.require_states()[alphabet], alphabet)),
                    ids,
                    letters=N_RESIDUE_IDS,
                    seed=seed,
                    progress=progress,
                ),
                alphabet,
            )
            for alphabet in most_frequent
        }
    letters = {alphabet: np.array([*states]) for alphabet, states in most_frequent.items()}
    predicted["most frequent state per residue"] = {
        alphabet: tuple("".join(states[of_chain]) for of_chain in ids) for alphabet, states in letters.items()
    }
    predicted["most frequent state"] = {
        alphabet: tuple(states[0] * len(of_chain) for of_chain in ids) for alphabet, states in most_frequent.items()
    }
    return predicted


def scores(test: ProteinChains, predicted: StateStrings) -> dict[str, float]:
    """A row of the table, in percent: accuracy (Q3, Q8) and segment overlap (SOV)."""
    masks = scored_residues(test)
    row = {}
    for alphabet, chains in predicted.items():
        true = test.require_states()[alphabet]
        n = len(STATES[alphabet])
        row[f"Q{n}"] = 100 * float(np.concatenate(_correct_residues(test, alphabet, chains)).mean())
        row[f"SOV{n}"] = mean_segment_overlap(true, chains, masks)
    return row


def scored_examples(test: ProteinChains, alphabet: str, states: Sequence[str]) -> ScoredExamples:
    """The chains with the accuracy in percent on any of them."""
    correct = _correct_residues(test, alphabet, states)
    counts = np.array([len(of_chain) for of_chain in correct])
    return ScoredExamples.ratio("chains", 100 * np.array([of_chain.sum() for of_chain in correct]), counts)


def _correct_residues(test: ProteinChains, alphabet: str, states: Sequence[str]) -> list[np.ndarray]:
    """For each chain, whether the state of each scored residue is correct."""
    chains = zip(test.require_states()[alphabet], states, scored_residues(test), strict=True)
    return [(np.array([*true]) == np.array([*predicted]))[mask] for true, predicted, mask in chains]


def scored_residues(test: ProteinChains) -> list[np.ndarray]:
    """The evaluation mask of each chain, ``(T,)`` bool."""
    return [np.ones(len(s), dtype=bool) for s in test.sequences] if test.scored is None else [*test.scored]


def details(test: ProteinChains, predicted: StateProbabilities, alphabets: Sequence[str]) -> pd.DataFrame:
    """One row per residue: chain, position from 1, residue, mask, and by alphabet true and predicted state."""
    states = predicted.most_likely()
    columns = {
        "id": np.repeat(np.array(test.ids, dtype=object), [len(s) for s in test.sequences]),
        "position": np.concatenate([np.arange(1, len(s) + 1) for s in test.sequences]),
        "residue": [*"".join(test.sequences)],
        "scored": np.concatenate(scored_residues(test)),
    }
    for alphabet in alphabets:
        columns |= {
            alphabet: [*"".join(test.require_states()[alphabet])],
            f"{alphabet} predicted": [*"".join(states[alphabet])],
            f"{alphabet} probability": np.concatenate(predicted.confidences(alphabet)),
        }
    return pd.DataFrame(columns)
