"""The anomaly detector's part of the report: results, series with their alarms, the data."""

from __future__ import annotations

import math

import pandas as pd

from lstmkit.data.series.sensor_series import SensorSeriesSet
from lstmkit.jobs.anomaly_detector.plots import anomaly_figure
from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.jobs.anomaly_detector.settings import AnomalySettings
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.report import Section, quantities

_MAX_DRAWN = 4  # series


def sections(
    predictor: AnomalyPredictor, evaluation: Evaluation | None, results: list[AnomalyResult], series: SensorSeriesSet
) -> list[Section]:
    """Results, the series with the most alarms, and the data.

    Args:
        predictor: Fitted.
        evaluation: Of the examples that were scored, if they have labels.
        results: Of these examples, or of all series if nothing was held out.
        series: Everything that was read.
    """
    if evaluation is None:
        first = Section(
            "Results", "The data have no labels, or no test split was held out, so there are no scores to show."
        )
    else:
        first = Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions)
    return [first, *_detection_sections(predictor, results), _data_section(predictor, series)]


def split_note(settings: AnomalySettings, series: SensorSeriesSet) -> str:
    """Which part of the data trains and which tests, and how to change it."""
    total = sum(map(len, series.items))
    if not series.has_labels:
        return f"{series.name} has no labels: all {total:,} steps train the model and calibrate its threshold."
    held_out = sum(num_test_steps(len(one), settings.test_fraction) for one in series.items)
    if not held_out:
        return f"{series.name} has labels, which fit does not read: all {total:,} steps train and calibrate the model."
    return (
        f"{series.name} has labels: the last {settings.test_fraction:.0%} of each series, {held_out:,} of {total:,} "
        f"steps, test the model; the {total - held_out:,} steps before train it and calibrate its threshold "
        "(test_fraction=0 trains on all)."
    )


def num_test_steps(length: int, test_fraction: float) -> int:
    """Steps of the test part of a series of ``length`` steps."""
    return math.floor(test_fraction * length)


def _detection_sections(predictor: AnomalyPredictor, results: list[AnomalyResult]) -> list[Section]:
    sections = []
    for result in sorted(results, key=lambda r: -int(r.alarms.sum()))[:_MAX_DRAWN]:
        events = result.events(predictor.settings.merge_gap, predictor.settings.max_event_steps)
        title = f"Alarms in {result.series.name}"
        text = f"{len(events):,} events, {int(result.alarms.sum()):,} of {len(result.scores):,} steps are alarms."
        table = pd.DataFrame(events) if events else None
        sections.append(Section(title, text if events else "No alarm.", table, anomaly_figure(result), caption=title))
    return sections


def _data_section(predictor: AnomalyPredictor, series: SensorSeriesSet) -> Section:
    counts = {
        "series": len(series),
        "steps": sum(map(len, series.items)),
        "channels": len(predictor.channel_names),
        "scored channels": len(predictor.scored_channels),
    }
    table = quantities("data", counts)
    notes = [
        split_note(predictor.settings, series),
        *(f"{note[0].upper()}{note[1:].rstrip('.')}." for note in series.notes),
    ]
    return Section("The data", " ".join(notes), table)
