"""Rows of a table, numbers and ids of categories, as inputs of a recurrent trunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_MAX_EMBEDDING_SIZE = 32


class ColumnEncoder(nn.Module):
    """Numbers as they are, beside an embedding of each category.

    Args:
        num_numbers: Numbers per row, ``N``.
        vocabulary_sizes: Ids of each of ``C`` columns of categories; id 0 is an unknown category.
        unknown_probability: Probability in training that a category is replaced by an unknown one, so that its
            embedding is trained.

    >>> ColumnEncoder(2, vocabulary_sizes=[5])(torch.tensor([[[0.5, -1.0, 3.0]]])).shape
    torch.Size([1, 1, 5])
    """

    def __init__(
        self, num_numbers: int, vocabulary_sizes: Sequence[int] = (), unknown_probability: float = 0.0
    ) -> None:
        super().__init__()
        self.num_numbers, self.unknown_probability = num_numbers, unknown_probability
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding_size(size)) for size in vocabulary_sizes)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.3)  # type: ignore[arg-type]
        self.output_size = num_numbers + sum(map(embedding_size, vocabulary_sizes))

    @property
    def sources(self) -> list[int]:
        """For each output the index of the feature that it comes from."""
        sizes = [int(embedding.embedding_dim) for embedding in self.embeddings]  # type: ignore[arg-type]
        ids = [self.num_numbers + k for k, size in enumerate(sizes) for _ in range(size)]
        return [*range(self.num_numbers), *ids]

    def forward(self, rows: Tensor) -> Tensor:
        """``(B, T, N + C)``, the last ``C`` of which are ids, to ``(B, T, output_size)``."""
        numbers, ids = rows[..., : self.num_numbers], rows[..., self.num_numbers :].long()
        if self.training and self.unknown_probability:
            ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.unknown_probability, 0)
        embedded = [embedding(ids[..., k]) for k, embedding in enumerate(self.embeddings)]
        return torch.cat([numbers, *embedded], dim=-1)


def embedding_size(vocabulary_size: int) -> int:
    """Size of the embedding of a category: grows as the square root of their number, from 2 to 32.

    >>> embedding_size(5), embedding_size(10_000)
    (3, 32)
    """
    return min(_MAX_EMBEDDING_SIZE, 1 + round(vocabulary_size**0.5))
