"""What all pages share: the parts of the studio, templates, and errors where the reader acted."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lstmkit.command_options import as_typed
from lstmkit.errors import UserError
from lstmkit.jobs import job_names
from lstmkit.jobs.settings import settings_of
from lstmkit.progress import duration
from lstmkit.settings import declared
from lstmkit.studio.models import Models
from lstmkit.studio.training import Trainings
from lstmkit.studio.workspace import NotFoundError, Run, Workspace


@dataclass(frozen=True)
class Studio:
    """The parts of the studio."""

    workspace: Workspace
    trainings: Trainings
    models: Models


def studio_of(request: Request) -> Studio:
    """The parts of the studio."""
    return request.app.state.studio


def run_of(request: Request) -> Run:
    """The run that the address names. Raises NotFoundError if there is none."""
    return studio_of(request).workspace.run(request.path_params["run"])


def job_of(request: Request) -> str:
    """The job that the address names. Raises NotFoundError if there is none."""
    job = request.path_params["job"]
    if job not in job_names():
        raise NotFoundError(f"there is no job {job!r}: choose one from the list")
    return job


def render(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page from a template."""
    return HTMLResponse(_environment().get_template(template).render(**context), status)


def redirect(path: str) -> Response:
    """To another page, after something was done."""
    return RedirectResponse(path, 303)


def error_page(request: Request, error: Exception) -> Response:
    """The page of an error that no form shows; that of a bug names the terminal, which has the traceback."""
    if isinstance(error, UserError):
        status, message = 404 if isinstance(error, NotFoundError) else 400, message_of(request, error)
    elif isinstance(error, HTTPException):
        status, message = error.status_code, "there is no such page: go to the first page"
    else:
        status, message = 500, f"this is a bug of lstmkit ({type(error).__name__}): the terminal of the studio has more"
    return render("error.html.j2", status, title="This did not work", message=message)


def message_of(request: Request, error: object) -> str:
    """The line of an error: options as the forms and the command line name them, files without the studio's folder."""
    names = {name for job in job_names() for name in declared(settings_of(job))}
    folders = re.escape(str(studio_of(request).workspace.root)) + r"/(?:[\w.-]+/)*"
    return as_typed(re.sub(folders, "", str(error)), names)


async def submitted(request: Request) -> dict[str, list[Any]]:
    """What a form sent: texts and files, by name."""
    form = await request.form()
    values: dict[str, list[Any]] = {}
    for name, value in form.multi_items():
        values.setdefault(name, []).append(value)
    return values


def texts(values: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The texts among submitted values."""
    found = {name: [value for value in several if isinstance(value, str)] for name, several in values.items()}
    return {name: several for name, several in found.items() if several}


def uploaded(values: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name and content of the files among submitted values; an input without a file sends an empty one."""
    return [(value.filename, value.file) for value in values if not isinstance(value, str) and value.filename]


@functools.cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {}  # keys keep their order
    environment.globals["title_of"] = title_of
    environment.filters |= {"duration": duration, "megabytes": _megabytes, "when": _when}
    return environment


def title_of(job: str) -> str:
    """A job's name for a heading.

    >>> title_of("language_model")
    'Language model'
    """
    return job.replace("_", " ").capitalize()


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def _when(seconds: float) -> str:
    """A time in seconds since 1970 as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
