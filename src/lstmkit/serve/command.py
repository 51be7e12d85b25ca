"""The command ``lstmkit serve``."""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstmkit.errors import UserError
from lstmkit.libraries import imports_of
from lstmkit.serve.options import ServeOptions
from lstmkit.web_access import LOOPBACK

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job

DEMO = "demo"  #: The run that is fitted to the sample of the package if there is none yet.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEFAULTS = ServeOptions()

log = logging.getLogger("lstmkit.serve")


def serve(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN [RUN …]", help="run folders, or NAME=RUN; 'demo' fits the sample series first"),
    ],
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 for all")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(help="port to listen at", min=0, max=65535)] = 8000,
    token: Annotated[
        str,
        typer.Option(help="bearer token that requests must carry", envvar="LSTMKIT_SERVE_TOKEN", show_default=False),
    ] = "",
    max_batch: Annotated[
        int, typer.Option(help="requests that are answered together at most", min=1, max=4096)
    ] = _DEFAULTS.max_batch,
    max_wait_ms: Annotated[
        float, typer.Option(help="milliseconds that a request waits for others", min=0, max=10_000)
    ] = _DEFAULTS.max_wait_ms,
    max_queue: Annotated[int, typer.Option(help="requests that wait for a run at most", min=1)] = _DEFAULTS.max_queue,
    max_connections: Annotated[int, typer.Option(help="open connections at most", min=1)] = _DEFAULTS.max_connections,
    max_megabytes: Annotated[float, typer.Option(help="size of a request", min=0.001)] = _DEFAULTS.max_megabytes,
    time_limit: Annotated[float, typer.Option(help="seconds for a request", min=0.1)] = _DEFAULTS.time_limit,
    idle_limit: Annotated[
        float, typer.Option(help="seconds that a live connection may be silent", min=0.1)
    ] = _DEFAULTS.idle_limit,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="host name under which the server may be asked; may be repeated")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="web page of another server that may ask, as https://example.org; may be repeated"),
    ] = None,
    torch_threads: Annotated[int, typer.Option(help="threads of PyTorch for each run", min=1)] = 1,
) -> None:
    """Serve fitted runs over HTTP and WebSocket: lstmkit serve RUN, then open http://127.0.0.1:8000."""
    with imports_of("serve", "serving"):
        from lstmkit.serve.app import create_app
        from lstmkit.serve.server import log_as_json, run_server
    is_local = host in LOOPBACK
    options = ServeOptions(
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_connections=max_connections,
        max_megabytes=max_megabytes,
        time_limit=time_limit,
        idle_limit=idle_limit,
        token=token,
        allowed_hosts=tuple(allowed_host) if allowed_host else LOOPBACK if is_local else (),
        cors_origins=tuple(cors_origin or ()),
        torch_threads=torch_threads,
    )
    _check_can_listen(host, port)
    jobs = _load(runs)
    log_as_json(logging.getLogger("lstmkit").level)
    if not is_local and not token:
        log.warning("everyone who reaches this address may ask: give --token or set LSTMKIT_SERVE_TOKEN")
    fields = {"runs": [*jobs], "address": f"http://{host}:{port}"}
    log.info("serving", extra={"fields": fields})
    if not run_server(create_app(jobs, options), host, port, options):
        raise typer.Exit(1)


def _load(runs: Sequence[str]) -> dict[str, Job[Any]]:
    """The jobs by the names of their addresses."""
    from lstmkit.jobs import load

    folders: dict[str, Path] = {}
    for text in runs:
        name, _, path = text.partition("=")
        folder = Path(path or name)
        name = name if path else folder.resolve().name
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name!r} cannot be part of an address: name the run with NAME={folder}, letters and digits"
            )
        if name in folders:
            raise UserError(f"two runs have the name {name!r}: name one of them otherwise with NAME={folder}")
        folders[name] = folder
    if str(folders.get(DEMO)) == DEMO and not folders[DEMO].exists():
        from lstmkit.demo import fit_demo
        from lstmkit.progress import default_progress

        fit_demo(folders[DEMO], default_progress())
    return {name: load(folder) for name, folder in folders.items()}


def _check_can_listen(host: str, port: int) -> None:
    """Raise UserError if the address is not ours or taken: before models are loaded, and in one line."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as err:
        taken = err.errno == errno.EADDRINUSE
        advice = "give another --port" if taken else "give another --host or --port"
        raise UserError(f"{host}:{port} cannot be listened at ({err.strerror or err}): {advice}") from err
