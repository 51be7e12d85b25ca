"""A recommender as a graph: items and the state before them to the scores of all items and the new state."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.recommender.predictor import RecommenderPredictor


def exported_recommender(predictor: RecommenderPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    model = predictor.model

    def step(items: Tensor, state: State) -> tuple[Tensor, State]:
        scores, state = model(items, state)
        return scores[:, -1], state

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        items = torch.zeros(rows, time, dtype=torch.int64)
        with torch.no_grad():
            return {"items": items}, model(items)[1]

    settings = {
        "catalog": list(predictor.catalog),
        "exclude_seen": predictor.excludes_seen,
        "has_probabilities": predictor.top_k_options(1).has_probabilities,
    }
    return JobExport({"network": step_graph(step, example, {"rows": 2, "time": 3}, ["scores"], model)}, settings)
