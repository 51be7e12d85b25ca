"""Baselines for recommendation: the most popular items, item-kNN, and a Markov chain.

Each returns scores ``(N, V)`` of all items for ``N`` histories, arrays of item indices in order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from lstmkit.jobs.recommender.metrics import RankingQueries, ranks_from_scores, recall
from lstmkit.progress import Progress

Histories = Sequence[np.ndarray]
ItemScorer = Callable[[list[np.ndarray]], np.ndarray]

_MAX_NEIGHBORS = 100  # neighbors kept per item
_ROWS = 1000  # items compared with all others at a time
_KNN_HISTORY_LENGTHS = (1, 2, 5, 10, 1000)  # tried on the validation split
_BACKOFF_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # tried on the validation split
_MAX_TUNING_QUERIES = 2000  # queries of the validation split to choose by


class MostPopular:
    """Scores items by how often they occur, whatever the history.

    Args:
        counts: ``(V,)`` occurrences of each item.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts

    def __call__(self, histories: Histories) -> np.ndarray:
        return np.tile(self.counts.astype(np.float32), (len(histories), 1))


class ItemKNN:
    """Item-kNN: scores items by the sum of their similarities to the last items of the history.

    The similarity of two items is the cosine of the sessions that contain them.

    Args:
        sessions: Item indices of each session.
        n_items: The size of the catalog.

    Attributes:
        history_length: How many of the last items of the history count.

    >>> knn = ItemKNN([np.array([0, 1]), np.array([0, 1, 2])], n_items=4)
    >>> knn([np.array([1])]).astype(float).round(2).tolist()
    [[1.0, 0.0, 0.71, 0.0]]
    """

    def __init__(self, sessions: Histories, n_items: int) -> None:
        self.history_length = 1
        rows = np.repeat(np.arange(len(sessions)), [len(items) for items in sessions])
        columns = np.concatenate([np.zeros(0, np.int64), *sessions])
        ones = np.ones(len(rows), np.float32)
        contains = sparse.csr_array((ones, (rows, columns)), shape=(len(sessions), n_items))
        contains.data[:] = 1  # an item counts once per session
        norms = np.sqrt(np.maximum(1, contains.sum(axis=0)))
        scale: Any = sparse.diags_array(1 / norms, dtype=np.float32)
        unit = (contains @ scale).tocsc()
        by_item = unit.T.tocsr()
        starts = range(0, n_items, _ROWS)
        similarities = [_nearest(by_item[i : i + _ROWS] @ unit, i) for i in starts]
        self.similarity: Any = sparse.vstack(similarities, format="csr")

    def __call__(self, histories: Histories) -> np.ndarray:
        recent = [np.unique(history[-self.history_length :]) for history in histories]
        rows = np.repeat(np.arange(len(recent)), [len(items) for items in recent])
        columns = np.concatenate([np.zeros(0, np.int64), *recent])
        ones = np.ones(len(rows), np.float32)
        contains = sparse.csr_array((ones, (rows, columns)), (len(recent), self.similarity.shape[0]))
        return (contains @ self.similarity).toarray()


def _nearest(similarity: Any, first: int) -> Any:
    """Keep the nearest neighbors of each row, without the item itself: row ``k`` is that of item ``first + k``."""
    similarity = similarity.tocsr()
    for k in range(similarity.shape[0]):
        begin, end = similarity.indptr[k : k + 2]
        values = similarity.data[begin:end]
        values[similarity.indices[begin:end] == first + k] = 0
        if len(values) > _MAX_NEIGHBORS:
            values[np.argpartition(-values, _MAX_NEIGHBORS)[_MAX_NEIGHBORS:]] = 0
    similarity.eliminate_zeros()
    return similarity


class MarkovChain:
    """A first-order Markov chain: how often an item followed the last one, backed off to its popularity.

    The score of ``j`` after ``i`` is ``n_ij + backoff_strength * p_j`` with ``p_j`` the frequency of ``j``: counts
    smoothed by a Dirichlet prior, up to a factor that depends on ``i`` alone.

    Args:
        sessions: Item indices of each session.
        counts: ``(V,)`` occurrences of each item.
    """

    def __init__(self, sessions: Histories, counts: np.ndarray) -> None:
        self.backoff_strength = 1.0
        self.popularity = (counts / counts.sum()).astype(np.float32)
        before = np.concatenate([np.zeros(0, np.int64), *(items[:-1] for items in sessions)])
        after = np.concatenate([np.zeros(0, np.int64), *(items[1:] for items in sessions)])
        shape = (len(counts), len(counts))
        # Pairs that occur several times are summed.
        self.transitions: Any = sparse.csr_array((np.ones(len(before), np.float32), (before, after)), shape)

    def __call__(self, histories: Histories) -> np.ndarray:
        scores = np.tile(self.backoff_strength * self.popularity, (len(histories), 1))
        known = [k for k, history in enumerate(histories) if len(history)]
        scores[known] += self.transitions[[histories[k][-1] for k in known]].toarray()
        return scores


def build_baselines(
    counts: np.ndarray,
    train_sessions: Histories | None,
    valid: RankingQueries | None,
    exclude_seen: bool,
    k: int,
    progress: Progress,
) -> tuple[dict[str, ItemScorer], tuple[str, ...]]:
    """The baselines by name, tuned on the validation split, and notes on them.

    Args:
        counts: ``(V,)`` occurrences of each item in the training split.
        train_sessions: Item indices of the training sessions; ``None`` if they are not known. Then the most popular
            items are the only baseline.
        valid: Queries of the validation split; ``None`` to keep the first of the options.
        exclude_seen: Whether items of the session itself are excluded.
        k: Options are chosen by Recall@k.
        progress: Where to report progress.
    """
    baselines: dict[str, ItemScorer] = {"most popular": MostPopular(counts)}
    if train_sessions is None:
        return baselines, ()
    knn, chain = ItemKNN(train_sessions, len(counts)), MarkovChain(train_sessions, counts)
    baselines |= {"item-kNN": knn, "Markov chain": chain}
    if valid is None or not len(valid.session_index):
        return baselines, ()
    queries = valid.subsample(_MAX_TUNING_QUERIES)

    def recall_of(scorer: ItemScorer) -> float:
        return recall(ranks_from_scores(scorer, queries, len(counts), exclude_seen), k)

    by_length, by_strength = {}, {}
    with progress.task("baselines", len(_KNN_HISTORY_LENGTHS) + len(_BACKOFF_STRENGTHS)) as task:
        for length in _KNN_HISTORY_LENGTHS:
            knn.history_length = length
            by_length[length] = recall_of(knn)
            task.update(len(by_length))
        for strength in _BACKOFF_STRENGTHS:
            chain.backoff_strength = strength
            by_strength[strength] = recall_of(chain)
            task.update(len(by_length) + len(by_strength))
    knn.history_length = max(_KNN_HISTORY_LENGTHS, key=lambda length: by_length[length])
    chain.backoff_strength = max(_BACKOFF_STRENGTHS, key=lambda strength: by_strength[strength])
    last = "item" if knn.history_length == 1 else f"{knn.history_length} items"
    return baselines, (
        f"Chosen on the validation split: item-kNN uses the last {last}; the Markov chain has a backoff strength of "
        f"{chain.backoff_strength:g}.",
    )
