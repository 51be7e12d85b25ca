"""How a regressor is served."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.jobs.regressor.streaming import LiveRegressor
from lstmkit.jobs.serving import JsonForm, Live, Row, Serving, rows_form

_EXAMPLE_STEPS = 4


def serving(predictor: RegressorPredictor) -> Serving:
    """Rows of a table; a live sequence is answered row by row."""
    encoding, time = predictor.encoding, predictor.settings.time_col
    row, rows = _example_row(predictor), []
    for step in range(_EXAMPLE_STEPS):
        times: Row = {time: f"2024-01-01 00:0{step}:00"} if encoding.periods else {time: step}
        rows.append(row | (times if encoding.periods or encoding.elapsed else {}))
    return Serving(rows_form(rows), live=Live(partial(_LiveSession, predictor), JsonForm(Row, rows[0])))


def _example_row(predictor: RegressorPredictor) -> Row:
    encoding = predictor.encoding
    middle = np.where(encoding.is_compressed, encoding.center, encoding.mean).round(4).tolist()
    row: Row = dict(zip(encoding.number_names, middle, strict=True))
    for name, vocabulary in zip(encoding.category_names, encoding.vocabularies, strict=True):
        row[name] = vocabulary[0] if vocabulary else None
    return row


class _LiveSession:
    """Answers the rows of one connection."""

    def __init__(self, predictor: RegressorPredictor) -> None:
        self._live = LiveRegressor(predictor)

    def step(self, message: Any) -> dict[str, float]:
        return self._live.step(message)

    def finish(self) -> None:
        return None
