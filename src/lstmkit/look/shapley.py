"""Shapley values: how much each input moves an output, from the output's values with some of the inputs left out.

The inputs are the players of a game (Shapley 1953; Lundberg and Lee 2017, "A Unified Approach to Interpreting Model
Predictions"). A coalition is a set of inputs that are present. The Shapley value of an input is the change of the
output when it joins, averaged over all orders in which the inputs can join.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from typing_extensions import Self

MAX_EXACT_PLAYERS = 8  #: More players have too many coalitions, ``2 ** players``: orders are sampled.
SAMPLED_ORDERS = 64  #: Orders in which more players join; each needs an output for every player.


@dataclass(frozen=True, eq=False)
class Coalitions:
    """Coalitions of ``G`` players, and how the Shapley values follow from an output of each.

    Attributes:
        members: ``(C, G)`` whether a player is in a coalition. The first coalition is empty, the last has all players.
        weights: ``(G, C)`` the Shapley values are the weighted sums of the outputs.

    >>> duo = Coalitions.all_of(2)
    >>> duo.members.astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    >>> duo.shapley_values(np.array([0.0, 10.0, 20.0, 50.0]))
    array([20., 30.])
    """

    members: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, players: int, seed: int = 0) -> Self:
        """All coalitions of up to :data:`MAX_EXACT_PLAYERS` players, else those of :data:`SAMPLED_ORDERS` orders."""
        return cls.all_of(players) if players <= MAX_EXACT_PLAYERS else cls.sampled(players, SAMPLED_ORDERS, seed)

    @classmethod
    def all_of(cls, players: int) -> Self:
        """All ``2 ** players`` coalitions: the Shapley values are exact."""
        members = (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1
        size = members.sum(axis=1, keepdims=True)
        share = np.array([1 / (players * comb(players - 1, others)) for others in range(players)])
        weights = np.where(members, share[size - 1], -share[np.minimum(size, players - 1)])
        return cls(members, weights.T)

    @classmethod
    def sampled(cls, players: int, orders: int, seed: int = 0) -> Self:
        """Coalitions that form while the players join in random orders (Castro, Gómez and Tejada 2009).

        Each order is paired with its reverse, which reduces the variance (Mitchell et al. 2022, "Sampling Permutations
        for Shapley Value Estimation"). The values of each order sum to the output of all players less that of none, so
        their means do too.

        Args:
            players: Number of players, ``G``.
            orders: Number of orders, an even number of at least 2.
            seed: Random seed.
        """
        rng = np.random.default_rng(seed)
        half = rng.permuted(np.tile(np.arange(players), (orders // 2, 1)), axis=1)
        joining = np.concatenate([half, half[:, ::-1]])  # (orders, G) who joins first, second, …
        position = joining.argsort(axis=1)[:, None]
        prefixes = position < np.arange(players + 1)[:, None]  # (orders, G + 1, G)
        members, index = np.unique(prefixes.reshape(-1, players), axis=0, return_inverse=True)
        index = index.reshape(len(joining), players + 1)
        counts = np.zeros((players, len(members)))
        np.add.at(counts, (joining, index[:, 1:]), 1)
        np.add.at(counts, (joining, index[:, :-1]), -1)
        return cls(members, counts / len(joining))

    def shapley_values(self, outputs: np.ndarray) -> np.ndarray:
        """The Shapley values ``(G, …)`` of ``outputs (C, …)``, in their unit.

        For any outputs, the Shapley values sum to ``outputs[-1] - outputs[0]`` (efficiency).
        """
        return np.tensordot(self.weights, outputs - outputs[0], axes=1)
