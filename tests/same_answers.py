"""Comparison of the answers of exported jobs with those of the jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
#: Values of records that are rounded to four digits: a difference in the seventh may be one in the fourth.
ROUNDED = ("attention", "generation_probabilities")


def assert_same(got: Any, expected: Any, where: str = "answer", close: dict[str, float] = CLOSE) -> None:
    """Equal but for rounding of floating-point numbers."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(got[key], value, f"{where}[{key!r}]", {"atol": 1.01e-4} if key in ROUNDED else close)
    elif isinstance(expected, (list, tuple, np.ndarray)):
        assert len(got) == len(expected), where
        for k, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{k}]", close)
    elif isinstance(expected, (float, np.floating)):
        np.testing.assert_allclose(got, expected, **close, err_msg=where)
    else:
        assert got == expected, where


def without_ties(got: list[Any], expected: list[Any]) -> tuple[list[Any], list[Any]]:
    """Answers but for those with other words of the same score: rounding decides between them. They are few."""
    pairs = list(zip(got, expected, strict=True))
    tied = [
        a != b and "score" in b and abs(a["score"] - b["score"]) < 1e-5 and _texts(a) != _texts(b) for a, b in pairs
    ]
    assert sum(tied) <= 0.1 * len(tied)
    kept = [pair for pair, is_tied in zip(pairs, tied, strict=True) if not is_tied]
    return [a for a, _ in kept], [b for _, b in kept]


def _texts(answer: dict[str, Any]) -> list[str]:
    return [value for value in answer.values() if isinstance(value, str)]


def torch_noise(seed: int) -> Callable[[], np.ndarray]:
    """The random numbers with which the handwriting synthesizer makes the points of a drawing."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.rand(5, generator=generator).numpy()
