"""Ranks of what came next among all items, and how good they are: ties count against whoever gave the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.sequences import Sequences
from lstmkit.model import Ensemble, Model, TokenModel
from lstmkit.predict import predict
from lstmkit.progress import Progress

NEVER = np.iinfo(np.int64).max  #: The rank of what cannot be recommended.

_AT_ONCE = 1 << 24  # scores held at a time


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
        targets: Items by number; -1 has the rank :data:`NEVER`.
        histories: Items that are not recommended, for each row; whoever is one of them has the rank :data:`NEVER`.

    >>> ranks(torch.tensor([[3.0, 1.0, 3.0, 2.0]]).expand(3, 4), torch.tensor([0, 3, 1])).tolist()
    [2, 3, 4]
    """
    if histories is not None:
        scores = without(scores, histories)
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    found = (~(scores < own)).sum(1)  # so that what is not a number counts against
    return found.masked_fill((targets < 0) | own[:, 0].isneginf(), NEVER)


def without(scores: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
    """A copy of scores ``(N, V)``, those of each row's history the lowest there are."""
    rows = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    columns = np.concatenate([np.zeros(0, np.int64), *histories])
    where = (torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns).to(scores.device))
    return scores.clone().index_put_(where, scores.new_tensor(-torch.inf))


def recall(found: np.ndarray, k: int) -> float:
    """The share of ranks ``(N,)`` that are ``k`` or better."""
    return float((found <= k).mean())


def mean_reciprocal_rank(found: np.ndarray, k: int) -> float:
    """The mean of 1 / rank, of ranks beyond ``k`` of 0."""
    return float(np.where(found <= k, 1 / found, 0.0).mean())


def ranks_by(scores: Callable[[list[np.ndarray]], np.ndarray], asked: Questions, items: int, drop: bool) -> np.ndarray:
    """``(Q,)`` ranks by scores ``(N, V)`` of histories, ``items`` in all; with ``drop`` no item comes a second time."""
    found = [np.zeros(0, np.int64)]
    for part in _parts(len(asked.row), items):
        histories = asked.histories(part)
        told = torch.from_numpy(scores(histories))
        found.append(ranks(told, torch.from_numpy(asked.target[part]), histories if drop else None).numpy())
    return np.concatenate(found)


def ranks_of(
    model: Model, asked: Questions, items: int, drop: bool, *, batch_size: int, device: torch.device, progress: Progress
) -> np.ndarray:
    """As :func:`ranks_by`, of a model that reads each session once. Before the first known item it ranks nothing."""
    readable = np.flatnonzero([len(one) > 0 for one in asked.known])
    bounds = np.searchsorted(asked.row, np.arange(len(asked.known) + 1))

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.rows is not None
        mine = [np.arange(*bounds[[row, row + 1]]) for row in readable[batch.rows]]
        mine = [of[asked.after[of] > 0] for of in mine]
        where = [asked.after[of] - 1 for of in mine]
        told = []
        for part, scores in scores_at(model, batch, where, items):
            of = np.concatenate(mine)[part]
            histories = [asked.known[asked.row[q]][: asked.after[q]] for q in of] if drop else None
            targets = torch.from_numpy(asked.target[of]).to(scores.device)
            told.append(ranks(scores, targets, histories).cpu().numpy())
        whole = np.concatenate([np.zeros(0, np.int64), *told])
        return np.split(whole, np.cumsum([len(of) for of in mine])[:-1])

    found = np.full(len(asked.row), NEVER)
    loader = Loader(Sequences([asked.known[row] for row in readable]), batch_size)
    told = predict(model, loader, decode, device=device, progress=progress, title="ranking")
    found[asked.after > 0] = np.concatenate([np.zeros(0, np.int64), *told])
    return found


def scores_at(model: Model, batch: Batch, steps: Sequence[np.ndarray], items: int) -> Iterator[tuple[slice, Tensor]]:
    """Scores ``(n, V)`` of all items after some steps of each sequence, so many at a time as memory holds.

    Args:
        model: A :class:`TokenModel`, or an ensemble of them.
        batch: Sequences.
        steps: Of each which ones, from 0.
        items: ``V``.

    Yields:
        Which of all steps, sequence by sequence, and their scores.
    """
    rows = torch.from_numpy(np.repeat(np.arange(len(steps)), [len(of) for of in steps])).to(batch.inputs.device)
    at = torch.from_numpy(np.concatenate(steps)).to(batch.inputs.device)
    members = [m for m in (model.members if isinstance(model, Ensemble) else [model]) if isinstance(m, TokenModel)]
    features = [m.features(batch.inputs, None, batch.lengths)[0][rows, at] for m in members]
    for part in _parts(len(at), items):
        told = [m.head(of[part].unsqueeze(1))[:, 0] for m, of in zip(members, features, strict=True)]
        yield part, torch.stack(told).mean(0) if len(told) > 1 else told[0]


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
