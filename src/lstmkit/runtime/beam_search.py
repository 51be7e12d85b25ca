"""Beam search with numpy; :mod:`lstmkit.decoding.generation` has that of torch, with the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lstmkit.decoding.hypotheses import Hypothesis, backtrack
from lstmkit.runtime.arithmetic import log_softmax
from lstmkit.runtime.graph import take_rows

States = Sequence[np.ndarray]  #: Arrays with the batch first.
Step = Callable[[np.ndarray, States], tuple[np.ndarray, States]]


def beam_search(
    step: Step,
    first: np.ndarray,
    states: States,
    width: int,
    max_steps: np.ndarray,
    *,
    end: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """The most probable sequences of each example, as :func:`lstmkit.decoding.generation.beam_search` finds them.

    Args:
        step: ``step(ids (N,), states) -> (logits (N, V), states)`` for ``N = B · width`` rows, grouped by example. A
            state that it returns as it got it is one that no step changes.
        first: ``(B,)`` ids of the token before the first.
        states: States of the model, for ``B`` rows.
        width: Beam width; 1 is greedy search.
        max_steps: ``(B,)`` maximum number of tokens, end token included.
        end: Id of the end token.
        length_penalty: At least 0; 0 ranks by probability alone.
        n_best: Hypotheses to return per example, at most ``width``.

    Returns:
        The hypotheses of each example, best first.

    >>> step = lambda ids, states: (np.log([[0.2, 0.8]]), states)
    >>> beam_search(step, np.array([0]), [], 1, np.array([3]), end=0)[0][0].ids
    (1, 1, 1)
    """
    batch = len(first)
    first_rows = np.arange(batch)[:, None] * width
    states = take_rows(states, np.repeat(np.arange(batch), width))
    ids = np.repeat(first, width)
    alive = np.full((batch, width), -np.inf, dtype=np.float32)
    alive[:, 0] = 0.0  # all rows of an example start equal: one of them is enough
    nothing, zeros = np.full_like(alive, -np.inf), np.zeros((batch, width), dtype=np.int64)
    done = [nothing, nothing, zeros, zeros, zeros]
    tokens: list[np.ndarray] = []
    parents: list[np.ndarray] = []
    for t in range(int(max_steps.max(initial=0))):
        logits, after = step(ids, states)
        log_p = _continued(alive.ravel(), logits).reshape(batch, -1)
        # Twice the width: at most one continuation of each hypothesis is the end token, so enough others remain.
        order = _largest(log_p, 1 if width == 1 else min(2 * width, log_p.shape[1]))
        values = np.take_along_axis(log_p, order, 1)
        parent, token = np.divmod(order, logits.shape[1])
        finished = (token == end) | (max_steps[:, None] == t + 1)
        # A finished hypothesis only counts if it is among the best ``width``.
        done = _with_more(done, np.where(finished, values, -np.inf)[:, :width], t, parent, token, length_penalty)
        values = np.where(finished, -np.inf, values)
        kept = _largest(values, width)
        alive, parent, token = (np.take_along_axis(array, kept, 1) for array in (values, parent, token))
        parents.append(parent)
        tokens.append(token)
        over = alive[:, 0] / _length_norm(max_steps, length_penalty) <= done[0][:, n_best - 1]
        if over.all():
            break
        alive = np.where(over[:, None], -np.inf, alive)
        ids, rows = token.ravel(), (first_rows + parent).ravel()
        # A state that no step changes, such as the encoded input, is the same for all rows of an example.
        states = [new if new is old else new[rows] for old, new in zip(states, after, strict=True)]
    return backtrack(done, tokens, parents, end, n_best)


def block_repeated_ngrams(step: Step, n: int) -> Step:
    """Wrap a step so that no n-gram occurs twice.

    The ids so far, ``(N, t)``, come before the states of ``step``; at first they are ``(N, 0)``.
    """

    def blocking_step(ids: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        previous, *states = states
        logits, states = step(ids, states)
        ids = np.concatenate([previous, ids[:, None]], 1)
        if ids.shape[1] >= n:
            ngrams = sliding_window_view(ids, n, axis=1)  # (N, t - n + 1, n)
            same_prefix = (ngrams[..., :-1] == ids[:, None, ids.shape[1] - n + 1 :]).all(-1)
            rows, places = same_prefix.nonzero()
            logits[rows, ngrams[rows, places, -1]] = -np.inf
        return logits, [ids, *states]

    return blocking_step


def _continued(alive: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Log-probabilities ``(N, V)`` of hypotheses ``(N,)`` with each token; those of probability 0 stay so."""
    log_p = np.full(logits.shape, -np.inf, dtype=np.float32)
    rows = alive > -np.inf
    log_p[rows] = alive[rows, None] + log_softmax(logits[rows])
    return log_p


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices ``(B, count)`` of the largest of ``values (B, N)``, the largest first."""
    indices = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, indices, 1), axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1)


def _with_more(
    done: list[np.ndarray], log_p: np.ndarray, step: int, parent: np.ndarray, token: np.ndarray, penalty: float
) -> list[np.ndarray]:
    """The best of the finished hypotheses and of those that finish at ``step``.

    Args:
        done: Score, log-probability, last step, parent row and last token, each ``(B, width)``.
        log_p: ``(B, width)``, minus infinity for unfinished ones.
        step: The step, from 0.
        parent, token: ``(B, width or more)``.
        penalty: Length penalty.
    """
    count = log_p.shape[1]
    more: list[Any] = [log_p / _length_norm(step + 1, penalty), log_p, np.full(log_p.shape, step)]
    merged = [np.concatenate(pair, 1) for pair in zip(done, [*more, parent[:, :count], token[:, :count]], strict=True)]
    kept = _largest(merged[0], done[0].shape[1])
    return [np.take_along_axis(field, kept, 1) for field in merged]


def _length_norm(lengths: Any, penalty: float) -> Any:
    return ((5 + lengths) / 6) ** penalty
