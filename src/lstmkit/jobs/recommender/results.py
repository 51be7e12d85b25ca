"""Recommendations, and how the best items are chosen from scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor


@dataclass(frozen=True)
class Recommendation:
    """The most likely next items of a session, the best first.

    Attributes:
        session: The name of the session.
        items: Item ids; empty if no item of the session is in the catalog.
        scores: The score of each item.
        probabilities: The probability of each item among all of the catalog; ``None`` if the model was trained with a
            ranking loss.
        unknown: Items of the session that are not in the catalog, each once. The model skips them.
    """

    session: str
    items: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...] | None
    unknown: tuple[str, ...]


def recommendation_table(recommendations: Sequence[Recommendation]) -> pd.DataFrame:
    """A row per item: session, rank, item, score and, if there is one, probability."""
    parts = []
    for recommendation in recommendations:
        ranks = range(1, len(recommendation.items) + 1)
        frame = pd.DataFrame({"rank": ranks, "item": recommendation.items, "score": recommendation.scores})
        frame.insert(0, "session", recommendation.session)
        if recommendation.probabilities is not None:
            frame = frame.assign(probability=recommendation.probabilities)
        parts.append(frame)
    return pd.concat(parts)


class TopKOptions(NamedTuple):
    """How the best items are chosen from scores.

    Attributes:
        catalog: The ids of the items.
        k: The number of items to recommend.
        exclude_seen: Whether items of the session itself are excluded.
        has_probabilities: Whether the scores are logits.
    """

    catalog: tuple[str, ...]
    k: int
    exclude_seen: bool
    has_probabilities: bool

    def top_k(self, session: str, scores: Tensor, seen: Tensor, unknown: tuple[str, ...]) -> Recommendation:
        """The best items by ``scores (V,)``. ``seen`` has the indices of the session's items, or a mask ``(V,)``."""
        allowed = scores.index_put((seen,), scores.new_tensor(-torch.inf)) if self.exclude_seen else scores
        values, indices = allowed.topk(min(self.k, len(scores)))
        indices = indices[~values.isneginf()]
        probabilities = tuple(scores.softmax(0)[indices].tolist()) if self.has_probabilities else None
        items = tuple(self.catalog[i] for i in indices.tolist())
        return Recommendation(session, items, tuple(scores[indices].tolist()), probabilities, unknown)

    def empty(self, session: str, unknown: tuple[str, ...]) -> Recommendation:
        """The recommendation for a session without a known item: none."""
        return Recommendation(session, (), (), () if self.has_probabilities else None, unknown)
