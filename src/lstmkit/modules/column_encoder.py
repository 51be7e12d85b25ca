"""Rows of a table, numbers and ids of categories, as inputs of a recurrent trunk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

_MAX_EMBEDDING_SIZE = 32


class ColumnEncoder(nn.Module):
    """Numbers as they are, beside their piecewise-linear encoding and an embedding of each category.

    The piecewise-linear encoding of a number has an entry for each bin: 0 if the number is below the bin, 1 if it is
    above, linear within (Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"). With
    it a network fits thresholds as easily as trees do. Here the entries are centered: from -0.5 to 0.5.

    Args:
        num_numbers: Numbers per row, ``N``.
        vocabulary_sizes: Ids of each of ``C`` columns of categories; id 0 is an unknown category.
        unknown_probability: Probability in training that a category is replaced by an unknown one, so that its
            embedding is trained.
        edges: Ascending edges of the bins of each of the first columns of numbers; empty for a column without bins.

    >>> ColumnEncoder(2, vocabulary_sizes=[5])(torch.tensor([[[0.5, -1.0, 3.0]]])).shape
    torch.Size([1, 1, 5])
    """

    low: Tensor
    width: Tensor
    binned: Tensor

    def __init__(
        self,
        num_numbers: int,
        vocabulary_sizes: Sequence[int] = (),
        unknown_probability: float = 0.0,
        edges: Sequence[Sequence[float]] = (),
    ) -> None:
        super().__init__()
        bins = [(k, low, high - low) for k, of_column in enumerate(edges) for low, high in pairwise(of_column)]
        self.has_bins, self._bin_columns = bool(bins), [k for k, _, _ in bins]
        self.register_buffer("binned", torch.tensor(self._bin_columns, dtype=torch.int64), persistent=False)
        self.register_buffer("low", torch.tensor([low for _, low, _ in bins]), persistent=False)
        self.register_buffer("width", torch.tensor([width for _, _, width in bins]), persistent=False)
        self.num_numbers, self.unknown_probability = num_numbers, unknown_probability
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding_size(size)) for size in vocabulary_sizes)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.3)  # type: ignore[arg-type]
        self.output_size = num_numbers + len(bins) + sum(map(embedding_size, vocabulary_sizes))

    @property
    def sources(self) -> list[int]:
        """For each output the index of the feature that it comes from."""
        sizes = [int(embedding.embedding_dim) for embedding in self.embeddings]  # type: ignore[arg-type]
        ids = [self.num_numbers + k for k, size in enumerate(sizes) for _ in range(size)]
        return [*range(self.num_numbers), *self._bin_columns, *ids]

    def forward(self, rows: Tensor) -> Tensor:
        """``(B, T, N + C)``, the last ``C`` of which are ids, to ``(B, T, output_size)``."""
        numbers, ids = rows[..., : self.num_numbers], rows[..., self.num_numbers :].long()
        if self.training and self.unknown_probability:
            ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.unknown_probability, 0)
        embedded = [embedding(ids[..., k]) for k, embedding in enumerate(self.embeddings)]
        bins = [self._piecewise_linear(numbers)] if self.has_bins else []
        return torch.cat([numbers, *bins, *embedded], dim=-1)

    def _piecewise_linear(self, numbers: Tensor) -> Tensor:
        """``(B, T, N)`` to an entry for each bin."""
        return ((numbers[..., self.binned] - self.low) / self.width).clamp(0, 1) - 0.5


def embedding_size(vocabulary_size: int) -> int:
    """Size of the embedding of a category: grows as the square root of their number, from 2 to 32.

    >>> embedding_size(5), embedding_size(10_000)
    (3, 32)
    """
    return min(_MAX_EMBEDDING_SIZE, 1 + round(vocabulary_size**0.5))
