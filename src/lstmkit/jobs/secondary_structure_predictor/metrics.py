"""A predictor of structure and what it is held against, scored on the same residues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstmkit.data.proteins.chains import STATES, ProteinChains
from lstmkit.data.proteins.residue_windows import N_RESIDUE_IDS, numbered
from lstmkit.jobs.secondary_structure_predictor.baselines import (
    WINDOW_SIZE,
    most_frequent_states,
    windowed_logistic_regression,
)
from lstmkit.jobs.secondary_structure_predictor.segment_overlap import mean_segment_overlap
from lstmkit.progress import Progress

Said = dict[str, tuple[str, ...]]  #: By kind of states, of each chain a letter a residue.


@dataclass(frozen=True)
class Found:
    """What a model says of chains: by kind of states, of each chain probabilities ``(T, C)``.

    Attributes:
        stated: Calibrated.
        raw: As they were before.
    """

    stated: dict[str, list[np.ndarray]]
    raw: dict[str, list[np.ndarray]]

    def part(self, rows: Sequence[int]) -> Found:
        """Of these chains."""
        both = ({kind: [of[i] for i in rows] for kind, of in each.items()} for each in (self.stated, self.raw))
        return Found(*both)

    def said(self) -> Said:
        """The likeliest states."""
        return {kind: indices_to_states([p.argmax(axis=1) for p in of], kind) for kind, of in self.stated.items()}


def states_to_indices(of_each: Sequence[str], kind: str) -> list[np.ndarray]:
    """Letters as their places in :data:`STATES`."""
    numbers = {letter: i for i, letter in enumerate(STATES[kind])}
    return [np.array([numbers[letter] for letter in one]) for one in of_each]


def indices_to_states(of_each: Sequence[np.ndarray], kind: str) -> tuple[str, ...]:
    """The other way round."""
    return tuple("".join(STATES[kind][i] for i in one.tolist()) for one in of_each)


def usual(train: ProteinChains, kind: str) -> str:
    """Each residue's most frequent state: a letter for each of the numbers of residues."""
    letters = [numbered(sequence) for sequence in train.sequences]
    told = states_to_indices(train.told()[kind], kind)
    return indices_to_states([most_frequent_states(letters, told, N_RESIDUE_IDS, len(STATES[kind]))], kind)[0]


def baselines(
    train: ProteinChains | None, usually: dict[str, str], test: ProteinChains, seed: int, progress: Progress
) -> dict[str, Said]:
    """By name what each says of the test chains; the one that looks at neighbours needs the training part.

    Args:
        train: What it learns from; ``None`` where it is not at hand.
        usually: By kind each residue's most frequent state.
        test: The chains.
        seed: Of the residues that are learnt from.
        progress: Whom to tell.
    """
    letters = [numbered(sequence) for sequence in test.sequences]
    said: dict[str, Said] = {}
    if train is not None:
        learnt = [numbered(sequence) for sequence in train.sequences]
        said[f"logistic regression, {WINDOW_SIZE} residues"] = {
            kind: indices_to_states(
                windowed_logistic_regression(
                    (learnt, states_to_indices(train.told()[kind], kind)),
                    letters,
                    letters=N_RESIDUE_IDS,
                    seed=seed,
                    progress=progress,
                ),
                kind,
            )
            for kind in usually
        }
    of_each = {kind: np.array([*states]) for kind, states in usually.items()}
    said["usual state of each residue"] = {
        kind: tuple("".join(states[ids]) for ids in letters) for kind, states in of_each.items()
    }
    said["most frequent state"] = {kind: tuple(s[0] * len(ids) for ids in letters) for kind, s in usually.items()}
    return said


def scores(test: ProteinChains, said: Said) -> dict[str, float]:
    """A row of the table, in percent: residues that are right, and segments that lie over each other (SOV)."""
    masks = scored_residues(test)
    row = {}
    for kind, of_each in said.items():
        true = test.told()[kind]
        n = len(STATES[kind])
        same = [np.array([*a]) == np.array([*b]) for a, b in zip(true, of_each, strict=True)]
        row[f"Q{n}"] = 100 * float(np.concatenate([s[m] for s, m in zip(same, masks, strict=True)]).mean())
        row[f"SOV{n}"] = mean_segment_overlap(true, of_each, masks)
    return row


def scored_residues(test: ProteinChains) -> list[np.ndarray]:
    """Of each chain ``(T,)`` bool."""
    return [np.ones(len(s), dtype=bool) for s in test.sequences] if test.scored is None else [*test.scored]


def details(test: ProteinChains, found: Found, kinds: Sequence[str]) -> pd.DataFrame:
    """A row a residue: chain, position from 1, residue, whether it is scored, and by kind what is true and was said."""
    said = found.said()
    columns = {
        "id": np.repeat(np.array(test.ids, dtype=object), [len(s) for s in test.sequences]),
        "position": np.concatenate([np.arange(1, len(s) + 1) for s in test.sequences]),
        "residue": [*"".join(test.sequences)],
        "scored": np.concatenate(scored_residues(test)),
    }
    for kind in kinds:
        columns |= {kind: [*"".join(test.told()[kind])], f"{kind} said": [*"".join(said[kind])]}
        columns[f"{kind} probability"] = np.concatenate([p.max(axis=1) for p in found.stated[kind]])
    return pd.DataFrame(columns)
