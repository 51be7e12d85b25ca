"""What jobs share that answer at every step: how examples are cut at random, and which are looked at."""

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

_LOOKED_AT = 16  # examples


def random_split(
    examples: Any, validation: Any | None, unit: str, valid_share: float, test_share: float, seed: int
) -> DataSplit:
    """Training, validation (where none is given) and test, at random by the seed, each in the order of the examples.

    Raises:
        DataError: Nothing would be left to train on.
    """
    rows = np.random.default_rng(seed).permutation(len(examples))
    valid, test = holdout_sizes(len(rows), unit, examples.name, valid_share if validation is None else 0.0, test_share)
    held_out = examples.part(np.sort(rows[test : test + valid])) if valid else validation
    tested = examples.part(np.sort(rows[:test])) if test else None
    return DataSplit(examples.part(np.sort(rows[test + valid :])), held_out, tested)


def looked_at(number: int, examples: Any, unit: str) -> list[int]:
    """Rows to look at, that of ``number`` (from 1) first.

    Raises:
        DataError: There is no such one.
    """
    if not 1 <= number <= len(examples):
        raise DataError(f"there is no {unit} {number}: {examples.name} has 1 to {len(examples)}")
    return [number - 1, *(i for i in range(len(examples)) if i != number - 1)][:_LOOKED_AT]


def most_likely_class(network: Model, inputs: Tensor, step: int, classes: Sequence[str]) -> tuple[str, Answer]:
    """The likeliest class at a step of one example ``(1, T, …)``, and its logit as a number of the network's output.

    Args:
        network: Of its outputs the first are the classes'.
        inputs: The example.
        step: From 0; -1 for the last.
        classes: Their names.
    """
    with torch.no_grad():
        best = int(network.eval()(inputs)[0][0, step, : len(classes)].argmax())
    return classes[best], lambda output: output[0, step, best]
