"""What a model is given, and how examples become mini-batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Examples side by side. Nothing is packed: lengths go down to the kernels.

    Attributes:
        inputs: ``(B, T, F)`` values, or ``(B, T)`` ids.
        lengths: ``(B,)`` steps of each example; ``None`` where all have ``T``.
        targets: What the head is to answer; NaN in real-valued targets means "not known, not scored".
        target_lengths: ``(B,)``, or ``None``.
        rows: ``(B,)`` indices of the examples in their source.
        continues: Whether row ``b`` goes on where row ``b`` of the batch before ended; the trainer then carries the
            state (truncated back-propagation).
        extras: Further tensors that a job's head or decoder reads, by name; first dimension ``B``.
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
        """The same batch with every tensor on ``device``."""
        moved = {f.name: t.to(device) for f in fields(self) if isinstance(t := getattr(self, f.name), Tensor)}
        return replace(self, **moved, extras={name: t.to(device) for name, t in self.extras.items()})


def beside(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Arrays that differ in length only, as one: ``(B, longest, …)``, filled up at their ends; of numbers ``(B,)``.

    >>> beside([np.array([1, 2]), np.array([3])], fill=-1).tolist()
    [[1, 2], [3, -1]]
    """
    if arrays[0].ndim == 0:
        return np.stack(arrays)
    whole = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole


class Source(Protocol):
    """Examples that can be put into a batch by index."""

    @property
    def lengths(self) -> np.ndarray | None:
        """``(N,)`` steps of each example, or ``None`` where all are as long."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: np.ndarray) -> Batch:
        """The examples ``rows`` side by side."""
        ...


class Batches(Protocol):
    """Mini-batches, epoch by epoch."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``: always the same ones."""
        ...


class Loader:
    """Mini-batches of a source, epoch by epoch.

    An epoch's order follows from the seed and its number alone, so that a resumed run sees what it would have seen.
    Examples of like length share a batch: within windows of 50 batches they are sorted, then the batches are mixed.

    Args:
        source: The examples.
        batch_size: Examples in a batch; the last may have fewer.
        seed: Of the order; ``None`` for the order of the source, sorted by length.
        n_batches: Batches in an epoch: examples are drawn anew as often as it takes, or not all of them. 0 for one
            pass. Without a seed it is always one pass; of no examples there are none.
    """

    BUCKET_BATCHES = 50

    def __init__(self, source: Source, batch_size: int, seed: int | None = None, n_batches: int = 0) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self._batches_per_pass = -(-len(source) // batch_size)
        self._n_batches = n_batches if n_batches and seed is not None and len(source) else self._batches_per_pass

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._n_batches

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``."""
        passes = -(-self._n_batches // max(1, self._batches_per_pass))
        batches = (rows for i in range(passes) for rows in self._one_order(number * passes + i))
        for rows in itertools.islice(batches, self._n_batches):
            yield self.source.batch(rows)

    def _one_order(self, number: int) -> list[np.ndarray]:
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
