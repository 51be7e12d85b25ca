"""Residues and their states as letters and as ids, and windows of long chains."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

#: Secondary-structure states: helix, strand, coil; and DSSP's eight states, with ``C`` for a blank.
STATES = {"ss3": "HEC", "ss8": "HGIEBTSC"}
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"  #: The twenty amino acids.
UNKNOWN = "BJOUXZ"  #: Ambiguous and rare residues (D or N, I or L, O, U, any, E or Q), encoded as unknown.

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
