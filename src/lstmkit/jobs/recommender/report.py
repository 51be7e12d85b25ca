"""The report of a recommender: results, recall by list length and by popularity, examples, training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.sessions import Sessions
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.recommender.metrics import UNRANKED, recall
from lstmkit.jobs.recommender.plots import recall_figure, recommendations_figure
from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.jobs.recommender.results import Recommendation
from lstmkit.plots.style import note_selection
from lstmkit.report import Section, quantities

_MAX_LIST_LENGTH = 50  # of the drawn recall curve
_NUM_POPULARITY_GROUPS = 4
_NUM_EXAMPLES, _NUM_ITEMS = 8, 5  # examples, and items of each
_NUM_DRAWN = 4  # sessions in a figure


def recommender_sections(
    predictor: RecommenderPredictor, evaluation: Evaluation | None, notes: Sequence[str]
) -> list[Section]:
    """The sections on recommendation.

    Args:
        predictor: The fitted recommender.
        evaluation: Scores; ``None`` if no sessions were held out.
        notes: What was done to read the data.
    """
    data = _data_section(predictor, notes)
    if evaluation is None:
        return [Section("Results", "No sessions were held out, so there are no scores."), data]
    return [
        _results_section(predictor, evaluation),
        _list_length_section(predictor, evaluation),
        _popularity_section(predictor, evaluation),
        _examples_section(predictor, evaluation),
        data,
    ]


def _results_section(predictor: RecommenderPredictor, evaluation: Evaluation) -> Section:
    k = predictor.settings.eval_k
    text = (
        f"Recall@{k} is the fraction of next items among the first {k} recommendations. MRR@{k} is the mean of 1 / "
        f"rank, 0 beyond rank {k}. "
    )
    return Section("Results", text + evaluation.introduction, evaluation.table, best=evaluation.directions)


def _ranks(evaluation: Evaluation) -> dict[str, np.ndarray]:
    details = evaluation.details
    return {name: details[name].replace(0, UNRANKED).to_numpy() for name in evaluation.table["model"]}


def _list_length_section(predictor: RecommenderPredictor, evaluation: Evaluation) -> Section:
    lengths = list(range(1, min(_MAX_LIST_LENGTH, len(predictor.catalog)) + 1))
    curves = {name: np.array([recall(ranks, k) for k in lengths]) for name, ranks in _ranks(evaluation).items()}
    return Section(
        "Recall by list length",
        "The fraction of next items in a list of that length.",
        pd.DataFrame({"length": lengths, **curves}),
        recall_figure(lengths, curves),
        caption="Recall by list length",
    )


def _popularity_section(predictor: RecommenderPredictor, evaluation: Evaluation) -> Section:
    k, ranks = predictor.settings.eval_k, _ranks(evaluation)
    counts = evaluation.details["training count"].to_numpy()
    known = counts[counts > 0]
    quantiles = np.linspace(0, 1, _NUM_POPULARITY_GROUPS + 1)[1:]
    bounds = np.unique(np.quantile(known, quantiles).astype(int)) if len(known) else []
    rows, low = [], 1
    for high in bounds:
        in_group = (counts >= low) & (counts <= high)
        if in_group.any():
            recalls = {name: recall(of_model[in_group], k) for name, of_model in ranks.items()}
            rows.append({"training count": f"{low:,} to {high:,}", "next items": int(in_group.sum()), **recalls})
        low = int(high) + 1
    return Section(
        "Recall by item popularity",
        f"Recall@{k} by how often the next item occurs in the training split.",
        pd.DataFrame(rows),
        best=dict.fromkeys(ranks, "high") if rows else {},
        best_in_rows=True,
    )


def _examples_section(predictor: RecommenderPredictor, evaluation: Evaluation) -> Section:
    test, queries = evaluation.outputs
    details, model = evaluation.details, evaluation.table["model"][0]
    chosen = np.unique(np.linspace(0, len(details) - 1, min(_NUM_EXAMPLES, len(details))).astype(int))
    rows = details.iloc[chosen]
    histories = test.subset(queries.session_index[chosen]).truncate(rows["history length"].to_numpy())
    recommendations = predictor.recommend(histories, predictor.top_k_options(_NUM_ITEMS))
    table = pd.DataFrame(
        {
            "session": rows["session"].tolist(),
            "last items": [" ".join(items[-_NUM_ITEMS:]) for items in histories.items],
            "recommended": [" ".join(recommendation.items) for recommendation in recommendations],
            "next item": rows["next item"].tolist(),
            "rank of next item": [str(rank or "not ranked") for rank in rows[model]],
        }
    )
    text = f"Queries from {evaluation.part}, evenly spaced. The best recommendation comes first."
    return Section("Example recommendations", text, table)


def _data_section(predictor: RecommenderPredictor, notes: Sequence[str]) -> Section:
    counts = predictor.counts
    rows = {
        "items in the catalog": len(predictor.catalog),
        "occurrences of these items": int(counts.sum()),
        "median occurrences per item": int(np.median(counts)),
        "occurrences of the most popular item": int(counts.max()),
    }
    text = " ".join([*(f"{note.rstrip('.')}." for note in notes), "The catalog has only items of the training split."])
    return Section("Training data", text, quantities("training split", rows))


def session_figure(sessions: Sessions, recommendations: Sequence[Recommendation]) -> Figure:
    """The first sessions and their recommendations."""
    panels = {}
    for items, recommendation in list(zip(sessions.items, recommendations, strict=True))[:_NUM_DRAWN]:
        values = recommendation.scores if recommendation.probabilities is None else recommendation.probabilities
        ellipsis = "… " if len(items) > _NUM_ITEMS else ""
        title = f"{recommendation.session}: {ellipsis}{', '.join(items[-_NUM_ITEMS:])}"
        panels[title] = (recommendation.items[:10], values[:10])
    has_probabilities = bool(recommendations) and recommendations[0].probabilities is not None
    figure = recommendations_figure(panels, "probability" if has_probabilities else "score")
    return note_selection(figure, len(recommendations), "sessions", drawn=_NUM_DRAWN)
