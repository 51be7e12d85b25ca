"""How a regressor is served."""

from __future__ import annotations

from functools import partial
from typing import Any

from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.jobs.regressor.streaming import LiveRegressor
from lstmkit.jobs.serving import JsonForm, Live, Row, Serving, rows_form

_EXAMPLE_STEPS = 4


def serving(predictor: RegressorPredictor) -> Serving:
    """Rows of a table; a live sequence is answered row by row."""
    encoding, time = predictor.encoding, predictor.settings.time_col
    row, rows = encoding.typical_row(), []
    for step in range(_EXAMPLE_STEPS):
        times: Row = {time: f"2024-01-01 00:0{step}:00"} if encoding.periods else {time: step}
        rows.append(row | (times if encoding.periods or encoding.elapsed else {}))
    return Serving(rows_form(rows), live=Live(partial(_LiveSession, predictor), JsonForm(Row, rows[0])))


class _LiveSession:
    """Answers the rows of one connection."""

    def __init__(self, predictor: RegressorPredictor) -> None:
        self._live = LiveRegressor(predictor)

    def step(self, message: Any) -> dict[str, float]:
        return self._live.step(message)

    def finish(self) -> None:
        return None
