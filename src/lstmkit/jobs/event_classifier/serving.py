"""How an event classifier is served."""

from __future__ import annotations

from functools import partial
from typing import Any

from lstmkit.jobs.event_classifier.live import LiveEvents
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.jobs.serving import JsonForm, Live, Row, Serving, rows_form

_LIVE_ENTITIES = 1000  # in the memory of a connection


def serving(predictor: EventPredictor) -> Serving:
    """Rows of a table, one per event; a connection has a stream of events of its own."""
    encoding, settings = predictor.encoding, predictor.settings
    row: Row = {settings.id_col or "id": "1"}
    if predictor.reads_time:
        row[settings.time_col] = "2024-01-31 12:00:00" if encoding.periods else 0
    row |= encoding.typical_row()
    live = None if settings.bidirectional else Live(partial(_LiveConnection, predictor), JsonForm(Row, row))
    return Serving(rows_form([row]), live=live)


class _LiveConnection:
    """The events of one connection."""

    def __init__(self, predictor: EventPredictor) -> None:
        self._events = LiveEvents(predictor, _LIVE_ENTITIES)

    def step(self, message: Any) -> dict[str, Any]:
        return self._events.add(message)

    def finish(self) -> None:
        self._events.close()
