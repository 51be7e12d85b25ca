"""How much of the data is held back."""

from __future__ import annotations

import math

from lstmkit.errors import DataError


def holdout_sizes(count: int, unit: str, name: str, valid_share: float, test_share: float) -> tuple[int, int]:
    """How many of ``count`` examples are for validation and for the test; a share above 0 is at least one.

    Raises:
        DataError: Nothing would be left to train on.

    >>> holdout_sizes(40, "line", "notes.txt", 0.05, 0.1)
    (2, 4)
    """
    valid, test = (math.ceil(share * count) for share in (valid_share, test_share))
    if count - test - valid < 1:
        raise DataError(
            f"{name} has {count} {unit}{'s' * (count > 1)}, too few to hold some back for validation and test: give "
            "more, or --valid-share 0 --test-share 0"
        )
    return valid, test
