"""Figures of event classification: precision and recall, and the events of an entity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.event_classifier.attribution import attributed_columns, event_attribution, suspicions
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.plots.style import (
    BLACK,
    GRAY,
    PALETTE,
    SMALL,
    legend,
    line_style,
    new_figure,
    note_selection,
    style_axes,
    truncated,
)

_MAX_CURVES = 4
_MAX_EVENTS = 300  # of an entity, the last ones up to the most suspicious one and some after it
_AFTER = 30
_MAX_COLUMNS = 3


def precision_recall_figure(
    is_positive: np.ndarray, scores: Mapping[str, np.ndarray], point: tuple[float, float]
) -> Figure:
    """Draw precision against recall.

    Args:
        is_positive: ``(N,)`` bool.
        scores: By model ``(N,)`` probabilities of the positive class; the first four are drawn.
        point: Recall and precision of the first model at its threshold; NaN without alarms.
    """
    figure = new_figure(3.6, width=5.6)
    ax = figure.subplots()
    handles: dict[str, Artist] = {}
    for i, (name, of_model) in enumerate(list(scores.items())[:_MAX_CURVES]):
        precision, recall, _ = precision_recall_curve(is_positive, of_model)
        (handles[name],) = ax.step(recall, precision, where="post", linewidth=1.5, **line_style(i))
    if np.isfinite(point).all():
        (handles["at the threshold"],) = ax.plot(*point, marker="o", markersize=7, color=BLACK, linestyle="none")
    handles["no skill"] = ax.axhline(is_positive.mean(), color=GRAY, linewidth=1, linestyle=":")
    ax.set(xlim=(0, 1.01), ylim=(0, 1.02))
    ax.set_xlabel("recall", fontsize=SMALL)
    ax.set_ylabel("precision", fontsize=SMALL)
    style_axes(ax)
    legend(figure, handles)
    return figure


def entity_figure(predictor: EventPredictor, events: RowSequences, probabilities: np.ndarray) -> Figure:
    """The events of the entity with the most suspicious one: probabilities, and the numbers that decided about it."""
    suspicion = suspicions(predictor, probabilities)
    peak = int(suspicion.argmax())
    entity = int(events.entities[peak])
    start, stop = int(events.starts[entity]), int(events.starts[entity + 1])
    stop = min(stop, peak + _AFTER)
    start = max(start, stop - _MAX_EVENTS)
    shown = slice(start, stop)
    numbers = _deciding_numbers(predictor, events, int(events.starts[entity]), peak, probabilities)
    figure = new_figure(2.3 + 1.1 * len(numbers))
    axes: Any = figure.subplots(
        1 + len(numbers), 1, sharex=True, squeeze=False, height_ratios=[1.7, *[1] * len(numbers)]
    )
    steps = np.arange(stop - start)
    handles = _draw_probabilities(axes[0, 0], predictor, probabilities[shown], steps)
    handles |= _draw_labels(axes[0, 0], predictor, events, shown)
    for ax, column in zip(axes[1:, 0], numbers, strict=True):
        ax.plot(steps, events.numbers[shown, column], color=BLACK, linewidth=0.9, marker=".", markersize=3.5)
        ax.set_title(truncated(events.number_names[column]), fontsize=SMALL, loc="left", parse_math=False)
        style_axes(ax)
    for ax in axes[:, 0]:
        ax.axvline(peak - start, color=PALETTE[1], linewidth=1, linestyle=":")
    _label_events(axes[-1, 0], events, shown)
    legend(figure, handles, title=events.names[entity])
    return note_selection(figure, len(events), "entities", which="the most suspicious")


def _draw_probabilities(
    ax: Any, predictor: EventPredictor, probabilities: np.ndarray, steps: np.ndarray
) -> dict[str, Artist]:
    positive = predictor.positive
    if positive is None:
        image = ax.imshow(
            probabilities.T, aspect="auto", cmap=colormaps["Blues"], vmin=0, vmax=1, interpolation="nearest"
        )
        ax.figure.colorbar(image, ax=ax, label="probability")
        names = [truncated(name, 16) for name in predictor.classes]
        ax.set_yticks(range(len(names)), names, fontsize=SMALL - 1, parse_math=False)
        return {}
    of_class, threshold = probabilities[:, positive], predictor.threshold
    alarms = of_class >= threshold
    handles: dict[str, Artist] = {}
    (handles[f"probability of {predictor.positive_class}"],) = ax.plot(
        steps, of_class, color=PALETTE[0], linewidth=1.2, marker=".", markersize=4
    )
    handles["threshold"] = ax.axhline(threshold, color=GRAY, linewidth=1, linestyle="--")
    if alarms.any():
        (handles["alarm"],) = ax.plot(
            steps[alarms], of_class[alarms], color=PALETTE[1], marker="o", markersize=6, linestyle="none"
        )
    ax.set_ylim(-0.03, 1.05)
    style_axes(ax)
    return handles


def _draw_labels(ax: Any, predictor: EventPredictor, events: RowSequences, shown: slice) -> dict[str, Artist]:
    """Mark the events whose known label is the positive one."""
    if events.targets is None or predictor.positive is None:
        return {}
    places = np.flatnonzero(events.targets[shown, 0] == predictor.positive_class)
    if not len(places):
        return {}
    (marks,) = ax.plot(places, np.full(len(places), 1.1), "v", color=BLACK, markersize=4.5, clip_on=False)
    return {f"labeled {predictor.positive_class}": marks}


def _deciding_numbers(
    predictor: EventPredictor, events: RowSequences, first: int, peak: int, probabilities: np.ndarray
) -> list[int]:
    """Up to three columns of numbers that contributed most to the decision about event ``peak``."""
    if not events.number_names:
        return []
    positive = predictor.positive
    shown = int(probabilities[peak].argmax()) if positive is None else positive
    own = np.arange(first, peak + 1)
    features = predictor.encode(events)[own]
    strength = np.abs(event_attribution(predictor, features, shown)).sum(axis=0)
    by_name = dict(zip(attributed_columns(predictor), strength, strict=True))
    order = sorted(range(len(events.number_names)), key=lambda k: -by_name[events.number_names[k]])
    return order[:_MAX_COLUMNS]


def _label_events(ax: Any, events: RowSequences, shown: slice) -> None:
    """Label the axis with the times of some events."""
    count = shown.stop - shown.start
    places = np.unique(np.linspace(0, count - 1, min(5, count)).astype(int))
    if isinstance(events.times, pd.DatetimeIndex):
        labels = [f"{events.times[shown.start + place]:%Y-%m-%d\n%H:%M}" for place in places]
    elif events.times is not None:
        labels = [f"{events.times[shown.start + place]:,.6g}" for place in places]
    else:
        labels = [f"{place + 1:,}" for place in places]
    ax.set_xticks(places, labels, fontsize=SMALL - 1)
    ax.set_xlabel("event" if events.times is None else "time of the event", fontsize=SMALL)
    ax.set_xlim(-0.5, count - 0.5)
