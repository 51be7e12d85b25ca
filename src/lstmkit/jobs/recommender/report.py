"""What a recommender's run shows: its table, recall by the list's length and by popularity, what came next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.jobs.recommender.metrics import UNRANKED, Questions, recall
from lstmkit.jobs.recommender.plots import recall_figure, recommendations_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lstmkit.data.sessions import Sessions
    from lstmkit.jobs.recommender.job import Recommender
    from lstmkit.jobs.recommender.results import Recommendation

_LONGEST = 50  # of a list whose recall is drawn
_GROUPS = 4  # of items by popularity
_SHOWN, _ITEMS = 8, 5  # examples, and items of each
_DRAWN = 4  # sessions of a picture


def details(test: Sessions, asked: Questions, counts: np.ndarray, found: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a question: what came next, how often it stood in training, its rank by each model (0: never)."""
    lengths = np.bincount(asked.row, minlength=len(test))
    step = np.concatenate([np.arange(n) for n in lengths]) + np.repeat(test.given, lengths)
    came = [test.items[row][t] for row, t in zip(asked.row, step, strict=True)]
    known = np.where(asked.target >= 0, counts[asked.target], 0)
    frame = pd.DataFrame({"session": np.array(test.names, dtype=object)[asked.row], "items before": step, "came": came})
    frame["times in training"] = known
    return frame.assign(**{name: np.where(ranks == UNRANKED, 0, ranks) for name, ranks in found.items()})


def notes(asked: Questions, found: dict[str, np.ndarray], items: int, k: int, drop: bool) -> list[str]:
    """What must be known to read the table."""
    count, unseen = len(asked.row), int((asked.target < 0).sum())
    ours = recall(next(iter(found.values())), k)
    margin = 1.96 * math.sqrt(ours * (1 - ours) / count)
    again = "are not recommended again" if drop else "may be recommended again"
    return [
        f"{count:,} next items in {len(set(asked.row.tolist())):,} sessions, ranked among all {items:,}; ties count "
        f"against each model; items of the session {again}. Our recall is uncertain by ±{margin:.3f} (95 %).",
        f"{unseen:,} of them ({unseen / count:.1%}) training has not seen: nobody can recommend them, and they count "
        "as misses.",
    ]


def sections(job: Recommender) -> list[Section]:
    """The whole of the report that is about items."""
    if job.evaluation is None or job.tested is None:
        return [Section("Test", "No part of the data was held out (test_share=0), so there is no test."), _read(job)]
    return [_evidence(job), _by_length(job), _by_popularity(job), _examples(job), _read(job)]


def _evidence(job: Recommender) -> Section:
    assert job.evaluation is not None
    text = f"How often what came next stands among the first {job.top} recommended (Recall), and the mean of 1 / rank "
    text += "there (MRR), on the test part, which nothing was fitted to. " + " ".join(job.evaluation.notes)
    return Section("How well it recommends", text, job.evaluation.table, best=job.evaluation.best)


def _ranks(job: Recommender) -> dict[str, np.ndarray]:
    assert job.evaluation is not None
    frame, models = job.evaluation.details, job.evaluation.table["model"]
    return {name: frame[name].replace(0, UNRANKED).to_numpy() for name in models}


def _by_length(job: Recommender) -> Section:
    lengths = list(range(1, min(_LONGEST, len(job.catalogue)) + 1))
    curves = {name: np.array([recall(of, k) for k in lengths]) for name, of in _ranks(job).items()}
    return Section(
        "The longer the list",
        "The share of next items that a list of so many items has.",
        pd.DataFrame({"length": lengths, **curves}),
        recall_figure(lengths, curves),
        caption="Recall by the length of the list",
    )


def _by_popularity(job: Recommender) -> Section:
    assert job.evaluation is not None
    times = job.evaluation.details["times in training"].to_numpy()
    known = times[times > 0]
    bounds = np.unique(np.quantile(known, np.linspace(0, 1, _GROUPS + 1))[1:].astype(int)) if len(known) else []
    rows, low = [], 1
    for high in bounds:
        among = (times >= low) & (times <= high)
        if among.any():
            found = {name: recall(of[among], job.top) for name, of in _ranks(job).items()}
            rows.append({"times in training": f"{low:,} to {high:,}", "next items": int(among.sum()), **found})
        low = int(high) + 1
    return Section(
        "Rare items and popular ones",
        f"Recall@{job.top} by how often the item that came stood in training. What recommends the popular alone finds "
        "nothing else.",
        pd.DataFrame(rows),
        best=dict.fromkeys(_ranks(job), "high") if rows else {},
    )


def _examples(job: Recommender) -> Section:
    assert job.evaluation is not None
    assert job.tested is not None
    test, asked = job.tested
    frame = job.evaluation.details
    shown = np.unique(np.linspace(0, len(frame) - 1, min(_SHOWN, len(frame))).astype(int))
    picked = frame.iloc[shown]
    before = test.part(asked.row[shown]).shorter(picked["items before"].to_numpy())
    told = job.predict(before, k=_ITEMS)
    table = pd.DataFrame(
        {
            "session": picked["session"].tolist(),
            "the last items": [" ".join(items[-_ITEMS:]) for items in before.items],
            "recommended": [" ".join(one.items) for one in told],
            "came": picked["came"].tolist(),
            "rank of what came": [str(rank or "never") for rank in picked.iloc[:, 4]],
        }
    )
    return Section("What came next", "From the test part, evenly spread; the best recommendation first.", table)


def _read(job: Recommender) -> Section:
    text = " ".join([*job.train_notes, "Items are known from the training part alone."])
    counts = [len(job.catalogue), int(job.counts.sum()), int(np.median(job.counts)), int(job.counts.max())]
    names = ["items known", "choices of them", "of an item, median", "of the most popular"]
    return Section("What was read", text, pd.DataFrame({"training part": names, "count": counts}))


def recommended_figure(sessions: Sessions, answer: Sequence[Recommendation]) -> Figure:
    """The first sessions, and what is recommended to each."""
    lists = {}
    for items, one in list(zip(sessions.items, answer, strict=True))[:_DRAWN]:
        values = one.scores if one.probabilities is None else one.probabilities
        before = "… " if len(items) > _ITEMS else ""
        lists[f"{one.session}: {before}{', '.join(items[-_ITEMS:])}"] = (one.items[:10], values[:10])
    stated = bool(answer) and answer[0].probabilities is not None
    return recommendations_figure(lists, "probability" if stated else "score")
