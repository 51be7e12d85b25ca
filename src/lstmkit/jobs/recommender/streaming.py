"""Recommendations for a session that goes on, item by item."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.data.item_catalog import item_id
from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.jobs.recommender.results import Recommendation


class StreamingSession:
    """A session that goes on: it keeps the state of the network, so each item costs one step, however long it is.

    Args:
        predictor: The fitted recommender.
        k: The number of items to recommend.
        seen_items: ``"allow"`` or ``"exclude"`` items of the session; by default as in the settings.

    Raises:
        SettingError: ``k`` or ``seen_items`` is out of range.
    """

    def __init__(self, predictor: RecommenderPredictor, k: int = 20, seen_items: str = "") -> None:
        self._predictor, self._options = predictor, predictor.top_k_options(k, seen_items)
        self._next_scores = predictor.model.to(predictor.device).eval().stream()
        self._scores: Tensor | None = None
        self._seen = torch.zeros(len(predictor.catalog), dtype=torch.bool, device=predictor.device)
        self._unknown: tuple[str, ...] = ()
        self._length = 0

    @torch.inference_mode()
    def add_item(self, item: str | int) -> Recommendation:
        """Add the next item to the session and recommend what follows.

        Raises:
            DataError: The item id is neither text nor a whole number.
        """
        name = item_id(item, f"item {self._length + 1} of the session")
        self._length += 1
        index = self._predictor.item_index.index_of(name)
        if index >= 0:
            self._seen[index] = True
            inputs = torch.tensor([index], device=self._predictor.device)
            self._scores = self._next_scores(inputs)[0]
        elif name not in self._unknown:
            self._unknown = (*self._unknown, name)
        if self._scores is None:
            return self._options.empty("live", self._unknown)
        return self._options.top_k("live", self._scores, self._seen, self._unknown)
