"""CTC: loss, greedy decoding, forced alignment and prefix beam search, compared with all alignments."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit.data.batch import Batch
from lstmkit.decoding.ctc import BLANK, GreedyDecoder, forced_align, greedy, min_steps, prefix_beam_search
from lstmkit.modules.ctc import CTCHead


def log_probabilities(steps: int, classes: int, seed: int) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((steps, classes))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def ctc_loss(log_p: torch.Tensor, targets: torch.Tensor, target_length: int) -> torch.Tensor:
    """The loss of ``CTCHead`` for one text."""
    lengths = torch.tensor([log_p.shape[1]])
    return CTCHead.loss(log_p, Batch(log_p, lengths, targets, torch.tensor([target_length])))


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    """The text of an alignment: repeats merged, blanks removed."""
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def enumerate_alignments(log_p: np.ndarray) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """For every text: its probability, summed over all alignments, and the probability of its best alignment."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    best: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        p = float(np.exp(sum(log_p[step, label] for step, label in enumerate(path))))
        total[collapse(path)] += p
        best[collapse(path)] = max(best[collapse(path)], p)
    return total, best


small = st.tuples(st.integers(1, 5), st.integers(2, 4), st.integers(0, 10**6))


@settings(max_examples=60, deadline=None)
@given(small)
def test_loss_is_the_negative_log_of_the_sum_over_alignments(case: tuple[int, int, int]):
    """The loss of each possible text is the negative log of its summed probability, per character."""
    log_p = log_probabilities(*case)
    for text, p in enumerate_alignments(log_p)[0].items():
        targets = torch.tensor([[*text, -1]])  # targets past the end are not read
        loss = ctc_loss(torch.from_numpy(log_p).unsqueeze(0), targets, len(text))
        assert float(loss) == pytest.approx(-np.log(p) / max(1, len(text)), rel=1e-6, abs=1e-9)


def test_text_that_does_not_fit_has_no_gradient():
    """Two equal characters need a blank in between: three steps."""
    log_p = torch.zeros(1, 2, 3).log_softmax(-1).requires_grad_()
    loss = ctc_loss(log_p, torch.tensor([[1, 1]]), 2)
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_p.grad is not None
    assert not log_p.grad.any()


@settings(max_examples=60, deadline=None)
@given(small)
def test_wide_beam_finds_every_text_with_its_probability(case: tuple[int, int, int]):
    log_p = log_probabilities(*case)
    total, _ = enumerate_alignments(log_p)
    beams = prefix_beam_search(log_p, 4**6)
    assert len(beams) == len(total)
    assert [beam.log_p for beam in beams] == sorted((beam.log_p for beam in beams), reverse=True)
    for beam in beams:
        assert np.exp(beam.log_p) == pytest.approx(total[beam.ids])


@settings(max_examples=40, deadline=None)
@given(small, st.floats(0, 2), st.floats(-1, 2))
def test_language_model_and_bonus_enter_the_ranking(case: tuple[int, int, int], weight: float, insertion_bonus: float):
    """A bigram model of characters, including the end of the text."""
    log_p = log_probabilities(*case)
    bigrams = log_probabilities(case[1], case[1], case[2] + 1)
    batch_sizes: list[int] = []

    def score(states: Sequence[list[int] | None], ids: Sequence[int]) -> tuple[np.ndarray, list[list[int]]]:
        batch_sizes.append(len(ids))
        return bigrams[list(ids)], [[*(state or []), token] for state, token in zip(states, ids, strict=True)]

    def prior(text: tuple[int, ...]) -> float:
        pairs = zip((BLANK, *text), (*text, BLANK), strict=True)
        return weight * sum(bigrams[a, b] for a, b in pairs) + insertion_bonus * len(text)

    total, _ = enumerate_alignments(log_p)
    best = max(total, key=lambda text: np.log(total[text]) + prior(text))
    beams = prefix_beam_search(log_p, 4**6, score, weight, insertion_bonus)
    assert beams[0].score == pytest.approx(np.log(total[best]) + prior(best))
    assert len(batch_sizes) <= 1 + len(log_p)  # one call per step
    for beam in beams:
        assert beam.score == pytest.approx(np.log(total[beam.ids]) + prior(beam.ids))


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 30), st.integers(2, 6), st.integers(0, 10**6)), st.integers(1, 8))
def test_narrow_beam_never_overestimates_probabilities(case: tuple[int, int, int], width: int):
    """A beam holds part of a text's probability, and at most ``width`` texts."""
    log_p = log_probabilities(*case)
    beams = prefix_beam_search(log_p, width)
    assert 1 <= len(beams) <= width
    for beam in beams:
        loss = ctc_loss(torch.from_numpy(log_p).unsqueeze(0), torch.tensor([[*beam.ids, -1]]), len(beam.ids))
        assert beam.log_p <= -float(loss) * max(1, len(beam.ids)) + 1e-6


@settings(max_examples=60, deadline=None)
@given(small)
def test_forced_alignment_is_optimal(case: tuple[int, int, int]):
    """The aligned path is the most probable one, and each character spans at least one step."""
    log_p = log_probabilities(*case)
    for text, p in enumerate_alignments(log_p)[1].items():
        alignment = forced_align(log_p, text)
        assert tuple(character.id for character in alignment) == text
        path = np.full(len(log_p), BLANK)
        for character in alignment:
            assert 0 <= character.start < character.end
            assert (path[character.start : character.end] == BLANK).all()
            path[character.start : character.end] = character.id
            assert character.p == pytest.approx(np.exp(log_p[character.start : character.end, character.id].max()))
        assert collapse(path) == text
        assert np.exp(log_p[np.arange(len(path)), path].sum()) == pytest.approx(p)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(2, 6), st.integers(0, 10**6)), st.integers(1, 7))
def test_greedy_decoding_in_chunks_matches_forced_alignment(case: tuple[int, int, int], chunk_size: int):
    log_p = log_probabilities(*case)
    whole = greedy(log_p)
    assert tuple(character.id for character in whole) == collapse(log_p.argmax(axis=1).tolist())
    assert forced_align(log_p, [character.id for character in whole]) == whole
    decoder = GreedyDecoder()
    for start in range(0, len(log_p), chunk_size):
        decoder.push(log_p[start : start + chunk_size])
    assert decoder.characters == whole


def test_min_steps():
    assert [min_steps(ids) for ids in ([], [3], [1, 2, 1], [1, 1, 1], [2, 2, 1, 1])] == [0, 1, 3, 5, 6]
    with pytest.raises(ValueError, match="needs at least 3 steps, log_p has 2"):
        forced_align(log_probabilities(2, 3, 0), [1, 1])
    assert forced_align(log_probabilities(2, 3, 0), []) == []


def test_zero_probabilities():
    """Log-probabilities of minus infinity are allowed."""
    log_p = np.full((3, 3), -np.inf)
    log_p[[0, 1, 2], [1, 0, 2]] = 0.0
    beams = prefix_beam_search(log_p, 5)
    assert [(beam.ids, beam.log_p) for beam in beams] == [((1, 2), 0.0)]
    assert [character.start for character in forced_align(log_p, (1, 2))] == [0, 2]
