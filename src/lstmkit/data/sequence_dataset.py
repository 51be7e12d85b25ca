"""Encoded sequences as a source of batches, and examples cut so that every class is in every part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, beside


class Sequences:
    """Sequences of ids ``(T,)`` or of features ``(T, F)``, as a source of batches.

    Args:
        steps: The sequences.
        targets: Of each its class ``(N,)``, or which labels hold ``(N, C)``; or a list with a target a step, ``(T,)``,
            -1 where none is scored.
    """

    def __init__(self, steps: Sequence[np.ndarray], targets: np.ndarray | Sequence[np.ndarray] | None = None) -> None:
        self.steps, self.targets = steps, targets
        self.lengths = np.array([len(one) for one in steps])

    def __len__(self) -> int:
        return len(self.steps)

    def batch(self, rows: np.ndarray) -> Batch:
        inputs = torch.from_numpy(beside([self.steps[row] for row in rows], 0))
        return Batch(inputs, torch.from_numpy(self.lengths[rows]), self._targets(rows), rows=rows)

    def _targets(self, rows: np.ndarray) -> Tensor | None:
        if self.targets is None:
            return None
        if isinstance(self.targets, np.ndarray):
            return torch.from_numpy(self.targets[rows])
        return torch.from_numpy(beside([self.targets[row] for row in rows], -1))


def stratified_split(
    labels: Sequence[tuple[str, ...]], shares: Sequence[float], seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Indices of what is left for training, and of each part of ``shares``, at random with all classes in proportion.

    The first example of each label is never taken away, so that training sees every label; of a class with a single
    example nothing is held out. An example with several labels counts for the rarest of them.

    >>> train, (test,) = stratified_split([("a",)] * 8 + [("b",)] * 2, [0.3], seed=0)
    >>> len(train), len(test)
    (7, 3)
    """
    mixed = np.random.default_rng(seed).permutation(len(labels))
    counts = Counter(label for of_one in labels for label in of_one)
    kept: set[int] = set()
    seen: set[str] = set()
    for i in mixed:
        if set(labels[i]) - seen:
            kept.add(int(i))
            seen.update(labels[i])
    free = [int(i) for i in mixed if int(i) not in kept]
    free.sort(key=lambda i: min(((counts[label], label) for label in labels[i]), default=(0, "")))
    parts = []
    for share in shares:
        count = min(round(share * len(labels)), len(free))
        places = {int(k) for k in (np.arange(count) + 0.5) * len(free) / max(1, count)}
        parts.append(np.array(sorted(free[k] for k in places), dtype=int))
        free = [i for k, i in enumerate(free) if k not in places]
    return np.array(sorted([*kept, *free])), parts
