"""The web application: the addresses of every run, the page to try them, health and metrics."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lstmkit.jobs.base import Job
from lstmkit.serve.limits import Limits, RefusedError
from lstmkit.serve.monitoring import Metrics, RequestLog
from lstmkit.serve.options import ServeOptions
from lstmkit.serve.routes import run_router, server_router
from lstmkit.serve.runs import ServedRun
from lstmkit.serve.uploads import upload_root
from lstmkit.version import __version__

_STOP_SECONDS = 10.0  # that a run's thread gets to answer what waits


def create_app(jobs: Mapping[str, Job[Any]], options: ServeOptions | None = None) -> FastAPI:
    """The web application of fitted jobs.

    Args:
        jobs: By name in the addresses.
        options: Limits, batches, and who may ask.

    Returns:
        An ASGI application. ``/ready`` answers 503 unless its ``state.ready`` is true.

    >>> from lstmkit import Forecaster
    >>> forecaster = Forecaster(horizon=2, season_length=4, epochs=1, steps_per_epoch=1, hidden_size=4)
    >>> app = create_app({"sales": forecaster.fit([10.0, 12.0, 11.0, 13.0] * 20)})
    >>> sorted(path for path in app.openapi()["paths"] if "sales" in path)
    ['/v1/sales/predict', '/v1/sales/predict/file']
    """
    options, metrics = options or ServeOptions(), Metrics()
    runs = {name: ServedRun(name, job, options, metrics) for name, job in jobs.items()}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with upload_root() as root, warnings.catch_warnings():
            warnings.simplefilter("always")  # the default keeps every message that it has shown, for ever
            for run in runs.values():
                await run.start(root)
            app.state.ready = True
            try:
                yield
            finally:
                app.state.ready = False
                for run in runs.values():
                    await asyncio.to_thread(run.worker.stop, _STOP_SECONDS)

    app = FastAPI(
        title="lstmkit",
        version=__version__,
        summary="Fitted runs: a request's data in, the answers of `predict` out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.ready = False
    for run in runs.values():
        app.include_router(run_router(run, options, metrics))
    app.include_router(server_router(runs, metrics))
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(Limits, options=options)
    app.add_middleware(RequestLog, metrics=metrics)
    return app


async def _refused(_request: Request, err: Exception) -> Response:
    assert isinstance(err, RefusedError)
    return Response(err.body, err.status, headers=err.headers, media_type="application/json")


async def _http_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    return await _refused(request, RefusedError(err.status_code, str(err.detail)))


async def _internal_error(request: Request, _err: Exception) -> Response:
    return await _refused(request, RefusedError(500, "the server failed; its log says where"))
