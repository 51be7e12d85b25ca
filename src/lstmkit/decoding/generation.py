"""From outputs to an answer, one step after another. A decoder is handed a step function, never a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


def roll_out(
    step: Callable[[Tensor, int, Any], tuple[Tensor, Any]],
    value: Tensor,
    state: Any,
    n_steps: int,
    stop: Callable[[Tensor, int], bool] | None = None,
) -> Tensor:
    """Feed a model what it said: the values of ``n_steps`` further steps.

    Args:
        step: ``step(value, t, state) -> (value, state)``: the value after ``value``, for the step ``t = 0, 1, …``.
        value: ``(B, ...)``, the last known one.
        state: What the model carries.
        n_steps: How many to make.
        stop: ``stop(value, t)``, asked after each step: whether it is enough.

    Returns:
        ``(B, n_steps, ...)``, or as many steps as there were until the stop.

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
    """Tokens that were drawn.

    Attributes:
        ids: ``(B, n)``.
        surprise: ``(B, n)`` in nats: minus the logarithm of what the model gave each, whatever was drawn from.
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
    """Draw tokens, each fed to the model for the next.

    Args:
        step: ``step(ids (B,), state) -> (logits (B, V), state)``.
        logits: ``(B, V)`` for the first of them.
        state: What the model carries.
        n_steps: At most so many.
        temperature: Of the softmax; 0 always takes the most probable.
        top_k: Only from the so many most probable; 0 for all.
        top_p: Only from the fewest that have this probability together (nucleus sampling, Holtzman et al. 2020).
        seed: Of the drawing.
        stop: Asked of all ids so far, ``(B, n)``: whether it is enough.
    """
    generator = torch.Generator().manual_seed(seed)
    ids: list[Tensor] = []
    surprise: list[Tensor] = []
    for i in range(n_steps):
        if i:
            logits, state = step(ids[-1], state)
        chosen = _draw(filter_logits(logits, temperature, top_k, top_p), generator)
        ids.append(chosen)
        surprise.append(-logits.log_softmax(-1).gather(-1, chosen.unsqueeze(-1))[:, 0])
        if stop is not None and stop(torch.stack(ids, 1)):
            break
    return SampledTokens(torch.stack(ids, 1), torch.stack(surprise, 1))


def filter_logits(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """The logits ``(B, V)`` that are drawn from, all others at minus infinity.

    >>> filter_logits(torch.tensor([[3.0, 2.0, 1.0]]), temperature=0.5, top_k=2, top_p=1.0)
    tensor([[6., 4., -inf]])
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        ranked = logits.sort(dim=-1, descending=True, stable=True).indices[:, top_k:]
        logits = logits.scatter(-1, ranked, -torch.inf)
    if top_p < 1:
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)
        logits = values.masked_fill(before >= top_p, -torch.inf).gather(-1, order.argsort(-1))
    return logits


def sample_labels(
    tell: Callable[[Tensor], Tensor],
    noise: Tensor,
    temperature: float = 1.0,
    given: Tensor | None = None,
    autoregressive: bool = True,
) -> Tensor:
    """Draw which of several labels hold, from the last to the first, each given those that were drawn before it.

    Args:
        tell: ``tell(labels (B, K)) -> logits (B, K)``: of the labels below all of those, given that these hold and no
            other above.
        noise: ``(B, K)`` drawn evenly from 0…1: a label holds where its own is below its probability.
        temperature: Of the probabilities; 0 for whatever is the more probable.
        given: ``(B, K)`` labels that are not drawn but known: 1 or 0 there, NaN elsewhere; ``None`` for none.
        chained: Whether ``tell`` hangs on the labels at all; where not, one call draws them all.

    Returns:
        ``(B, K)`` of 0 and 1, in the kind of ``noise``.

    >>> sample_labels(lambda labels: torch.tensor([[2.0, -1.0, 1.0]]), torch.full((1, 3), 0.5))
    tensor([[1., 0., 1.]])
    """
    labels = torch.zeros_like(noise)
    numbers = torch.arange(noise.shape[1], device=noise.device)
    limit = torch.full((len(noise), 1), noise.shape[1], device=noise.device)
    while True:
        # Down to the next label that holds nothing changes: all up to there are drawn at once.
        logits = tell(labels)
        chances = (logits / temperature).sigmoid() if temperature else (logits > 0).to(noise.dtype)
        if given is not None:
            chances = torch.where(given.isnan(), chances, given)
        on = (noise < chances) & (numbers < limit)
        if not autoregressive:
            return on.to(noise.dtype)
        if not bool(on.any()):
            return labels
        limit = torch.where(on, numbers, -1).amax(1, keepdim=True)
        labels = torch.where(numbers == limit, 1.0, labels)


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One of each row, on the CPU, so that a seed draws the same anywhere."""
    chosen = torch.multinomial(logits.float().cpu().softmax(-1), 1, generator=generator)
    return chosen[:, 0].to(logits.device)


def block_repeated_ngrams(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]], n: int
) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """A step like ``step`` that writes no ``n`` tokens in a row twice (Paulus, Xiong and Socher 2018, section 2.5).

    Its state is ``(state of step, ids so far (N, t))``, so that a search which takes rows of it takes their past along;
    it begins as ``(state, ids (N, 0))``.

    >>> step = block_repeated_ngrams(lambda ids, state: (torch.zeros(1, 4), state), 2)
    >>> state = None, torch.tensor([[1, 2, 3]])
    >>> step(torch.tensor([1]), state)[0]  # 1 2 stands there already
    tensor([[0., 0., -inf, 0.]])
    """

    def careful(ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        inner, before = state
        logits, inner = step(ids, inner)
        ids = torch.cat([before, ids.unsqueeze(1)], 1)
        if ids.shape[1] >= n:
            runs = ids.unfold(1, n, 1)  # (N, t - n + 1, n)
            begun = (runs[..., :-1] == ids[:, ids.shape[1] - n + 1 :].unsqueeze(1)).all(-1)
            again = torch.zeros_like(logits).scatter_add_(1, runs[..., -1], begun.to(logits.dtype)) > 0
            logits = logits.masked_fill(again, -torch.inf)
        return logits, (inner, ids)

    return careful


class Hypothesis(NamedTuple):
    """A sequence that a beam search found.

    Attributes:
        ids: Its tokens, without the end.
        score: Its logarithmic probability, normalised by its length.
        log_p: As it is, in nats; the end counts.
        rows: For each token the row of the step's call that told it: what else the call told can be found again.
    """

    ids: tuple[int, ...]
    score: float
    log_p: float
    rows: tuple[int, ...]


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
    """The most probable sequences, as far as ``width`` beginnings held at a time can tell. Width 1 is greedy.

    Finished sequences are ranked by ``log p / ((5 + n) / 6)^α`` for ``n`` tokens, the end included (Wu et al. 2016,
    eq. 14); those that reach the most steps count as finished. A sentence is done when ``width`` have finished, or no
    beginning can become better than what it has; others of its batch change nothing.

    Args:
        step: ``step(ids (N,), state) -> (logits (N, V), state)``, for ``N = B · width`` rows, a sentence's together.
        first: ``(B,)`` the token before the first.
        state: What the model carries: tensors in tuples, each with the batch ``B`` first.
        width: Beginnings held at a time.
        max_steps: Of all sequences, or of each sentence's ``(B,)``, the end included.
        end: The token that ends a sequence.
        length_penalty: ``α``: 0 ranks by probability alone, which favours short ones.
        n_best: Sequences of each sentence, at most ``width``.

    Returns:
        For each of ``B`` the best first.
    """
    batch, device = len(first), first.device
    limits = torch.as_tensor(max_steps, device=device).expand(batch)
    last = int(limits.max()) if batch else 0
    begin = torch.arange(batch, device=device).unsqueeze(1) * width  # each sentence's first row
    state = _rows(state, torch.arange(batch, device=device).repeat_interleave(width))
    ids = first.repeat_interleave(width)
    alive = torch.full((batch, width), -torch.inf, device=device)
    alive[:, :1] = 0.0  # all rows are alike at first: one of them is enough
    done = _FinishedHypotheses.none(batch, width, device)
    tokens: list[Tensor] = []
    parents: list[Tensor] = []
    for t in range(last):
        logits, state = step(ids, state)
        log_p = alive.unsqueeze(-1) + logits.float().log_softmax(-1).unflatten(0, (batch, width))
        # Twice the width: at most one continuation of each beginning is its end, so enough others are left.
        values, order = log_p.flatten(1).topk(min(2 * width, width * log_p.shape[-1]))
        parent, token = order // log_p.shape[-1], order % log_p.shape[-1]
        over = (token == end) | (limits.unsqueeze(1) == t + 1)
        # An end counts where it is among the best of the beam: of a beam of one, where it is the most probable.
        ended = over[:, :width]
        done = done.with_more(values[:, :width].masked_fill(~ended, -torch.inf), t, parent, token, length_penalty)
        alive, kept = values.masked_fill(over | done.full, -torch.inf).topk(width)
        parent, token = parent.gather(1, kept), token.gather(1, kept)
        parents.append(parent)
        tokens.append(token)
        reachable = alive[:, 0] / _length_norm(limits.to(alive.dtype), length_penalty)
        if bool((reachable <= done.score[:, min(n_best, width) - 1]).all()):
            break
        rows = (begin + parent).flatten()
        ids, state = token.flatten(), _rows(state, rows)
    return done.traced(tokens, parents, end, n_best)


class _FinishedHypotheses(NamedTuple):
    """Each sentence's best finished sequences, ``(B, width)``: what ends them, and the beginning they go on from."""

    score: Tensor
    log_p: Tensor
    step: Tensor
    parent: Tensor
    token: Tensor

    @classmethod
    def none(cls, batch: int, width: int, device: torch.device) -> _FinishedHypotheses:
        worst = torch.full((batch, width), -torch.inf, device=device)
        nowhere = torch.zeros((batch, width), dtype=torch.long, device=device)
        return cls(worst, worst, nowhere, nowhere, nowhere)

    def with_more(self, log_p: Tensor, step: int, parent: Tensor, token: Tensor, penalty: float) -> _FinishedHypotheses:
        """The best of these and of those that end at ``step``; what does not end has minus infinity."""
        count = log_p.shape[1]
        score = log_p / _length_norm(log_p.new_tensor(step + 1.0), penalty)
        more = (score, log_p, torch.full_like(token[:, :count], step), parent[:, :count], token[:, :count])
        both = [torch.cat(pair, 1) for pair in zip(self, more, strict=True)]
        kept = both[0].topk(self.score.shape[1]).indices
        return _FinishedHypotheses(*(each.gather(1, kept) for each in both))

    @property
    def full(self) -> Tensor:
        """``(B, 1)``: which sentences have as many as the beam is wide."""
        return self.log_p[:, -1:] > -torch.inf

    def traced(self, tokens: list[Tensor], parents: list[Tensor], end: int, n_best: int) -> list[list[Hypothesis]]:
        """Each from its end back to its beginning."""
        width = self.score.shape[1]
        columns = [each.tolist() for each in self]
        told, before = ([t.tolist() for t in each] for each in (tokens, parents))
        found: list[list[Hypothesis]] = []
        for b, rows in enumerate(zip(*columns, strict=True)):
            best = []
            for score, log_p, step, parent, token in list(zip(*rows, strict=True))[:n_best]:
                if log_p == -torch.inf:
                    continue
                ids, at = ([], []) if token == end else ([token], [parent])
                row = parent
                for t in range(step - 1, -1, -1):
                    ids.append(told[t][b][row])
                    row = before[t][b][row]
                    at.append(row)
                rows_of = tuple(b * width + row for row in reversed(at))
                best.append(Hypothesis(tuple(reversed(ids)), score, log_p, rows_of))
            found.append(best)
        return found


def _length_norm(lengths: Tensor, penalty: float) -> Tensor:
    return ((5 + lengths) / 6) ** penalty


def _rows(state: Any, rows: Tensor) -> Any:
    """Those rows of every tensor of a state."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.index_select(0, rows)
    return tuple(_rows(part, rows) for part in state)
