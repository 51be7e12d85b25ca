"""Attention of the steps of one sequence over the steps of another: additive, general, dot and location-sensitive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_MAX_ELEMENTS = 2**26  # elements of the (B, T, S, A) tensor of additive attention in memory together


class Attention(nn.Module, ABC):
    """Base class of attentions: scores of all keys for each query, softmax, and the weighted mean of the keys.

    Args:
        size: Width of the coverage weight.
        coverage: Whether the scores depend on the previous attention to each key (Tu et al. 2016).
    """

    def __init__(self, size: int, coverage: bool) -> None:
        super().__init__()
        self.coverage = nn.Parameter(torch.zeros(size)) if coverage else None

    @abstractmethod
    def prepare(self, keys: Tensor) -> Tensor:
        """Project keys ``(B, S, K)`` to ``(B, S, A)``; computed once per sequence."""

    @abstractmethod
    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        """Scores ``(B, T, S)`` of queries ``(B, T, Q)``, projected keys ``(B, S, A)`` and coverage ``(B, T, S)``."""

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        mask: Tensor | None = None,
        prepared: Tensor | None = None,
        covered: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend to the keys with all queries in parallel.

        Args:
            queries: ``(B, T, Q)``.
            keys: ``(B, S, K)``.
            mask: ``(B, S)``, true at valid keys; a sequence without valid keys has the context 0.
            prepared: Result of :meth:`prepare`; by default computed from the keys.
            covered: With coverage ``(B, T, S)``: the sum of the previous attention weights of each key.

        Returns:
            Contexts ``(B, T, K)`` and weights ``(B, T, S)``.
        """
        scores = self.scores(queries, self.prepare(keys) if prepared is None else prepared, covered)
        if mask is None:
            weights = scores.softmax(-1)
        else:
            valid = mask.unsqueeze(1)
            # The lowest float instead of minus infinity: a sequence without keys must not become NaN.
            weights = scores.masked_fill(~valid, torch.finfo(scores.dtype).min).softmax(-1) * valid
        return weights @ keys, weights


class AdditiveAttention(Attention):
    """``vᵀ tanh(W q + U k + b)`` (Bahdanau, Cho and Bengio 2015); with coverage ``+ w c`` inside (See et al. 2017).

    Args:
        query_size: Width of the queries, ``Q``.
        key_size: Width of the keys, ``K``.
        size: Hidden width, ``A``. A tensor ``(B, T, S, A)`` of more than 64 million elements is computed in chunks of
            steps, which are recomputed in the backward pass.
        coverage: See :class:`Attention`.

    >>> attention = AdditiveAttention(4, 6, size=5)
    >>> contexts, weights = attention(torch.zeros(2, 3, 4), torch.zeros(2, 7, 6))
    >>> contexts.shape, weights.shape
    (torch.Size([2, 3, 6]), torch.Size([2, 3, 7]))
    """

    def __init__(self, query_size: int, key_size: int, size: int, coverage: bool = False) -> None:
        super().__init__(size, coverage)
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(key_size, size, bias=False)
        self.value = nn.Linear(size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        projected = self.query(queries)
        if torch.compiler.is_exporting():  # the number of chunks would be fixed
            return self._additive_energies(projected, prepared, covered)
        steps = max(1, _MAX_ELEMENTS // max(1, prepared.numel()))
        if projected.shape[1] <= steps:
            return self._additive_energies(projected, prepared, covered)
        chunks = projected.split(steps, 1)
        coverage = [None] * len(chunks) if covered is None else covered.split(steps, 1)
        energies = partial(checkpoint, self._additive_energies, use_reentrant=False)
        return torch.cat([energies(chunk, prepared, c) for chunk, c in zip(chunks, coverage, strict=True)], 1)

    def _additive_energies(self, projected: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        hidden = projected.unsqueeze(2) + prepared.unsqueeze(1)
        if self.coverage is not None and covered is not None:
            hidden = hidden + covered.unsqueeze(-1) * self.coverage
        return self.value(hidden.tanh_()).squeeze(-1)


class GeneralAttention(Attention):
    """``qᵀ W k`` (Luong, Pham and Manning 2015); with coverage ``+ w c``.

    Args:
        query_size: Width of the queries, ``Q``.
        key_size: Width of the keys, ``K``.
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
    """``qᵀ k`` (Luong, Pham and Manning 2015), for queries and keys of the same width; with coverage ``+ w c``.

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
    """Location-sensitive attention ``vᵀ tanh(W q + U k + F a + b)`` (Chorowski et al. 2015).

    ``a`` is the sum of all previous attention weights, as in Shen et al. 2018 (Tacotron 2). ``F`` is a convolution
    along the keys; Chorowski's filters and the following projection are one linear map here.

    Args:
        query_size: Width of the queries, ``Q``.
        key_size: Width of the keys, ``K``.
        size: Hidden width, ``A``.
        width: Kernel size of the convolution in keys, an odd number.

    Raises:
        ValueError: ``width`` is even.
    """

    def __init__(self, query_size: int, key_size: int, size: int, width: int) -> None:
        super().__init__(size, coverage=False)
        if width % 2 == 0:
            raise ValueError(f"width must be odd, got {width}")
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(key_size, size, bias=False)
        self.around = nn.Linear(width, size, bias=False)
        self.value = nn.Linear(size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def scores(self, queries: Tensor, prepared: Tensor, covered: Tensor | None) -> Tensor:
        hidden = self.query(queries).unsqueeze(2) + prepared.unsqueeze(1)
        return self._energies(hidden if covered is None else hidden + self._location_features(covered))

    def walk(self, queries: Tensor, prepared: Tensor, mask: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        """Attend with one query after another, so that each step reads the weights of the previous ones.

        Args:
            queries: ``(B, T, Q)``, ``T`` at least 1.
            prepared: ``(B, S, A)``, the result of :meth:`prepare`.
            mask: ``(B, S)``, true at valid keys; at least one per sequence.
            covered: ``(B, S)`` the sum of the previous attention weights.

        Returns:
            Weights ``(B, T, S)``, and the new ``covered``.
        """
        invalid, weights = ~mask, []
        for query in self.query(queries).unbind(1):
            scores = self._energies(query.unsqueeze(1) + prepared + self._location_features(covered))
            weights.append(scores.masked_fill(invalid, -torch.inf).softmax(-1))
            covered = covered + weights[-1]
        return torch.stack(weights, 1), covered

    def _location_features(self, covered: Tensor) -> Tensor:
        """``(…, S) -> (…, S, A)``."""
        width = self.around.in_features
        return self.around(F.pad(covered, (width // 2, width // 2)).unfold(-1, width, 1))

    def _energies(self, hidden: Tensor) -> Tensor:
        return self.value(torch.tanh(hidden)).squeeze(-1)


ATTENTIONS = ("additive", "general", "dot")  #: Values of the ``attention`` setting.


def build_attention(kind: str, query_size: int, key_size: int, size: int = 0, coverage: bool = False) -> Attention:
    """Build an attention by name.

    Args:
        kind: One of :data:`ATTENTIONS`.
        query_size: Width of the queries, ``Q``.
        key_size: Width of the keys, ``K``.
        size: Hidden width of additive attention; 0 for the queries' width.
        coverage: See :class:`Attention`.

    Raises:
        ValueError: Dot attention with queries and keys of different widths.
    """
    if kind == "additive":
        return AdditiveAttention(query_size, key_size, size or query_size, coverage)
    if kind == "general":
        return GeneralAttention(query_size, key_size, coverage)
    if query_size != key_size:
        raise ValueError(f"dot attention needs queries and keys of the same width, got {query_size} and {key_size}")
    return DotAttention(coverage)
