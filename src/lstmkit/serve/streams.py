"""Answers that grow: server-sent events for generation, WebSocket for live sessions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import anyio
from fastapi import WebSocket
from fastapi.websockets import WebSocketDisconnect

from lstmkit.jobs.serving import LiveSession
from lstmkit.serve.limits import RefusedError
from lstmkit.serve.requests import LiveForm, Request
from lstmkit.serve.runs import ServedRun, json_of

_NORMAL, _GOING_AWAY, _REFUSED = 1000, 1001, 1008  # WebSocket's status codes
_MAX_REASON = 120  # bytes that a WebSocket's closing has for a reason
_TIME_FRACTION = 0.95  # of the time limit; the rest is for the last event


async def start_events(run: ServedRun, request: Request) -> AsyncIterator[bytes]:
    """Start a generation; its parts as server-sent events. The last one is ``answers``, or ``error``.

    Each part is a task of its own for the run's thread, so other requests are answered between two of them.

    Raises:
        RefusedError: The job refuses the data.
    """
    deadline = time.monotonic() + _TIME_FRACTION * run.time_limit
    parts = run.generation(request)
    first = await run.in_thread(lambda: next(parts, None))
    return _events(run, parts, first, deadline)


async def _events(
    run: ServedRun, parts: Iterator[tuple[str, Any]], part: tuple[str, Any] | None, deadline: float
) -> AsyncIterator[bytes]:
    try:
        while part is not None:
            yield _event(*part)
            if time.monotonic() > deadline:
                raise RefusedError(504, f"the answer takes longer than {run.time_limit:g} s: ask for less")
            part = await run.in_thread(lambda: next(parts, None))
    except RefusedError as err:
        yield _event("error", {"error": err.reason})


def _event(name: str, content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json_of(content))


class LiveConnection:
    """One WebSocket with the state of its session.

    A client sends ``{"step": …}`` and gets ``{"answer": …}``, or ``{"error": …}`` for a step that the job refuses; then
    the session goes on without it. ``{"finish": true}`` ends the session with its last answer. A binary message is a
    step of samples: 16-bit integers, little-endian.

    Args:
        socket: The connection.
        run: What it talks to.
        form: The form of its messages.
        idle_limit: Seconds that it may be silent.
    """

    def __init__(self, socket: WebSocket, run: ServedRun, form: LiveForm, idle_limit: float) -> None:
        self._socket, self._run, self._form, self._idle_limit = socket, run, form, idle_limit

    async def serve(self) -> None:
        """Answer until the client finishes, leaves, or is silent for too long."""
        protocols = self._socket.headers.get("sec-websocket-protocol", "")
        await self._socket.accept(subprotocol="bearer" if protocols.startswith("bearer") else None)
        try:
            session = await self._run.in_thread(lambda: self._form.session(self._socket.query_params))
            while await self._answer(session):
                pass
            await self._socket.close(_NORMAL)
        except WebSocketDisconnect:
            pass
        except TimeoutError:
            await self._socket.close(_GOING_AWAY, f"no message for {self._idle_limit:g} s")
        except RefusedError as err:
            with suppress(WebSocketDisconnect):
                await self._send({"error": err.reason})
                await self._socket.close(_REFUSED, err.reason.encode()[:_MAX_REASON].decode(errors="ignore"))

    async def _answer(self, session: LiveSession) -> bool:
        """Answer the next message; whether there may be another."""
        with anyio.fail_after(self._idle_limit):
            message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _NORMAL))
        try:
            step = self._form.step(message)
            answer = await self._run.in_thread(session.finish if step is None else lambda: session.step(step))
        except RefusedError as err:
            if err.status not in (400, 422):  # the session may have lost a part of the step
                raise
            await self._send({"error": err.reason})
            return True
        if answer is not None:
            await self._send({"answer": answer})
        return step is not None

    async def _send(self, content: Any) -> None:
        try:
            await self._socket.send_text(json_of(content).decode())
        except RuntimeError as err:  # uvicorn's, if the client has gone without a word
            raise WebSocketDisconnect from err
