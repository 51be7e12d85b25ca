"""Who may ask a server: under which host names, and from which web pages. It needs no library.

Another site can point its own name at this machine (DNS rebinding), and its pages can send requests through the
reader's browser (cross-site requests). The headers ``Host`` and ``Origin`` show both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

Headers = Iterable[tuple[bytes, bytes]]  #: Names in lower case and values, as ASGI has them.

LOOPBACK = ("127.0.0.1", "localhost", "::1")  #: Names of this machine.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d{1,5})?", re.ASCII)
_SCHEMES = ("http", "https")


def is_host_allowed(headers: Headers, hosts: Collection[str]) -> bool:
    """Whether a request asks under one of these names, with any port. It has one ``Host``.

    Args:
        headers: Those of the request.
        hosts: Names without ports and brackets; empty for any.

    >>> is_host_allowed([(b"host", b"[::1]:8000")], LOOPBACK), is_host_allowed([(b"host", b"evil.example")], LOOPBACK)
    (True, False)
    """
    if not hosts:
        return True
    match = _HOST.fullmatch(_only(headers, b"host") or "")
    return match is not None and (match[1] or match[2]) in {host.lower().strip("[]") for host in hosts}


def is_origin_allowed(headers: Headers, origins: Collection[str] = (), *, required: bool = False) -> bool:
    """Whether a request comes from a page of the server that it asks, from one of other pages, or from no page.

    Args:
        headers: Those of the request.
        origins: Further pages that may ask, such as ``https://example.org``.
        required: Whether a page must be named. Browsers name it whenever a request may change something; other programs
            do not.

    >>> is_origin_allowed([(b"host", b"localhost"), (b"origin", b"http://evil.example")])
    False
    """
    headers = list(headers)
    if not any(name == b"origin" for name, _ in headers):
        return not required
    origin = _only(headers, b"origin")
    if origin is None:
        return False
    scheme, separator, host = origin.partition("://")
    is_own = bool(host) and bool(separator) and scheme in _SCHEMES and host == _only(headers, b"host")
    return is_own or origin in {page.lower() for page in origins}


def _only(headers: Headers, name: bytes) -> str | None:
    """The value of a header in lower case; ``None`` unless there is exactly one."""
    values = [value for key, value in headers if key == name]
    return values[0].decode("latin-1").lower() if len(values) == 1 else None
