"""How a recommender is served."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.jobs.recommender.streaming import StreamingSession
from lstmkit.jobs.serving import JsonForm, Live, Serving

_MAX_K = 10_000


def serving(predictor: RecommenderPredictor) -> Serving:
    """Sessions, each a list of item ids; a live session gets recommendations after each click."""
    item = predictor.catalog[0]
    return Serving(
        JsonForm(list[list[str | int]], [[item]]),
        max_values={"k": _MAX_K},
        live=Live(partial(_LiveSession, predictor), JsonForm(str | int, item)),
    )


class _LiveSession:
    """Recommends after each item of one connection."""

    def __init__(self, predictor: RecommenderPredictor, k: int = 20, seen_items: str = "") -> None:
        self._session = StreamingSession(predictor, k, seen_items)

    def step(self, message: Any) -> dict[str, Any]:
        return asdict(self._session.add_item(message))

    def finish(self) -> None:
        return None
