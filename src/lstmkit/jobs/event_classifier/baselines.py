"""Baselines of event classification: scikit-learn's models on the columns of an event and aggregates of its entity."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lstmkit.data.tables.row_encoding import DAY, elapsed_times
from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.progress import Progress

MAX_TRAIN_EVENTS = 200_000  #: Labeled training events that the baselines are fitted to; of more a random sample.
_LAST_EVENTS = (5, 20)  # over which numbers are averaged
_MAX_CATEGORIES = 100  # of a column, for logistic regression
_TREES = 100


def aggregates(events: RowSequences) -> np.ndarray:
    """What came before each event of its entity, ``(R, A)`` float64, NaN where nothing did.

    For every number its mean over the last 5 and the last 20 earlier events, and the difference from it; the number
    of earlier events; with times the time since the last event; with dates the events of the last day and week.
    """
    first = events.starts[:-1][events.entities]
    position = np.arange(events.num_rows)
    parts = [(position - first)[:, None].astype(np.float64)]
    known = ~np.isnan(events.numbers)
    zero = np.zeros((1, events.numbers.shape[1]))
    sums = np.concatenate([zero, np.cumsum(np.where(known, events.numbers, 0.0), axis=0)])
    counts = np.concatenate([zero, np.cumsum(known, axis=0)])
    for last in _LAST_EVENTS:
        start = np.maximum(first, position - last)
        count = counts[position] - counts[start]
        mean = np.where(count > 0, (sums[position] - sums[start]) / np.maximum(count, 1), np.nan)
        parts += [mean, events.numbers - mean]
    if events.seconds is not None:
        parts.append(elapsed_times(events.seconds, events.starts)[:, None])
        if events.clock_seconds is not None:
            parts += [_events_within(events, days * DAY, first)[:, None] for days in (1, 7)]
    return np.concatenate(parts, axis=1)


def _events_within(events: RowSequences, seconds: float, first: np.ndarray) -> np.ndarray:
    """``(R,)`` earlier events of the entity in the last ``seconds``."""
    assert events.seconds is not None
    position = np.arange(events.num_rows)
    earliest = np.empty(events.num_rows)
    for start, stop in zip(events.starts[:-1], events.starts[1:], strict=True):
        own = events.seconds[start:stop]
        earliest[start:stop] = start + np.searchsorted(own, own - seconds)
    return position - np.maximum(earliest, first)


class EventBaselines:
    """Models of scikit-learn with their default settings, fitted when they are first needed.

    Args:
        predictor: The fitted encoding and classes; it needs no network.
        train: The training events.
        progress: Where to report progress.

    Attributes:
        valid: Validation events, to which thresholds are fitted; ``None`` for a threshold of 0.5.
        num_train: Labeled training events.
    """

    def __init__(self, predictor: EventPredictor, train: RowSequences, progress: Progress) -> None:
        self.valid: RowSequences | None = None
        self._predictor, self._train, self._progress = predictor, train, progress
        self.num_train = int((predictor.targets(train) >= 0).sum())

    def probabilities(self, events: RowSequences) -> dict[str, np.ndarray]:
        """Probabilities ``(R, C)`` of all events, by the name of the baseline."""
        features = self._features(events)
        return {name: self._of_all_classes(model, features[kind]) for name, (kind, model) in self._models.items()}

    def _of_all_classes(self, model: Any, features: np.ndarray) -> np.ndarray:
        known = model.predict_proba(features)
        probabilities = np.zeros((len(features), len(self._predictor.classes)))
        probabilities[:, model.classes_] = known
        return probabilities

    def _features(self, events: RowSequences) -> dict[str, np.ndarray]:
        """``(R, F)`` of all events: their columns, with numbers as they are, and these with aggregates."""
        columns = self._predictor.encode(events).astype(np.float64)
        columns[:, : events.numbers.shape[1]] = events.numbers
        return {"columns": columns, "aggregates": np.concatenate([columns, aggregates(events)], axis=1)}

    @cached_property
    def _models(self) -> dict[str, tuple[str, Any]]:
        """By name the kind of features, and the fitted model."""
        targets = self._predictor.targets(self._train)
        rows = np.flatnonzero(targets >= 0)
        if len(rows) > MAX_TRAIN_EVENTS:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_TRAIN_EVENTS])
        plans = [
            ("logistic regression, columns", "columns", self._logistic_regression),
            ("random forest, columns", "columns", _random_forest),
            ("random forest, columns and aggregates", "aggregates", _random_forest),
            ("gradient boosting, columns", "columns", _boosting),
            ("gradient boosting, columns and aggregates", "aggregates", _boosting),
        ]
        features = {kind: values[rows] for kind, values in self._features(self._train).items()}
        models: dict[str, tuple[str, Any]] = {}
        with self._progress.task("fitting baselines", len(plans)) as task, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for done, (name, kind, make_model) in enumerate(plans, 1):
                models[name] = kind, make_model().fit(features[kind], targets[rows])
                task.update(done)
        return models

    def _logistic_regression(self) -> Any:
        """Logistic regression on standardized numbers, medians for missing ones, and one-hot categories."""
        count = self._predictor.encoding.num_numbers
        ids = list(range(count, len(self._predictor.encoding.columns)))
        one_hot = OneHotEncoder(max_categories=_MAX_CATEGORIES, handle_unknown="infrequent_if_exist")
        numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        columns = ColumnTransformer([("numbers", numbers, list(range(count))), ("categories", one_hot, ids)])
        return make_pipeline(columns, LogisticRegression(max_iter=1000))


def _random_forest() -> Any:
    return RandomForestClassifier(_TREES, random_state=0)


def _boosting() -> Any:
    return HistGradientBoostingClassifier(random_state=0)
