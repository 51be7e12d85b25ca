"""Encode residues, split long chains into overlapping windows, and batch them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences
from lstmkit.data.proteins.chains import AMINO_ACIDS

N_RESIDUE_IDS = 2 + len(AMINO_ACIDS)  #: Number of residue ids: padding, the twenty amino acids, unknown.

_RESIDUE_IDS = np.full(128, N_RESIDUE_IDS - 1, dtype=np.int64)
_RESIDUE_IDS[[ord(letter) for letter in AMINO_ACIDS]] = np.arange(1, N_RESIDUE_IDS - 1)


class ChainWindow(NamedTuple):
    """A window of a chain, with exclusive ends.

    Attributes:
        start, stop: Residues that are read.
        first, last: Residues that are predicted, from ``first`` to ``last - 1``; the others are context.
    """

    start: int
    stop: int
    first: int
    last: int


def encode_residues(sequence: str) -> np.ndarray:
    """Residue ids ``(T,)``: amino acids from 1 in alphabetical order, then unknown; 0 is padding.

    >>> encode_residues("ACYX").tolist()
    [1, 2, 20, 21]
    """
    return _RESIDUE_IDS[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


def split_into_windows(length: int, max_residues: int) -> list[ChainWindow]:
    """Split a chain of ``length`` residues into windows of at most ``max_residues``; one of them predicts each residue.

    A chain that is not longer is one window. Otherwise windows overlap: each has a margin of an eighth of
    ``max_residues`` on both sides as context.

    >>> split_into_windows(10, 10)
    [ChainWindow(start=0, stop=10, first=0, last=10)]
    >>> [tuple(window) for window in split_into_windows(12, 8)]
    [(0, 7, 0, 6), (5, 12, 6, 12)]
    """
    if length <= max_residues:
        return [ChainWindow(0, length, 0, length)]
    margin = max_residues // 8
    count = math.ceil(length / (max_residues - 2 * margin))
    bounds = [length * k // count for k in range(count + 1)]
    return [
        ChainWindow(max(0, first - margin), min(length, last + margin), first, last)
        for first, last in itertools.pairwise(bounds)
    ]


class ResidueDataset:
    """Dataset of windows of protein chains.

    Args:
        residue_ids: Residue ids of each chain, ``(T,)``.
        profile: Profile of each chain, ``(T, F)`` float32; ``None`` without profiles.
        states: State ids of each chain in ``K`` alphabets, ``(T, K)``; ``None`` if unknown.
        max_residues: Maximum residues per window.
    """

    def __init__(
        self,
        residue_ids: Sequence[np.ndarray],
        profile: Sequence[np.ndarray] | None,
        states: Sequence[np.ndarray] | None,
        max_residues: int,
    ) -> None:
        self.inputs = residue_ids
        if profile is not None:
            pairs = zip(residue_ids, profile, strict=True)
            self.inputs = [np.column_stack([ids, numbers]).astype(np.float32) for ids, numbers in pairs]
        self.states = states
        self.windows = [
            (chain, w) for chain, ids in enumerate(residue_ids) for w in split_into_windows(len(ids), max_residues)
        ]
        self.lengths = np.array([w.stop - w.start for _, w in self.windows])

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Ids ``(B, T)``, with profiles ``(B, T, 1 + F)``; targets ``(B, T, K)``, -1 for context and padding."""
        picked = [self.windows[row] for row in rows]
        inputs = pad_sequences([self.inputs[chain][w.start : w.stop] for chain, w in picked], 0)
        targets = None
        if self.states is not None:
            targets = torch.from_numpy(
                pad_sequences([self._mask_margins(self.states[chain], w) for chain, w in picked], -1)
            )
        return Batch(torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), targets, rows=rows)

    @staticmethod
    def _mask_margins(states: np.ndarray, w: ChainWindow) -> np.ndarray:
        steps = np.arange(w.start, w.stop)[:, None]
        return np.where((w.first <= steps) & (steps < w.last), states[w.start : w.stop], -1)
