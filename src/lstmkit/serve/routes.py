"""The addresses: those of a run, and those of the server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, WebSocket
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import UploadFile

from lstmkit.serve.limits import RefusedError
from lstmkit.serve.monitoring import Metrics
from lstmkit.serve.options import ServeOptions
from lstmkit.serve.requests import Request
from lstmkit.serve.runs import ServedRun, json_of
from lstmkit.serve.streams import LiveConnection, start_events
from lstmkit.serve.uploads import request_folder

_JSON = "application/json"
_SMALL_BODY = 65_536  # bytes that are parsed at once; a larger body is parsed in a thread, so that others do not wait
_MAX_FIELDS = 8  # of a form
#: A page without requests to other servers, in which an answer cannot run as a script.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; img-src blob:; media-src blob:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def run_router(run: ServedRun, options: ServeOptions, metrics: Metrics) -> APIRouter:
    """The addresses of one run."""
    router = APIRouter(prefix=f"/v1/{run.name}", tags=[f"{run.name} ({run.job.name.replace('_', ' ')})"])
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": {_JSON: {"schema": _ERROR_SCHEMA}}} for status, text in _ERRORS.items()
    }

    @router.post("/predict", responses=errors, openapi_extra=_json_body(run), summary=run.job.summary)
    async def predict(http: HttpRequest) -> Response:
        media_type = run.form.answer_type(http.headers.get("accept", ""))
        content, media_type = await run.predict(await _json_request(run, http), media_type)
        return Response(content, media_type=media_type)

    @router.post("/predict/file", responses=errors, openapi_extra=_form_body(run), summary=run.job.summary)
    async def predict_file(http: HttpRequest) -> Response:
        media_type = run.form.answer_type(http.headers.get("accept", ""))
        with request_folder(run.root) as folder:
            request = await _file_request(run, http, folder)
            content, media_type = await run.predict(request, media_type)
        return Response(content, media_type=media_type)

    if run.serving.generate is not None:

        @router.post("/stream", responses=errors, openapi_extra=_json_body(run, "text/event-stream"))
        async def stream(http: HttpRequest) -> Response:
            """The answer as it grows: server-sent events, the last of which has the whole answer."""
            parts = await start_events(run, await _json_request(run, http))
            return StreamingResponse(parts, media_type="text/event-stream", headers={"cache-control": "no-store"})

    live = run.live
    if live is not None:
        connections = metrics.live.labels(run.name)

        @router.websocket("/live")
        async def answer_live(socket: WebSocket) -> None:
            with connections.track_inprogress():
                await LiveConnection(socket, run, live, options.idle_limit).serve()

    return router


def server_router(runs: Mapping[str, ServedRun], metrics: Metrics) -> APIRouter:
    """The addresses of the server: a page to try the runs, their list, health, readiness and metrics."""
    router = APIRouter(tags=["server"])
    page = files("lstmkit.serve").joinpath("page.html").read_bytes()
    script = page.partition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    headers = {"content-security-policy": _PAGE_POLICY.format(digest), "x-content-type-options": "nosniff"}

    @router.get("/", include_in_schema=False)
    @router.get("/docs", include_in_schema=False)
    async def try_page() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/v1")
    async def list_runs() -> Response:
        """The runs, and what each takes and answers."""
        return Response(json_of({"runs": [run.description for run in runs.values()]}), media_type=_JSON)

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready(http: HttpRequest) -> dict[str, str]:
        """Whether to send requests: 503 while the server starts or stops."""
        if not http.app.state.ready:
            raise RefusedError(503, "the server starts or stops", retry_after=5)
        return {"status": "ready"}

    @router.get("/metrics")
    async def show_metrics() -> Response:
        """Metrics in the text format of Prometheus."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return router


# ---- bodies ----------------------------------------------------------------------------------------------------------


async def _json_request(run: ServedRun, http: HttpRequest) -> Request:
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise RefusedError(415, f"send JSON with the header Content-Type: {_JSON}, or a file to …/predict/file")
    body = await http.body()
    return run.form.from_json(body) if len(body) <= _SMALL_BODY else await asyncio.to_thread(run.form.from_json, body)


async def _file_request(run: ServedRun, http: HttpRequest, folder: Path) -> Request:
    """The request of a multipart form: ``file``, ``options`` as JSON, and a file for each option that takes data."""
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise RefusedError(415, "send the file as multipart/form-data, in the field 'file'")
    async with http.form(max_files=_MAX_FIELDS, max_fields=_MAX_FIELDS) as form:
        paths = {}
        for name, value in form.multi_items():
            if name != "options" and (name not in ("file", *run.serving.data_options) or name in paths):
                raise RefusedError(422, f"the form has a field {name[:80]!r} too many: it takes {_fields(run)}")
            if isinstance(value, UploadFile) and name != "options":
                # Only the ending is the client's.
                paths[name] = folder / f"{'upload' if name == 'file' else name}{run.form.ending(value.filename or '')}"
                await asyncio.to_thread(_save, value, paths[name])
        options = form.get("options", "")
        if "file" not in paths or not isinstance(options, str):
            raise RefusedError(
                422, f"give the file in the field 'file', and options as text; the form has {_fields(run)}"
            )
    return run.form.from_file(paths.pop("file"), options, paths)


def _fields(run: ServedRun) -> str:
    return ", ".join(("file", "options", *run.serving.data_options))


def _save(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)


# ---- the schema ------------------------------------------------------------------------------------------------------

_ERROR_SCHEMA = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ERRORS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    406: "The run has no answers of the accepted types.",
    413: "The request is too large.",
    415: "The body or the file has another format.",
    422: "The data or options cannot be used; the reason is one line.",
    503: "Too many requests wait; try again later.",
    504: "The answer takes longer than the time limit.",
}
_ANSWERS_SCHEMA = {"type": "object", "properties": {"answers": {"type": "array", "items": {"type": "object"}}}}


def _json_body(run: ServedRun, answer_type: str = "") -> dict[str, Any]:
    schema = run.form.model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"content": {_JSON: {"schema": _inlined(schema)}}, "required": True}} | _answers(
        run, answer_type
    )


def _form_body(run: ServedRun) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    fields = {
        "file": {**binary, "description": f"A file with one of the endings {', '.join(run.form.upload_endings)}."},
        **dict.fromkeys(run.serving.data_options, binary),
        "options": {"type": "string", "contentMediaType": _JSON, "description": "The options as JSON."},
    }
    schema = {"type": "object", "properties": fields, "required": ["file"]}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}, "required": True}} | _answers(run)


def _answers(run: ServedRun, only: str = "") -> dict[str, Any]:
    types = [only] if only else run.form.answer_types
    content = {kind: {"schema": _ANSWERS_SCHEMA if kind == _JSON else {"type": "string"}} for kind in types}
    return {"responses": {"200": {"description": "The answers", "content": content}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without references, since each run has definitions of the same names."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return inline({**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}})
        return {key: inline(value) for key, value in node.items()}

    return inline(schema)
