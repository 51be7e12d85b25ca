"""How runs are served: limits, batches, who may ask."""

from __future__ import annotations

from dataclasses import dataclass

from lstmkit.web_access import LOOPBACK


@dataclass(frozen=True)
class ServeOptions:
    """Options of a server.

    Attributes:
        max_batch: Requests that are answered together at most.
        max_wait_ms: Milliseconds that the first request of a batch waits for others. With 0, a batch is what has come
            in while the model was busy.
        max_queue: Requests that wait for one run at most; further ones get the status 503.
        max_connections: Open connections at most.
        max_megabytes: Size of a request.
        time_limit: Seconds for a request, from its first byte to the last one of its answer.
        idle_limit: Seconds that a live connection may be silent.
        token: Bearer token that every request must carry; empty for none.
        allowed_hosts: Names under which the server may be asked; empty for any.
        cors_origins: Web pages of other servers that may ask, such as ``https://example.org``.
        torch_threads: Threads of PyTorch for each run.
    """

    max_batch: int = 32
    max_wait_ms: float = 0.0
    max_queue: int = 1000
    max_connections: int = 1000
    max_megabytes: float = 20.0
    time_limit: float = 30.0
    idle_limit: float = 300.0
    token: str = ""
    allowed_hosts: tuple[str, ...] = LOOPBACK
    cors_origins: tuple[str, ...] = ()
    torch_threads: int = 1

    @property
    def max_bytes(self) -> int:
        """Size of a request in bytes."""
        return int(self.max_megabytes * 1e6)
