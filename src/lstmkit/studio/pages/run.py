"""A run: progress while it trains, then scores, report, and what to do with the model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from lstmkit.command_options import typed
from lstmkit.errors import UserError
from lstmkit.jobs.evaluation import saved_evaluation
from lstmkit.jobs.settings import settings_of
from lstmkit.report import table_html
from lstmkit.settings import declared
from lstmkit.studio import charts
from lstmkit.studio.exports import EXPORTS
from lstmkit.studio.page import error_page, redirect, render, run_of, studio_of, title_of
from lstmkit.studio.security import SANDBOX
from lstmkit.studio.training import TrainingState
from lstmkit.studio.workspace import NotFoundError
from lstmkit.training.run_folder import RunFolder

_QUIET = 4.0  # seconds without a sign, after which the page says that the process is still at work


def show(request: Request) -> Response:
    """The page of a run. One that failed shows the form in which its settings were given."""
    studio, run = studio_of(request), run_of(request)
    state = studio.trainings.state(run)
    if state.status == "failed" and any(upload.id == run.data for upload in studio.workspace.uploads()):
        return redirect(f"/fit/{run.job}/{run.data}?run={run.id}")
    evaluation = RunFolder.read_metrics(run.model_folder, saved_evaluation) if state.has_model else None
    return render(
        "run.html.j2",
        title=run.id,
        run=run,
        job_title=title_of(run.job),
        state=state,
        chart=loss_chart(state),
        settings={typed(name): value for name, value in run.settings.items()},
        evaluation=evaluation,
        scores="" if evaluation is None else table_html(evaluation.table, evaluation.directions),
        exports=EXPORTS if state.has_model else (),
        epochs=run.settings.get("epochs", declared(settings_of(run.job))["epochs"].default),
    )


def status(request: Request) -> Response:
    """How far a run is, for the page that shows it."""
    state = studio_of(request).trainings.state(run_of(request))
    return JSONResponse(
        {
            "status": state.status,
            "task": dict(state.task),
            "messages": list(state.messages)[-6:],
            "chart": loss_chart(state),
            "scoring": state.is_scoring,
            "quiet": state.quiet_seconds > _QUIET,
        }
    )


def stop(request: Request) -> Response:
    """Interrupt a training."""
    run = run_of(request)
    studio_of(request).trainings.stop(run)
    return redirect(f"/runs/{run.id}")


def resume(request: Request) -> Response:
    """Go on with a training."""
    studio, run = studio_of(request), run_of(request)
    studio.trainings.start(run, studio.workspace.upload(run.data).path, resume=True)
    return redirect(f"/runs/{run.id}")


def report(request: Request) -> Response:
    """The report that ``fit`` wrote; nothing in it can run."""
    path = run_of(request).model_folder / "report.html"
    if not path.exists():
        raise NotFoundError("there is no report yet: wait until the training ends")
    return FileResponse(path, media_type="text/html", headers=SANDBOX)


def download(request: Request) -> Response:
    """The model in a format."""
    studio, run = studio_of(request), run_of(request)
    export = next((each for each in EXPORTS if each.name == request.path_params["format"]), None)
    if export is None:
        raise NotFoundError("there is no such format: choose one on the page of the run")
    folder = Path(tempfile.mkdtemp())
    remove = BackgroundTask(shutil.rmtree, folder)
    try:
        with studio.models.use(run.model_folder) as (job, _):
            path = export.write(job, run.model_folder, folder)
    except UserError as err:
        shutil.rmtree(folder)
        return error_page(request, err)
    return FileResponse(path, filename=f"{run.id}-{path.name}", background=remove)


def loss_chart(state: TrainingState, title: str = "") -> dict[str, Any] | None:
    """Loss by epoch; ``None`` before the first epoch is done."""
    if not state.history:
        return None
    traces = []
    for column, name in (("valid_loss", "validation"), ("train_loss", "training")):
        rows = [row for row in state.history if column in row]
        if rows:
            epochs = [row["epoch"] for row in rows]
            trace = charts.line(epochs, [row[column] for row in rows], f"{title}{name}", len(traces))
            traces.append({**trace, "mode": "lines+markers" if len(rows) < 30 else "lines"})
    return charts.losses(traces)
