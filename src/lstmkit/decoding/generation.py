"""Autoregressive generation: roll-out, sampling and beam search. All take a step function, never a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.decoding.hypotheses import Hypothesis, backtrack


def roll_out(
    step: Callable[[Tensor, int, Any], tuple[Tensor, Any]],
    value: Tensor,
    state: Any,
    n_steps: int,
    stop: Callable[[Tensor, int], bool] | None = None,
) -> Tensor:
    """Generate ``n_steps`` values, each of which is the input of the next step.

    Args:
        step: ``step(value, t, state) -> (value, state)`` returns the value after ``value``, for ``t = 0, 1, …``.
        value: ``(B, ...)`` the last known value.
        state: State of the model.
        n_steps: Number of steps.
        stop: ``stop(value, t)`` is called after each step; generation stops if it returns true.

    Returns:
        ``(B, n_steps, ...)``, or fewer steps if stopped.

    >>> roll_out(lambda v, t, s: (v * 2, s), torch.tensor([1, 3]), None, 3)
    tensor([[ 2,  4,  8],
            [ 6, 12, 24]])
    """
    values = []
    for t in range(n_steps):
        value, state = step(value, t, state)
        values.append(value)
        if stop is not None and stop(value, t):
            break
    return torch.stack(values, dim=1)


class SampledTokens(NamedTuple):
    """Sampled tokens.

    Attributes:
        ids: ``(B, n)`` token ids.
        surprise: ``(B, n)`` surprisal in nats under the model's own distribution, before temperature and filtering.
    """

    ids: Tensor
    surprise: Tensor


def sample(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    logits: Tensor,
    state: Any,
    n_steps: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Callable[[Tensor], bool] | None = None,
) -> SampledTokens:
    """Sample tokens, each of which is the input of the next step.

    Args:
        step: ``step(ids (B,), state) -> (logits (B, V), state)``.
        logits: ``(B, V)`` logits of the first token.
        state: State of the model.
        n_steps: Maximum number of tokens.
        temperature: Temperature of the softmax; 0 always takes the most probable token.
        top_k: Sample from the ``top_k`` most probable tokens; 0 for all.
        top_p: Sample from the smallest set of tokens with this total probability (nucleus sampling, Holtzman et al.
            2020).
        seed: Random seed.
        stop: Called with all ids so far, ``(B, n)``; sampling stops if it returns true.

    >>> sample(lambda ids, state: (torch.zeros(1, 3), state), torch.tensor([[0.0, 9.0, 0.0]]), None, 1, top_k=1).ids
    tensor([[1]])
    """
    ids: list[Tensor] = []
    surprise: list[Tensor] = []
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    for token in itertools.islice(sample_steps(step, logits, state, **options), n_steps):
        ids.append(token.ids)
        surprise.append(token.surprise)
        if stop is not None and stop(torch.stack(ids, 1)):
            break
    return SampledTokens(torch.stack(ids, 1), torch.stack(surprise, 1))


def sample_steps(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    logits: Tensor,
    state: Any,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[SampledTokens]:
    """The tokens of :func:`sample` one at a time, without end: ``ids`` and ``surprise`` are ``(B,)`` each.

    >>> tokens = sample_steps(lambda ids, state: (torch.zeros(1, 3), state), torch.tensor([[0.0, 9.0, 0.0]]), None)
    >>> next(tokens).ids
    tensor([1])
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        chosen = _sample_rows(filter_logits(logits, temperature, top_k, top_p), generator)
        yield SampledTokens(chosen, -logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1))[:, 0])
        logits, state = step(chosen, state)


def filter_logits(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Apply temperature, top-k and top-p to logits ``(B, V)``; excluded tokens get minus infinity.

    >>> filter_logits(torch.tensor([[3.0, 2.0, 1.0]]), temperature=0.5, top_k=2, top_p=1.0)
    tensor([[6., 4., -inf]])
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        excluded = logits.sort(dim=-1, descending=True, stable=True).indices[:, top_k:]
        logits = logits.scatter(-1, excluded, -torch.inf)
    if top_p < 1:
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        preceding = values.softmax(-1).cumsum(-1) - values.softmax(-1)
        logits = values.masked_fill(preceding >= top_p, -torch.inf).gather(-1, order.argsort(-1))
    return logits


def sample_labels(
    logits_below: Callable[[Tensor], Tensor],
    noise: Tensor,
    temperature: float = 1.0,
    known: Tensor | None = None,
) -> Tensor:
    """Sample binary labels from the last to the first, each conditioned on those already sampled.

    The temperature acts on two choices, not on each label: whether another label is active, and which is the next
    active one. Labels that are improbable one by one but probable together do not vanish at a low temperature.

    Args:
        logits_below: ``logits_below(labels (B, K)) -> logits (B, K)``: logits of the labels below the lowest active one
            of ``labels``.
        noise: ``(B, K)`` uniform in 0…1: a label is active if its noise is below its probability.
        temperature: Temperature of both choices; 0 takes the more probable one, 1 samples from the logits.
        known: ``(B, K)`` known labels: 1 or 0, and NaN for those to sample; ``None`` for none.

    Returns:
        ``(B, K)`` of 0 and 1, in the dtype of ``noise``.

    >>> sample_labels(lambda labels: torch.tensor([[2.0, -1.0, 1.0]]), torch.full((1, 3), 0.5))
    tensor([[1., 0., 1.]])
    """
    labels = torch.zeros_like(noise)
    numbers = torch.arange(noise.shape[1], device=noise.device)
    limit = torch.full((len(noise), 1), noise.shape[1], device=noise.device)
    while True:
        # The logits only change at the next active label, so all labels down to it are sampled at once.
        probabilities = logits_below(labels).sigmoid()
        if known is not None:
            probabilities = torch.where(known.isnan(), probabilities, known)
        probabilities = torch.where(numbers < limit, probabilities, 0.0)
        active = noise < _tempered(probabilities, temperature)
        if not bool(active.any()):
            return labels
        limit = torch.where(active, numbers, -1).amax(1, keepdim=True)
        labels = torch.where(numbers == limit, 1.0, labels)


def _tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """Probability ``(B, K)`` that a label is active if none above it is, at a temperature.

    The choice that any label is active, and the choice of the highest active one, are sharpened separately.
    """
    if temperature == 1:
        return probabilities
    p = probabilities.double()
    log_inactive = torch.log1p(-p)
    log_none_above = F.pad(log_inactive[:, 1:], (0, 1)).flip(1).cumsum(1).flip(1)
    log_next = p.log() + log_none_above
    log_none = log_inactive.sum(1, keepdim=True)
    log_any = torch.log1p(-log_none.exp())
    if temperature == 0:
        any_active = (log_any > log_none).double()
        share = F.one_hot(log_next.argmax(1), p.shape[1]).double()
    else:
        any_active = ((log_any - log_none) / temperature).sigmoid()
        share = (log_next / temperature).softmax(1).nan_to_num(0.0)  # NaN if no label can be active
    p_next = any_active * share
    return torch.where(p_next > 0, p_next / (1 - any_active + p_next.cumsum(1)), 0.0)


def _sample_rows(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Sample one id per row on the CPU, so that a seed gives the same ids on every device."""
    chosen = torch.multinomial(logits.float().cpu().softmax(-1), 1, generator=generator)
    return chosen[:, 0].to(logits.device)


def block_repeated_ngrams(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]], n: int
) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """Wrap a step so that no n-gram occurs twice (Paulus, Xiong and Socher 2018, section 2.5).

    The state of the new step is ``(state of step, ids so far (N, t))``, so that beam search can select its rows. The
    initial state is ``(state, ids (N, 0))``.

    >>> step = block_repeated_ngrams(lambda ids, state: (torch.zeros(1, 4), state), 2)
    >>> state = None, torch.tensor([[1, 2, 3]])
    >>> step(torch.tensor([1]), state)[0]  # the bigram "1 2" has occurred
    tensor([[0., 0., -inf, 0.]])
    """

    def blocking_step(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        inner, previous = state
        logits, inner = step(ids, inner)
        ids = torch.cat([previous, ids.unsqueeze(1)], 1)
        if ids.shape[1] >= n:
            ngrams = ids.unfold(1, n, 1)  # (N, t - n + 1, n)
            same_prefix = (ngrams[..., :-1] == ids[:, ids.shape[1] - n + 1 :].unsqueeze(1)).all(-1)
            repeated = torch.zeros_like(logits).scatter_add_(1, ngrams[..., -1], same_prefix.to(logits.dtype)) > 0
            logits = logits.masked_fill(repeated, -torch.inf)
        return logits, (inner, ids)

    return blocking_step


def beam_search(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    first: Tensor,
    state: Any,
    width: int,
    max_steps: int | Tensor,
    *,
    end: int,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Beam search: the most probable sequences of each example. A width of 1 is greedy search.

    Finished hypotheses are ranked by ``log p / ((5 + n) / 6)^α`` for ``n`` tokens, end token included (Wu et al. 2016,
    eq. 14). Hypotheses that reach ``max_steps`` count as finished. The search of an example ends if no hypothesis on
    the beam can still beat the ``n_best`` finished ones: its probability can only fall, and its length can only reach
    ``max_steps``. The search does not depend on the rest of the batch.

    Args:
        step: ``step(ids (N,), state) -> (logits (N, V), state)`` for ``N = B · width`` rows, grouped by example.
        first: ``(B,)`` ids of the token before the first.
        state: State of the model: tensors in nested tuples, batch ``B`` first.
        width: Beam width.
        max_steps: Maximum number of tokens, end token included, for all examples or for each, ``(B,)``.
        end: Id of the end token.
        length_penalty: ``α``, at least 0; 0 ranks by probability alone, which favors short sequences.
        n_best: Hypotheses to return per example, at most ``width``.

    Returns:
        The hypotheses of each example, best first.

    Raises:
        ValueError: ``length_penalty`` is negative.
    """
    if length_penalty < 0:
        raise ValueError(f"length_penalty must be at least 0, got {length_penalty}")
    batch, device = len(first), first.device
    limits = torch.as_tensor(max_steps, device=device).expand(batch)
    total_steps = int(limits.max()) if batch else 0
    first_rows = torch.arange(batch, device=device).unsqueeze(1) * width  # first row of each example
    state = _rows(state, torch.arange(batch, device=device).repeat_interleave(width))
    ids = first.repeat_interleave(width)
    alive = torch.full((batch, width), -torch.inf, device=device)
    alive[:, :1] = 0.0  # all rows of an example start equal: one of them is enough
    done = _FinishedHypotheses.none(batch, width, device)
    tokens: list[Tensor] = []
    parents: list[Tensor] = []
    for t in range(total_steps):
        logits, state = step(ids, state)
        log_p = alive.unsqueeze(-1) + logits.float().log_softmax(-1).unflatten(0, (batch, width))
        log_p = log_p.masked_fill(alive.unsqueeze(-1) == -torch.inf, -torch.inf)  # without a token left it is NaN
        # Twice the width: at most one continuation of each hypothesis is the end token, so enough others remain.
        # Greedy search has one continuation: it ends with the end token.
        values, order = log_p.flatten(1).topk(1 if width == 1 else min(2 * width, width * log_p.shape[-1]))
        parent, token = order // log_p.shape[-1], order % log_p.shape[-1]
        finished = (token == end) | (limits.unsqueeze(1) == t + 1)
        # A finished hypothesis only counts if it is among the best ``width``.
        candidates = values[:, :width].masked_fill(~finished[:, :width], -torch.inf)
        done = done.with_more(candidates, t, parent, token, length_penalty)
        alive, kept = values.masked_fill(finished, -torch.inf).topk(width)
        parent, token = parent.gather(1, kept), token.gather(1, kept)
        parents.append(parent)
        tokens.append(token)
        best_attainable = alive[:, 0] / _length_norm(limits.to(alive.dtype), length_penalty)
        over = best_attainable <= done.score[:, min(n_best, width) - 1]
        if bool(over.all()):
            break
        alive = alive.masked_fill(over.unsqueeze(1), -torch.inf)
        rows = (first_rows + parent).flatten()
        ids, state = token.flatten(), _rows(state, rows)
    return backtrack(done, tokens, parents, end, n_best)


class _FinishedHypotheses(NamedTuple):
    """The best finished hypotheses of each example, ``(B, width)``: their last step, parent row and last token."""

    score: Tensor
    log_p: Tensor
    step: Tensor
    parent: Tensor
    token: Tensor

    @classmethod
    def none(cls, batch: int, width: int, device: torch.device) -> _FinishedHypotheses:
        scores = torch.full((batch, width), -torch.inf, device=device)
        zeros = torch.zeros((batch, width), dtype=torch.long, device=device)
        return cls(scores, scores, zeros, zeros, zeros)

    def with_more(self, log_p: Tensor, step: int, parent: Tensor, token: Tensor, penalty: float) -> _FinishedHypotheses:
        """The best of these and of those that finish at ``step``; unfinished ones have ``log_p`` minus infinity."""
        count = log_p.shape[1]
        score = log_p / _length_norm(log_p.new_tensor(step + 1.0), penalty)
        more = (score, log_p, torch.full_like(token[:, :count], step), parent[:, :count], token[:, :count])
        merged = [torch.cat(pair, 1) for pair in zip(self, more, strict=True)]
        kept = merged[0].topk(self.score.shape[1]).indices
        return _FinishedHypotheses(*(field.gather(1, kept) for field in merged))


def _length_norm(lengths: Tensor, penalty: float) -> Tensor:
    return ((5 + lengths) / 6) ** penalty


def _rows(state: Any, rows: Tensor) -> Any:
    """Select rows of every tensor of a nested state."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.index_select(0, rows)
    return tuple(_rows(part, rows) for part in state)
