"""Ranks of the next item among all items, Recall@k and MRR@k. Ties count against the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.jobs.recommender.item_scores import features_at_steps, history_indices, row_slices
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

UNRANKED = np.iinfo(np.int64).max  #: The rank of an item that cannot be recommended.

_SCORE_BLOCK = 1 << 20  # scores compared at once, so that they stay in the cache
_TIE_ULPS = 8  # scores closer than so many units in the last place of the sum of their terms are equal


class RankingQueries(NamedTuple):
    """``Q`` queries: which item came next in a session?

    Attributes:
        item_ids: For each session the indices of its items that are in the catalog.
        session_index: ``(Q,)`` the session of each query, ascending.
        history_length: ``(Q,)`` the number of known items before the next item.
        target: ``(Q,)`` the index of the next item, -1 if it is not in the catalog.
    """

    item_ids: list[np.ndarray]
    session_index: np.ndarray
    history_length: np.ndarray
    target: np.ndarray

    def histories(self, part: slice) -> list[np.ndarray]:
        """The known items before the next item, for some of the queries."""
        rows = zip(self.session_index[part], self.history_length[part], strict=True)
        return [self.item_ids[session][:length] for session, length in rows]

    def subsample(self, max_queries: int) -> RankingQueries:
        """At most ``max_queries`` of them, evenly spaced."""
        count = len(self.session_index)
        kept = np.unique(np.linspace(0, count - 1, min(max_queries, count)).astype(np.int64))
        return self._replace(
            session_index=self.session_index[kept],
            history_length=self.history_length[kept],
            target=self.target[kept],
        )


def ranking_queries(sessions: Sequence[np.ndarray], n_context: np.ndarray) -> RankingQueries:
    """A query for every item after the context of each session.

    Args:
        sessions: For each session ``(T,)`` item indices, -1 if an item is not in the catalog. Such an item is skipped
            in the history; as a target it is a miss.
        n_context: ``(N,)`` the number of items at the start of each session that are not targets.
    """
    item_ids, session_index, history_length, target = [], [], [], []
    for i, (items, first) in enumerate(zip(sessions, n_context, strict=True)):
        known = items >= 0
        item_ids.append(items[known])
        session_index.append(np.full(len(items) - first, i))
        history_length.append(known.cumsum()[first - 1 : -1])
        target.append(items[first:])
    return RankingQueries(item_ids, *(np.concatenate(parts) for parts in (session_index, history_length, target)))


def ranks(scores: Tensor, targets: Tensor, histories: Sequence[np.ndarray] | None = None) -> Tensor:
    """Ranks ``(N,)`` of ``targets (N,)`` by ``scores (N, V)``: 1 + the number of other items with at least that score.

    Args:
        scores: Higher is better.
        targets: Item indices; -1 has the rank :data:`UNRANKED`.
        histories: For each row the items that are excluded. A target among them has the rank :data:`UNRANKED`.

    >>> ranks(torch.tensor([[3.0, 1.0, 3.0, 2.0]]).expand(3, 4), torch.tensor([0, 3, 1])).tolist()
    [2, 3, 4]
    """
    target_scores = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    return _count_ranks(lambda items: scores[:, items], target_scores, targets, scores.shape[1], histories)


@torch.no_grad()
def _count_ranks(
    score_block: Callable[[slice], Tensor],
    target_scores: Tensor,
    targets: Tensor,
    n_items: int,
    histories: Sequence[np.ndarray] | None,
) -> Tensor:
    """As :func:`ranks`, of scores that are computed for a block of items at a time.

    Args:
        score_block: ``score_block(items) -> (N, n)``.
        target_scores: ``(N, 1)``.
        targets: ``(N,)``.
        n_items: ``V``.
        histories: As for :func:`ranks`.
    """
    rows, columns = history_indices([] if histories is None else histories, target_scores.device)
    order = columns.argsort()
    rows, columns = rows[order], columns[order]
    below = torch.zeros(len(target_scores), dtype=torch.int64, device=target_scores.device)
    width = max(1, _SCORE_BLOCK // max(1, len(target_scores)))
    for start in range(0, n_items, width):
        scores = score_block(slice(start, min(n_items, start + width)))
        first, last = torch.searchsorted(columns, torch.tensor([start, start + width], device=columns.device)).tolist()
        if last > first:
            excluded = rows[first:last], columns[first:last] - start
            scores = scores.index_put(excluded, scores.new_tensor(-torch.inf))
        # Counting the lower ones makes NaN count against the model. Floats are summed several times faster than bools.
        below += torch.lt(scores, target_scores, out=torch.empty_like(scores)).sum(1).long()
    unranked = (targets < 0) | target_scores[:, 0].isneginf()
    unranked[rows[columns == targets[rows]]] = True
    return (n_items - below).masked_fill(unranked, UNRANKED)


def recall(ranks: np.ndarray, k: int) -> float:
    """Recall@k: the fraction of ranks ``(N,)`` up to ``k``."""
    return float((ranks <= k).mean())


def mean_reciprocal_rank(ranks: np.ndarray, k: int) -> float:
    """MRR@k: the mean of 1 / rank; ranks beyond ``k`` count 0."""
    return float(np.where(ranks <= k, 1 / ranks, 0.0).mean())


def score_table(ranks_by_model: Mapping[str, np.ndarray], k: int) -> pd.DataFrame:
    """Recall@k and MRR@k of each model's ranks."""
    rows = [
        {"model": name, f"Recall@{k}": recall(ranks, k), f"MRR@{k}": mean_reciprocal_rank(ranks, k)}
        for name, ranks in ranks_by_model.items()
    ]
    return pd.DataFrame(rows)


def ranks_from_scores(
    scores: Callable[[list[np.ndarray]], np.ndarray], queries: RankingQueries, n_items: int, exclude_seen: bool
) -> np.ndarray:
    """Ranks ``(Q,)`` of the targets by a function from ``N`` histories to scores ``(N, V)``.

    Args:
        scores: The function.
        queries: What came next.
        n_items: ``V``.
        exclude_seen: Whether items of the history are excluded.
    """
    parts = [np.zeros(0, np.int64)]
    for part in row_slices(len(queries.session_index), n_items):
        histories = queries.histories(part)
        part_scores = torch.from_numpy(scores(histories))
        targets = torch.from_numpy(queries.target[part])
        parts.append(ranks(part_scores, targets, histories if exclude_seen else None).numpy())
    return np.concatenate(parts)


def ranks_from_model(
    model: Model,
    queries: RankingQueries,
    exclude_seen: bool,
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """As :func:`ranks_from_scores`, of a model that reads each session once.

    Targets without a known item before them have the rank :data:`UNRANKED`.
    """
    readable = np.flatnonzero([len(items) > 0 for items in queries.item_ids])
    bounds = np.searchsorted(queries.session_index, np.arange(len(queries.item_ids) + 1))

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.rows is not None
        by_session = [np.arange(*bounds[[row, row + 1]]) for row in readable[batch.rows]]
        by_session = [rows[queries.history_length[rows] > 0] for rows in by_session]
        steps = [queries.history_length[rows] - 1 for rows in by_session]
        rows = np.concatenate(by_session)
        histories = None
        if exclude_seen:
            histories = [queries.item_ids[queries.session_index[q]][: queries.history_length[q]] for q in rows]
        targets = torch.from_numpy(queries.target[rows]).to(batch.inputs.device)
        batch_ranks = ranks_at_steps(model, batch, steps, targets, histories).cpu().numpy()
        return np.split(batch_ranks, np.cumsum([len(rows) for rows in by_session])[:-1])

    ranks_of_queries = np.full(len(queries.session_index), UNRANKED)
    loader = Loader(Sequences([queries.item_ids[row] for row in readable]), batch_size)
    by_session = predict(model, loader, decode, device=device, progress=progress, title="ranking")
    ranks_of_queries[queries.history_length > 0] = np.concatenate([np.zeros(0, np.int64), *by_session])
    return ranks_of_queries


def ranks_at_steps(
    model: Model,
    batch: Batch,
    steps: Sequence[np.ndarray],
    targets: Tensor,
    histories: Sequence[np.ndarray] | None = None,
) -> Tensor:
    """As :func:`ranks`, ``(N,)``, by a model's scores after some steps of each sequence.

    Args:
        model: A :class:`NextTokenModel` with an :class:`ItemHead`, or an ensemble of them.
        batch: The sequences.
        steps: For each sequence the steps, from 0; ``N`` in all.
        targets: ``(N,)``.
        histories: As for :func:`ranks`.
    """
    members = [(head, head.scores.narrow(features)) for head, features in features_at_steps(model, batch, steps)]
    both = [head.score_targets(features, targets.clamp(min=0)) for head, features in members]
    target_scores, size = (torch.stack(parts).mean(0) for parts in zip(*both, strict=True))
    # The score of one item differs by rounding between two ways to compute it.
    target_scores = target_scores - _TIE_ULPS * torch.finfo(target_scores.dtype).eps * size

    def score_block(items: slice) -> Tensor:
        scores = [head.score_slice(features, items) for head, features in members]
        return torch.stack(scores).mean(0) if len(scores) > 1 else scores[0]

    return _count_ranks(score_block, target_scores.unsqueeze(1), targets, members[0][0].output_size, histories)
