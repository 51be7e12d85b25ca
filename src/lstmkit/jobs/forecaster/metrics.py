"""Backtest of a forecaster: rolling origins, compared with SeasonalNaive and AutoETS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_frames import (
    forecast_frame,
    histories_by_origin,
    training_frame,
    with_names_of_data,
)
from lstmkit.data.series.forecast_windows import rolling_origins, without_overlap
from lstmkit.data.series.history import continued
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.errors import DataError, SettingError
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.evaluation.forecast_metrics import forecast_scores, mase_of_windows
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.forecaster.baselines import FORECAST_BASELINES, OPTIONAL_BASELINES, forecast_baselines
from lstmkit.jobs.forecaster.covariate_regression import regression_quantiles
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.progress import Progress
from lstmkit.settings import unknown

REGRESSION = "LinearRegression"  #: The name of :func:`regression_quantiles`.
ALL_BASELINES = (*FORECAST_BASELINES, REGRESSION)  #: The baselines of every backtest.


class Backtest(NamedTuple):
    """What a backtest leaves for the report: the series, and forecasts under the default names of columns."""

    series: SeriesSet
    forecasts: pd.DataFrame


def backtest(
    predictor: ForecasterPredictor, examples: ForecastExamples, baselines: Sequence[str], progress: Progress
) -> Evaluation:
    """Score the forecaster, fitted once, and the baselines, fitted again at every origin.

    Args:
        predictor: The fitted forecaster.
        examples: Windows that it was not fitted to. Of windows that overlap, as those of the validation split, the
            last is scored.
        baselines: Any of :data:`ALL_BASELINES`, without future covariates less the regression, and of
            :data:`~lstmkit.jobs.forecaster.baselines.OPTIONAL_BASELINES`.
        progress: Where to report progress.

    Raises:
        SettingError: A baseline is unknown.
    """
    for name in baselines:
        if name not in (known := (*ALL_BASELINES, *OPTIONAL_BASELINES)):
            raise SettingError(unknown(name, known, what="baseline"))
    settings, season = predictor.settings, predictor.window_plan.season
    series, levels = examples.series, sorted(settings.levels)
    origins = without_overlap(examples.origins, settings.horizon)
    label = f"{settings.cell.upper()} ({settings.method})"
    forecasts = forecast_frame(series, origins, predictor.quantiles(series, origins, progress), levels, label)
    notes = [
        f"{len(origins)} windows of {settings.horizon} steps in {len(np.unique(origins[:, 0]))} series. "
        "Scores are means over windows, then over series.",
        "The model is not refitted on these windows; the baselines are fitted again before each of them.",
        "Missing values are not scored. sMAPE and coverage are in percent. A MASE below 1 beats the in-sample seasonal "
        "naive forecast.",
    ]
    weight = predictor.smoothing_weight
    if weight:
        notes.insert(
            1,
            f"The forecast of {label} has weight {1 - weight:.2g} for the network and {weight:.2g} for exponential "
            "smoothing (Theta method and damped trend).",
        )
    if not settings.future_covariates:
        baselines = [name for name in baselines if name != REGRESSION]
    if settings.past_covariates or settings.future_covariates or settings.static_covariates:
        readers = f"the model and {REGRESSION} read" if REGRESSION in baselines else "the model reads"
        notes.append(f"Only {readers} covariates; other baselines see the values of the series alone.")
    if REGRESSION in baselines:
        quantiles = regression_quantiles(
            series, origins, predictor.covariates, horizon=settings.horizon, season=season, levels=levels
        )
        regression = forecast_frame(series, origins, quantiles, levels, REGRESSION).drop(columns="y")
        forecasts = forecasts.merge(regression, on=["unique_id", "cutoff", "ds"], how="left", validate="1:1")
    if names := [name for name in baselines if name != REGRESSION]:
        baseline_forecasts, baseline_notes = forecast_baselines(
            histories_by_origin(series, origins),
            settings.horizon,
            freq=series.freq,
            season=season,
            levels=levels,
            names=names,
            progress=progress,
        )
        forecasts = forecasts.merge(baseline_forecasts, on=["unique_id", "cutoff", "ds"], how="left", validate="1:1")
        notes += baseline_notes
    first_origins = series.lengths.copy()
    np.minimum.at(first_origins, origins[:, 0], origins[:, 1])
    history = training_frame(series, first_origins)
    table = forecast_scores(forecasts, history, [label, *baselines], season=season, levels=levels)
    directions = dict.fromkeys(("MASE", "sMAPE", "MAE", "RMSE", "CRPS"), "low")
    directions |= {f"coverage-{level}": f"near:{level}" for level in levels}
    details = with_names_of_data(forecasts, series.names)
    windows, mase = mase_of_windows(forecasts, history, label, season)
    scored = ScoredExamples(windows, "windows", mase)
    return Evaluation(table, directions, details, tuple(notes), Backtest(series, forecasts), examples=scored)


def unseen_windows(predictor: ForecasterPredictor, series: SeriesSet) -> ForecastExamples:
    """Every window of given steps that lies after the training and validation data and has a known value.

    Series that continue the data of ``fit``, without these, have the history that the model keeps before them: windows,
    baselines and MASE then see the same past as in the test of ``fit``.

    Raises:
        DataError: There is none.
    """
    horizon, given = predictor.settings.horizon, series
    series = continued(given, predictor.histories)
    first = np.array([predictor.first_unseen_step(series, i) for i in range(len(series))])
    first = np.maximum(first, series.lengths - given.lengths)
    origins = rolling_origins(series, first, series.lengths - horizon, stride=horizon)
    origins = np.array([(i, t) for i, t in origins if not np.isnan(series.y[i][t : t + horizon]).all()], dtype=int)
    if not len(origins):
        raise DataError(
            f"no series has {horizon} steps after the training and validation data: give newer data, or fit with "
            "test_windows=1 or more"
        )
    return ForecastExamples(series, origins)
