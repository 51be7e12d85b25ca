"""Try a model: give it data, and see, hear and download its answers."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from lstmkit.data.formats import check_format
from lstmkit.errors import DataError, ModelFileError, UserError, one_line
from lstmkit.report import number, save_figure
from lstmkit.studio.drawing import Drawing, draw, file_as_png
from lstmkit.studio.forms import Submitted, first_text, keyword_fields, read_keywords
from lstmkit.studio.live_inputs import data_of, inputs_of, row_columns
from lstmkit.studio.page import (
    message_of,
    redirect,
    render,
    run_of,
    studio_of,
    submitted,
    texts,
    title_of,
    uploaded,
)
from lstmkit.studio.security import SANDBOX
from lstmkit.studio.workspace import NotFoundError, Run, Workspace
from lstmkit.training.checkpoint import write_bytes

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job

_MAX_ANSWERS = 20  # kept of a run; the oldest is deleted
_MAX_RECORDS = 50  # rows of a table of answers


def show(request: Request) -> Response:
    """The form, and the answers that the address names."""
    number = request.query_params.get("answer", "")
    return _page(request, answer=number if number.isdigit() else "")


async def ask(request: Request) -> Response:
    """Ask the model."""
    values = await submitted(request)
    return await run_in_threadpool(_ask, request, values)


def answer_file(request: Request) -> Response:
    """A file of an answer, to download."""
    run, number, name = run_of(request), request.path_params["number"], request.path_params["file"]
    about = _read_about(run, str(number))
    if name not in about["files"]:
        raise NotFoundError(f"there is no file {name!r}: choose one on the page")
    return FileResponse(run.answers / str(number) / name, filename=f"{run.id}-{name}", headers=SANDBOX)


def _ask(request: Request, values: Submitted) -> Response:
    studio, run = studio_of(request), run_of(request)
    source = first_text(values, "source")
    number = 1 + max(_numbers(run), default=0)
    folder = run.answers / str(number)
    given = folder / "given"
    given.mkdir(parents=True)
    try:
        with studio.models.use(run.model_folder) as (job, warnings):
            keywords = {**read_keywords(job.predict, texts(values)), **_file_keywords(job, values, given)}
            data = _data(studio.workspace, run, job, source, values, given)
            started = time.perf_counter()
            predictions = job.predict(data, **keywords)
            seconds = time.perf_counter() - started
            written = _write(job, data, predictions, folder)
    except UserError as err:
        shutil.rmtree(folder)
        return _page(request, error=message_of(request, err), source=source, values=texts(values))
    about = {"source": source, "typed": texts(values), "seconds": seconds, "warnings": warnings, **written}
    write_bytes(folder / "about.json", json.dumps(about).encode())
    for old in sorted(_numbers(run))[:-_MAX_ANSWERS]:
        shutil.rmtree(run.answers / str(old))
    return redirect(f"/runs/{run.id}/try?answer={number}#answer")


def _data(workspace: Workspace, run: Run, job: Job, source: str, values: Submitted, folder: Path) -> Any:
    """What the reader gave: the data of the run, files, or what was typed, recorded or drawn."""
    if source == "data":
        return workspace.upload(run.data).path
    if source != "file":
        return data_of(job, source, values, folder)
    files = uploaded(values.get("files", ()))
    if not files:
        raise DataError("no file was chosen: choose one")
    return check_format(workspace.add(files).path, job.data_formats)


def _file_keywords(job: Job, values: Submitted, folder: Path) -> dict[str, Path]:
    """The files that were given for keywords of ``predict``."""
    paths = {}
    for field in keyword_fields(job.predict):
        files = uploaded(values.get(field.name, ())) if field.kind == "file" else []
        if files:
            paths[field.name] = Workspace(folder / field.name).add(files[:1]).path
    return paths


def _write(job: Job, data: Any, predictions: Any, folder: Path) -> dict[str, Any]:
    """Write the answers in all formats of the job, and a figure; say which files there are."""
    job.write(predictions, folder / "answers.json")
    for suffix in job.answer_suffixes:
        job.write(predictions, folder / f"answers{suffix}")
    save_figure(job.plot(data, predictions), folder / "figure.png", dpi=150)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    first = next(name for name in files if name.endswith(job.answer_suffixes[0]))
    return {"files": files, "first": first}


def _numbers(run: Run) -> list[int]:
    return [int(path.name) for path in run.answers.iterdir()] if run.answers.is_dir() else []


def _read_about(run: Run, number: str) -> dict[str, Any]:
    path = run.answers / number / "about.json"
    try:
        return json.loads(path.read_bytes())
    except OSError as err:
        raise NotFoundError(f"there is no answer {number} of {run.id}: try the model again") from err
    except ValueError as err:
        raise ModelFileError(f"{path} is damaged ({one_line(err)}): try the model again") from err


def _page(
    request: Request,
    answer: str = "",
    error: str = "",
    source: str = "",
    values: Mapping[str, Sequence[str]] | None = None,
) -> Response:
    studio, run = studio_of(request), run_of(request)
    with studio.models.use(run.model_folder) as (job, _):
        fields = keyword_fields(job.predict)
        inputs, columns = inputs_of(job), row_columns(job)
    has_data = any(upload.id == run.data for upload in studio.workspace.uploads())
    about = _read_about(run, answer) if answer else None
    typed = {name: several[0] for name, several in (values or (about or {}).get("typed", {})).items()}
    sources = [*inputs, *(["data"] if has_data else []), "file"]
    return render(
        "try.html.j2",
        422 if error else 200,
        title=f"Try {run.id}",
        run=run,
        job_title=title_of(run.job),
        sources=sources,
        source=source or (about or {}).get("source") or sources[0],
        columns=columns,
        fields=[field.with_value(typed.get(field.name, field.value)) for field in fields],
        typed=typed,
        accept=",".join(sorted({ending for each in job.data_formats for ending in each.endings})),
        answer=answer,
        about=about,
        drawing=None if about is None else _drawing(run.answers / answer, about),
        figure="" if about is None else file_as_png(run.answers / answer / "figure.png"),
        error=error,
    )


def _drawing(folder: Path, about: Mapping[str, Any]) -> Drawing:
    """The answers beside their figure: sound, text, and a table of the file or, if it has none, of the records."""
    drawing = replace(draw(folder / about["first"]), chart=None, image="", summary="")
    if drawing.columns:
        return replace(drawing, rows=[[_rounded(cell) for cell in row] for row in drawing.rows])
    columns, rows = _as_rows(json.loads((folder / "answers.json").read_bytes()))
    return replace(drawing, columns=columns, rows=rows)


def _as_rows(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The short values of records as a table."""
    names = list(dict.fromkeys(name for record in records for name, value in record.items() if _is_short(value)))
    shown = records[:_MAX_RECORDS]
    return names, [[_cell(record.get(name)) for name in names] for record in shown]


def _is_short(value: Any) -> bool:
    """Whether a value fits into a cell: no list of lists, no array."""
    return not isinstance(value, (list, dict)) or (
        isinstance(value, list) and len(value) <= 40 and all(isinstance(each, str) for each in value)
    )


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return number(value) if isinstance(value, float) else "" if value is None else str(value)


def _rounded(cell: str) -> str:
    """A cell with four significant digits if it is a number with more."""
    return number(float(cell)) if re.fullmatch(r"-?\d+\.\d{3,}(e-?\d+)?", cell) else cell
