"""The server process: uvicorn with limits on connections and headers, and a graceful stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lstmkit.serve.monitoring import JsonFormatter
from lstmkit.serve.options import ServeOptions

_MAX_HEADER_BYTES = 32_768
_HEADER_SECONDS = 10.0  # from the first byte of a request to the end of its headers
_KEEP_ALIVE_SECONDS = 20
_STOP_SECONDS = 20  # for answers under way
_BACKLOG = 2048


class _Protocol(HttpToolsProtocol):
    """HTTP whose headers are limited in size and time, which uvicorn leaves open."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEADER_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers of this request are too long.")

    def on_message_begin(self) -> None:
        self._in_headers = True
        if self._timer is None:
            self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.close)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_headers, self._header_bytes = False, 0
        super().on_headers_complete()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """Uvicorn that stops at a signal without a fault; its application is not ready any more from then on."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # else each full collection looks through all modules and models again, for 0.3 s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.ready = False
        self.force_exit = self.should_exit  # told twice
        self.should_exit = True


def run_server(app: FastAPI, host: str, port: int, options: ServeOptions) -> bool:
    """Serve until a signal comes; answers under way are finished.

    Args:
        app: The application.
        host: Address to listen at.
        port: Port to listen at.
        options: Limits of connections.

    Returns:
        Whether it could listen.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="websockets-sansio",
        ws_max_size=options.max_bytes,
        ws_per_message_deflate=False,  # steps are small; to compress them takes longer than to send them
        limit_concurrency=options.max_connections,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        backlog=_BACKLOG,
        access_log=False,
        server_header=False,
        log_config=None,
    )
    server = _Server(config, app)
    server.run()
    return server.started


def log_as_json(level: int) -> None:
    """Write the log of the server, and warnings, to stderr: a JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    for name in ("lstmkit", "uvicorn"):
        logging.getLogger(name).setLevel(level)
