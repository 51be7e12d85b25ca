"""Chains in numbers, long ones in windows, as a source of batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lstmkit.data.batch import Batch, beside
from lstmkit.data.proteins.chains import AMINO_ACIDS

N_RESIDUE_IDS = 2 + len(AMINO_ACIDS)  #: How many numbers there are: none, the twenty, and unknown.

_NUMBERS = np.full(128, N_RESIDUE_IDS - 1, dtype=np.int64)
_NUMBERS[[ord(letter) for letter in AMINO_ACIDS]] = np.arange(1, N_RESIDUE_IDS - 1)


class Window(NamedTuple):
    """A part of a chain: steps ``start`` to ``stop`` are read, ``first`` to ``last`` (each excluded) answered for."""

    start: int
    stop: int
    first: int
    last: int


def numbered(sequence: str) -> np.ndarray:
    """``(T,)``: the amino acids from 1 in alphabetical order, then unknown; 0 is for where there is none.

    >>> numbered("ACYX").tolist()
    [1, 2, 20, 21]
    """
    return _NUMBERS[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


def windows(length: int, longest: int) -> list[Window]:
    """A chain of ``length`` steps in windows of ``longest`` at most; each step is answered for by one of them.

    A chain that is not longer is one window. Else neighbours overlap: a window reads an eighth of ``longest`` on either
    side of what it answers for, so that what stands around a step is known wherever it was cut.

    >>> windows(10, 10)
    [Window(start=0, stop=10, first=0, last=10)]
    >>> windows(12, 8)
    [Window(start=0, stop=7, first=0, last=6), Window(start=5, stop=12, first=6, last=12)]
    """
    if length <= longest:
        return [Window(0, length, 0, length)]
    margin = longest // 8
    count = math.ceil(length / (longest - 2 * margin))
    bounds = [length * k // count for k in range(count + 1)]
    return [
        Window(max(0, first - margin), min(length, last + margin), first, last)
        for first, last in itertools.pairwise(bounds)
    ]


class ResidueDataset:
    """Windows of chains.

    Args:
        letters: Of each chain its residues' numbers, ``(T,)``.
        profile: Of each ``(T, F)`` float32, beside them; ``None`` where there is none.
        states: Of each ``(T, K)``, the numbers of its ``K`` kinds of states; ``None`` where they are not known.
        longest: Residues of a window.
    """

    def __init__(
        self,
        letters: Sequence[np.ndarray],
        profile: Sequence[np.ndarray] | None,
        states: Sequence[np.ndarray] | None,
        longest: int,
    ) -> None:
        self.inputs = letters
        if profile is not None:
            pairs = zip(letters, profile, strict=True)
            self.inputs = [np.column_stack([ids, numbers]).astype(np.float32) for ids, numbers in pairs]
        self.states = states
        self.windows = [(chain, w) for chain, ids in enumerate(letters) for w in windows(len(ids), longest)]
        self.lengths = np.array([w.stop - w.start for _, w in self.windows])

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: np.ndarray) -> Batch:
        """Ids ``(B, T)``, with profiles ``(B, T, 1 + F)``; targets ``(B, T, K)``, -1 where a window does not answer."""
        picked = [self.windows[row] for row in rows]
        inputs = beside([self.inputs[chain][w.start : w.stop] for chain, w in picked], 0)
        targets = None
        if self.states is not None:
            targets = torch.from_numpy(beside([self._mask_margins(self.states[chain], w) for chain, w in picked], -1))
        return Batch(torch.from_numpy(inputs), torch.from_numpy(self.lengths[rows]), targets, rows=rows)

    @staticmethod
    def _mask_margins(states: np.ndarray, w: Window) -> np.ndarray:
        steps = np.arange(w.start, w.stop)[:, None]
        return np.where((w.first <= steps) & (steps < w.last), states[w.start : w.stop], -1)
