"""What recommendations stand beside: the most popular items, items chosen together (item-kNN), what followed what.

Each gives scores ``(N, V)`` of all items after histories, arrays of item numbers in order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

Histories = Sequence[np.ndarray]

_NEIGHBOURS = 100  # of an item that are kept
_ROWS = 1000  # items compared with all others at a time


class MostPopular:
    """The items chosen most often, whatever the history.

    Args:
        counts: ``(V,)`` how often each was.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts

    def __call__(self, histories: Histories) -> np.ndarray:
        return np.tile(self.counts.astype(np.float32), (len(histories), 1))


class ItemKNN:
    """Item-kNN: the sum of similarities to the last items of the history. Two items are as similar as the cosine of
    the sessions that they are in.

    Args:
        sessions: Item numbers of each.
        items: How many there are.

    >>> told = ItemKNN([np.array([0, 1]), np.array([0, 1, 2])], items=4)([np.array([1])])
    >>> told.astype(float).round(2).tolist()
    [[1.0, 0.0, 0.71, 0.0]]
    """

    def __init__(self, sessions: Histories, items: int) -> None:
        self.reach = 1  # the last so many items count
        rows = np.repeat(np.arange(len(sessions)), [len(one) for one in sessions])
        columns = np.concatenate([np.zeros(0, np.int64), *sessions])
        seen = sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(sessions), items))
        seen.data[:] = 1  # however often in one session
        scale: Any = sparse.diags_array(1 / np.sqrt(np.maximum(1, seen.sum(axis=0))), dtype=np.float32)
        unit = (seen @ scale).tocsc()
        by_item = unit.T.tocsr()
        starts = range(0, items, _ROWS)
        self.alike: Any = sparse.vstack([_nearest(by_item[i : i + _ROWS] @ unit, i) for i in starts], format="csr")

    def __call__(self, histories: Histories) -> np.ndarray:
        recent = [np.unique(one[-self.reach :]) for one in histories]
        rows = np.repeat(np.arange(len(recent)), [len(one) for one in recent])
        columns = np.concatenate([np.zeros(0, np.int64), *recent])
        asked = sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), (len(recent), self.alike.shape[0]))
        return (asked @ self.alike).toarray()


def _nearest(alike: Any, first: int) -> Any:
    """The nearest of each row, without the item itself: row ``k`` is that of item ``first + k``."""
    alike = alike.tocsr()
    for k in range(alike.shape[0]):
        begin, end = alike.indptr[k : k + 2]
        values = alike.data[begin:end]
        values[alike.indices[begin:end] == first + k] = 0
        if len(values) > _NEIGHBOURS:
            values[np.argpartition(-values, _NEIGHBOURS)[_NEIGHBOURS:]] = 0
    alike.eliminate_zeros()
    return alike


class MarkovChain:
    """First order: how often an item followed the last one, backed off to how popular it is.

    The score of ``j`` after ``i`` is ``n_ij + strength * p_j``, ``p_j`` the share of ``j`` in all that was chosen: the
    counts smoothed by Dirichlet's prior, but for a factor of ``i``.

    Args:
        sessions: Item numbers of each.
        counts: ``(V,)`` how often each was chosen.
    """

    def __init__(self, sessions: Histories, counts: np.ndarray) -> None:
        self.strength = 1.0
        self.share = (counts / counts.sum()).astype(np.float32)
        before, after = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in _steps(sessions))
        shape = (len(counts), len(counts))
        # Pairs that come several times are added up.
        self.followed: Any = sparse.csr_array((np.ones(len(before), np.float32), (before, after)), shape)

    def __call__(self, histories: Histories) -> np.ndarray:
        scores = np.tile(self.strength * self.share, (len(histories), 1))
        known = [k for k, one in enumerate(histories) if len(one)]
        scores[known] += self.followed[[histories[k][-1] for k in known]].toarray()
        return scores


def _steps(sessions: Histories) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one[:-1] for one in sessions], [one[1:] for one in sessions]
