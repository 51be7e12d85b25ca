"""A long text as one stream of tokens on disk, and the windows in which truncated back-propagation reads it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch

from lstmkit.data.batch import Batch
from lstmkit.data.text.lines import Text
from lstmkit.data.text.tokenizer import Tokenizer
from lstmkit.progress import Progress

_PROGRESS_INTERVAL = 1000  # lines
_TOKENS_PER_CHUNK = 100_000  # tokens


def token_stream(text: Text, tokenizer: Tokenizer, progress: Progress | None = None) -> np.ndarray:
    """All tokens of a text, line after line, as an array that lies in a file and is read from there as needed.

    The file is a temporary one without a name and goes with the array.
    """
    dtype, count = np.uint16 if len(tokenizer) <= 2**16 else np.uint32, 0
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        with (progress or Progress()).task(f"reading {text.name}", len(text)) as task:
            for done, ids in enumerate(tokenizer.encode(text, ended=True)):
                np.array(ids, dtype).tofile(file)
                count += len(ids)
                if done % _PROGRESS_INTERVAL == 0:
                    task.update(done)
        file.flush()
        return np.memmap(file, dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)


def token_counts(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    """``(V,)``: how often each token occurs in a stream, of which some is read at a time."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(ids), _TOKENS_PER_CHUNK):
        counts += np.bincount(ids[start : start + _TOKENS_PER_CHUNK], minlength=vocabulary)
    return counts


class TokenStreamLoader:
    """Windows of a stream that is cut into rows side by side: each batch goes on where the one before ended.

    Args:
        ids: The stream, ``(N,)``.
        batch_size: Rows.
        window: Steps of a batch.
        seed: Of where each epoch's first window ends, so that the cuts fall elsewhere in every epoch, and some
            tokens at the rows' ends are left out; ``None`` for all of the stream, cut always alike.
        n_batches: Batches in an epoch; the next epoch goes on from there, without the state. 0 for the whole stream.
    """

    def __init__(
        self, ids: np.ndarray, batch_size: int, window: int, seed: int | None = None, n_batches: int = 0
    ) -> None:
        self.ids, self.window, self.seed = ids, window, seed
        self.rows = max(1, min(batch_size, (len(ids) - 1) // 2))
        self.steps = max(0, (len(ids) - 1) // self.rows)  # of a row
        shifted = seed is not None and self.steps > window
        self._windows = 1 + (self.steps - window) // window if shifted else -(-self.steps // window)
        self._count = min(n_batches, self._windows) if n_batches and seed is not None else self._windows

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._count

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``: ids ``(B, window)`` and as targets the ids that follow them."""
        passes, first = divmod(number * self._count, max(1, self._windows))
        ends = self._ends(passes)
        for i in range(self._count):
            at = (first + i) % self._windows
            if i and not at:
                ends = self._ends(passes + 1)
            start, end = ends[at], ends[at + 1]
            rows = np.arange(self.rows) * self.steps
            read = np.stack([self.ids[row + start : row + end + 1] for row in rows]).astype(np.int64)
            ids = torch.from_numpy(read)
            yield Batch(ids[:, :-1], targets=ids[:, 1:], continues=i > 0 and at > 0)

    def _ends(self, number: int) -> list[int]:
        """Where the windows of the pass begin and end."""
        first = self.window
        if self.seed is not None and self._windows > 1:
            first = int(np.random.default_rng((self.seed, number)).integers(1, self.window, endpoint=True))
        return [0, *(min(first + i * self.window, self.steps) for i in range(self._windows))]
