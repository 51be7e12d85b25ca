"""Ranks of what came next among all items, and how good they are: ties count against whoever gave the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.item_head import ItemHead
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

UNRANKED = np.iinfo(np.int64).max  #: The rank of what cannot be recommended.

_AT_ONCE = 1 << 24  # scores held at a time
_SCORE_BLOCK = 1 << 20  # of them that are counted at a time
_ROUNDING = 8  # units in the last place, of the sum of a score's terms: what differs by less is equal


class Questions(NamedTuple):
    """What came next in sessions, ``Q`` times.

    Attributes:
        known: Of each session the items that the catalogue has, by number.
        row: ``(Q,)`` which session, rising.
        after: ``(Q,)`` how many of its known items stood before.
        target: ``(Q,)`` what came next by number, -1 where the catalogue has it not.
    """

    known: list[np.ndarray]
    row: np.ndarray
    after: np.ndarray
    target: np.ndarray

    def histories(self, part: slice) -> list[np.ndarray]:
        """The known items before each of these questions."""
        return [self.known[row][:n] for row, n in zip(self.row[part], self.after[part], strict=True)]

    def some(self, most: int) -> Questions:
        """At most so many of them, evenly spread."""
        kept = np.unique(np.linspace(0, len(self.row) - 1, min(most, len(self.row))).astype(np.int64))
        return self._replace(row=self.row[kept], after=self.after[kept], target=self.target[kept])


def ask(sessions: Sequence[np.ndarray], given: np.ndarray) -> Questions:
    """Every item after the given ones is asked for.

    Args:
        sessions: ``(T,)`` items by number, -1 where the catalogue has one not: it is passed over in what is read, and
            where it came next nothing that is recommended can be right.
        given: ``(N,)`` how many at the beginning of each are only read.
    """
    known, row, after, target = [], [], [], []
    for i, (items, first) in enumerate(zip(sessions, given, strict=True)):
        told = items >= 0
        known.append(items[told])
        row.append(np.full(len(items) - first, i))
        after.append(told.cumsum()[first - 1 : -1])
        target.append(items[first:])
    return Questions(known, *(np.concatenate(of) for of in (row, after, target)))


def ranks(scores: Tensor, targets: Tensor, histories: Sequence[np.ndarray] | None = None) -> Tensor:
    """``(N,)`` ranks of ``targets (N,)`` among ``scores (N, V)``: one and how many others are at least as high.

    Args:
        scores: The higher, the sooner.
        targets: Items by number; -1 has the rank :data:`UNRANKED`.
        histories: Items that are not recommended, for each row; whoever is one of them has the rank :data:`UNRANKED`.

    >>> ranks(torch.tensor([[3.0, 1.0, 3.0, 2.0]]).expand(3, 4), torch.tensor([0, 3, 1])).tolist()
    [2, 3, 4]
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    return _counted(lambda items: scores[:, items], own, targets, scores.shape[1], histories)


@torch.no_grad()
def _counted(
    told: Callable[[slice], Tensor],
    own: Tensor,
    targets: Tensor,
    items: int,
    histories: Sequence[np.ndarray] | None,
) -> Tensor:
    """As :func:`ranks`, of scores that are told for some items at a time, so that they stay in the cache.

    Args:
        told: ``told(items) -> (N, n)``.
        own: ``(N, 1)`` scores of the targets.
        targets: ``(N,)``.
        items: ``V``.
        histories: As of :func:`ranks`.
    """
    rows, columns = _places([] if histories is None else histories, own.device)
    order = columns.argsort()
    rows, columns = rows[order], columns[order]
    below = torch.zeros(len(own), dtype=torch.int64, device=own.device)
    width = max(1, _SCORE_BLOCK // max(1, len(own)))
    for start in range(0, items, width):
        scores = told(slice(start, min(items, start + width)))
        first, last = torch.searchsorted(columns, torch.tensor([start, start + width], device=columns.device)).tolist()
        if last > first:
            where = rows[first:last], columns[first:last] - start
            scores = scores.index_put(where, scores.new_tensor(-torch.inf))
        # So that what is not a number counts against. As numbers: that is several times faster than as truths.
        below += torch.lt(scores, own, out=torch.empty_like(scores)).sum(1).long()
    never = (targets < 0) | own[:, 0].isneginf()
    never[rows[columns == targets[rows]]] = True
    return (items - below).masked_fill(never, UNRANKED)


def without(scores: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
    """A copy of scores ``(N, V)``, those of each row's history the lowest there are."""
    return scores.index_put(_places(histories, scores.device), scores.new_tensor(-torch.inf))


def _places(histories: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of all items of histories."""
    rows = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    columns = np.concatenate([np.zeros(0, np.int64), *histories])
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)


def recall(found: np.ndarray, k: int) -> float:
    """The share of ranks ``(N,)`` that are ``k`` or better."""
    return float((found <= k).mean())


def mean_reciprocal_rank(found: np.ndarray, k: int) -> float:
    """The mean of 1 / rank, of ranks beyond ``k`` of 0."""
    return float(np.where(found <= k, 1 / found, 0.0).mean())


def ranks_from_scores(
    scores: Callable[[list[np.ndarray]], np.ndarray], asked: Questions, items: int, drop: bool
) -> np.ndarray:
    """``(Q,)`` ranks by scores ``(N, V)`` of histories, ``items`` in all; with ``drop`` no item comes a second time."""
    found = [np.zeros(0, np.int64)]
    for part in _parts(len(asked.row), items):
        histories = asked.histories(part)
        told = torch.from_numpy(scores(histories))
        found.append(ranks(told, torch.from_numpy(asked.target[part]), histories if drop else None).numpy())
    return np.concatenate(found)


def ranks_from_model(
    model: Model, asked: Questions, drop: bool, *, batch_size: int, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`ranks_from_scores`, of a model that reads each session once. Before the first known item it ranks nothing."""
    readable = np.flatnonzero([len(one) > 0 for one in asked.known])
    bounds = np.searchsorted(asked.row, np.arange(len(asked.known) + 1))

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.rows is not None
        mine = [np.arange(*bounds[[row, row + 1]]) for row in readable[batch.rows]]
        mine = [of[asked.after[of] > 0] for of in mine]
        where = [asked.after[of] - 1 for of in mine]
        of = np.concatenate(mine)
        histories = [asked.known[asked.row[q]][: asked.after[q]] for q in of] if drop else None
        targets = torch.from_numpy(asked.target[of]).to(batch.inputs.device)
        whole = ranks_at_steps(model, batch, where, targets, histories).cpu().numpy()
        return np.split(whole, np.cumsum([len(of) for of in mine])[:-1])

    found = np.full(len(asked.row), UNRANKED)
    loader = Loader(Sequences([asked.known[row] for row in readable]), batch_size)
    told = predict(model, loader, decode, device=device, progress=progress, title="ranking")
    found[asked.after > 0] = np.concatenate([np.zeros(0, np.int64), *told])
    return found


def ranks_at_steps(
    model: Model,
    batch: Batch,
    steps: Sequence[np.ndarray],
    targets: Tensor,
    histories: Sequence[np.ndarray] | None = None,
) -> Tensor:
    """As :func:`ranks`, ``(N,)``, of a model's scores after some steps of each sequence.

    Args:
        model: A :class:`NextTokenModel` with an :class:`ItemHead`, or an ensemble of them.
        batch: Sequences.
        steps: Of each which ones, from 0; ``N`` in all.
        targets: ``(N,)``.
        histories: As of :func:`ranks`.
    """
    members = [(head, head.scores.narrow(of)) for head, of in _features_at(model, batch, steps)]
    both = [head.own(of, targets.clamp(min=0)) for head, of in members]
    own, size = (torch.stack(of).mean(0) for of in zip(*both, strict=True))
    own = own - _ROUNDING * torch.finfo(own.dtype).eps * size  # two ways to the same score end a little apart

    def told(items: slice) -> Tensor:
        found = [head.some(of, items) for head, of in members]
        return torch.stack(found).mean(0) if len(found) > 1 else found[0]

    return _counted(told, own.unsqueeze(1), targets, members[0][0].output_size, histories)


def scores_at(model: Model, batch: Batch, steps: Sequence[np.ndarray]) -> Iterator[tuple[slice, Tensor]]:
    """Scores ``(n, V)`` of all items after some steps of each sequence, so many at a time as memory holds.

    Args:
        model: As of :func:`ranks_at_steps`, as are the others.
        batch: Sequences.
        steps: Of each which ones.

    Yields:
        Which of all steps, sequence by sequence, and their scores.
    """
    members = _features_at(model, batch, steps)
    for part in _parts(len(members[0][1]), members[0][0].output_size):
        told = [head(of[part].unsqueeze(1))[:, 0] for head, of in members]
        yield part, torch.stack(told).mean(0) if len(told) > 1 else told[0]


def _features_at(model: Model, batch: Batch, steps: Sequence[np.ndarray]) -> list[tuple[ItemHead, Tensor]]:
    """Of every member the head, and what it reads after those steps, ``(N, P)``."""
    rows = torch.from_numpy(np.repeat(np.arange(len(steps)), [len(of) for of in steps])).to(batch.inputs.device)
    at = torch.from_numpy(np.concatenate(steps)).to(batch.inputs.device)
    found = []
    for member in model.members if isinstance(model, Ensemble) else [model]:
        assert isinstance(member, NextTokenModel)
        assert isinstance(member.head, ItemHead)
        found.append((member.head, member.features(batch.inputs, None, batch.lengths)[0][rows, at]))
    return found


def _parts(count: int, items: int) -> list[slice]:
    size = max(1, _AT_ONCE // items)
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]


def score_table(found: dict[str, np.ndarray], k: int) -> pd.DataFrame:
    """Recall and MRR of each model's ranks."""
    rows = [
        {"model": name, f"Recall@{k}": recall(of, k), f"MRR@{k}": mean_reciprocal_rank(of, k)}
        for name, of in found.items()
    ]
    return pd.DataFrame(rows)
