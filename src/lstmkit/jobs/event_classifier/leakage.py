"""Columns that give the label away."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.event_classifier.predictor import EventPredictor

_LEAK = 0.999  # area under the ROC curve
_MAX_EVENTS = 100_000
_MAX_CATEGORIES = 50  # a column with more may tell the labels of its training events apart by chance
_MIN_POSITIVES = 10


def leaking_columns(predictor: EventPredictor, events: RowSequences) -> tuple[str, ...]:
    """A warning for each column that alone tells the positive events: it may hold what is known only afterwards.

    A column is reported if its area under the ROC curve is above 0.999, on at most 100,000 labeled events.
    """
    positive = predictor.positive_class
    labels = events.require_targets()[:, 0]
    rows = np.flatnonzero(events.has_target)
    rows = rows[np.linspace(0, len(rows) - 1, min(_MAX_EVENTS, len(rows))).astype(int)]
    is_positive = labels[rows] == positive
    if not positive or is_positive.sum() < _MIN_POSITIVES or is_positive.all():
        return ()
    scores = {name: np.nan_to_num(column[rows]) for name, column in _columns(events.number_names, events.numbers)}
    for name, column in _columns(events.category_names, events.categories):
        names, codes = np.unique([str(value) for value in column[rows]], return_inverse=True)
        if len(names) <= _MAX_CATEGORIES:
            scores[name] = (np.bincount(codes, is_positive) / np.bincount(codes))[codes]
    areas = {name: roc_auc_score(is_positive, score) for name, score in scores.items()}
    return tuple(
        f"warning: column {name!r} alone tells the events with label {positive!r} (ROC AUC {max(area, 1 - area):.4f}): "
        f"leave it out with ignored_cols if it is known only afterwards"
        for name, area in areas.items()
        if max(area, 1 - area) > _LEAK
    )


def _columns(names: tuple[str, ...], values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return list(zip(names, values.T, strict=True))
