"""Scores of an event classifier and of its baselines on the same events."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from lstmkit.data.tables.row_encoding import DAY
from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.event_metrics import entity_precision_at_k
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.event_classifier.baselines import MAX_TRAIN_EVENTS, EventBaselines
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.jobs.event_classifier.results import times_as_text
from lstmkit.jobs.event_classifier.settings import EventClassifierSettings
from lstmkit.progress import Progress

_MIN_PROBABILITY = 1e-6


class EventOutputs(NamedTuple):
    """What an evaluation leaves for the report.

    Attributes:
        events: All events, of which those with a label were scored.
        scored: ``(R,)`` bool.
        targets: ``(N,)`` classes of the scored events.
        probabilities: By model ``(N, C)`` of the scored events, calibrated.
        uncalibrated: ``(N, C)`` of the model itself.
    """

    events: RowSequences
    scored: np.ndarray
    targets: np.ndarray
    probabilities: dict[str, np.ndarray]
    uncalibrated: np.ndarray


def evaluate_events(
    predictor: EventPredictor, events: RowSequences, baselines: EventBaselines | None, progress: Progress
) -> Evaluation:
    """Score the labeled events; the others are context.

    Args:
        predictor: Fitted.
        events: The events.
        baselines: Fitted to the training part; ``None`` if the model was loaded.
        progress: Where to report progress.

    Raises:
        DataError: There are no labels, or a label is not in the training data.
    """
    settings = predictor.settings
    targets = predictor.targets(events)
    scored = targets >= 0
    targets = targets[scored]
    logits = predictor.logits(events, progress)[scored]
    calibrated = predictor.decisions.probabilities(logits)
    name = settings.cell.upper()
    probabilities = {name: calibrated}
    thresholds = {name: predictor.threshold}
    if baselines is not None:
        of_baselines = baselines.probabilities(events)
        probabilities |= {key: values[scored] for key, values in of_baselines.items()}
        thresholds |= _thresholds(predictor, baselines)
    frequencies = predictor.counts / predictor.counts.sum()
    probabilities["class frequencies"] = np.tile(frequencies, (len(targets), 1))
    rows = [
        {"model": key, **_scores(predictor, events, scored, targets, values, thresholds.get(key, 0.5))}
        for key, values in probabilities.items()
    ]
    uncalibrated = replace(predictor.decisions, temperature=1.0).probabilities(logits)
    outputs = EventOutputs(events, scored, targets, probabilities, uncalibrated)
    missing = () if baselines is not None else ("logistic regression, random forest and gradient boosting",)
    return Evaluation(
        pd.DataFrame(rows),
        _directions(rows[0]),
        _details(predictor, outputs, calibrated),
        _notes(predictor, outputs, baselines),
        outputs,
        missing,
        _scored_examples(predictor, targets, calibrated),
    )


def _thresholds(predictor: EventPredictor, baselines: EventBaselines) -> dict[str, float]:
    """Thresholds of the baselines, fitted to the validation part by the rule of the model."""
    valid, positive = baselines.valid, predictor.positive
    if valid is None or positive is None:
        return {}
    targets = predictor.targets(valid)
    known = targets >= 0
    if not (targets == positive).any():
        return {}
    return {
        name: predictor.fitted_threshold(valid, values[known, positive], targets[known] == positive)
        for name, values in baselines.probabilities(valid).items()
    }


def _scores(
    predictor: EventPredictor,
    events: RowSequences,
    scored: np.ndarray,
    targets: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
) -> dict[str, float]:
    """One row of the table."""
    clipped = np.clip(probabilities[np.arange(len(targets)), targets], _MIN_PROBABILITY, 1)
    log_loss = {"log loss": float(-np.log(clipped).mean())}
    positive = predictor.positive
    if positive is None:
        predicted = probabilities.argmax(axis=1)
        macro = f1_score(targets, predicted, average="macro", zero_division=0)  # type: ignore[arg-type]
        return {"accuracy": float(accuracy_score(targets, predicted)), "macro F1": float(macro), **log_loss}
    settings = predictor.settings
    is_positive, scores = targets == positive, probabilities[:, positive]
    both = bool(is_positive.any()) and not is_positive.all()
    row = {
        "average precision": float(average_precision_score(is_positive, scores)) if is_positive.any() else np.nan,
        "ROC AUC": float(roc_auc_score(is_positive, scores)) if both else np.nan,
    }
    if events.clock_seconds is not None and len(events) > 1:
        days = np.floor(events.clock_seconds[scored] / DAY)
        entities = events.entities[scored]
        pairs = np.unique(np.stack([days, entities]), axis=1)[0]
        if np.median(np.unique(pairs, return_counts=True)[1]) > settings.eval_k:  # else most entities are inspected
            precision = entity_precision_at_k(scores, is_positive, days, entities, settings.eval_k)
            row[f"precision@{settings.eval_k} per day"] = precision
    return {**row, **alarm_scores(scores >= threshold, is_positive, settings), **log_loss}


def alarm_scores(alarms: np.ndarray, is_positive: np.ndarray, settings: EventClassifierSettings) -> dict[str, float]:
    """Precision, recall, F1 and cost per event of alarms ``(N,)``; precision is NaN without an alarm."""
    hits, count, positives = int((alarms & is_positive).sum()), int(alarms.sum()), int(is_positive.sum())
    false_cost, miss_cost = settings.false_alarm_cost, settings.miss_cost
    return {
        "precision": hits / count if count else np.nan,
        "recall": hits / positives if positives else np.nan,
        "F1": 2 * hits / (count + positives) if count + positives else np.nan,
        "cost per event": (false_cost * (count - hits) + miss_cost * (positives - hits)) / len(alarms),
    }


def _directions(row: dict[str, object]) -> dict[str, str]:
    low = ("log loss", "cost per event")
    return {name: "low" if name in low else "high" for name in row if name != "model"}


def _details(predictor: EventPredictor, outputs: EventOutputs, probabilities: np.ndarray) -> pd.DataFrame:
    events, scored = outputs.events, outputs.scored
    columns: dict[str, object] = {"id": np.array(events.names, dtype=object)[events.entities[scored]]}
    if events.times is not None:
        columns["time"] = times_as_text(events.times[scored])
    columns["true label"] = np.array(predictor.classes, dtype=object)[outputs.targets]
    return pd.DataFrame(columns | predictor.decisions.columns(probabilities))


def _notes(predictor: EventPredictor, outputs: EventOutputs, baselines: EventBaselines | None) -> tuple[str, ...]:
    targets, positive = outputs.targets, predictor.positive
    entities = len(np.unique(outputs.events.entities[outputs.scored]))
    counted = f"{len(targets):,} labeled events of {entities:,} entities"
    scaling = predictor.scaling.describe("validation events")
    if positive is None:
        notes = [f"{counted}. {scaling}."]
    else:
        share = f"{int((targets == positive).sum()):,} ({(targets == positive).mean():.2%})"
        settings = predictor.settings
        rule = {
            "f1": "the highest F1",
            "cost": "the lowest cost",
            "alarms": f"{settings.alarms_per_day:g} alarms a day",
        }
        threshold = predictor.threshold
        notes = [
            f"{counted}, {share} of them {predictor.positive_class!r}. {scaling}.",
            f"The threshold of alarms is {threshold:.3g}, for {rule[settings.threshold_method]} on the validation "
            "part. Baselines have thresholds by the same rule.",
            f"A false alarm costs {settings.false_alarm_cost:g}, a miss {settings.miss_cost:g}.",
        ]
    if baselines is not None and baselines.num_train > MAX_TRAIN_EVENTS:
        notes.append(f"Baselines are fitted to a random sample of {MAX_TRAIN_EVENTS:,} training events.")
    return tuple(notes)


def _scored_examples(predictor: EventPredictor, targets: np.ndarray, probabilities: np.ndarray) -> ScoredExamples:
    positive = predictor.positive
    if positive is None:
        return ScoredExamples.mean("events", (probabilities.argmax(1) == targets).astype(float), is_fraction=True)
    is_positive, scores = targets == positive, probabilities[:, positive]

    def average_precision(rows: np.ndarray) -> float:
        return float(average_precision_score(is_positive[rows], scores[rows])) if is_positive[rows].any() else np.nan

    return ScoredExamples(len(targets), "events", average_precision)
