"""Mini-batches of long sequences in chunks, for truncated back-propagation with carried state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from lstmkit.data.batch import Batch, batches_per_epoch

_MAX_RATIO = 2  # of the longest to the shortest sequence that are read together, if order does not matter


class SequenceChunks:
    """Batches of sequences that are read chunk by chunk: row ``b`` of a batch continues row ``b`` of the one before.

    With a seed, sequences are shuffled. One longer than ``segment_steps`` is cut into segments, at other places in
    each pass, and a segment starts without a state. Without a seed, every sequence is whole and read once.

    Args:
        inputs: Features ``(T, F)`` of each sequence, float32.
        targets: ``(T, K)`` of each sequence, NaN where unknown; ``None`` without targets.
        batch_size: Sequences, or segments, that are read together.
        chunk_steps: Steps of a batch.
        segment_steps: Longest segment.
        burn_in: Steps at the start of a segment whose targets are left out.
        extras: Values ``(N, …)`` per sequence for the head, by name.
        seed: Seed of the order; ``None`` for whole sequences in the order of their length.
        n_batches: Batches per epoch, as :func:`lstmkit.data.batch.batches_per_epoch` takes it; one pass without a seed.

    >>> chunks = SequenceChunks([np.zeros((5, 2), np.float32)], [np.zeros((5, 1))], batch_size=1, chunk_steps=3)
    >>> [(tuple(batch.inputs.shape), batch.lengths.tolist(), batch.continues) for batch in chunks.epoch()]
    [((1, 3, 2), [3], False), ((1, 2, 2), [2], True)]
    """

    def __init__(
        self,
        inputs: Sequence[np.ndarray],
        targets: Sequence[np.ndarray] | None = None,
        *,
        batch_size: int,
        chunk_steps: int,
        segment_steps: int = 0,
        burn_in: int = 0,
        extras: Mapping[str, np.ndarray] | None = None,
        seed: int | None = None,
        n_batches: int = 0,
    ) -> None:
        self.inputs, self.targets, self.extras = inputs, targets, dict(extras or {})
        self.batch_size, self.chunk_steps, self.burn_in, self.seed = batch_size, chunk_steps, burn_in, seed
        lengths = np.array([len(sequence) for sequence in inputs], dtype=np.int64)
        self._lengths, self._segment_steps = lengths, segment_steps or int(lengths.max(initial=1))
        one_pass = sum(self._batches_of(group) for group in self._groups(0))
        self._n_batches = batches_per_epoch(0 if seed is None else n_batches, one_pass)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._n_batches

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``; the same number gives the same batches."""
        passes = itertools.count() if self._n_batches else ()
        groups = (group for i in passes for group in self._groups(number * self._n_batches + i))
        return itertools.islice((batch for group in groups for batch in self._chunks(group)), self._n_batches)

    def _batches_of(self, group: np.ndarray) -> int:
        """Batches in which a group of segments is read."""
        return -(-int((group[:, 2] - group[:, 1]).max()) // self.chunk_steps)

    def _groups(self, number: int) -> list[np.ndarray]:
        """Segments that are read together, ``(B, 3)`` each: sequence, first step and end."""
        if self.seed is None:
            return self._groups_of_similar_length()
        rng = np.random.default_rng((self.seed, number))
        segments = np.array([part for row in range(len(self.inputs)) for part in self._segments(row, rng)])
        segments = segments[rng.permutation(len(segments))]
        chunks = -(-(segments[:, 2] - segments[:, 1]) // self.chunk_steps)
        segments = segments[np.argsort(chunks, kind="stable")]
        groups = [segments[i : i + self.batch_size] for i in range(0, len(segments), self.batch_size)]
        return [groups[i] for i in rng.permutation(len(groups))]

    def _segments(self, row: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        """A sequence cut at a random place and then every ``segment_steps``."""
        length, size = int(self._lengths[row]), self._segment_steps
        if length <= size:
            return [(row, 0, length)]
        cuts = [0, *range(int(rng.integers(1, size + 1)), length, size), length]
        return [(row, start, end) for start, end in itertools.pairwise(cuts)]

    def _groups_of_similar_length(self) -> list[np.ndarray]:
        groups: list[list[int]] = []
        for row in np.argsort(self._lengths, kind="stable").tolist():
            if (
                not groups
                or len(groups[-1]) == self.batch_size
                or self._lengths[row] > _MAX_RATIO * self._lengths[groups[-1][0]] + self.chunk_steps
            ):
                groups.append([])
            groups[-1].append(row)
        return [np.array([(row, 0, self._lengths[row]) for row in group]) for group in groups]

    def _chunks(self, group: np.ndarray) -> Iterator[Batch]:
        rows, starts, ends = group.T
        for start in range(0, int((ends - starts).max()), self.chunk_steps):
            lengths = np.clip(ends - starts - start, 0, self.chunk_steps)
            places = [(int(row), int(a) + start, int(n)) for row, a, n in zip(rows, starts, lengths, strict=True)]
            yield Batch(
                _padded(self.inputs, places, int(lengths.max()), 0.0),
                torch.from_numpy(lengths),
                None if self.targets is None else self._targets(places, start),
                rows=rows,
                continues=start > 0,
                extras={name: torch.from_numpy(values[rows]) for name, values in self.extras.items()},
            )

    def _targets(self, places: Sequence[tuple[int, int, int]], start: int) -> torch.Tensor:
        assert self.targets is not None
        targets = _padded(self.targets, places, max(n for _, _, n in places), np.nan)
        targets[:, : max(0, self.burn_in - start)] = np.nan
        return targets


def _padded(
    sequences: Sequence[np.ndarray], places: Sequence[tuple[int, int, int]], steps: int, fill: float
) -> torch.Tensor:
    """Steps of several sequences, ``(B, steps, F)``. ``places`` are sequence, first step and number of steps."""
    padded = np.full((len(places), steps, sequences[0].shape[1]), fill, dtype=np.float32)
    for b, (row, start, count) in enumerate(places):
        padded[b, :count] = sequences[row][start : start + count]
    return torch.from_numpy(padded)
