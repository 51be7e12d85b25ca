"""Who may ask, how much, and for how long: checked before anything else looks at a request."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from pydantic_core import to_json

from lstmkit.serve.options import ServeOptions
from lstmkit.web_access import is_host_allowed, is_origin_allowed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What may be asked without a token: nothing there tells of a run or its data.
OPEN_PATHS = frozenset({"/", "/docs", "/health", "/ready"})
_POLICY_VIOLATION = 1008  # WebSocket's status of a connection that is refused


class RefusedError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        reason: Why, in one line.
        retry_after: Seconds after which to try again; 0 if that would not help.
    """

    def __init__(self, status: int, reason: str, retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {
            **({"retry-after": str(self.retry_after)} if self.retry_after else {}),
            **({"www-authenticate": "Bearer"} if self.status == 401 else {}),
            **({"connection": "close"} if self.status in (408, 413) else {}),
        }

    @property
    def body(self) -> bytes:
        """The answer as JSON."""
        return to_json({"error": self.reason})


class Limits:
    """Refuses requests of other hosts and web pages, without the token, too large, or too slow.

    Args:
        app: What answers the others.
        options: Token, hosts, origins, size and time.
    """

    def __init__(self, app: App, options: ServeOptions) -> None:
        self._app, self._options = app, options
        self._token = options.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._live(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_sender(scope)
        except RefusedError as err:
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": err.reason})
            return
        await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, self._options.max_bytes)
        try:
            self._check_sender(scope)
            exchange.check_announced_size(scope)
            with anyio.fail_after(self._options.time_limit):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            limit = f"the time limit of {self._options.time_limit:g} s"
            if exchange.body_is_complete:
                await exchange.refuse(RefusedError(504, f"the answer takes longer than {limit}: ask for less"))
            else:
                await exchange.refuse(RefusedError(408, f"the request took longer than {limit}"))
        except RefusedError as err:
            await exchange.refuse(err)

    def _check_sender(self, scope: Scope) -> None:
        """Raise RefusedError if the sender may not ask."""
        if not is_host_allowed(scope["headers"], self._options.allowed_hosts):
            raise RefusedError(400, "this server is not asked under this host name: see --allowed-host")
        if not is_origin_allowed(scope["headers"], self._options.cors_origins):
            raise RefusedError(403, "a web page of another server may not ask: see --cors-origin")
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._token and scope["path"] not in OPEN_PATHS and scope.get("method") != "OPTIONS":
            given = _bearer_token(headers).encode("latin-1")
            if not hmac.compare_digest(given, self._token):
                raise RefusedError(401, "give the server's token: Authorization: Bearer TOKEN")


def _bearer_token(headers: MutableMapping[bytes, str]) -> str:
    """The token of a request; a browser's WebSocket has it as its second subprotocol, after ``bearer``."""
    kind, _, token = headers.get(b"authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    first, _, second = headers.get(b"sec-websocket-protocol", "").partition(",")
    return second.strip() if first.strip() == "bearer" else ""


class _Exchange:
    """A request and its answer: counts the bytes of the one, and knows whether the other has begun."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive, self._send, self._max_bytes = receive, send, max_bytes
        self._size = 0
        self._answer_began = False
        self.body_is_complete = False

    def check_announced_size(self, scope: Scope) -> None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced[:20]) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request has more than {self._max_bytes / 1e6:g} MB: send less")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._max_bytes:
                raise self._too_large()
            self.body_is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self._answer_began = True
        await self._send(message)

    async def refuse(self, err: RefusedError) -> None:
        """Answer with the reason. An answer that has begun stays incomplete: then the server closes the connection."""
        if self._answer_began:
            return
        headers = {"content-type": "application/json", "content-length": str(len(err.body)), **err.headers}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": err.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": err.body})
