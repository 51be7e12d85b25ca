"""Data and settings of a new run: drop a file, see it drawn, set the main options, train."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import as_file, files
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lstmkit.data.formats import check_format
from lstmkit.demo import SAMPLE
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.jobs import job_class
from lstmkit.jobs.settings import JobSettings, settings_of
from lstmkit.settings import declared
from lstmkit.studio.drawing import draw, read_columns
from lstmkit.studio.forms import read_settings, settings_form, typed_again
from lstmkit.studio.page import (
    Studio,
    job_of,
    message_of,
    redirect,
    render,
    studio_of,
    submitted,
    texts,
    title_of,
    uploaded,
)
from lstmkit.studio.workspace import Upload

#: Data that come with the package, by job: what they are, and the file.
_SAMPLES = {"forecaster": ("hourly weather in Beijing", SAMPLE)}


# ---- data ------------------------------------------------------------------------------------------------------------


def choose_data(request: Request) -> Response:
    """Where a file is dropped."""
    return _data_page(request)


async def add_data(request: Request) -> Response:
    """Keep files, if the job can read their format and they can be drawn."""
    values = await submitted(request)
    return await run_in_threadpool(_add, request, uploaded([*values.get("files", []), *values.get("folder", [])]))


def add_sample(request: Request) -> Response:
    """Use data that come with the package."""
    job = job_of(request)
    if job not in _SAMPLES:
        return _data_page(request, f"there is no sample for {title_of(job).lower()}: add a file")
    with as_file(files("lstmkit").joinpath(_SAMPLES[job][1])) as path, path.open("rb") as file:
        upload = studio_of(request).workspace.add([(path.name, file)])
    return redirect(f"/fit/{job}/{upload.id}")


def _add(request: Request, named: list[tuple[str, Any]]) -> Response:
    job, workspace = job_of(request), studio_of(request).workspace
    upload = None
    try:
        upload = workspace.add(named)
        _check_format(upload, job)
        draw(upload.path)
    except UserError as err:
        if upload is not None:
            workspace.remove_upload(upload.id)
        return _data_page(request, message_of(request, err))
    return redirect(f"/fit/{job}/{upload.id}")


def _check_format(upload: Upload, job: str) -> None:
    """Raise DataError if the job does not read the files."""
    formats = job_class(job).data_formats
    if upload.path.is_dir() and not any(each.folder for each in formats):
        raise DataError(f"{title_of(job)} reads one file at a time: drop a single file")
    check_format(upload.path, formats)


def _data_page(request: Request, error: str = "") -> Response:
    job, workspace = job_of(request), studio_of(request).workspace
    formats = job_class(job).data_formats
    endings = sorted({ending for each in formats for ending in each.endings})
    accepts_any = any(not each.endings and not each.folder for each in formats)
    earlier = [upload for upload in workspace.uploads() if any(each.matches(upload.path) for each in formats)]
    return render(
        "data.html.j2",
        422 if error else 200,
        title=title_of(job),
        job=job,
        summary=settings_of(job).summary,
        formats=formats,
        accept="" if accepts_any else ",".join(endings),
        several=any(each.folder for each in formats),
        earlier=earlier,
        sample=_SAMPLES.get(job, ("",))[0],
        error=error,
    )


# ---- settings --------------------------------------------------------------------------------------------------------


def choose_settings(request: Request) -> Response:
    """The data, drawn, and the settings; those of an earlier run if the address names one."""
    studio, job = studio_of(request), job_of(request)
    upload = studio.workspace.upload(request.path_params["data"])
    if "run" not in request.query_params:
        columns = read_columns(upload.path)
        guesses = {} if columns is None else columns.guesses(settings_of(job))
        return _settings_page(studio, job, upload, guesses)
    run = studio.workspace.run(request.query_params["run"])
    state = studio.trainings.state(run)
    error = "" if state.has_model else message_of(request, state.error)
    return _settings_page(studio, job, upload, dict(run.settings), error)


async def start_run(request: Request) -> Response:
    """Start to train."""
    values = await submitted(request)
    return await run_in_threadpool(_start, request, texts(values))


def _start(request: Request, values: dict[str, list[str]]) -> Response:
    studio, job = studio_of(request), job_of(request)
    upload = studio.workspace.upload(request.path_params["data"])
    known_runs = dict(_runs(studio))
    try:
        settings = read_settings(settings_of(job), values)
        _check_runs(settings_of(job), settings, known_runs)
    except SettingError as err:
        return _settings_page(studio, job, upload, typed_again(settings_of(job), values), message_of(request, err))
    run = studio.workspace.new_run(job, upload.id, settings)
    studio.trainings.start(run, upload.path)
    return redirect(f"/runs/{run.id}")


def _check_runs(cls: type[JobSettings], values: dict[str, Any], known: Collection[str]) -> None:
    """Raise SettingError if a setting names a folder that is no run of this studio: no other path is opened."""
    for name, field in declared(cls).items():
        if field.metadata["names"] == "run" and values.get(name, "") not in ("", *known):
            raise SettingError(f"{name} must be a run of this studio: choose one from the list")


def _settings_page(studio: Studio, job: str, upload: Upload, values: dict[str, Any], error: str = "") -> Response:
    columns = read_columns(upload.path)
    main, others = settings_form(settings_of(job), columns, _runs(studio), values)
    return render(
        "settings.html.j2",
        422 if error else 200,
        title=f"{title_of(job)}: {upload.title}",
        job=job,
        summary=settings_of(job).summary,
        upload=upload,
        drawing=draw(upload.path),
        main=main,
        others=others,
        error=error,
    )


def _runs(studio: Studio) -> list[tuple[str, str]]:
    """Folder and name of each run with a model."""
    runs = studio.workspace.runs()
    return [(str(run.model_folder), run.id) for run in runs if studio.trainings.state(run).has_model]
