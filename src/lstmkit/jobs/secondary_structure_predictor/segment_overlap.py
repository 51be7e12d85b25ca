"""Segments of secondary structure, and the segment overlap (SOV) of predicted and true segments."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """A maximal run of residues in one state, from ``start`` to ``stop`` (exclusive)."""

    start: int
    stop: int
    state: str

    @property
    def length(self) -> int:
        """Number of residues."""
        return self.stop - self.start


def segments(states: str, scored: np.ndarray | None = None) -> list[Segment]:
    """Split a chain into segments. A residue that is not scored belongs to no segment and ends the one before it.

    >>> segments("HHC")
    [Segment(start=0, stop=2, state='H'), Segment(start=2, stop=3, state='C')]
    """
    result, start = [], 0
    is_scored = [True] * len(states) if scored is None else scored.tolist()
    for (state, counts), run in itertools.groupby(zip(states, is_scored, strict=True)):
        stop = start + sum(1 for _ in run)
        if counts:
            result.append(Segment(start, stop, state))
        start = stop
    return result


def segment_overlap(true: str, predicted: str, scored: np.ndarray | None = None) -> float:
    """Segment overlap (SOV) of one chain, in percent, as Zemla et al. define it.

    A. Zemla, C. Venclovas, K. Fidelis, B. Rost 1999, "A modified definition of Sov, a segment-based measure for protein
    secondary structure prediction assessment", Proteins 34: over all states together,

        SOV = 100 / N · Σ (minov(s1, s2) + δ(s1, s2)) / maxov(s1, s2) · len(s1)

    over all pairs of a true segment ``s1`` and a predicted segment ``s2`` of the same state that share a residue.
    ``minov`` is the number of residues that they share, ``maxov`` the number that either has, ``δ = min(maxov - minov,
    minov, ⌊len(s1) / 2⌋, ⌊len(s2) / 2⌋)``. ``N`` is the sum of ``len(s1)`` over the pairs, and over the true segments
    without any.

    Args:
        true, predicted: One letter per residue.
        scored: ``(T,)`` bool; see :func:`segments`.

    Returns:
        0 to 100; NaN if no residue is scored.

    >>> round(segment_overlap("CHHHHC", "CCHHHC"), 2)
    91.67
    """
    true_segments, predicted_segments = segments(true, scored), segments(predicted, scored)
    starts = [segment.start for segment in predicted_segments]  # ascending, as are the stops
    stops = [segment.stop for segment in predicted_segments]
    total, weight = 0.0, 0
    for s1 in true_segments:
        overlapping = predicted_segments[bisect_right(stops, s1.start) : bisect_left(starts, s1.stop)]
        pairs = [s2 for s2 in overlapping if s2.state == s1.state]
        weight += s1.length * max(1, len(pairs))
        total += sum(_normalized_overlap(s1, s2) * s1.length for s2 in pairs)
    return 100 * total / weight if weight else float("nan")


def _normalized_overlap(s1: Segment, s2: Segment) -> float:
    intersection = min(s1.stop, s2.stop) - max(s1.start, s2.start)
    union = max(s1.stop, s2.stop) - min(s1.start, s2.start)
    allowance = min(union - intersection, intersection, s1.length // 2, s2.length // 2)
    return (intersection + allowance) / union


def mean_segment_overlap(true: Iterable[str], predicted: Iterable[str], scored: Iterable[np.ndarray | None]) -> float:
    """Mean of :func:`segment_overlap` over chains; chains without a scored residue are left out."""
    overlaps = [segment_overlap(*chain) for chain in zip(true, predicted, scored, strict=True)]
    return float(np.nanmean(overlaps))
