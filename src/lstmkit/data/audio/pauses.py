"""Long recordings in segments, cut at pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

_PAUSE_SECONDS = 0.2  # window whose loudness is compared
_SEARCH_FRACTION = 3  # a recording is cut in the last third of a segment


def split_at_pauses(
    blocks: Iterable[np.ndarray], sample_rate: int, max_seconds: float
) -> Iterator[tuple[float, np.ndarray]]:
    """Segments of a recording, cut at the quietest fifth of a second in the last third of ``max_seconds``.

    Args:
        blocks: Its samples, ``(N,)`` each.
        sample_rate: Hz.
        max_seconds: Longest segment.

    Yields:
        Start of the segment in seconds, and its samples.
    """
    max_samples, start = max(1, round(max_seconds * sample_rate)), 0
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) > max_samples:
            cut = _quietest_cut(rest[:max_samples], max(1, round(_PAUSE_SECONDS * sample_rate)))
            yield start / sample_rate, rest[:cut]
            start, rest = start + cut, rest[cut:]
    if len(rest):
        yield start / sample_rate, rest


def _quietest_cut(samples: np.ndarray, window: int) -> int:
    """Where to cut: the middle of the quietest window in the last third."""
    first = len(samples) - max(1, len(samples) // _SEARCH_FRACTION)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples[first:], dtype=np.float64))])
    if len(power) <= window:
        return len(samples)
    return first + int(np.argmin(power[window:] - power[:-window])) + max(1, window // 2)
