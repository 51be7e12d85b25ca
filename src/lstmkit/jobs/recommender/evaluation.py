"""What a recommender stands beside: each baseline as strong as the validation part can make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lstmkit.jobs.recommender.baselines import ItemKNN, MarkovChain, MostPopular
from lstmkit.jobs.recommender.metrics import Questions, ranks_from_scores, recall
from lstmkit.progress import Progress

ItemScorer = Callable[[list[np.ndarray]], np.ndarray]

_KNN_HISTORY_LENGTHS = (1, 2, 5, 10, 1000)  # of item-kNN, tried on the validation part
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of the Markov chain's backing off
_MAX_TUNING_QUERIES = 2000  # questions of the validation part


def beside(
    counts: np.ndarray,
    learnt: Sequence[np.ndarray] | None,
    valid: Questions | None,
    drop: bool,
    k: int,
    progress: Progress,
) -> tuple[dict[str, ItemScorer], tuple[str, ...]]:
    """The baselines by name, and what was chosen for them.

    Args:
        counts: ``(V,)`` how often each item was chosen in training.
        learnt: The training sessions; ``None`` for the most popular items alone.
        valid: The validation part; ``None`` to choose nothing.
        drop: Whether items of the session itself are left out.
        k: Length of the list whose recall decides.
        progress: Whom to tell.
    """
    found: dict[str, ItemScorer] = {"most popular": MostPopular(counts)}
    if learnt is None:
        return found, ("A loaded model does not have the sessions that item-kNN and a Markov chain are counted in.",)
    neighbours, chain = ItemKNN(learnt, len(counts)), MarkovChain(learnt, counts)
    found |= {"item-kNN": neighbours, "Markov chain": chain}
    if valid is None or not len(valid.row):
        return found, ()
    asked = valid.some(_MAX_TUNING_QUERIES)
    told: dict[tuple[str, float], float] = {}
    with progress.task("baselines", len(_KNN_HISTORY_LENGTHS) + len(_STRENGTHS)) as task:
        for reach in _KNN_HISTORY_LENGTHS:
            neighbours.reach = reach
            told["reach", reach] = recall(ranks_from_scores(neighbours, asked, len(counts), drop), k)
            task.update(len(told))
        for strength in _STRENGTHS:
            chain.strength = strength
            told["strength", strength] = recall(ranks_from_scores(chain, asked, len(counts), drop), k)
            task.update(len(told))
    neighbours.reach = max(_KNN_HISTORY_LENGTHS, key=lambda reach: told["reach", reach])
    chain.strength = max(_STRENGTHS, key=lambda strength: told["strength", strength])
    last = "item" if neighbours.reach == 1 else f"{neighbours.reach} items"
    return found, (
        f"Chosen on the validation part: item-kNN goes by the last {last}, the Markov chain backs off with a strength "
        f"of {chain.strength:g}.",
    )
