"""The first page: what to do with which data, and the runs so far."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lstmkit.jobs import job_names
from lstmkit.jobs.settings import settings_of
from lstmkit.studio.page import redirect, render, run_of, studio_of


def start(request: Request) -> Response:
    """Jobs and runs."""
    studio = studio_of(request)
    jobs = [{"name": name, "summary": settings_of(name).summary} for name in job_names()]
    runs = [(run, studio.trainings.state(run)) for run in studio.workspace.runs()]
    return render("start.html.j2", title="Train a model on your data", jobs=jobs, runs=runs)


def remove(request: Request) -> Response:
    """Delete a run, after it was stopped."""
    studio, run = studio_of(request), run_of(request)
    studio.trainings.stop_and_wait(run)
    studio.workspace.remove_run(run)
    return redirect("/#runs")
