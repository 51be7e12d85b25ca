"""Beam search: sure models, the stop rule, and the best sequences, compared with searches that never stop early."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lstmkit.decoding.generation import beam_search, block_repeated_ngrams
from lstmkit.runtime import beam_search as runtime

END = 0
FIRST = torch.tensor([END])
Scored = list[tuple[float, tuple[int, ...]]]


START = torch.tensor([0])  # the state: how many tokens there are


def _step(logits: Tensor) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """A step with ``logits (T, V, V)`` of each position and token before; the end token is before the first."""
    return lambda ids, count: (logits[count, ids], count + 1)


def _score(log_p: Tensor, ids: tuple[int, ...], limit: int, penalty: float) -> float:
    """The documented score, with the end token unless the limit is reached."""
    tokens = ids if len(ids) == limit else (*ids, END)
    total = sum(
        float(log_p[t, before, token]) for t, (before, token) in enumerate(zip((END, *tokens), tokens, strict=False))
    )
    return total / ((5 + len(tokens)) / 6) ** penalty


def _never_stopping(log_p: Tensor, width: int, limit: int, penalty: float) -> Scored:
    """All finished hypotheses of a beam that goes on to the limit, best first."""
    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    done: Scored = []
    for count in range(1, limit + 1):
        ranked = sorted(
            (
                (total + float(log_p[count - 1, (END, *ids)[-1], token]), (*ids, token))
                for total, ids in beam
                for token in range(log_p.shape[-1])
            ),
            reverse=True,
        )
        for _, ids in ranked[:width]:
            if ids[-1] == END or count == limit:
                text = ids[:-1] if ids[-1] == END else ids
                done.append((_score(log_p, text, limit, penalty), text))
        live = ranked[:1] if width == 1 else ranked
        beam = [(total, ids) for total, ids in live if ids[-1] != END][:width]
    return sorted(done, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", range(1, 13))
def test_a_sure_model_gives_its_text_at_any_width(width: int, penalty: float):
    """An improbable end token is among the best of each step; it must not end the search."""
    text = tuple(range(1, 16))
    table = torch.zeros(16, 16)
    for before, token in zip((END, *text), (*text, END), strict=True):
        table[before, token] = 12.0
    (best, *_), *_ = beam_search(
        _step(table.expand(30, -1, -1)), FIRST, START, width, 30, end=END, length_penalty=penalty
    )
    assert best.ids == text
    assert best.score > -0.01


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_search_stops_only_if_nothing_better_can_come(width: int, penalty: float):
    """Random models, sure and unsure: the n-best list is that of a beam that goes on to the limit."""
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(7, 5, 5, generator=generator) * (1 + seed % 4)
        n_best = min(width, 1 + seed % 3)
        (found,) = beam_search(_step(table), FIRST, START, width, 7, end=END, length_penalty=penalty, n_best=n_best)
        expected = _never_stopping(table.log_softmax(-1), width, 7, penalty)[:n_best]
        assert [hypothesis.ids for hypothesis in found] == [ids for _, ids in expected]
        assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected], rel=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 3.0])
def test_a_wide_beam_is_exhaustive(penalty: float):
    """The best of all sequences of at most five tokens under the documented score."""
    limit, tokens = 5, range(1, 4)
    for seed in range(5):
        table = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(seed)) * 3
        log_p = table.log_softmax(-1)
        texts = [ids for count in range(limit + 1) for ids in product(tokens, repeat=count)]
        best = max(texts, key=lambda ids: _score(log_p, ids, limit, penalty))
        ((hypothesis,),) = beam_search(_step(table), FIRST, START, 81, limit, end=END, length_penalty=penalty)
        assert hypothesis.ids == best


def test_a_negative_length_penalty_is_refused():
    with pytest.raises(ValueError, match="length_penalty must be at least 0, got -1"):
        beam_search(_step(torch.zeros(3, 2, 2)), FIRST, START, 2, 3, end=END, length_penalty=-1.0)


@pytest.mark.parametrize("ngram_size", [0, 1, 2, 3])
def test_numpy_finds_what_torch_finds(ngram_size: int):
    """Random models, several examples with limits of their own, each width, penalty and number of results."""
    for seed in range(40):
        rng = np.random.default_rng((ngram_size, seed))
        batch, tokens, width = (int(rng.integers(*limits)) for limits in ((1, 4), (2, 9), (1, 7)))
        logits = (rng.normal(size=(batch, 9, tokens, tokens)) * (1 + seed % 3)).astype(np.float32)
        first, limits = rng.integers(1, tokens, batch), rng.integers(1, 10, batch)
        options = {"end": END, "length_penalty": float(rng.choice([0.0, 0.6, 2.0])), "n_best": 1 + seed % width}

        def step(ids: Any, state: Any, logits: np.ndarray = logits) -> tuple[np.ndarray, list[np.ndarray]]:
            example, count = (np.asarray(part) for part in state)
            return logits[example, count, np.asarray(ids)], [example, count + 1]

        def torch_step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
            logits, state = step(ids, state)
            return torch.from_numpy(logits), tuple(torch.from_numpy(part) for part in state)

        rows, zeros = np.arange(batch), np.zeros(batch, dtype=np.int64)
        arrays, tensors = [rows, zeros], (torch.from_numpy(rows), torch.from_numpy(zeros))
        steps = step, torch_step
        if ngram_size:
            steps = runtime.block_repeated_ngrams(step, ngram_size), block_repeated_ngrams(torch_step, ngram_size)
            arrays = [np.zeros((batch, 0), dtype=np.int64), *arrays]
            tensors = (tensors, torch.zeros(batch, 0, dtype=torch.int64))
        found = runtime.beam_search(steps[0], first, arrays, width, limits, **options)
        expected = beam_search(steps[1], torch.from_numpy(first), tensors, width, torch.from_numpy(limits), **options)
        assert [[h.ids for h in hypotheses] for hypotheses in found] == [[h.ids for h in row] for row in expected]
        assert [[h.rows for h in hypotheses] for hypotheses in found] == [[h.rows for h in row] for row in expected]
        for hypotheses, row in zip(found, expected, strict=True):
            assert [h.score for h in hypotheses] == pytest.approx([h.score for h in row], abs=1e-5)
            assert [h.log_p for h in hypotheses] == pytest.approx([h.log_p for h in row], abs=1e-5)


def test_an_example_that_has_no_token_left_waits_for_the_others():
    """The first example ends at once; with n-grams of 1 its rows have no token left while the second one goes on."""
    logits = torch.tensor([[0.0, 0, -torch.inf, -torch.inf, -torch.inf, -torch.inf], [-9.0, 0, 1, 2, 3, 4]])
    step = block_repeated_ngrams(lambda ids, example: (logits[example], example), 1)
    state = torch.tensor([0, 1]), torch.zeros(2, 0, dtype=torch.int64)
    (alone,), (other,) = beam_search(step, torch.tensor([1, 1]), state, 2, 9, end=END)
    assert (alone.ids, alone.score) == ((), 0.0)
    assert other.ids == (5, 4, 3, 2)
