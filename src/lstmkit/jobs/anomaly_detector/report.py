"""What a detector's run shows: the table, recordings with their alarms, what it has learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lstmkit.jobs.anomaly_detector.plots import anomaly_figure
from lstmkit.progress import default_progress
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.data.series.sensor_series import SensorSeriesSet
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector

_DRAWN = 4


def sections(job: AnomalyDetector, examples: SensorSeriesSet) -> list[Section]:
    """The whole of the report that is about anomalies."""
    found = []
    if job.evaluation is None:
        text = (
            "The data have no labels, or nothing was held out: how well it detects is not known. Below is what it says."
        )
        found.append(Section("Test", text=text))
    else:
        said = "On the end of each recording, which nothing was fitted to. " + " ".join(job.evaluation.notes)
        found.append(Section("How well it detects", said, job.evaluation.table, best=job.evaluation.best))
    return [*found, *_drawn(job, examples), _data(job, examples)]


def _drawn(job: AnomalyDetector, examples: SensorSeriesSet) -> list[Section]:
    shown = job.tested or job.detect(examples, default_progress())
    most = sorted(shown, key=lambda one: -int(one.alarms.sum()))[:_DRAWN]
    found = []
    for one in most:
        rows = one.rows(job.gap)
        title = f"Alarms in {one.recording.name}"
        text = (
            f"{len(rows):,} stretches of alarms, {int(one.alarms.sum()):,} of {len(one.scores):,} steps."
            if rows
            else "No alarm."
        )
        found.append(Section(title, text, pd.DataFrame(rows) if rows else None, anomaly_figure(one), caption=title))
    return found


def _data(job: AnomalyDetector, examples: SensorSeriesSet) -> Section:
    counts = [len(examples), sum(map(len, examples.items)), len(job.names), len(job.watched)]
    names = ["recordings", "steps", "channels", "of them watched"]
    return Section("The data", " ".join(examples.notes), pd.DataFrame({"data": names, "count": counts}))
