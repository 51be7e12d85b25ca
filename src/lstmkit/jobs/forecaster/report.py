"""The report of a forecasting run: forecast, backtest, gates and data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_frames import with_names_of_data
from lstmkit.data.series.history import continued
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.window_arrays import Origins
from lstmkit.errors import DataError
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.forecaster.example_sequences import example_windows
from lstmkit.jobs.forecaster.explanation_section import explanation_sections
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
    """The sections on forecasts; ``evaluation`` is ``None`` if nothing was held out."""
    series = continued(series, predictor.histories)  # newer data: the page shows them after their history
    sections = [_forecast_section(predictor, series)]
    if evaluation is None:
        sections.append(Section("Results", text="No windows were held out, so there are no scores."))
    else:
        sections += _evaluation_sections(predictor, evaluation)
    sections += explanation_sections(predictor, series)
    return [*sections, *_gate_sections(predictor, series), _data_section(predictor, series)]


def _forecast_section(predictor: ForecasterPredictor, series: SeriesSet) -> Section:
    horizon, uncalibrated = predictor.settings.horizon, predictor.intervals is None
    intervals = f"The intervals are {'not calibrated' if uncalibrated else 'calibrated on the validation split'}."
    try:
        forecast, title, steps = predictor.forecast(series), "Forecast", f"the next {horizon} steps"
        text = f"The next {horizon} steps after the end of the data. {intervals}"
    except DataError as err:  # future covariates end with the data
        origins = np.stack([np.arange(len(series)), np.maximum(series.lengths - horizon, 1)], axis=1)
        title = "Forecast of the last steps"
        forecast, steps = predictor.forecast_from(series, origins), "the last steps"
        text = (
            f"The last {horizon} steps of each series, forecast from the values before them and the future covariates "
            f"of these steps, beside the actual values. {_what_was_fitted(predictor, series, origins)} {intervals}"
            f"\n\nThe steps after the end of the data need the future covariates there: {err}."
        )
    figure = forecast_figure(series.to_frame(), forecast, predictor.settings.levels, names=series.names)
    return Section(title, text, with_names_of_data(forecast, series.names), figure, caption=f"Forecast of {steps}")


def _what_was_fitted(predictor: ForecasterPredictor, series: SeriesSet, origins: Origins) -> str:
    unseen = [predictor.first_unseen_step(series, i) <= step for i, step in origins]
    if all(unseen):
        return "The model was not fitted to them."
    return "The model was fitted to them." if not any(unseen) else "The model was fitted to a part of them."


def _evaluation_sections(predictor: ForecasterPredictor, evaluation: Evaluation) -> list[Section]:
    models = evaluation.table["model"].tolist()
    model_name, baselines = models[0], models[1:]
    series, details = evaluation.outputs
    levels = sorted(predictor.settings.levels)
    renamed = details.rename(columns=lambda c: c.replace(model_name, "forecast", 1) if c.startswith(model_name) else c)
    return [
        Section("Results", evaluation.introduction, evaluation.table, best=evaluation.directions),
        Section(
            "Forecasts and actuals",
            figure=forecast_figure(series.to_frame(), renamed, levels, baselines=baselines, names=series.names),
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
    n_short = sum(predictor.first_unseen_step(series, i) >= n for i, n in enumerate(lengths))
    if 0 < n_short < len(series):
        subject = (
            "1 series is too short for validation and test: it is"
            if n_short == 1
            else (f"{n_short} series are too short for validation and test: they are")
        )
        text += f" {subject} in training as a whole."
    table = pd.DataFrame({"property": list(rows), "value": list(rows.values())})
    return Section("Data", " ".join([text, *(f"{note.rstrip('.')}." for note in series.notes)]), table)
