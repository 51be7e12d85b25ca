"""Logistic regression on tokens and token pairs, as a module beside a recurrent classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.modules.mixed_regression import MixedRegression

_HASH_FACTORS = (1_000_003, 8_191)  # of the first and the second token of a pair

Ids = TypeVar("Ids", np.ndarray, Tensor)


def pair_buckets(first: Ids, second: Ids, buckets: int) -> Ids:
    """The buckets ``(..., )`` of token pairs: a hash of their ids, so that no vocabulary of pairs is kept."""
    return (first * _HASH_FACTORS[0] + second * _HASH_FACTORS[1]) % buckets


class NgramRegression(MixedRegression):
    """Log-probabilities of classes from a text's tokens and pairs of neighbors, without their order.

    A text is the sum of the features of its tokens and pairs, each with its inverse document frequency (IDF), divided
    by the square root of the sum of squares: TF-IDF of length one, but for features that occur several times.

    Args:
        tokens: Size of the vocabulary, ``V``.
        buckets: Number of features for pairs, ``K``: pairs share them by a hash of their ids.
        classes: Number of classes, ``C``.
        share: Its weight in the probabilities of the classifier, above 0 and below 1.

    >>> module = NgramRegression(tokens=10, buckets=8, classes=3)
    >>> module(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3])
    """

    kind = "ngrams"
    idf: Tensor

    def __init__(self, tokens: int, buckets: int, classes: int, share: float = 0.5) -> None:
        super().__init__(tokens + buckets, classes, share)
        self.tokens, self.buckets = tokens, buckets
        self.register_buffer("idf", torch.zeros(tokens + buckets))

    @property
    def sizes(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "buckets": self.buckets}

    def fit_features(self, encoded: Sequence[np.ndarray]) -> Any:
        features, idf = ngram_matrix(encoded, self.tokens, self.buckets)
        self.idf.copy_(torch.from_numpy(idf))
        return features

    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        counts = torch.full((inputs.shape[0],), inputs.shape[1], device=inputs.device) if lengths is None else lengths
        ends = counts.unsqueeze(1)
        # The pair of the last token has no weight: no other shape, and no guard of an exporter on it.
        pairs = self.tokens + pair_buckets(inputs, inputs.roll(-1, 1), self.buckets)
        features = torch.cat([inputs, pairs], 1)
        idf = self.idf[features] * torch.cat([steps < ends, steps + 1 < ends], 1)
        norm = idf.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
        return F.embedding_bag(features, self.weight, per_sample_weights=idf / norm, mode="sum") + self.bias


def ngram_matrix(encoded: Any, tokens: int, buckets: int) -> tuple[Any, np.ndarray]:
    """The features of :class:`NgramRegression` for fitting.

    Args:
        encoded: Token ids ``(T,)`` of each text.
        tokens: Size of the vocabulary.
        buckets: Number of features for pairs.

    Returns:
        A sparse matrix ``(N, V + K)`` and the inverse document frequencies ``(V + K,)``, smoothed as in scikit-learn.
    """
    from scipy import sparse

    rows = [np.concatenate([ids, tokens + pair_buckets(ids[:-1], ids[1:], buckets)]) for ids in encoded]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows)
    owners = np.repeat(np.arange(len(rows)), np.diff(starts))
    present = np.unique(owners * (tokens + buckets) + columns) % (tokens + buckets)
    frequency = np.bincount(present, minlength=tokens + buckets)
    idf = (np.log((1 + len(rows)) / (1 + frequency)) + 1).astype(np.float32)
    squares = np.bincount(owners, np.square(idf[columns]), minlength=len(rows))
    values = idf[columns] / np.sqrt(squares[owners])
    return sparse.csr_matrix((values, columns, starts), shape=(len(rows), tokens + buckets)), idf
