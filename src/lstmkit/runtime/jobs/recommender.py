"""The most likely next items of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmkit.data.item_catalog import ItemCatalog, item_id
from lstmkit.decoding.recommendation_options import check_recommendation_options
from lstmkit.runtime.arithmetic import softmax
from lstmkit.runtime.base import BATCH, ExportedJob


class Recommender(ExportedJob):
    """Recommends items of the catalog."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.catalog: list[str] = self.settings["catalog"]
        self._item_index = ItemCatalog(self.catalog)

    def predict(self, data: Any, *, k: int = 20, seen_items: str = "") -> list[dict[str, Any]]:
        """The best next items of every session. Items that are not in the catalog are skipped.

        Args:
            data: Sessions as lists of item ids, or a mapping of their names to such lists.
            k: The number of items to recommend.
            seen_items: ``"allow"`` or ``"exclude"`` items of the session; by default as in the settings of the job.

        Returns:
            ``session, items, scores, probabilities, unknown`` of each session.

        Raises:
            DataError: An item is neither text nor a whole number.
            SettingError: ``k`` or ``seen_items`` is out of range.
        """
        check_recommendation_options(k, seen_items)
        named = data if isinstance(data, Mapping) else {str(n): items for n, items in enumerate(data, 1)}
        sessions = {name: [item_id(item, f"session {name}") for item in items] for name, items in named.items()}
        indices = [self._item_index.indices_of(items) for items in sessions.values()]
        known = [own[own >= 0] for own in indices]
        scores = self._scores(known)
        exclude = seen_items == "exclude" if seen_items else self.settings["exclude_seen"]
        return [
            self._record(name, items, own, scores.get(row), k, exclude)
            for row, ((name, items), own) in enumerate(zip(sessions.items(), indices, strict=True))
        ]

    def _scores(self, sessions: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Scores ``(V,)`` after each session with items; sessions of the same length run together."""
        lengths = np.array([len(items) for items in sessions])
        scores: dict[int, np.ndarray] = {}
        for length in sorted(set(lengths.tolist()) - {0}):
            rows = np.flatnonzero(lengths == length)
            for part in np.array_split(rows, -(-len(rows) // BATCH)):
                items = np.stack([sessions[row] for row in part])
                (found,), _ = self.network.step(self.network.zero_states(rows=len(part)), items=items)
                scores.update(zip(part.tolist(), found, strict=True))
        return scores

    def _record(
        self, name: str, items: Sequence[str], indices: np.ndarray, scores: np.ndarray | None, k: int, exclude: bool
    ) -> dict[str, Any]:
        has_probabilities = self.settings["has_probabilities"]
        unknown = tuple(dict.fromkeys(item for item, index in zip(items, indices, strict=True) if index < 0))
        record = {"session": name, "items": (), "scores": (), "probabilities": () if has_probabilities else None}
        if scores is not None:
            allowed = scores.copy()
            if exclude:
                allowed[indices[indices >= 0]] = -np.inf
            best = np.argsort(-allowed, kind="stable")[:k]
            best = best[allowed[best] > -np.inf]
            record |= {"items": tuple(self.catalog[i] for i in best), "scores": tuple(scores[best].tolist())}
            if has_probabilities:
                record["probabilities"] = tuple(softmax(scores)[best].tolist())
        return {**record, "unknown": unknown}
