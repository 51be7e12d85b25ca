"""Evaluation protocols of published benchmarks for session-based recommendation."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.sessions import Sessions
from lstmkit.errors import DataError
from lstmkit.jobs.recommender.baselines import ItemKNN, MarkovChain, MostPopular, build_baselines
from lstmkit.jobs.recommender.job import Recommender
from lstmkit.jobs.recommender.metrics import ranking_queries
from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.progress import Progress
from lstmkit.recipes import Fit
from lstmkit.recipes._next_item import Mixture, choose_weight, hit_rate, ndcg, rank, sample_negatives


def last_days(job: Recommender, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The sessions of the last ``days`` are the test part, those of as many days before are the validation part.

    The data are prepared as by B. Hidasi and Á. Czapp 2023, "The Effect of Third Party Implementations on
    Reproducibility", RecSys. Repeated items count once. Items that occur fewer than ``at_least`` times and sessions of
    one item are dropped until none is left. Test items that are not in the training part are dropped. They split at
    the time of day of the last event; this splits at midnight.
    """
    whole = k_core(drop_repeats(job.read(catalog.locate(folder.name, options["file"]))), options["at_least"])
    learned, test = split_last_days(whole, options["days"])
    train, valid = split_last_days(learned, options["days"])
    fit(train, drop_unseen_items(train, valid))
    return job.evaluate_examples(drop_unseen_items(train, test), progress).table


def next_items(job: Recommender, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Leave one out: the last item of each user is the test, the one before is for validation.

    Users of fewer than three items are for training only; a user of three has no validation. Items of the history are
    not ranked. The next item is ranked among all items, and among ``sampled`` uniform ones that the user never had.

    Weights and the baselines' options are chosen on the validation part. All counts are then taken again with it; the
    network is not trained again.
    """
    path = catalog.locate(folder.name, options["file"])
    sessions = job.read(_users(path) if options["user_per_line"] else _pairs(path))
    long = sessions.lengths > 2
    learned = sessions.truncate(sessions.lengths - long)
    test = sessions.subset(np.flatnonzero(long)).leave_one_out()
    fit(learned)
    predictor, n_items = job.predictor, len(job.catalog)
    split = job.split(learned, None)
    assert split.valid is not None
    valid = ranking_queries(predictor.item_indices(split.valid), split.valid.n_context)
    train = _known(predictor, split.train)
    baselines, _ = build_baselines(predictor.counts, train, valid, exclude_seen=True, k=job.eval_k, progress=progress)
    knn, chain = baselines["item-kNN"], baselines["Markov chain"]
    assert isinstance(knn, ItemKNN)
    assert isinstance(chain, MarkovChain)
    weight = choose_weight(predictor.probabilities, chain, valid, n_items, job.eval_k)

    known = _known(predictor, learned)
    counts = np.bincount(np.concatenate(known), minlength=n_items)
    recounted, neighbors = MarkovChain(known, counts), ItemKNN(known, n_items)
    recounted.backoff_strength, neighbors.history_length = chain.backoff_strength, knn.history_length
    name = job.cell.upper()
    scorers = {
        f"{name} with transition counts (weight {weight:g})": Mixture(predictor.probabilities, recounted, weight),
        f"{name} alone": predictor.probabilities,
        "transition counts": recounted,
        "item-kNN": neighbors,
        "most popular": MostPopular(counts),
    }
    items = sorted({item for session in sessions.items for item in session})
    negatives = sample_negatives(test.items, items, options["sampled"], options["seed"])
    in_catalog = predictor.item_index.indices_of(items)[negatives]
    queries = ranking_queries(predictor.item_indices(test), test.n_context)
    rows = []
    for model, scorer in scorers.items():
        of = rank(scorer, queries, in_catalog, n_items)
        scores = {
            f"{score} among {what}": measure(ranks, job.eval_k)
            for what, ranks in (("all", of.among_all), (f"{options['sampled']} sampled", of.among_sampled))
            for score, measure in ((f"HR@{job.eval_k}", hit_rate), (f"NDCG@{job.eval_k}", ndcg))
        }
        rows.append({"model": model, **scores})
    return pd.DataFrame(rows)


def _users(path: Path) -> list[list[str]]:
    """A user per line: the user, then the items, oldest first."""
    return [line.split()[1:] for line in gzip.decompress(path.read_bytes()).decode("ascii").splitlines()]


def _pairs(path: Path) -> list[list[str]]:
    """A user and an item per line, oldest first."""
    items: dict[str, list[str]] = {}
    for line in gzip.decompress(path.read_bytes()).decode("ascii").splitlines():
        user, item = line.split()
        items.setdefault(user, []).append(item)
    return list(items.values())


def _known(predictor: RecommenderPredictor, sessions: Sessions) -> list[np.ndarray]:
    """The items of each session that are in the catalog, by their index."""
    return [indices[indices >= 0] for indices in predictor.item_indices(sessions)]


def drop_repeats(sessions: Sessions) -> Sessions:
    """Sessions without items that repeat the item before."""
    items = (tuple(b for a, b in zip((None, *items), items, strict=False) if a != b) for items in sessions.items)
    return replace(sessions, items=tuple(items))


def k_core(sessions: Sessions, min_count: int) -> Sessions:
    """Drop rare items and sessions of one item until none is left (the k-core filter).

    Raises:
        DataError: No session is left.
    """
    while len(sessions := sessions.with_targets()):
        counts = Counter(item for items in sessions.items for item in items)
        if min(counts.values()) >= min_count:
            return sessions
        kept = {item for item, n in counts.items() if n >= min_count}
        sessions = _only(sessions, kept)
    raise DataError(
        f"{sessions.name}: no session is left after items that occur fewer than {min_count} times are dropped"
    )


def split_last_days(sessions: Sessions, days: int) -> tuple[Sessions, Sessions]:
    """The sessions before the last ``days``, and those that start in them.

    Raises:
        DataError: Sessions have no dates, or all start in those days.
    """
    if sessions.start_times is None or not np.issubdtype(sessions.start_times.dtype, np.datetime64):
        raise DataError(
            f"{sessions.name}: a split by days needs sessions with dates: name the date column first in time_cols"
        )
    day = sessions.start_times.astype("datetime64[D]")
    late = day > day.max() - np.timedelta64(days, "D")
    if late.all():
        raise DataError(f"{sessions.name} has no session before the last {days} days: nothing is left to train on")
    return sessions.subset(np.flatnonzero(~late)), sessions.subset(np.flatnonzero(late))


def drop_unseen_items(train: Sessions, sessions: Sessions) -> Sessions:
    """Sessions without items that are not in the training part."""
    return _only(sessions, {item for items in train.items for item in items}).with_targets()


def _only(sessions: Sessions, kept: set[str]) -> Sessions:
    items = tuple(tuple(item for item in session if item in kept) for session in sessions.items)
    return replace(sessions, items=items)


PROTOCOLS = {"last_days": last_days, "next_items": next_items}
