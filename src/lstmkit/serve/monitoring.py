"""What a server tells of itself: metrics for Prometheus, and a log with a JSON object per line."""

from __future__ import annotations

import itertools
import json
import logging
import time
from datetime import datetime, timezone
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from lstmkit.errors import one_line
from lstmkit.serve.limits import App, Message, Receive, Scope, Send

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # bounds of histograms
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_UNKNOWN_PATH = "other"

log = logging.getLogger("lstmkit.serve")


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "lstmkit_requests", "Requests that were answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "lstmkit_request_seconds", "Time of a request", ["path"], buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "lstmkit_batch_size", "Requests answered together", ["run"], buckets=_BATCH_SIZES, registry=registry
        )
        self.model_seconds = Histogram(
            "lstmkit_model_seconds", "Time of the model for a batch", ["run"], buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("lstmkit_waiting_requests", "Requests that wait for a run", ["run"], registry=registry)
        self.live = Gauge("lstmkit_live_connections", "Open live connections", ["run"], registry=registry)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class RequestLog:
    """Counts, times and logs every request.

    Args:
        app: What answers.
        metrics: What counts them.
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        number = next(self._numbers)

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            seconds = time.perf_counter() - started
            path = getattr(scope.get("route"), "path", _UNKNOWN_PATH)  # not the client's: there is no end of these
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            fields = {"request": number, "method": scope["method"], "path": path, "status": status}
            log.info("request", extra={"fields": {**fields, "ms": round(1000 * seconds, 2)}})


class JsonFormatter(logging.Formatter):
    """A JSON object per line: time, level, logger, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=one_line)
