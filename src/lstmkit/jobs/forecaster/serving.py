"""How a forecaster is served."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_frames import with_names_of_data
from lstmkit.data.tables.table import frame_of_rows
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.jobs.serving import JsonForm, Row, Serving

_MIN_EXAMPLE_STEPS, _MAX_EXAMPLE_STEPS = 24, 200


def serving(predictor: ForecasterPredictor) -> Serving:
    """Rows of a table; only numbers if the model reads nothing else."""
    settings = predictor.settings
    rows = _example(predictor)
    needs_rows = bool(settings.past_covariates or settings.future_covariates or settings.static_covariates)
    future = JsonForm(list[Row], [], lambda table: frame_of_rows(table, "future_data"))
    return Serving(
        JsonForm(list[Row] if needs_rows else list[Row] | list[float], rows, _series),
        data_options={"future_data": future} if settings.future_covariates else {},
        predict_each=partial(_predict_each, predictor),
    )


def _series(data: list[Any]) -> Any:
    if data and not isinstance(data[0], dict):
        return np.array(data, dtype=np.float64)
    return frame_of_rows(data, "the data")


def _predict_each(predictor: ForecasterPredictor, data: Sequence[Any], future_data: Any | None = None) -> list[Any]:
    """The forecasts of several tables: each is read by itself, and the network runs once for all."""
    sets = [predictor.read_histories(table, future_data) for table in data]
    frames = predictor.forecast_each(sets)
    return [with_names_of_data(frame, series.names) for frame, series in zip(frames, sets, strict=True)]


def _example(predictor: ForecasterPredictor) -> list[Row]:
    """The last steps of the first series that the model was fitted to; a wave if the model does not keep it."""
    settings, freq = predictor.settings, predictor.window_plan.freq
    num_steps = min(max(predictor.window_plan.season + 1, _MIN_EXAMPLE_STEPS), _MAX_EXAMPLE_STEPS)
    if not predictor.histories:
        return [{"ds": step, "y": round(10 + float(np.sin(step)), 3)} for step in range(num_steps)]
    name, history = next(iter(predictor.histories.items()))
    steps = np.arange(len(history.y))[-num_steps:]
    times = (
        [int(history.start) + int(step) * freq for step in steps]  # type: ignore[arg-type]
        if isinstance(freq, int)
        else [str(time) for time in pd.date_range(history.start, periods=len(history.y), freq=freq)[steps]]
    )
    columns = {settings.target_col: history.y, **history.covariates}
    cells = {column: values.tolist() for column, values in columns.items()}
    rows: list[Row] = []
    for step, time in zip(steps.tolist(), times, strict=True):
        values = {column: None if pd.isna(of[step]) else of[step] for column, of in cells.items()}
        rows.append({settings.id_col: name, settings.time_col: time, **values})
    return rows
