"""The n-gram baseline of language models: interpolated, modified Kneser-Ney."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, with well-mixed bits: the golden ratio


@dataclass(frozen=True)
class _NGramOrder:
    """The n-grams of one order: sorted hashes and discounted probabilities.

    Attributes:
        ngrams: ``(G,)`` sorted hashes of the n-grams.
        probabilities: ``(G,)`` discounted probability of each n-gram in its context.
        contexts: ``(C,)`` sorted hashes of the contexts, the first ``n - 1`` tokens.
        backoff: ``(C,)`` probability mass that each context leaves to the shorter context.
    """

    ngrams: np.ndarray
    probabilities: np.ndarray
    contexts: np.ndarray
    backoff: np.ndarray


class KneserNey:
    """An n-gram language model with interpolated, modified Kneser-Ney smoothing.

    S. F. Chen and J. Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3:
    lower orders count the contexts of an n-gram, not its occurrences, and each order has three discounts. N-grams are
    stored as 64-bit hashes.

    Args:
        ids: ``(N,)`` token ids of the training text, below ``vocab_size``.
        order: Order of the longest n-grams.
        vocab_size: Number of tokens in the vocabulary.

    >>> model = KneserNey(np.array([0, 1, 2] * 50), order=2, vocab_size=3)
    >>> bool(model.probabilities(np.array([0, 1, 2, 0]))[1:].min() > 0.9)
    True
    """

    def __init__(self, ids: np.ndarray, order: int, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        hashes = _hashes(ids, order)
        self._orders: list[_NGramOrder] = []
        for n in range(1, order + 1):
            if len(ids) < n:
                break
            longer = hashes[n] if n < order and len(hashes[n]) else None
            self._orders.append(_ngram_order(hashes, n, longer))

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """``(N,) -> (N,)``: the probability of each token of a text, given the tokens before it."""
        hashes = _hashes(ids, len(self._orders))
        probabilities = np.full(len(ids), 1 / self.vocab_size)
        for n, order in enumerate(self._orders, 1):
            ngrams = hashes[n - 1]
            contexts = hashes[n - 2][: len(ngrams)] if n > 1 else np.zeros(len(ngrams), np.uint64)
            index, known = _find(order.contexts, contexts)
            backoff = np.where(known, order.backoff[index], 1.0)
            index, known = _find(order.ngrams, ngrams)
            discounted = np.where(known, order.probabilities[index], 0.0)
            probabilities[n - 1 :] = discounted + backoff * probabilities[n - 1 :]
        return probabilities

    def perplexity(self, ids: np.ndarray) -> float:
        """Perplexity of a text: ``exp`` of the mean surprisal in nats."""
        return float(np.exp(-np.log(self.probabilities(ids)).mean()))


def _ngram_order(hashes: list[np.ndarray], n: int, longer: np.ndarray | None) -> _NGramOrder:
    """The n-grams of order ``n``; ``longer`` are the hashes of the next order, ``None`` for the highest one."""
    all_ngrams = hashes[n - 1]
    if longer is None:
        ngrams, first, counts = np.unique(all_ngrams, return_index=True, return_counts=True)
    else:  # number of different contexts: each longer n-gram once, without its first token
        _, longer_first = np.unique(longer, return_index=True)
        positions = longer_first + 1
        ngrams, index, counts = np.unique(all_ngrams[positions], return_index=True, return_counts=True)
        first = positions[index]
    context_hashes = hashes[n - 2][first] if n > 1 else np.zeros(len(ngrams), np.uint64)
    contexts, context = np.unique(context_hashes, return_inverse=True)
    total = np.bincount(context, weights=counts)
    discounts = _discounts(counts)
    probabilities = (counts - discounts[np.minimum(counts, 3)]) / total[context]
    discounted = sum(
        discounts[c] * np.bincount(context, weights=counts == c if c < 3 else counts >= 3, minlength=len(contexts))
        for c in (1, 2, 3)
    )
    return _NGramOrder(ngrams, probabilities, contexts, discounted / total)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """``(4,)`` discounts for counts of 0, 1, 2 and 3 or more (Chen and Goodman 1998, eq. 17).

    A text too small to estimate three discounts has one discount for all counts, 1/2 if even that is undefined.
    """
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, y, y, y])
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(discounts, 0.0, [0.0, 1.0, 2.0, 3.0])


def _hashes(ids: np.ndarray, order: int) -> list[np.ndarray]:
    """For n = 1 … ``order`` the hashes of the n-grams that start at each token, ``(N - n + 1,)``."""
    tokens = _mix_bits(np.asarray(ids).astype(np.uint64) + np.uint64(1))
    hashes = [tokens]
    for n in range(2, order + 1):
        hashes.append(_mix_bits(hashes[-1][: max(0, len(tokens) - n + 1)] * _PRIME + tokens[n - 1 :]))
    return hashes


def _mix_bits(values: np.ndarray) -> np.ndarray:
    """Hash each number with splitmix64: every output bit depends on all input bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _find(table: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of each of ``values`` in the sorted ``table``, and whether it is in there."""
    index = np.minimum(np.searchsorted(table, values), len(table) - 1)
    return index, table[index] == values
