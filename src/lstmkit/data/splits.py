"""Sizes of validation and test splits."""

from __future__ import annotations

import math

from lstmkit.errors import DataError


def holdout_sizes(count: int, unit: str, name: str, valid_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Numbers of validation and test examples, each rounded up, so that a fraction above 0 gives at least one.

    Args:
        count: Examples in total.
        unit: Name of one example in messages.
        name: Name of the data in messages.
        valid_fraction, test_fraction: Fractions for validation and test.

    Raises:
        DataError: No example is left for training.

    >>> holdout_sizes(40, "line", "notes.txt", 0.05, 0.1)
    (2, 4)
    """
    valid, test = (math.ceil(fraction * count) for fraction in (valid_fraction, test_fraction))
    if count - test - valid < 1:
        raise DataError(
            f"{name} has {count} {unit}{'s' * (count > 1)}, too few for a training, a validation and a test split: "
            "give more, or valid_fraction=0 and test_fraction=0"
        )
    return valid, test
