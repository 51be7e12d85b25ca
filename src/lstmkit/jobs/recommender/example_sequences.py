"""Sessions of a recommender as example sequences, to inspect what its network does on them."""

from __future__ import annotations

import numpy as np
import torch

from lstmkit.data.sessions import Sessions
from lstmkit.errors import DataError
from lstmkit.jobs.recommender.predictor import RecommenderPredictor
from lstmkit.look.traces import ExampleSequence

_MAX_STEPS = 200  #: The last items of a session.
_MAX_SESSIONS = 16  #: Sessions that are searched.


def example_sessions(predictor: RecommenderPredictor, sessions: Sessions, session_number: int) -> list[ExampleSequence]:
    """The last known items of sessions, that of number ``session_number`` (from 1) in front.

    Raises:
        DataError: There is no session of that number, or it has no item of the catalog.
    """
    if not 1 <= session_number <= len(sessions):
        raise DataError(f"there is no session {session_number} in {sessions.name}: it has 1 to {len(sessions)}")
    first = session_number - 1
    rows = [first, *(i for i in range(len(sessions)) if i != first)]
    indices = predictor.item_indices(sessions.subset(np.array(rows)))
    known = [(i, items[items >= 0][-_MAX_STEPS:]) for i, items in zip(rows, indices, strict=True)]
    if not len(known[0][1]):
        raise DataError(
            f"session {session_number} of {sessions.name} has no item of the catalog: choose another session_number"
        )
    examples = [(i, items) for i, items in known if len(items)][:_MAX_SESSIONS]
    return [_example(predictor, items, f"session {sessions.names[i]}") for i, items in examples]


def _example(predictor: RecommenderPredictor, items: np.ndarray, name: str) -> ExampleSequence:
    network = predictor.network.eval()
    inputs = torch.from_numpy(items).unsqueeze(0).to(next(network.parameters()).device)
    with torch.no_grad():
        best = int(network(inputs)[0][0, -1].argmax())
    annotations = {
        "training count": predictor.counts[items].astype(float),
        "seen before": np.array([float(item in items[:t]) for t, item in enumerate(items)]),
    }
    return ExampleSequence(
        inputs,
        name=name,
        labels=[predictor.catalog[i] for i in items],
        annotations={what: values for what, values in annotations.items() if values.std() > 0},
        answers={f"score of {predictor.catalog[best]}, the best next item": lambda output: output[0, -1, best]},
    )
