"""Which numbers are Unix times. It needs no pandas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNIX_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  #: Units of Unix times, per second.
_RANGE = 10**8, 4_102_444_800  # seconds since 1970: March 1973 to the year 2100


def unix_unit(numbers: np.ndarray, units: Sequence[str] = tuple(UNIX_UNITS)) -> str | None:
    """The unit of Unix times ``(N,)``, one of ``units``; ``None`` for other numbers.

    >>> unix_unit(np.array([1577836800.0, 1577840400.0])), unix_unit(np.array([20200131.0]))
    ('s', None)
    """
    first, last = _RANGE
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0, 0)
    return next((u for u in units if first * UNIX_UNITS[u] <= low and high <= last * UNIX_UNITS[u]), None)
