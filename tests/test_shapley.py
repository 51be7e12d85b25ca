"""Shapley values: games computed by hand, the four axioms, and sampled orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmkit.look.shapley import MAX_EXACT_PLAYERS, Coalitions

PLAYERS = st.integers(1, 6)
SEEDS = st.integers(0, 2**32 - 1)
DESIGNS = pytest.mark.parametrize("design", [Coalitions.all_of, lambda n: Coalitions.sampled(n, 6, seed=n)])


def random_outputs(coalitions: Coalitions, seed: int) -> np.ndarray:
    return 100 * np.random.default_rng(seed).standard_normal((len(coalitions.members), 2))


def test_the_glove_game():
    """One left and two right gloves are worth 1 as a pair: the left one has 2/3 of it (Shapley 1953)."""
    coalitions = Coalitions.all_of(3)
    left, *right = coalitions.members.T
    outputs = (left & (right[0] | right[1])).astype(float)
    np.testing.assert_allclose(coalitions.shapley_values(outputs), [2 / 3, 1 / 6, 1 / 6])


def test_values_are_means_over_all_orders():
    """Exact values are the mean contribution over the 24 orders of four players, at a high level of the outputs too."""
    coalitions = Coalitions.all_of(4)
    outputs = 1e9 + random_outputs(coalitions, 0)[:, 0]
    by_members = dict(zip(map(tuple, coalitions.members.tolist()), outputs, strict=True))
    expected = np.zeros(4)
    for order in itertools.permutations(range(4)):
        present = [False] * 4
        for player in order:
            before = by_members[tuple(present)]
            present[player] = True
            expected[player] += (by_members[tuple(present)] - before) / 24
    np.testing.assert_allclose(coalitions.shapley_values(outputs), expected, atol=1e-6)


@DESIGNS
@given(players=PLAYERS, seed=SEEDS)
def test_efficiency(design, players: int, seed: int):
    """The values sum to the output of all players less that of none; these come last and first."""
    coalitions = design(players)
    assert not coalitions.members[0].any()
    assert coalitions.members[-1].all()
    outputs = random_outputs(coalitions, seed)
    values = coalitions.shapley_values(outputs)
    assert values.shape == (players, 2)
    np.testing.assert_allclose(values.sum(axis=0), outputs[-1] - outputs[0], atol=1e-10)


@given(players=st.integers(2, 6), seed=SEEDS)
def test_symmetry(players: int, seed: int):
    """Two players that can be exchanged have the same value."""
    coalitions = Coalitions.all_of(players)
    outputs = random_outputs(coalitions, seed)
    exchanged = coalitions.members[:, [1, 0, *range(2, players)]]
    index = [coalitions.members.tolist().index(row) for row in exchanged.tolist()]
    values = coalitions.shapley_values(outputs + outputs[index])
    np.testing.assert_allclose(values[0], values[1], atol=1e-10)


@DESIGNS
@given(players=PLAYERS, seed=SEEDS, amount=st.floats(-100, 100))
def test_dummy(design, players: int, seed: int, amount: float):
    """A player that adds the same amount to every coalition has that amount as value."""
    coalitions = design(players)
    outputs = np.zeros(len(coalitions.members))
    others = {}
    rng = np.random.default_rng(seed)
    for k, (first, *rest) in enumerate(coalitions.members.tolist()):
        outputs[k] = others.setdefault(tuple(rest), rng.standard_normal()) + amount * first
    assert coalitions.shapley_values(outputs)[0] == pytest.approx(amount, abs=1e-10)


@DESIGNS
@given(players=PLAYERS, seed=SEEDS)
def test_additivity(design, players: int, seed: int):
    """The values of a sum of two games are the sums of their values."""
    coalitions = design(players)
    a, b = random_outputs(coalitions, seed), random_outputs(coalitions, seed + 1)
    together = coalitions.shapley_values(a + b)
    np.testing.assert_allclose(together, coalitions.shapley_values(a) + coalitions.shapley_values(b), atol=1e-10)


def test_sampled_values_converge():
    """More orders give smaller errors; the seed decides which orders."""
    exact = Coalitions.all_of(6)
    game = np.random.default_rng(0).standard_normal(len(exact.members))
    values = exact.shapley_values(game)

    def error(orders: int) -> float:
        errors = []
        for seed in range(5):
            sampled = Coalitions.sampled(6, orders, seed)
            outputs = game[sampled.members @ 2 ** np.arange(6)]
            errors.append(np.abs(sampled.shapley_values(outputs) - values).mean())
        return float(np.mean(errors))

    assert error(4000) < 0.02 < 0.1 < error(4)
    assert np.array_equal(Coalitions.sampled(6, 8, 1).weights, Coalitions.sampled(6, 8, 1).weights)
    assert not np.array_equal(Coalitions.sampled(6, 8, 1).members, Coalitions.sampled(6, 8, 2).members)


def test_many_players_are_sampled():
    """All coalitions of up to eight players; of more, no coalition twice, and fewer than all."""
    assert len(Coalitions.of(MAX_EXACT_PLAYERS).members) == 2**MAX_EXACT_PLAYERS
    members = Coalitions.of(12).members
    assert len(members) == len(np.unique(members, axis=0)) < 800
