"""A text as one token stream on disk, and windows of it for truncated back-propagation through time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch

from lstmkit.data.batch import Batch, batches_per_epoch
from lstmkit.data.text.lines import Text
from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.progress import Progress

_PROGRESS_INTERVAL = 1000  # lines
_TOKENS_PER_CHUNK = 100_000  # tokens


def token_stream(text: Text, tokenizer: Tokenizer, progress: Progress | None = None) -> np.ndarray:
    """All tokens of a text ``(N,)``, memory-mapped from a temporary file. The file is deleted with the array."""
    dtype, count = np.uint16 if len(tokenizer) <= 2**16 else np.uint32, 0
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        with (progress or Progress()).task(f"reading {text.name}", len(text)) as task:
            for done, ids in enumerate(tokenizer.encode(text, add_line_end=True)):
                np.array(ids, dtype).tofile(file)
                count += len(ids)
                if done % _PROGRESS_INTERVAL == 0:
                    task.update(done)
        file.flush()
        return np.memmap(file, dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)


def token_counts(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count each token of a stream: ``(V,)``. The stream is read in chunks."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), _TOKENS_PER_CHUNK):
        counts += np.bincount(ids[start : start + _TOKENS_PER_CHUNK], minlength=vocab_size)
    return counts


class TokenStreamLoader:
    """Batches of consecutive windows of a token stream; each batch continues the previous one.

    The stream is split into ``batch_size`` rows of equal length.

    Args:
        ids: The stream, ``(N,)``.
        batch_size: Rows per batch.
        window: Steps per batch.
        seed: Seed of the random length of each epoch's first window, which shifts the window bounds every epoch and
            drops some tokens at the end of the rows. ``None`` for all tokens and the same windows in every epoch.
        n_batches: Batches per epoch, as :func:`~lstmkit.data.batch.batches_per_epoch` takes it; the next epoch starts
            where it ended, with a new state. Without a seed, an epoch is always the whole stream.

    >>> [batch.inputs.tolist() for batch in TokenStreamLoader(np.arange(7), batch_size=2, window=2).epoch()]
    [[[0, 1], [3, 4]], [[2], [5]]]
    """

    def __init__(
        self, ids: np.ndarray, batch_size: int, window: int, seed: int | None = None, n_batches: int = 0
    ) -> None:
        self.ids, self.window, self.seed = ids, window, seed
        self.rows = max(1, min(batch_size, (len(ids) - 1) // 2))
        self.steps = max(0, (len(ids) - 1) // self.rows)  # per row
        shifted = seed is not None and self.steps > window
        self._windows = 1 + (self.steps - window) // window if shifted else -(-self.steps // window)
        self._count = batches_per_epoch(0 if seed is None else n_batches, self._windows)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._count

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """Batches of epoch ``number``: ids ``(B, window)``, and the next id at each step as targets."""
        passes, offset = divmod(number * self._count, max(1, self._windows))
        ends = self._ends(passes)
        for i in range(self._count):
            position = (offset + i) % self._windows
            if i and not position:
                passes += 1
                ends = self._ends(passes)
            start, end = ends[position], ends[position + 1]
            rows = np.arange(self.rows) * self.steps
            chunk = np.stack([self.ids[row + start : row + end + 1] for row in rows]).astype(np.int64)
            ids = torch.from_numpy(chunk)
            yield Batch(ids[:, :-1], targets=ids[:, 1:], continues=i > 0 and position > 0)

    def _ends(self, number: int) -> list[int]:
        """Bounds of the windows of pass ``number``."""
        first = self.window
        if self.seed is not None and self._windows > 1:
            first = int(np.random.default_rng((self.seed, number)).integers(1, self.window, endpoint=True))
        return [0, *(min(first + i * self.window, self.steps) for i in range(self._windows))]
