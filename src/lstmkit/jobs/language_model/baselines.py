"""Counting n-grams: what a language model must be better than."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits well mixed: the golden ratio's


@dataclass(frozen=True)
class _NGramOrder:
    """What is known of the n-grams of one length: sorted hashes, and for each its discounted share.

    Attributes:
        grams: Hashes of the n-grams seen.
        share: The discounted share of each among those of its context.
        contexts: Hashes of their first ``n - 1`` tokens.
        left: What of each context's probability is left to shorter contexts.
    """

    grams: np.ndarray
    share: np.ndarray
    contexts: np.ndarray
    left: np.ndarray


class KneserNey:
    """N-grams with interpolated, modified Kneser-Ney smoothing.

    S. F. Chen and J. Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3:
    shorter n-grams count in how many contexts they occur, not how often, and three discounts are estimated for each
    length. N-grams are kept as 64-bit hashes.

    Args:
        ids: Tokens of the training text, ``(N,)`` whole numbers below ``vocabulary``.
        order: Longest n-grams.
        vocabulary: Number of different tokens.

    >>> model = KneserNey(np.array([0, 1, 2] * 50), order=2, vocabulary=3)
    >>> bool(model.probabilities(np.array([0, 1, 2, 0]))[1:].min() > 0.9)
    True
    """

    def __init__(self, ids: np.ndarray, order: int, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        hashes = _hashes(ids, order)
        self._orders: list[_NGramOrder] = []
        for n in range(1, order + 1):
            if len(ids) < n:
                break
            longer = hashes[n] if n < order and len(hashes[n]) else None
            self._orders.append(_one_order(hashes, n, longer))

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """``(N,)``: the probability of each token of a text, after the tokens before it."""
        hashes = _hashes(ids, len(self._orders))
        told = np.full(len(ids), 1 / self.vocabulary)
        for n, order in enumerate(self._orders, 1):
            grams = hashes[n - 1]
            before = hashes[n - 2][: len(grams)] if n > 1 else np.zeros(len(grams), np.uint64)
            at, known = _find(order.contexts, before)
            left = np.where(known, order.left[at], 1.0)
            at, known = _find(order.grams, grams)
            share = np.where(known, order.share[at], 0.0)
            told[n - 1 :] = share + left * told[n - 1 :]
        return told

    def perplexity(self, ids: np.ndarray) -> float:
        """Of a text: ``exp`` of the mean surprise in nats."""
        return float(np.exp(-np.log(self.probabilities(ids)).mean()))


def _one_order(hashes: list[np.ndarray], n: int, longer: np.ndarray | None) -> _NGramOrder:
    grams = hashes[n - 1]
    if longer is None:
        kinds, first, counts = np.unique(grams, return_index=True, return_counts=True)
    else:  # in how many different contexts: each kind of longer n-gram once, without its first token
        _, where = np.unique(longer, return_index=True)
        positions = where + 1
        kinds, at, counts = np.unique(grams[positions], return_index=True, return_counts=True)
        first = positions[at]
    before = hashes[n - 2][first] if n > 1 else np.zeros(len(kinds), np.uint64)
    contexts, context = np.unique(before, return_inverse=True)
    total = np.bincount(context, weights=counts)
    discounts = _discounts(counts)
    share = (counts - discounts[np.minimum(counts, 3)]) / total[context]
    taken = sum(
        discounts[c] * np.bincount(context, weights=counts == c if c < 3 else counts >= 3, minlength=len(contexts))
        for c in (1, 2, 3)
    )
    return _NGramOrder(kinds, share, contexts, taken / total)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """For counts of 0, 1, 2, 3 and more (Chen and Goodman 1998, eq. 17); of small texts one for all, or 1/2."""
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, y, y, y])
    found = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(found, 0.0, [0.0, 1.0, 2.0, 3.0])


def _hashes(ids: np.ndarray, order: int) -> list[np.ndarray]:
    """For n = 1 … ``order`` the hashes of the n-grams that start at each token, ``(N - n + 1,)``."""
    tokens = _mixed(np.asarray(ids).astype(np.uint64) + np.uint64(1))
    found = [tokens]
    for n in range(2, order + 1):
        found.append(_mixed(found[-1][: max(0, len(tokens) - n + 1)] * _PRIME + tokens[n - 1 :]))
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """Each number as another whose bits all hang on all of its (splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _find(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``wanted`` is in the sorted ``known``, and whether it is there."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return at, known[at] == wanted
