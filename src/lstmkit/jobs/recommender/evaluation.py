"""Evaluation of a recommender: Recall@k and MRR@k among all items, of model and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.sessions import Sessions
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.recommender.baselines import Histories, build_baselines
from lstmkit.jobs.recommender.metrics import (
    UNRANKED,
    RankingQueries,
    ranking_queries,
    ranks_from_model,
    ranks_from_scores,
    score_table,
)
from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.progress import Progress


class EvaluatedSessions(NamedTuple):
    """The outputs of an evaluation: the test sessions, and what was asked of them."""

    sessions: Sessions
    queries: RankingQueries


def evaluate_recommender(
    predictor: RecommenderPredictor,
    test: Sessions,
    train_sessions: Histories | None,
    valid: RankingQueries | None,
    progress: Progress,
) -> Evaluation:
    """Rank the next items of the test sessions among all items of the catalog.

    Args:
        predictor: The fitted recommender.
        test: Sessions that it was not fitted to.
        train_sessions: Item indices of the training sessions, for the baselines; ``None`` if they are not known.
        valid: Queries of the validation split, to tune the baselines.
        progress: Where to report progress.
    """
    settings, exclude_seen, n_items = predictor.settings, predictor.excludes_seen, len(predictor.catalog)
    queries = ranking_queries(predictor.item_indices(test), test.n_context)
    model_ranks = ranks_from_model(
        predictor.model,
        queries,
        exclude_seen,
        batch_size=4 * settings.batch_size,
        device=predictor.device,
        progress=progress,
    )
    baselines, baseline_notes = build_baselines(
        predictor.counts, train_sessions, valid, exclude_seen, settings.eval_k, progress
    )
    ranks = {settings.cell.upper(): model_ranks} | {
        name: ranks_from_scores(scorer, queries, n_items, exclude_seen) for name, scorer in baselines.items()
    }
    table = score_table(ranks, settings.eval_k)
    notes = (*_notes(queries, n_items, exclude_seen), *baseline_notes)
    return Evaluation(
        table,
        dict.fromkeys(list(table)[1:], "high"),
        _details(test, queries, predictor.counts, ranks),
        notes,
        EvaluatedSessions(test, queries),
        ("item-kNN", "Markov chain") if train_sessions is None else (),
        _scored_sessions(queries, model_ranks, settings.eval_k),
    )


def _scored_sessions(queries: RankingQueries, ranks: np.ndarray, k: int) -> ScoredExamples:
    """The sessions with the recall at ``k`` of any of them."""
    _, session = np.unique(queries.session_index, return_inverse=True)
    return ScoredExamples.ratio("sessions", np.bincount(session, ranks <= k), np.bincount(session))


def _details(
    test: Sessions, queries: RankingQueries, counts: np.ndarray, ranks: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """A row per query: the next item, its count in training, and its rank by each model (0: it is not ranked)."""
    lengths = np.bincount(queries.session_index, minlength=len(test))
    step = np.concatenate([np.arange(n) for n in lengths]) + np.repeat(test.n_context, lengths)
    next_items = [test.items[row][t] for row, t in zip(queries.session_index, step, strict=True)]
    frame = pd.DataFrame(
        {
            "session": np.array(test.names, dtype=object)[queries.session_index],
            "history length": step,
            "next item": next_items,
            "training count": np.where(queries.target >= 0, counts[queries.target], 0),
        }
    )
    return frame.assign(**{name: np.where(of_model == UNRANKED, 0, of_model) for name, of_model in ranks.items()})


def _notes(queries: RankingQueries, n_items: int, exclude_seen: bool) -> tuple[str, str]:
    """What a reader must know to read the table."""
    count, unknown = len(queries.session_index), int((queries.target < 0).sum())
    sessions = len(set(queries.session_index.tolist()))
    seen_items = "are not recommended" if exclude_seen else "may be recommended"
    return (
        f"{count:,} next items in {sessions:,} sessions are ranked among all {n_items:,} items. Ties count against "
        f"each model. Items already in the session {seen_items}.",
        f"{unknown:,} of the next items ({unknown / count:.1%}) are not in the catalog. No model can recommend them; "
        "they count as misses.",
    )
