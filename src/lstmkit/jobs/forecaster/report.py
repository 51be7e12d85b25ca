"""What a forecasting run shows: the table, the pictures, the gates, and what was done to the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.errors import DataError
from lstmkit.jobs.forecaster import plots as pictures
from lstmkit.jobs.forecaster.example_sequences import inspection_inputs
from lstmkit.look import trace_layers
from lstmkit.look.inspection_page import gate_sections
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.data.series.series_set import SeriesSet
    from lstmkit.jobs.forecaster.job import Forecaster


def sections(job: Forecaster, series: SeriesSet) -> list[Section]:
    """The whole of the report that is about forecasting."""
    found = [_forecast_section(job, series), *_evaluation_sections(job, series), *_gate_sections(job, series)]
    return [*found, _data_section(job, series)]


def _forecast_section(job: Forecaster, series: SeriesSet) -> Section:
    try:
        forecast = job.forecast(series)
    except DataError as err:  # covariates that do not reach past the end of the data: no forecast, but a report
        return Section("Forecast", text=f"No forecast past the end of the data: {err}.")
    text = f"The next {job.horizon} steps after the end of the data, with intervals calibrated on the validation part."
    figure = pictures.forecast(series.to_frame(), forecast, job.levels)
    return Section("Forecast", text, forecast, figure, caption=f"Forecast of the next {job.horizon} steps")


def _evaluation_sections(job: Forecaster, series: SeriesSet) -> list[Section]:
    evaluation = job.evaluation
    if evaluation is None:
        return [Section("Test", text="No part of the data was held out (test_windows=0), so there is no test.")]
    models = evaluation.table["model"].tolist()
    ours, baselines = models[0], models[1:]
    levels, details = sorted(job.levels), evaluation.details
    drawn = details.rename(columns=lambda c: c.replace(ours, "forecast", 1) if c.startswith(ours) else c)
    windows = pictures.forecast(series.to_frame(), drawn, levels, baselines=baselines)
    return [
        Section("Test", " ".join(evaluation.notes), evaluation.table, best=evaluation.best),
        Section("Forecasts and what came", figure=windows, caption="Forecasts from rolling origins, and what came"),
        Section(
            "Error by step",
            table=pictures.step_errors(details, models),
            figure=pictures.error_by_step(details, models),
            caption="Mean absolute error at each step of the horizon",
        ),
        Section(
            "Can the intervals be believed?",
            "An interval stated as 80 % should hold what came in 80 % of the cases.",
            figure=pictures.calibration(details, ours, levels),
            caption="Stated and observed coverage of the intervals",
        ),
    ]


def _gate_sections(job: Forecaster, series: SeriesSet) -> list[Section]:
    """The gates of the last layer over the first series' last window; ``lstmkit look`` shows more."""
    example_sequence = inspection_inputs(job, series, None)[0]
    *_, last = trace_layers(job.network, example_sequence).values()
    return gate_sections(example_sequence, last)


def _data_section(job: Forecaster, series: SeriesSet) -> Section:
    plan, lengths = job.plan, series.lengths
    missing = sum(int(np.isnan(y).sum()) for y in series.y)
    rows = {
        "series": str(len(series)),
        "steps a series": f"{lengths.min()} to {lengths.max()}" if lengths.min() < lengths.max() else f"{lengths[0]}",
        "frequency": str(plan.freq),
        "season": f"{plan.season} steps" + (", each much like the last" if plan.regular else ""),
        "window": f"{plan.past} steps, {plan.patch} folded into one" if plan.patch > 1 else f"{plan.past} steps",
        "missing values": str(missing),
        "covariates": ", ".join([*job.past, *job.future, *job.static]) or "none",
    }
    text = "Missing values are told to the model as missing; they are never a target, part of a scale, or scored."
    table = pd.DataFrame({"what": list(rows), "found": list(rows.values())})
    return Section("Data", " ".join([text, *(f"{note.rstrip('.')}." for note in series.notes)]), table)
