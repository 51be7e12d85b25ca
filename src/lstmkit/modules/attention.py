"""Attention: each step of one sequence looks over all steps of another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_AT_ONCE = 2**26  # numbers inside the additive comparison that are in memory together


class Attention(nn.Module, ABC):
    """Scores of all keys for each query, their softmax, and the keys' mean under it. Use one of the kinds below.

    Args:
        coverage: Whether the scores also hang on how much each key was attended to before (Tu et al. 2016).
        size: Width of what is compared.
    """

    def __init__(self, size: int, coverage: bool) -> None:
        super().__init__()
        self.coverage = nn.Parameter(torch.zeros(size)) if coverage else None

    @abstractmethod
    def prepare(self, keys: Tensor) -> Tensor:
        """``(B, S, K) -> (B, S, A)``: what of the scores hangs on the keys alone, computed once a sequence."""

    @abstractmethod
    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        """``(B, T, Q)``, ``(B, S, A)`` and, with coverage, ``(B, T, S)`` ``-> (B, T, S)``."""

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        mask: Tensor | None = None,
        prepared: Tensor | None = None,
        covered: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Look over the keys once for each query, all queries at once.

        Args:
            queries: ``(B, T, Q)``.
            keys: ``(B, S, K)``.
            mask: ``(B, S)``, true where there is a key; where a sequence has none its context is 0.
            prepared: What :meth:`prepare` made of the keys.
            covered: With coverage ``(B, T, S)``: how much each key was attended to before, in sum.

        Returns:
            Contexts ``(B, T, K)`` and weights ``(B, T, S)``.
        """
        scores = self.scores(queries, self.prepare(keys) if prepared is None else prepared, covered)
        if mask is None:
            weights = scores.softmax(-1)
        else:
            there = mask.unsqueeze(1)
            # The lowest number, not minus infinity: a sequence without keys must not become NaN.
            weights = scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(-1) * there
        return weights @ keys, weights


class AdditiveAttention(Attention):
    """``vᵀ tanh(W q + U k + b)`` (Bahdanau, Cho and Bengio 2015); with coverage ``+ w c`` inside (See et al. 2017).

    Args:
        query_size: ``Q``.
        key_size: ``K``.
        size: Width inside, ``A``. All steps at once hold ``(B, T, S, A)``; where that is more than 64 million numbers,
            some steps come after others, and are computed anew for the gradient.
        coverage: See :class:`Attention`.
    """

    def __init__(self, query_size: int, key_size: int, size: int, coverage: bool = False) -> None:
        super().__init__(size, coverage)
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(key_size, size, bias=False)
        self.value = nn.Linear(size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        asked = self.query(queries)
        steps = max(1, _AT_ONCE // max(1, prepared.numel()))
        if asked.shape[1] <= steps:
            return self._additive_energies(asked, prepared, covered)
        pieces = asked.split(steps, 1)
        before = [None] * len(pieces) if covered is None else covered.split(steps, 1)
        compared = partial(checkpoint, self._additive_energies, use_reentrant=False)
        return torch.cat([compared(piece, prepared, part) for piece, part in zip(pieces, before, strict=True)], 1)

    def _additive_energies(self, asked: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        inside = asked.unsqueeze(2) + prepared.unsqueeze(1)
        if self.coverage is not None and covered is not None:
            inside = inside + covered.unsqueeze(-1) * self.coverage
        return self.value(inside.tanh_()).squeeze(-1)


class GeneralAttention(Attention):
    """``qᵀ W k`` (Luong, Pham and Manning 2015); with coverage ``+ w c``.

    Args:
        query_size: ``Q``.
        key_size: ``K``.
        coverage: See :class:`Attention`.
    """

    def __init__(self, query_size: int, key_size: int, coverage: bool = False) -> None:
        super().__init__(1, coverage)
        self.key = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        return _dot_product_scores(queries, prepared, covered, self.coverage)


class DotAttention(Attention):
    """``qᵀ k`` (Luong, Pham and Manning 2015), of queries and keys of one width; with coverage ``+ w c``.

    Args:
        coverage: See :class:`Attention`.
    """

    def __init__(self, coverage: bool = False) -> None:
        super().__init__(1, coverage)

    def prepare(self, keys: Tensor) -> Tensor:
        return keys

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        return _dot_product_scores(queries, prepared, covered, self.coverage)


def _dot_product_scores(queries: Tensor, keys: Tensor, covered: Tensor | None, weight: Tensor | None) -> Tensor:
    scores = queries @ keys.transpose(1, 2)
    return scores if weight is None or covered is None else scores + weight * covered


class LocationAttention(Attention):
    """``vᵀ tanh(W q + U k + F a + b)``: what is asked for, and where one has looked so far (Chorowski et al. 2015).

    ``a`` is how much each key was attended to in all steps before, in sum, as Shen et al. 2018 have it (Tacotron 2); a
    convolution along the keys tells what of it lies around each. Chorowski's filters and the map that follows them are
    one map here.

    Args:
        query_size: ``Q``.
        key_size: ``K``.
        size: Width inside, ``A``.
        width: Keys around each whose ``a`` is seen, an odd number.
    """

    def __init__(self, query_size: int, key_size: int, size: int, width: int) -> None:
        super().__init__(size, coverage=False)
        if width % 2 == 0:
            raise ValueError(f"as many keys are seen before as behind each: width must be odd, got {width}")
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(key_size, size, bias=False)
        self.around = nn.Linear(width, size, bias=False)
        self.value = nn.Linear(size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        inside = self.query(queries).unsqueeze(2) + prepared.unsqueeze(1)
        return self._of(inside if covered is None else inside + self._seen(covered))

    def walk(self, queries: Tensor, prepared: Tensor, mask: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        """One query after the other, each told where those before it have looked.

        Args:
            queries: ``(B, T, Q)``, ``T`` at least 1.
            prepared: ``(B, S, A)``, what :meth:`prepare` made of the keys.
            mask: ``(B, S)``, true where there is a key: at least one.
            covered: ``(B, S)``: how much each key was attended to before.

        Returns:
            Weights ``(B, T, S)``, and ``covered`` after all of them.
        """
        never, found = ~mask, []
        for asked in self.query(queries).unbind(1):
            scores = self._of(asked.unsqueeze(1) + prepared + self._seen(covered))
            found.append(scores.masked_fill(never, -torch.inf).softmax(-1))
            covered = covered + found[-1]
        return torch.stack(found, 1), covered

    def _seen(self, covered: Tensor) -> Tensor:
        """``(…, S) -> (…, S, A)``."""
        width = self.around.in_features
        return self.around(F.pad(covered, (width // 2, width // 2)).unfold(-1, width, 1))

    def _of(self, inside: Tensor) -> Tensor:
        return self.value(torch.tanh(inside)).squeeze(-1)


ATTENTIONS = ("additive", "general", "dot")  #: By the name of a job's ``attention`` setting.


def build_attention(kind: str, query_size: int, key_size: int, size: int = 0, coverage: bool = False) -> Attention:
    """The attention of that name; ``size`` is the additive one's, 0 for the queries'.

    Raises:
        ValueError: Dot products of queries and keys of different widths.
    """
    if kind == "additive":
        return AdditiveAttention(query_size, key_size, size or query_size, coverage)
    if kind == "general":
        return GeneralAttention(query_size, key_size, coverage)
    if query_size != key_size:
        raise ValueError(f"dot attention compares vectors of one width, not {query_size} with {key_size}")
    return DotAttention(coverage)
