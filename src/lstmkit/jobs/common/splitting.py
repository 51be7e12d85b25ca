"""Random splits, and the examples for a look inside: shared by several jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.splits import holdout_sizes
from lstmkit.errors import DataError
from lstmkit.jobs.base import DataSplit
from lstmkit.look.traces import Answer
from lstmkit.models.base import Model

_MAX_INSPECTED = 16  # examples


def random_split(
    examples: Any, validation: Any | None, unit: str, valid_fraction: float, test_fraction: float, seed: int
) -> DataSplit:
    """Random training, validation and test splits; each keeps the order of the examples.

    Args:
        examples: The data; ``subset(rows)`` selects examples.
        validation: Data for validation; ``None`` to hold out a fraction.
        unit: What messages call an example: ``"sentence"``.
        valid_fraction: Validation fraction, if ``validation`` is ``None``.
        test_fraction: Test fraction.
        seed: Random seed.

    Raises:
        DataError: There are too few examples to train on.
    """
    rows = np.random.default_rng(seed).permutation(len(examples))
    num_valid, num_test = holdout_sizes(
        len(rows), unit, examples.name, valid_fraction if validation is None else 0.0, test_fraction
    )
    valid = examples.subset(np.sort(rows[num_test : num_test + num_valid])) if num_valid else validation
    test = examples.subset(np.sort(rows[:num_test])) if num_test else None
    return DataSplit(examples.subset(np.sort(rows[num_test + num_valid :])), valid, test)


def inspection_rows(number: int, examples: Any, unit: str) -> list[int]:
    """Rows of at most 16 examples for a look inside, example ``number`` (1 = the first) first.

    Raises:
        DataError: There is no such example.
    """
    if not 1 <= number <= len(examples):
        raise DataError(f"there is no {unit} {number}: {examples.name} has 1 to {len(examples)}")
    return [number - 1, *(i for i in range(len(examples)) if i != number - 1)][:_MAX_INSPECTED]


def most_likely_class(network: Model, inputs: Tensor, step: int, classes: Sequence[str]) -> tuple[str, Answer]:
    """The most likely class at one step, and a function from the network's output to its logit.

    Args:
        network: Its first outputs are the logits of the classes.
        inputs: One example ``(1, T, …)``.
        step: From 0; -1 = the last.
        classes: Names of the classes.
    """
    with torch.no_grad():
        best = int(network.eval()(inputs)[0][0, step, : len(classes)].argmax())
    return classes[best], lambda output: output[0, step, best]


looked_at = inspection_rows  # the name that jobs outside this folder still use
