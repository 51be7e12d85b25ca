"""What a forecasting run shows: the table, the pictures, the gates, and what was done to the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lstmkit.errors import DataError, show_stamp
from lstmkit.look import gates as gate_pictures
from lstmkit.look import pictures
from lstmkit.report import Section

if TYPE_CHECKING:
    from lstmkit.data.series import SeriesSet
    from lstmkit.jobs.forecast import Forecaster


def sections(job: Forecaster, series: SeriesSet) -> list[Section]:
    """The whole of the report that is about forecasting."""
    found = [_forecast_section(job, series), *_evidence_sections(job, series), *gate_sections(job, series, None)]
    return [*found, _data_section(job, series)]


def _forecast_section(job: Forecaster, series: SeriesSet) -> Section:
    try:
        forecast = job.forecast(series)
    except DataError as err:  # covariates that do not reach past the end of the data: no forecast, but a report
        return Section("Forecast", text=f"No forecast past the end of the data: {err}.")
    text = f"The next {job.horizon} steps after the end of the data, with intervals calibrated on the validation part."
    figure = pictures.forecast(series.to_frame(), forecast, job.levels)
    return Section("Forecast", text, forecast, figure, caption=f"Forecast of the next {job.horizon} steps")


def _evidence_sections(job: Forecaster, series: SeriesSet) -> list[Section]:
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


def gate_sections(job: Forecaster, series: SeriesSet, uid: str | None) -> list[Section]:
    """The gates of the last layer over one series' last window, their statistics, and how long units remember."""
    i = 0 if uid is None else series.index(uid)
    trace = job.trace_window(series, i)
    layer = max(layer for layer, _ in trace.gates)
    gates = {name: g[0].float().cpu().numpy() for name, g in trace.gates[layer, 0].items()}
    patch, past = job.plan.patch, job.plan.past
    n_steps = len(next(iter(gates.values())))
    ahead = past // patch < n_steps
    known = series.y[i][-past:]
    before = past - len(known)  # a series shorter than the window
    values = np.full(n_steps * patch, np.nan)
    values[before:past] = known
    first = int(series.lengths[i]) - len(known)
    shown = series.stamps(i, first, first + n_steps * patch - before)
    stamps = [*("" for _ in range(before)), *map(show_stamp, shown)][::patch]
    figure = gate_pictures.gate_figure(
        gates,
        labels=stamps,
        values=values,
        title=f"{series.ids[i]}, layer {layer + 1}",
        horizon_from=past // patch if ahead else None,
    )
    each = f"a step of the LSTM is {patch} steps of the series" if patch > 1 else "one column a step"
    text = f"What the {job.cell.upper()} keeps, takes in and gives out over the last window; {each}."
    summary = gate_pictures.gate_summary(gates)
    table = pd.DataFrame(summary) if summary else None
    found = [Section("Inside: the gates", text, table, figure, caption="Gates and states")]
    forget = gates.get("forget", gates.get("update"))
    if forget is not None:
        half_lives = gate_pictures.half_life(forget[: past // patch])
        found.append(
            Section(
                "Inside: memory",
                "After how many steps of the LSTM half of what a unit holds is gone.",
                figure=gate_pictures.half_life_figure(half_lives),
                caption="Memory half-life of each unit",
            )
        )
    return found


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
