"""Tokens drawn from logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmkit.runtime.arithmetic import log_softmax, softmax


def filter_logits(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Logits ``(V,)`` at a temperature; minus infinity for tokens that top-k or top-p excludes.

    >>> filter_logits(np.array([3.0, 2.0, 1.0]), temperature=0.5, top_k=2, top_p=1.0).tolist()
    [6.0, 4.0, -inf]
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    logits = logits / temperature
    order = np.argsort(-logits, kind="stable")
    if 0 < top_k < len(logits):
        logits[order[top_k:]] = -np.inf
    if top_p < 1:
        p = softmax(logits[order])
        logits[order[np.cumsum(p) - p >= top_p]] = -np.inf
    return logits


def sample_tokens(
    step: Callable[[int, Any], tuple[np.ndarray, Any]],
    logits: np.ndarray,
    state: Any,
    max_tokens: int,
    choose: Callable[[np.ndarray], int],
    stop: Callable[[list[int]], bool] | None = None,
) -> tuple[list[int], list[float]]:
    """Sample tokens one by one; each is the input of the next step.

    Args:
        step: ``step(id, state) -> (logits (V,), state)``.
        logits: ``(V,)`` of the first token.
        state: State after what comes before it.
        max_tokens: Maximum number of tokens.
        choose: Draws an id from logits ``(V,)``.
        stop: Called with the ids so far; sampling ends if it returns true.

    Returns:
        The ids, and the surprisal of each in nats.
    """
    ids: list[int] = []
    surprisal: list[float] = []
    for i in range(max_tokens):
        if i:
            logits, state = step(ids[-1], state)
        ids.append(choose(logits))
        surprisal.append(float(-log_softmax(logits)[ids[-1]]))
        if stop is not None and stop(ids):
            break
    return ids, surprisal


def draw(logits: np.ndarray, rng: np.random.Generator) -> int:
    """An id drawn from logits ``(V,)``."""
    totals = np.cumsum(softmax(logits.astype(np.float64)))
    return int(np.searchsorted(totals, rng.random() * totals[-1], side="right"))
