"""A forecaster's windows, to look at what its network does on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.errors import format_timestamp
from lstmkit.look.traces import Answer, ExampleSequence

if TYPE_CHECKING:
    from lstmkit.data.series.series_set import SeriesSet
    from lstmkit.jobs.forecaster.job import Forecaster

MOST = 16  #: Windows that are searched.


def inspection_inputs(job: Forecaster, series: SeriesSet, uid: str | None) -> list[ExampleSequence]:
    """The last window of each series, that of ``uid`` (the first, unless named) first; then earlier ones.

    Raises:
        DataError: There is no series of that name.
    """
    first = 0 if uid is None else series.index(uid)
    order = [first, *(i for i in range(len(series)) if i != first)]
    origins: list[tuple[int, int]] = []
    back = 0
    while len(origins) < MOST:
        ends = [(i, int(series.lengths[i]) - back * job.plan.past) for i in order]
        whole = [(i, end) for i, end in ends if end >= job.plan.past or not back]
        if not whole:
            break
        origins += whole
        back += 1
    return [_specimen(job, series, i, end) for i, end in origins[:MOST]]


def _specimen(job: Forecaster, series: SeriesSet, i: int, end: int) -> ExampleSequence:
    """The window before step ``end`` of series ``i``, and its horizon where the trunk runs over it."""
    batch = job.source(ForecastExamples(series, np.array([[i, end]]))).batch(np.array([0]))
    inputs = batch.inputs.to(next(job.network.parameters()).device)
    patch, past = job.plan.patch, job.plan.past
    steps = inputs.shape[1] // patch
    known = series.y[i][max(0, end - past) : end]
    before = past - len(known)  # a series shorter than the window
    values = np.full(steps * patch, np.nan)
    values[before:past] = known
    start = end - len(known)
    timestamps = series.timestamps(i, start, start + steps * patch - before)
    labels = [*("" for _ in range(before)), *map(format_timestamp, timestamps)][::patch]
    which = (
        "the last window" if end == series.lengths[i] else f"up to {format_timestamp(timestamps[past - before - 1])}"
    )
    return ExampleSequence(
        inputs,
        name=f"{series.ids[i]}, {which}",
        labels=labels,
        values=values,
        annotations=_annotations(timestamps, values, before, patch),
        begins=past // patch if past // patch < steps else None,
        answers=_answers(job),
    )


def _annotations(timestamps: pd.Index, values: np.ndarray, before: int, patch: int) -> dict[str, np.ndarray]:
    """What is known of each step of the trunk: the mean value, and the calendar where it moves."""
    folded = values.reshape(-1, patch)
    known = ~np.isnan(folded).all(axis=1)
    mean = np.full(len(folded), np.nan)
    mean[known] = np.nanmean(folded[known], axis=1)
    found: dict[str, np.ndarray] = {"value": mean}
    if timestamps.dtype.kind == "M":
        calendar = pd.Series(timestamps).dt
        names = {"hour of day": calendar.hour, "day of week": calendar.day_name(), "month": calendar.month_name()}
        for name, of_stamp in names.items():
            texts = np.array([""] * before + of_stamp.astype(str).to_list())[::patch]
            if len(set(texts) - {""}) > 1:
                found[name] = texts
    return found


def _answers(job: Forecaster) -> dict[str, Answer]:
    """The forecast one step ahead and at the horizon's end, in the window's own unit."""
    if job.method == "recursive":
        return {"forecast of the next step (scaled)": lambda output: output[0, -1, 0]}
    middle = len(job.levels)

    def at(step: int) -> Answer:
        def answer(output: Tensor) -> Tensor:
            return output[0, step, middle]

        return answer

    steps = sorted({0, job.horizon - 1})
    return {f"forecast {step + 1} step{'s' * (step > 0)} ahead (scaled)": at(step) for step in steps}
