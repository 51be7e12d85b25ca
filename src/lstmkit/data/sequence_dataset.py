"""Dataset of encoded sequences, and a stratified split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.data.padding import pad_sequences


class Sequences:
    """Dataset of sequences of ids ``(T,)`` or features ``(T, F)``. Batches are padded with 0.

    Args:
        sequences: The sequences.
        targets: Classes ``(N,)``, label indicators ``(N, C)``, or a list with the targets of each step ``(T,)``, where
            -1 is ignored. ``None`` without targets.

    >>> Sequences([np.array([3, 1]), np.array([2])], np.array([0, 1])).batch(np.array([0, 1])).inputs.tolist()
    [[3, 1], [2, 0]]
    """

    def __init__(
        self, sequences: Sequence[np.ndarray], targets: np.ndarray | Sequence[np.ndarray] | None = None
    ) -> None:
        self.sequences, self.targets = sequences, targets
        self.lengths = np.array([len(sequence) for sequence in sequences])

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, rows: np.ndarray) -> Batch:
        inputs = torch.from_numpy(pad_sequences([self.sequences[row] for row in rows], 0))
        return Batch(inputs, torch.from_numpy(self.lengths[rows]), self._targets(rows), rows=rows)

    def _targets(self, rows: np.ndarray) -> Tensor | None:
        if self.targets is None:
            return None
        if isinstance(self.targets, np.ndarray):
            return torch.from_numpy(self.targets[rows])
        return torch.from_numpy(pad_sequences([self.targets[row] for row in rows], -1))


def stratified_split(
    labels: Sequence[tuple[str, ...]], fractions: Sequence[float], seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random stratified split: indices for training, and for each fraction in ``fractions``.

    Training keeps one example of every label, so a class with a single example is never held out. An example with
    several labels counts for the rarest of them.

    >>> train, (test,) = stratified_split([("a",)] * 8 + [("b",)] * 2, [0.3], seed=0)
    >>> len(train), len(test)
    (7, 3)
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    counts = Counter(label for example_labels in labels for label in example_labels)
    required: set[int] = set()
    covered: set[str] = set()
    for i in shuffled:
        if set(labels[i]) - covered:
            required.add(int(i))
            covered.update(labels[i])
    available = [int(i) for i in shuffled if int(i) not in required]
    available.sort(key=lambda i: min(((counts[label], label) for label in labels[i]), default=(0, "")))
    splits = []
    for fraction in fractions:
        count = min(round(fraction * len(labels)), len(available))
        positions = {int(position) for position in (np.arange(count) + 0.5) * len(available) / max(1, count)}
        splits.append(np.array(sorted(available[position] for position in positions), dtype=int))
        available = [i for position, i in enumerate(available) if position not in positions]
    return np.array(sorted([*required, *available])), splits
