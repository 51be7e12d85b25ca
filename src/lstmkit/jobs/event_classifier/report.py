"""The report of an event classifier: results, precision and recall, calibration, what decided, and the data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.common.classification_report import calibration_section, confusion_section, scores_by_class
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.event_classifier.attribution import attributed_columns, event_attribution
from lstmkit.jobs.event_classifier.leakage import leaking_columns
from lstmkit.jobs.event_classifier.metrics import EventOutputs
from lstmkit.jobs.event_classifier.plots import entity_figure, precision_recall_figure
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.plots.contributions import contribution_figure
from lstmkit.report import Section, quantities

_NUM_SUSPICIOUS = 20
_NUM_EXPLAINED = 50  # events whose contributions are averaged


def event_sections(predictor: EventPredictor, events: RowSequences, evaluation: Evaluation | None) -> list[Section]:
    """The sections of the report; ``events`` are all data of the run."""
    data = _data_section(predictor, events)
    if evaluation is None:
        return [Section("Results", "No labeled events were held out, so there are no scores."), data]
    outputs: EventOutputs = evaluation.outputs
    probabilities = next(iter(outputs.probabilities.values()))
    sections = [Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)]
    predicted = predictor.decisions.predicted(probabilities)
    sections += _binary_sections(predictor, outputs, evaluation)
    sections.append(confusion_section(outputs.targets, predicted, predictor.classes))
    if predictor.positive is None:
        names = np.array(predictor.classes, dtype=object)
        table = scores_by_class(names[outputs.targets], names[predicted], predictor.classes, "label")
        sections.append(Section("Results by label", f"On {evaluation.part}.", table))
    sections.append(calibration_section(probabilities, outputs.uncalibrated, outputs.targets))
    return [*sections, *_explanation_sections(predictor, outputs, probabilities), data]


def _binary_sections(predictor: EventPredictor, outputs: EventOutputs, evaluation: Evaluation) -> list[Section]:
    positive = predictor.positive
    is_positive = outputs.targets == positive
    if positive is None or not is_positive.any():
        return []
    scores = {name: of_model[:, positive] for name, of_model in outputs.probabilities.items()}
    by_quality = evaluation.table.iloc[1:].sort_values("average precision", ascending=False, kind="stable")["model"]
    names = [evaluation.table["model"].iloc[0], *by_quality]
    point = evaluation.table[["recall", "precision"]].iloc[0].astype(float).tolist()
    figure = precision_recall_figure(is_positive, {name: scores[name] for name in names}, (point[0], point[1]))
    text = "Precision is the fraction of alarms that are right, recall the fraction of positive events that are alarms."
    return [Section("Precision and recall", text, figure=figure, caption="Precision against recall")]


def _explanation_sections(predictor: EventPredictor, outputs: EventOutputs, probabilities: np.ndarray) -> list[Section]:
    """The most suspicious events, and what decided about them."""
    events, rows = outputs.events, np.flatnonzero(outputs.scored)
    positive = predictor.positive
    shown = int(predictor.counts.argmin()) if positive is None else positive
    name = predictor.classes[shown]
    order = np.argsort(-probabilities[:, shown], kind="stable")
    features, columns = predictor.encode(events), attributed_columns(predictor)
    table, strengths, past = [], [], []
    for rank, place in enumerate(order[:_NUM_EXPLAINED].tolist()):
        row = int(rows[place])
        first = int(events.starts[events.entities[row]])
        contributions = event_attribution(predictor, features[first : row + 1], shown)
        by_column = contributions.sum(axis=0)
        strengths.append(np.abs(contributions).sum(axis=0))
        past.append(np.abs(contributions[:-1]).sum() / max(np.abs(contributions).sum(), 1e-12))
        if rank < _NUM_SUSPICIOUS:
            top = np.argsort(-np.abs(by_column), kind="stable")[:3]
            table.append(
                {
                    "entity": events.names[events.entities[row]],
                    **({} if events.times is None else {"time": str(events.times[row])}),
                    f"probability of {name}": probabilities[place, shown],
                    "true label": predictor.classes[outputs.targets[place]],
                    "columns that decided": ", ".join(f"{columns[k]} ({by_column[k]:+.2f})" for k in top),
                }
            )
    means = dict(zip(columns, np.mean(strengths, axis=0).tolist(), strict=True))
    figure = contribution_figure(means, label=f"mean absolute contribution to the log odds of {name}")
    text = (
        f"Contributions to the log odds of {name!r} by integrated gradients, compared with events of mean numbers and "
        f"unknown categories, for the {len(strengths)} most suspicious events. Earlier events of the entity have "
        f"{np.mean(past):.0%} of the contributions."
    )
    return [
        Section("Most suspicious events", "The number after a column is its contribution.", pd.DataFrame(table)),
        Section("What decided", text, figure=figure, caption="Contributions of the columns"),
        Section(
            "An entity",
            "The events of the entity with the most suspicious event, and the numbers that contributed most.",
            figure=entity_figure(predictor, events, predictor.probabilities(events)),
            caption="Probabilities and numbers over the events of an entity",
        ),
    ]


def _data_section(predictor: EventPredictor, events: RowSequences) -> Section:
    labels = events.require_targets()[:, 0]
    known = events.has_target
    names, counts = np.unique(labels[known].astype(str), return_counts=True)
    facts = {
        "entities": len(events),
        "events": events.num_rows,
        "labeled events": int(known.sum()),
        **{f"label {name}": int(count) for name, count in zip(names[:12], counts[:12], strict=True)},
        "columns of numbers": len(events.number_names),
        "columns of categories": len(events.category_names),
    }
    notes = [
        f"{note[0].upper()}{note[1:].rstrip('.')}." for note in (*events.notes, *leaking_columns(predictor, events))
    ]
    return Section("The data", " ".join(notes), quantities("data", facts))
