"""What requests may do: only pages of this server may send data, and no page loads anything from outside."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstmkit.data.files import max_decoded_bytes
from lstmkit.web_access import LOOPBACK, is_host_allowed, is_origin_allowed

#: Plotly sets styles; pictures, sounds and recordings are in the page itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src data: blob:; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
#: A report and whatever was made from data: no scripts, and no way to this server.
SANDBOX = {
    "Content-Security-Policy": "sandbox allow-downloads; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
}


class Guard:
    """Refuses what another site may send through the reader's browser, and requests that are too large.

    - The host is a name of this machine, so that another site's name cannot be pointed here.
    - No page of another server asks, and whatever changes something comes from a page of this one.
    - A request says how large it is, and is at most as large as a decoded file may be.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            status, text = problem
            await PlainTextResponse(text, status)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _POLICY)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "same-origin")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, with_headers)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        only_reads = scope["method"] in ("GET", "HEAD")
        if not is_host_allowed(scope["headers"], LOOPBACK):
            return 400, "This address is not one of this machine."
        if not is_origin_allowed(scope["headers"], required=not only_reads):
            return 403, "Only a page of the studio may send this."
        if only_reads:
            return None
        length, limit = Headers(scope=scope).get("content-length", ""), max_decoded_bytes()
        if not length.isdigit():
            return 411, "The request does not say how large it is."
        if int(length) > limit:
            return 413, f"The files have more than {limit // 1_000_000:,} MB. Use the command line for such data."
        return None
