"""What particle filters of tensors and of arrays share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RESAMPLE_BELOW = 0.5  #: Effective sample size, as a fraction of the particles, below which they are resampled.


def trace_back(parents: Sequence[Any], row: int) -> list[int]:
    """Follow a particle of the last step back to the first.

    Args:
        parents: For each step ``(N,)`` rows: the particles that the next step continues. Those of the last step are not
            read.
        row: The particle of the last step.

    Returns:
        Its row at each step.

    >>> trace_back([[1, 1], [0, 1]], row=0)
    [1, 0]
    """
    path = [row]
    for rows in reversed(parents[:-1]):
        path.append(int(rows[path[-1]]))
    return path[::-1]
