"""What a recommender leaves after ``fit``: the catalog of items and the network that scores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.item_catalog import ItemCatalog
from lstmkit.data.sequence_dataset import Sequences
from lstmkit.data.sessions import Columns, Sessions, read_sessions, training_windows
from lstmkit.decoding.recommendation_options import check_recommendation_options
from lstmkit.errors import DataError
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.recommender.item_scores import scores_at_steps
from lstmkit.jobs.recommender.results import Recommendation, TopKOptions
from lstmkit.jobs.recommender.settings import RecommenderSettings
from lstmkit.models.base import Model
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.item_head import ItemHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.training.predict import predict


class RecommenderPredictor(Predictor[RecommenderSettings]):
    """Scores all items of the catalog as the next item of a session.

    Args:
        settings: The settings that it was fitted with.
        catalog: The ids of the ``V`` items, the most popular of the training split first.
        counts: ``(V,)`` how often each item occurs in the training split.

    Attributes:
        item_index: The index of each item in the catalog by its id.
    """

    def __init__(self, settings: RecommenderSettings, catalog: tuple[str, ...], counts: np.ndarray) -> None:
        super().__init__(settings)
        self.catalog, self.counts = catalog, counts
        self.item_index = ItemCatalog(catalog)

    # ---- the front end -------------------------------------------------------------------------------------------

    @classmethod
    def fitted(cls, settings: RecommenderSettings, train: Sessions) -> Self:
        """A predictor whose catalog holds the items of the training sessions.

        Raises:
            DataError: Fewer than two items occur ``min_count`` times.
        """
        counts = Counter(item for items in train.items for item in items)
        frequent = [item for item, count in counts.items() if count >= settings.min_count]
        if len(frequent) < 2:
            times = f" that occur at least {settings.min_count} times" if settings.min_count > 1 else ""
            raise DataError(
                f"{train.name}: the training split has {len(frequent)} different items{times}: give at least two"
            )
        catalog = tuple(sorted(frequent, key=lambda item: (-counts[item], item)))
        return cls(settings, catalog, np.array([counts[item] for item in catalog]))

    def read(self, data: Any) -> Sessions:
        """A file or object as sessions. Raises DataError."""
        return read_recommender_sessions(self.settings, data)

    def item_indices(self, sessions: Sessions) -> list[np.ndarray]:
        """For each session the indices of its items, -1 if an item is not in the catalog."""
        return [self.item_index.indices_of(items) for items in sessions.items]

    def training_windows(self, sessions: Sessions) -> Sequences:
        """Windows over the known items of each session, with the next item as the target at each step.

        Raises:
            DataError: There is no window.
        """
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for items, n_context in zip(self.item_indices(sessions), sessions.n_context, strict=True):
            known = items >= 0
            pairs += training_windows(items[known], max(1, int(known[:n_context].sum())), self.settings.max_items)
        if not pairs:
            raise DataError(
                f"{sessions.name}: no session has two items of the catalog in a row: give more sessions, or a lower "
                "min_count"
            )
        inputs, targets = zip(*pairs, strict=True)
        return Sequences(inputs, targets)

    # ---- the network ---------------------------------------------------------------------------------------------

    def build(self) -> Model:
        s, n_items = self.settings, len(self.catalog)
        width = s.embedding_size or s.hidden_size
        encoder = TokenEncoder(n_items, width, s.item_dropout, s.input_dropout)
        trunk = build_trunk(
            s.cell, width, s.hidden_size, num_layers=s.num_layers, dropout=s.hidden_dropout, variational=True
        )
        tied = encoder.embedding if s.tie_weights else None
        weights = (self.counts**s.sampling_alpha).tolist() if s.num_negatives else ()
        head = ItemHead(trunk.output_size, n_items, tied, s.loss, s.num_negatives, weights, s.bpr_reg)
        return NextTokenModel(encoder, trunk, head, s.dropout)

    # ---- recommendations -----------------------------------------------------------------------------------------

    @property
    def excludes_seen(self) -> bool:
        """Whether the settings exclude items of the session itself."""
        return self.settings.seen_items == "exclude"

    def top_k_options(self, k: int, seen_items: str = "") -> TopKOptions:
        """How the best ``k`` items are chosen; ``seen_items`` is by default that of the settings.

        Raises:
            SettingError: ``k`` or ``seen_items`` is out of range.
        """
        check_recommendation_options(k, seen_items)
        exclude_seen = seen_items == "exclude" if seen_items else self.excludes_seen
        return TopKOptions(self.catalog, k, exclude_seen, self.settings.loss == "cross-entropy")

    def recommend(self, sessions: Sessions, options: TopKOptions) -> list[Recommendation]:
        """The best next items of every session."""
        indices = self.item_indices(sessions)
        unknown = [
            tuple(dict.fromkeys(item for item, index in zip(items, session_indices, strict=True) if index < 0))
            for items, session_indices in zip(sessions.items, indices, strict=True)
        ]
        known = [session_indices[session_indices >= 0] for session_indices in indices]
        readable = [i for i, items in enumerate(known) if len(items)]

        def decode(model: Model, batch: Batch) -> list[Recommendation]:
            assert batch.rows is not None
            sessions_of_batch = [readable[row] for row in batch.rows]
            last_steps = [np.array([len(known[i]) - 1]) for i in sessions_of_batch]
            recommendations: list[Recommendation] = []
            for part, scores in scores_at_steps(model, batch, last_steps):
                recommendations += [
                    options.top_k(sessions.names[i], row, torch.from_numpy(known[i]).to(row.device), unknown[i])
                    for i, row in zip(sessions_of_batch[part], scores, strict=True)
                ]
            return recommendations

        loader = Loader(Sequences([known[i] for i in readable]), 4 * self.settings.batch_size)
        by_session = dict(zip(readable, predict(self.model, loader, decode, device=self.device), strict=True))
        return [by_session.get(i) or options.empty(sessions.names[i], unknown[i]) for i in range(len(sessions))]

    def probabilities(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, V)`` of the next item: the softmax of the scores; popularity if a history is empty.

        Args:
            histories: ``N`` arrays of item indices in order of time.
        """
        probabilities = np.tile((self.counts / self.counts.sum()).astype(np.float32), (len(histories), 1))
        readable = [k for k, history in enumerate(histories) if len(history)]
        if not readable:
            return probabilities

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            assert batch.rows is not None
            last_steps = [np.array([len(histories[readable[row]]) - 1]) for row in batch.rows]
            parts = scores_at_steps(model, batch, last_steps)
            return [row for _, scores in parts for row in scores.softmax(-1).cpu().numpy()]

        loader = Loader(Sequences([histories[k] for k in readable]), 4 * self.settings.batch_size)
        probabilities[readable] = np.stack(predict(self.model, loader, decode, device=self.device))
        return probabilities

    # ---- the saved state -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"catalogue": list(self.catalog), "counts": self.counts.tolist()}

    @classmethod
    def from_state(cls, settings: RecommenderSettings, state: Mapping[str, Any]) -> Self:
        catalog, counts = tuple(state["catalogue"]), np.array(state["counts"], dtype=np.int64)
        if len(catalog) < 2 or len(set(catalog)) < len(catalog) or not all(isinstance(item, str) for item in catalog):
            raise ValueError("the catalog must hold at least two different items")
        if counts.shape != (len(catalog),) or counts.min() < 1:
            raise ValueError("the catalog needs a count of at least 1 for each item")
        return cls(settings, catalog, counts)


def read_recommender_sessions(settings: RecommenderSettings, data: Any) -> Sessions:
    """A file or object as sessions, with the columns of the settings. Raises DataError."""
    return read_sessions(data, Columns(settings.session_col, settings.item_col, settings.time_cols))
