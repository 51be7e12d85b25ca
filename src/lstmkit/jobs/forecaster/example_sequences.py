"""Windows of a forecaster as example sequences, to inspect what its network does on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.errors import format_timestamp
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.look.traces import Answer, ExampleSequence

MAX_WINDOWS = 16  #: Windows that are searched.


def example_windows(predictor: ForecasterPredictor, series: SeriesSet, series_id: str | None) -> list[ExampleSequence]:
    """The last window of each series, that of ``series_id`` (by default the first) in front; then earlier windows.

    Raises:
        DataError: There is no series of that id.
    """
    first = 0 if series_id is None else series.index(series_id)
    order = [first, *(i for i in range(len(series)) if i != first)]
    past = predictor.window_plan.past
    origins: list[tuple[int, int]] = []
    windows_back = 0
    while len(origins) < MAX_WINDOWS:
        ends = [(i, int(series.lengths[i]) - windows_back * past) for i in order]
        complete = [(i, end) for i, end in ends if end >= past or not windows_back]
        if not complete:
            break
        origins += complete
        windows_back += 1
    return [_example(predictor, series, i, end) for i, end in origins[:MAX_WINDOWS]]


def _example(predictor: ForecasterPredictor, series: SeriesSet, i: int, end: int) -> ExampleSequence:
    """The window before step ``end`` of series ``i``, with its horizon if the recurrent layers run over it."""
    batch = predictor.windows(ForecastExamples(series, np.array([[i, end]]))).batch(np.array([0]))
    inputs = batch.inputs.to(next(predictor.network.parameters()).device)
    patch, past = predictor.window_plan.patch, predictor.window_plan.past
    steps = inputs.shape[1] // patch
    known = series.y[i][max(0, end - past) : end]
    padding = past - len(known)  # of a series shorter than the window
    values = np.full(steps * patch, np.nan)
    values[padding:past] = known
    start = end - len(known)
    timestamps = series.timestamps(i, start, start + steps * patch - padding)
    labels = [*("" for _ in range(padding)), *map(format_timestamp, timestamps)][::patch]
    if end == series.lengths[i]:
        position = "the last window"
    else:
        position = f"up to {format_timestamp(timestamps[past - padding - 1])}"
    name = series.names.label("target", "value")
    return ExampleSequence(
        inputs,
        name=f"{series.ids[i]}, {position}",
        labels=labels,
        values=values,
        value_name=name,
        annotations={name: _means(values, patch), **_calendar(timestamps, padding, patch)},
        forecast_start=past // patch if past // patch < steps else None,
        answers=_outputs(predictor),
    )


def _means(values: np.ndarray, patch: int) -> np.ndarray:
    """The mean value of each step of the recurrent layers; NaN if none is known."""
    patches = values.reshape(-1, patch)
    known = ~np.isnan(patches).all(axis=1)
    mean = np.full(len(patches), np.nan)
    mean[known] = np.nanmean(patches[known], axis=1)
    return mean


def _calendar(timestamps: pd.Index, padding: int, patch: int) -> dict[str, np.ndarray]:
    """Calendar fields of each step of the recurrent layers, those that are not constant."""
    annotations: dict[str, np.ndarray] = {}
    if timestamps.dtype.kind == "M":
        calendar = pd.Series(timestamps).dt
        fields = {"hour of day": calendar.hour, "day of week": calendar.day_name(), "month": calendar.month_name()}
        for name, field in fields.items():
            texts = np.array([""] * padding + field.astype(str).to_list())[::patch]
            if len(set(texts) - {""}) > 1:
                annotations[name] = texts
    return annotations


def _outputs(predictor: ForecasterPredictor) -> dict[str, Answer]:
    """The forecasts of the first and the last step of the horizon, in scaled units."""
    settings = predictor.settings
    if settings.method == "recursive":
        return {"forecast of the next step (scaled)": lambda output: output[0, -1, 0]}
    median = len(settings.levels)

    def at(step: int) -> Answer:
        def median_at_step(output: Tensor) -> Tensor:
            return output[0, step, median]

        return median_at_step

    steps = sorted({0, settings.horizon - 1})
    return {f"forecast {step + 1} step{'s' * (step > 0)} ahead (scaled)": at(step) for step in steps}
