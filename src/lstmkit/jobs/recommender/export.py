"""A recommender as a graph: items and the state before them to the scores of all items and the new state."""

from __future__ import annotations

from lstmkit.export.graphs import JobExport
from lstmkit.jobs.common.token_export import token_step_graph
from lstmkit.jobs.recommender.predictor import RecommenderPredictor


def exported_recommender(predictor: RecommenderPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    settings = {
        "catalog": list(predictor.catalog),
        "exclude_seen": predictor.excludes_seen,
        "has_probabilities": predictor.top_k_options(1).has_probabilities,
    }
    return JobExport({"network": token_step_graph(predictor.model, "items", "scores")}, settings)
