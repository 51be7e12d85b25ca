"""Hypotheses about hidden states: the units that are on in a range of steps, and where else they are on together.

After Strobelt, Gehrmann, Pfister and Rush 2018, "LSTMVis: a tool for visual analysis of hidden state dynamics in
recurrent neural networks", arXiv:1606.07461. A reader selects a range of steps and a threshold, which selects units.
The ranges of all sequences in which the same units are on confirm the hypothesis about them, or refute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lstmkit.errors import SettingError

THRESHOLD = 0.3  #: State above which a unit counts as on.


class StateMatch(NamedTuple):
    """A range of steps in which selected units are on.

    Attributes:
        example: Index of the sequence.
        start: First step.
        stop: Step after the last one.
        units: The units that are on at all of its steps.
    """

    example: int
    start: int
    stop: int
    units: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of steps."""
        return self.stop - self.start


def units_on(
    state: np.ndarray, start: int, stop: int, threshold: float = THRESHOLD, *, only_there: bool = True
) -> tuple[int, ...]:
    """The units whose state is at or above a threshold at all steps of a range.

    Args:
        state: ``(T, H)``, such as :attr:`LayerTrace.state <lstmkit.look.traces.LayerTrace.state>`.
        start: First step of the range, from 0.
        stop: Step after its last one.
        threshold: Of the state.
        only_there: Leave out the units that are also on at the step before the range or at the step after it.

    Raises:
        SettingError: The range is empty or outside the sequence.

    >>> state = np.array([[0.0, 0.9], [0.8, 0.9], [0.7, 0.9], [0.1, 0.2]])
    >>> units_on(state, 1, 3), units_on(state, 1, 3, only_there=False)
    ((0,), (0, 1))
    """
    if not 0 <= start < stop <= len(state):
        raise SettingError(f"the range from step {start} to {stop - 1} is not within the steps 0 to {len(state) - 1}")
    on = state >= threshold
    selected = on[start:stop].all(axis=0)
    if only_there:
        neighbors = [step for step in (start - 1, stop) if 0 <= step < len(state)]
        selected &= ~on[neighbors].any(axis=0)
    return tuple(np.flatnonzero(selected).tolist())


def matching_ranges(
    states: Sequence[np.ndarray],
    units: Sequence[int],
    threshold: float = THRESHOLD,
    *,
    min_units: int = 1,
    min_steps: int = 1,
    max_matches: int = 20,
) -> list[StateMatch]:
    """The ranges of steps in which most of the units are on together, over all sequences.

    A range counts if it cannot be made longer with as many units on. Ranges with more of the units come first, among
    them the longer ones. Of ranges of one sequence that overlap, only the first is returned.

    Args:
        states: ``(T, H)`` of each sequence.
        units: The units.
        threshold: State from which a unit is on.
        min_units: Least number of the units that are on.
        min_steps: Least number of steps.
        max_matches: Greatest number of ranges.

    Raises:
        SettingError: A unit does not exist, or there are none.

    >>> state = np.array([[0.9, 0.9], [0.9, 0.9], [0.1, 0.1], [0.9, 0.1]])
    >>> [(match.start, match.stop, match.units) for match in matching_ranges([state], [0, 1])]
    [(0, 2, (0, 1)), (3, 4, (0,))]
    """
    chosen = np.unique(np.asarray(units, dtype=int))
    width = min((state.shape[1] for state in states), default=0)
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= width:
        raise SettingError(f"the units {', '.join(map(str, units)) or 'are none'}: choose some of 0 to {width - 1}")
    candidates = []
    for example, state in enumerate(states):
        ends = _run_ends(state[:, chosen] >= threshold)
        candidates += [(-count, start - stop, example, start) for count, start, stop in _maximal_ranges(ends)]
    taken = [np.zeros(len(state), dtype=bool) for state in states]
    matches: list[StateMatch] = []
    for negative_count, negative_length, example, start in sorted(candidates):
        stop = start - negative_length
        is_too_small = -negative_count < min_units or -negative_length < min_steps
        if len(matches) == max_matches or is_too_small or taken[example][start:stop].any():
            continue
        taken[example][start:stop] = True
        on = (states[example][start:stop, chosen] >= threshold).all(axis=0)
        matches.append(StateMatch(example, start, stop, tuple(chosen[on].tolist())))
    return matches


def _run_ends(on: np.ndarray) -> np.ndarray:
    """``(T, U)``: the first step, from each one on, at which a unit is off.

    >>> _run_ends(np.array([[True], [True], [False]])).ravel().tolist()
    [2, 2, 2]
    """
    steps = np.arange(len(on))[:, None]
    first_off = np.where(on, len(on), steps)
    return np.minimum.accumulate(first_off[::-1], axis=0)[::-1]


def _maximal_ranges(ends: np.ndarray) -> list[tuple[int, int, int]]:
    """Number of units, start and stop of each range that cannot be made longer with as many units.

    From a step on, ``m`` units are on together until the ``m``-th latest of their ends.

    Args:
        ends: ``(T, U)``, see :func:`_run_ends`.
    """
    latest = -np.sort(-ends, axis=1)
    steps = np.arange(len(ends))[:, None]
    is_range = latest > steps
    is_range[1:] &= latest[:-1] < latest[1:]  # else the range could begin one step earlier
    starts, places = np.nonzero(is_range)
    return [
        (place + 1, start, int(latest[start, place]))
        for start, place in zip(starts.tolist(), places.tolist(), strict=True)
    ]
