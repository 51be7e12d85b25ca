"""Scores of all items of the catalog after some steps of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.item_head import ItemHead

_MAX_SCORES = 1 << 24  # scores held in memory at once


def scores_at_steps(model: Model, batch: Batch, steps: Sequence[np.ndarray]) -> Iterator[tuple[slice, Tensor]]:
    """Scores ``(n, V)`` of all items after some steps of each sequence, in slices that fit in memory.

    Args:
        model: A :class:`NextTokenModel` with an :class:`ItemHead`, or an ensemble of them.
        batch: The sequences.
        steps: For each sequence the steps, from 0.

    Yields:
        A slice of all steps, sequence by sequence, and their scores.
    """
    members = features_at_steps(model, batch, steps)
    for part in row_slices(len(members[0][1]), members[0][0].output_size):
        scores = [head(features[part].unsqueeze(1))[:, 0] for head, features in members]
        yield part, torch.stack(scores).mean(0) if len(scores) > 1 else scores[0]


def features_at_steps(model: Model, batch: Batch, steps: Sequence[np.ndarray]) -> list[tuple[ItemHead, Tensor]]:
    """For each member of the model its head, and the features ``(N, P)`` that the head reads after those steps."""
    rows = torch.from_numpy(np.repeat(np.arange(len(steps)), [len(s) for s in steps])).to(batch.inputs.device)
    positions = torch.from_numpy(np.concatenate(steps)).to(batch.inputs.device)
    members = []
    for member in model.members if isinstance(model, Ensemble) else [model]:
        assert isinstance(member, NextTokenModel)
        assert isinstance(member.head, ItemHead)
        features = member.features(batch.inputs, None, batch.lengths)[0]
        members.append((member.head, features[rows, positions]))
    return members


def row_slices(n_rows: int, n_items: int) -> list[slice]:
    """Slices of rows such that the scores of all items fit in memory."""
    size = max(1, _MAX_SCORES // n_items)
    return [slice(start, min(n_rows, start + size)) for start in range(0, n_rows, size)]


def history_indices(histories: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of every item of the histories."""
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    columns = np.concatenate([np.zeros(0, np.int64), *histories])
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
