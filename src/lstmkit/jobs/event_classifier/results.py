"""Answers of the event classifier as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.jobs.event_classifier.predictor import EventPredictor


def answers(predictor: EventPredictor, events: RowSequences, probabilities: np.ndarray) -> pd.DataFrame:
    """``id, time, label, p_CLASS…`` of every event, in the order of the rows that were given.

    Args:
        predictor: Fitted.
        events: The events.
        probabilities: ``(R, C)`` of their classes.
    """
    columns: dict[str, Any] = {"id": np.array(events.names, dtype=object)[events.entities]}
    if events.times is not None:
        columns["time"] = times_as_text(events.times)
    frame = pd.DataFrame(columns | predictor.decisions.columns(probabilities))
    return frame.iloc[np.argsort(events.rows)].reset_index(drop=True)


def times_as_text(times: Any) -> Any:
    """Dates as text with the time of day; numbers as they are."""
    if isinstance(times, pd.DatetimeIndex):
        return np.array([str(time) for time in times], dtype=object)
    return np.asarray(times)
