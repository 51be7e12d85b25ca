"""Batches, datasets that build them by index, and a loader of mini-batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

#: Fewest training steps of an epoch, if their number is not set: 30 epochs are then about 1,000 updates.
MIN_STEPS_PER_EPOCH = 32


@dataclass(frozen=True)
class Batch:
    """A mini-batch of padded examples. Sequences are not packed: the kernels take ``lengths``.

    Attributes:
        inputs: ``(B, T, F)`` values, or ``(B, T)`` ids.
        lengths: ``(B,)`` steps of each example; ``None`` if all have ``T`` steps.
        targets: Targets of the head. NaN in real-valued targets is a missing value: it adds nothing to the loss.
        target_lengths: ``(B,)``, or ``None``.
        rows: ``(B,)`` indices of the examples in the dataset.
        continues: Whether row ``b`` continues row ``b`` of the previous batch. The trainer then carries the state over
            (truncated back-propagation through time).
        extras: More tensors for the head or decoder, by name; first dimension ``B``.

    >>> len(Batch(inputs=torch.zeros(4, 10, 2), targets=torch.zeros(4)))
    4
    """

    inputs: Tensor
    lengths: Tensor | None = None
    targets: Tensor | None = None
    target_lengths: Tensor | None = None
    rows: np.ndarray | None = None
    continues: bool = False
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def to(self, device: torch.device) -> Batch:
        """A copy of the batch with every tensor on ``device``."""
        moved = {f.name: t.to(device) for f in fields(self) if isinstance(t := getattr(self, f.name), Tensor)}
        return replace(self, **moved, extras={name: t.to(device) for name, t in self.extras.items()})


class Source(Protocol):
    """A dataset: examples that are collated into a batch by index."""

    @property
    def lengths(self) -> np.ndarray | None:
        """``(N,)`` steps of each example, or ``None`` if all have the same length."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: np.ndarray) -> Batch:
        """Batch of the examples ``rows``."""
        ...


class Batches(Protocol):
    """A source of mini-batches for each epoch."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``; the same number gives the same batches."""
        ...


def batches_per_epoch(wanted: int, one_pass: int) -> int:
    """Batches in an epoch of training.

    Args:
        wanted: Their number; 0 for one pass over the data; -1 for as many passes as make at least
            :data:`MIN_STEPS_PER_EPOCH` batches: few examples would else get few updates.
        one_pass: Batches in one pass.

    >>> batches_per_epoch(-1, one_pass=500), batches_per_epoch(0, one_pass=2), batches_per_epoch(7, one_pass=2)
    (500, 2, 7)
    """
    if not one_pass:
        return 0
    return wanted or one_pass if wanted >= 0 else one_pass * -(-MIN_STEPS_PER_EPOCH // one_pass)


class Loader:
    """Mini-batches of a dataset, shuffled and bucketed by length.

    The order of an epoch depends only on the seed and the epoch number, so a resumed run sees the same batches.
    Examples of similar length share a batch: each pool of 50 batches is sorted by length, then batches are shuffled.

    Args:
        source: The dataset.
        batch_size: Examples per batch; the last batch may be smaller.
        seed: Seed of the shuffling; ``None`` for the order of the dataset, sorted by length.
        n_batches: Batches per epoch, as :func:`batches_per_epoch` takes it. Without a seed, an epoch is always one
            pass.

    >>> from lstmkit.data.sequence_dataset import Sequences
    >>> loader = Loader(Sequences([np.zeros((3, 2)), np.zeros((5, 2))]), batch_size=2)
    >>> [tuple(batch.inputs.shape) for batch in loader.epoch()]
    [(2, 5, 2)]
    """

    BUCKET_BATCHES = 50

    def __init__(self, source: Source, batch_size: int, seed: int | None = None, n_batches: int = 0) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self._batches_per_pass = -(-len(source) // batch_size)
        self._n_batches = batches_per_epoch(0 if seed is None else n_batches, self._batches_per_pass)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._n_batches

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``."""
        passes = -(-self._n_batches // max(1, self._batches_per_pass))
        batches = (rows for i in range(passes) for rows in self._batches_of_pass(number * passes + i))
        for rows in itertools.islice(batches, self._n_batches):
            yield self.source.batch(rows)

    def _batches_of_pass(self, number: int) -> list[np.ndarray]:
        lengths = self.source.lengths
        if self.seed is None:
            rows = np.arange(len(self.source)) if lengths is None else np.argsort(lengths, kind="stable")
            return _cut(rows, self.batch_size)
        rng = np.random.default_rng((self.seed, number))
        rows = rng.permutation(len(self.source))
        if lengths is None:
            return _cut(rows, self.batch_size)
        pools = _cut(rows, self.batch_size * self.BUCKET_BATCHES)
        batches = [b for pool in pools for b in _cut(pool[np.argsort(lengths[pool], kind="stable")], self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
