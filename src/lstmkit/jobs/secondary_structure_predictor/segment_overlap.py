"""Segments of a chain in one state, and how well those that were found lie over those that are there."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """Residues ``start`` to ``stop`` (excluded), all in one state."""

    start: int
    stop: int
    state: str

    @property
    def length(self) -> int:
        return self.stop - self.start


def segments(states: str, scored: np.ndarray | None = None) -> list[Segment]:
    """The longest runs of one state; a residue that is not scored belongs to none, and parts its neighbours.

    >>> segments("HHC")
    [Segment(start=0, stop=2, state='H'), Segment(start=2, stop=3, state='C')]
    """
    found, start = [], 0
    kept = [True] * len(states) if scored is None else scored.tolist()
    for (state, counts), run in itertools.groupby(zip(states, kept, strict=True)):
        stop = start + sum(1 for _ in run)
        if counts:
            found.append(Segment(start, stop, state))
        start = stop
    return found


def segment_overlap(true: str, said: str, scored: np.ndarray | None = None) -> float:
    """SOV of one chain, in percent: how well segments of each state are found, as Zemla et al. define it.

    A. Zemla, C. Venclovas, K. Fidelis, B. Rost 1999, "A modified definition of Sov, a segment-based measure for protein
    secondary structure prediction assessment", Proteins 34: over all states together,

        SOV = 100 / N · Σ (minov(s1, s2) + δ(s1, s2)) / maxov(s1, s2) · len(s1)

    over all pairs of a true segment ``s1`` and a said one ``s2`` of the same state that share a residue. ``minov`` is
    how many residues they share, ``maxov`` how many either has, ``δ = min(maxov - minov, minov, ⌊len(s1) / 2⌋,
    ⌊len(s2) / 2⌋)``. ``N`` is the sum of ``len(s1)`` over the pairs, and over the true segments without any.

    Args:
        true, said: A letter a residue.
        scored: ``(T,)`` bool; see :func:`segments`.

    Returns:
        0 to 100; NaN where nothing is scored.

    >>> round(segment_overlap("CHHHHC", "CCHHHC"), 2)
    91.67
    """
    ours, theirs = segments(true, scored), segments(said, scored)
    starts, stops = [one.start for one in theirs], [one.stop for one in theirs]  # both rise
    total, weight = 0.0, 0
    for s1 in ours:
        beside = theirs[bisect_right(stops, s1.start) : bisect_left(starts, s1.stop)]
        pairs = [s2 for s2 in beside if s2.state == s1.state]
        weight += s1.length * max(1, len(pairs))
        total += sum(_normalized_overlap(s1, s2) * s1.length for s2 in pairs)
    return 100 * total / weight if weight else float("nan")


def _normalized_overlap(s1: Segment, s2: Segment) -> float:
    shared = min(s1.stop, s2.stop) - max(s1.start, s2.start)
    either = max(s1.stop, s2.stop) - min(s1.start, s2.start)
    slack = min(either - shared, shared, s1.length // 2, s2.length // 2)
    return (shared + slack) / either


def mean_segment_overlap(true: Iterable[str], said: Iterable[str], scored: Iterable[np.ndarray | None]) -> float:
    """The mean of :func:`segment_overlap` over chains; one of which nothing is scored is left out."""
    each = [segment_overlap(*one) for one in zip(true, said, scored, strict=True)]
    return float(np.nanmean(each))
