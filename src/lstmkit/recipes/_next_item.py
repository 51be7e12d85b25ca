"""Next items ranked among all and among sampled items, by the network alone and mixed with transition counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lstmkit.jobs.recommender.baselines import ItemScorer, MarkovChain
from lstmkit.jobs.recommender.item_scores import row_slices
from lstmkit.jobs.recommender.metrics import UNRANKED, RankingQueries, ranks

WEIGHTS = tuple(k / 10 for k in range(11))  #: Weights of the transition counts that are tried.


class Mixture:
    """``(1 - w) p(next | history) + w q(next | last)``: a network and first-order transitions, linearly interpolated.

    Args:
        network: Probabilities ``p``.
        chain: Transition counts with backoff; ``q`` are its scores divided by their sum.
        weight: ``w``.
    """

    def __init__(self, network: ItemScorer, chain: MarkovChain, weight: float) -> None:
        self.network, self.chain, self.weight = network, chain, weight

    def __call__(self, histories: list[np.ndarray]) -> np.ndarray:
        return mixed(self.network(histories), self.chain(histories), self.weight)


def mixed(probabilities: np.ndarray, counts: np.ndarray, weight: float) -> np.ndarray:
    """Probabilities ``(N, V)`` and unnormalized counts ``(N, V)``, interpolated.

    >>> mixed(np.array([[1.0, 0.0]]), np.array([[1.0, 3.0]]), 0.5).tolist()
    [[0.625, 0.375]]
    """
    return (1 - weight) * probabilities + weight * counts / counts.sum(axis=1, keepdims=True)


def choose_weight(network: ItemScorer, chain: MarkovChain, valid: RankingQueries, n_items: int, k: int) -> float:
    """The weight of :data:`WEIGHTS` with the best NDCG@k on the validation queries."""
    gains = dict.fromkeys(WEIGHTS, 0.0)
    for part in row_slices(len(valid.target), n_items):
        histories, targets = valid.histories(part), torch.from_numpy(valid.target[part])
        probabilities, counts = network(histories), chain(histories)
        for weight in WEIGHTS:
            scores = torch.from_numpy(mixed(probabilities, counts, weight))
            gains[weight] += ndcg(ranks(scores, targets, histories).numpy(), k) * len(targets)
    return max(WEIGHTS, key=lambda weight: gains[weight])


class Ranks(NamedTuple):
    """Ranks ``(Q,)`` of the next items among all items, and among the sampled ones and itself."""

    among_all: np.ndarray
    among_sampled: np.ndarray


def rank(scorer: ItemScorer, queries: RankingQueries, negatives: np.ndarray, n_items: int) -> Ranks:
    """Rank the next items; those of the history are left out, and ties count against the model.

    Args:
        scorer: Scores ``(N, V)`` of histories.
        queries: ``Q`` queries.
        negatives: ``(Q, M)`` sampled items by their index; -1 is an item outside the catalog, below all others.
        n_items: ``V``.
    """
    among_all, among_sampled = [], []
    for part in row_slices(len(queries.target), n_items):
        histories, targets = queries.histories(part), queries.target[part]
        scores = scorer(histories)
        among_all.append(ranks(torch.from_numpy(scores), torch.from_numpy(targets), histories).numpy())
        own = np.take_along_axis(scores, targets.clip(0)[:, None], axis=1)
        sampled = negatives[part]
        above = (np.take_along_axis(scores, sampled.clip(0), axis=1) >= own) & (sampled >= 0)
        among_sampled.append(np.where(targets >= 0, 1 + above.sum(axis=1), UNRANKED))
    return Ranks(np.concatenate(among_all), np.concatenate(among_sampled))


def sample_negatives(sessions: Sequence[tuple[str, ...]], items: Sequence[str], count: int, seed: int) -> np.ndarray:
    """``(N, count)`` positions in ``items`` that the session of that row does not have, without repetition."""
    rng = np.random.default_rng(seed)
    position = {item: k for k, item in enumerate(items)}
    rows = []
    for session in sessions:
        own = [position[item] for item in session]
        drawn = rng.permutation(len(items))[: count + len(own)]
        rows.append(drawn[~np.isin(drawn, own)][:count])
    return np.stack(rows)


def hit_rate(of: np.ndarray, k: int) -> float:
    """The fraction of ranks up to ``k``: HR@k, with one target the same as recall."""
    return float((of <= k).mean())


def ndcg(of: np.ndarray, k: int) -> float:
    """NDCG@k with one target: the mean of ``1 / log2(1 + rank)`` if the rank is up to ``k``, else 0.

    >>> ndcg(np.array([1, 3, 11]), 10)
    0.5
    """
    return float(np.where(of <= k, 1 / np.log2(1.0 + of), 0.0).mean())
