"""Units that are on in a range of steps, and the ranges in which the same units are on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lstmkit.errors import SettingError
from lstmkit.look import StateMatch, matching_ranges, units_on


def by_definition(states: list[np.ndarray], units: list[int], threshold: float) -> list[StateMatch]:
    """Of all ranges those that no longer one with as many units holds: most units first, then the longest."""
    found = []
    for example, state in enumerate(states):
        on = state[:, units] >= threshold
        ranges = itertools.combinations(range(len(state) + 1), 2)
        counts = {(a, b): int(on[a:b].all(axis=0).sum()) for a, b in ranges}
        for (a, b), count in counts.items():
            longer = [counts.get(wider, 0) for wider in ((a - 1, b), (a, b + 1))]
            if count > max(longer):
                found.append((-count, a - b, example, a))
    matches: list[StateMatch] = []
    for _, length, example, start in sorted(found):
        stop = start - length
        if not any(m.example == example and m.start < stop and start < m.stop for m in matches):
            on = (states[example][start:stop] >= threshold).all(axis=0)
            matches.append(StateMatch(example, start, stop, tuple(u for u in units if on[u])))
    return matches


@pytest.mark.parametrize("seed", range(8))
def test_matches_are_those_of_the_definition(seed: int):
    rng = np.random.default_rng(seed)
    states = [rng.uniform(-1, 1, (int(rng.integers(1, 14)), 5)) for _ in range(3)]
    units = sorted(rng.choice(5, 3, replace=False).tolist())
    expected = by_definition(states, units, -0.2)
    assert expected, "a test that compares nothing"
    assert matching_ranges(states, units, -0.2, max_matches=1000) == expected


def test_a_hypothesis_finds_the_planted_ranges():
    """Units 2 and 4 are on inside brackets only, unit 1 always."""
    inside = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0], dtype=bool)
    state = np.zeros((11, 6))
    state[:, 1], state[inside, 2], state[inside, 4] = 0.9, 0.5, 0.7
    assert units_on(state, 2, 5) == (2, 4)
    assert units_on(state, 2, 5, only_there=False) == (1, 2, 4)
    assert units_on(state, 2, 5, threshold=0.6) == (4,)
    assert matching_ranges([state], (2, 4)) == [StateMatch(0, 2, 5, (2, 4)), StateMatch(0, 8, 10, (2, 4))]
    assert matching_ranges([state], (2, 4), min_steps=3) == [StateMatch(0, 2, 5, (2, 4))]
    assert matching_ranges([state], (1, 2), min_units=2, max_matches=1) == [StateMatch(0, 2, 5, (1, 2))]


def test_a_range_at_the_border_has_one_neighbor():
    state = np.array([[0.9], [0.1]])
    assert units_on(state, 0, 1) == units_on(state[::-1], 1, 2) == (0,)


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (-1, 1), (0, 4)])
def test_ranges_outside_the_sequence_are_refused(start: int, stop: int):
    with pytest.raises(SettingError, match="is not within the steps 0 to 2"):
        units_on(np.zeros((3, 2)), start, stop)


@pytest.mark.parametrize("units", [(), (2,), (-1, 0)])
def test_units_that_do_not_exist_are_refused(units: tuple[int, ...]):
    with pytest.raises(SettingError, match="choose some of 0 to 1"):
        matching_ranges([np.zeros((3, 2))], units)
