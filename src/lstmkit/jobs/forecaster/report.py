"""The report of a forecasting run: forecast, backtest, gates and data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.series.series_set import SeriesSet
from lstmkit.errors import DataError
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.forecaster.example_sequences import example_windows
from lstmkit.jobs.forecaster.plots import (
    error_by_step_figure,
    forecast_figure,
    interval_coverage_figure,
    step_errors,
)
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.look import trace_layers
from lstmkit.look.inspection_page import gate_sections
from lstmkit.report import Section


def forecast_sections(
    predictor: ForecasterPredictor, series: SeriesSet, evaluation: Evaluation | None
) -> list[Section]:
    """The sections on forecasts; ``evaluation`` is ``None`` without a test split."""
    sections = [_forecast_section(predictor, series)]
    if evaluation is None:
        sections.append(Section("Test", text="There is no test: test_windows=0 holds out no data."))
    else:
        sections += _evaluation_sections(predictor, series, evaluation)
    return [*sections, *_gate_sections(predictor, series), _data_section(predictor, series)]


def _forecast_section(predictor: ForecasterPredictor, series: SeriesSet) -> Section:
    horizon = predictor.settings.horizon
    try:
        forecast = predictor.forecast(series)
    except DataError as err:  # future covariates end with the data: there is no forecast, but a report
        return Section("Forecast", text=f"There is no forecast after the end of the data: {err}.")
    text = f"The next {horizon} steps after the end of the data. The intervals are calibrated on the validation split."
    if predictor.interval_widths is None:
        text = f"The next {horizon} steps after the end of the data. The intervals are not calibrated."
    figure = forecast_figure(series.to_frame(), forecast, predictor.settings.levels)
    return Section("Forecast", text, forecast, figure, caption=f"Forecast of the next {horizon} steps")


def _evaluation_sections(predictor: ForecasterPredictor, series: SeriesSet, evaluation: Evaluation) -> list[Section]:
    models = evaluation.table["model"].tolist()
    model_name, baselines = models[0], models[1:]
    levels, details = sorted(predictor.settings.levels), evaluation.details
    renamed = details.rename(columns=lambda c: c.replace(model_name, "forecast", 1) if c.startswith(model_name) else c)
    return [
        Section("Test", " ".join(evaluation.notes), evaluation.table, best=evaluation.directions),
        Section(
            "Forecasts and actuals",
            figure=forecast_figure(series.to_frame(), renamed, levels, baselines=baselines),
            caption="Forecasts from rolling origins, and actual values",
        ),
        Section(
            "Error by horizon step",
            table=step_errors(details, models),
            figure=error_by_step_figure(details, models),
            caption="Mean absolute error at each step of the horizon",
        ),
        Section(
            "Interval calibration",
            "An 80 % interval should contain 80 % of the actual values.",
            figure=interval_coverage_figure(details, model_name, levels),
            caption="Nominal and observed coverage of the intervals",
        ),
    ]


def _gate_sections(predictor: ForecasterPredictor, series: SeriesSet) -> list[Section]:
    """The gates of the last layer over the first series' last window; ``lstmkit look`` shows more."""
    example = example_windows(predictor, series, None)[0]
    *_, last_layer = trace_layers(predictor.network, example).values()
    return gate_sections(example, last_layer)


def _data_section(predictor: ForecasterPredictor, series: SeriesSet) -> Section:
    plan, settings, lengths = predictor.window_plan, predictor.settings, series.lengths
    missing = sum(int(np.isnan(y).sum()) for y in series.y)
    covariates = [*settings.past_covariates, *settings.future_covariates, *settings.static_covariates]
    rows = {
        "series": str(len(series)),
        "steps per series": f"{lengths.min()} to {lengths.max()}" if lengths.min() < lengths.max() else f"{lengths[0]}",
        "frequency": str(plan.freq),
        "season length": f"{plan.season} steps" + (", and seasons are nearly alike" if plan.regular else ""),
        "window": f"{plan.past} steps" + (f" in patches of {plan.patch}" if plan.patch > 1 else ""),
        "missing values": str(missing),
        "covariates": ", ".join(covariates) or "none",
    }
    text = (
        "The model receives a mask of missing values. They are never imputed, used as a target, used for scaling, or "
        "scored."
    )
    table = pd.DataFrame({"property": list(rows), "value": list(rows.values())})
    return Section("Data", " ".join([text, *(f"{note.rstrip('.')}." for note in series.notes)]), table)
