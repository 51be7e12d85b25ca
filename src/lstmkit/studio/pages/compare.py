"""Two runs side by side: settings that differ, scores, and losses."""

from __future__ import annotations

from typing import Any

import pandas as pd
from starlette.requests import Request
from starlette.responses import Response

from lstmkit import settings
from lstmkit.command_options import typed
from lstmkit.errors import SettingError
from lstmkit.jobs.evaluation import saved_evaluation
from lstmkit.jobs.settings import settings_of
from lstmkit.report import table_html
from lstmkit.studio import charts
from lstmkit.studio.page import message_of, render, studio_of
from lstmkit.studio.workspace import Run
from lstmkit.training.run_folder import RunFolder


def show(request: Request) -> Response:
    """The two runs that the address names; the newest two if it names none."""
    studio = studio_of(request)
    runs = [run for run in studio.workspace.runs() if studio.trainings.state(run).has_model]
    ids = [request.query_params.get(name, "") for name in ("a", "b")]
    if not any(ids):
        ids = [run.id for run in _similar(runs)]
    context: dict[str, Any] = {"pair": None, "error": ""}
    if len(ids) == 2:
        try:
            context["pair"] = _compared(*(studio.workspace.run(id) for id in ids))
        except SettingError as err:
            context["error"] = message_of(request, err)
    return render("compare.html.j2", title="Compare two runs", runs=runs, ids=[*ids, "", ""][:2], **context)


def _similar(runs: list[Run]) -> list[Run]:
    """The newest run, and before it the newest one of the same job; none if there is no such pair."""
    for k, run in enumerate(runs):
        other = next((each for each in runs[k + 1 :] if each.job == run.job), None)
        if other is not None:
            return [other, run]
    return []


def _compared(a: Run, b: Run) -> dict[str, Any]:
    """What the page shows of two runs of one job.

    Raises:
        SettingError: They are one run, or runs of different jobs.
    """
    if a.id == b.id:
        raise SettingError(f"{a.id} was chosen twice: choose two runs")
    if a.job != b.job:
        raise SettingError(f"{a.id} is a {a.job} and {b.id} a {b.job}, which have other scores: choose runs of one job")
    return {
        "settings": _differences(a, b),
        "scores": _scores(a, b),
        "chart": _losses(a, b),
        "same": a.data == b.data,
    }


def _differences(a: Run, b: Run) -> list[tuple[str, str, str]]:
    """Option, and its values in both runs, for each that differs; the data come first."""
    declared = settings.declared(settings_of(a.job))
    rows = [] if a.data == b.data else [("data", a.data, b.data)]
    for name, field in declared.items():
        values = [_text(run.settings.get(name, field.default)) for run in (a, b)]
        if values[0] != values[1]:
            rows.append((typed(name), values[0], values[1]))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return "–" if value in (None, "") else str(value)


def _scores(a: Run, b: Run) -> str:
    """The scores of both models, as a table."""
    rows, directions = [], {}
    for run in (a, b):
        evaluation = RunFolder.read_metrics(run.model_folder, saved_evaluation)
        if evaluation is not None:
            directions |= evaluation.directions
            rows.append({**evaluation.table.iloc[0].to_dict(), "model": run.id})
    return table_html(pd.DataFrame(rows), directions) if len(rows) == 2 else ""


def _losses(a: Run, b: Run) -> charts.Chart:
    """Losses by epoch: those of validation, or of training if there was no validation."""
    traces = []
    for k, run in enumerate((a, b)):
        history = RunFolder.read_history(run.model_folder)
        column = "valid_loss" if any("valid_loss" in row for row in history) else "train_loss"
        rows = [row for row in history if column in row]
        kind = "validation" if column == "valid_loss" else "training"
        epochs, losses = ([row[name] for row in rows] for name in ("epoch", column))
        traces.append(charts.line(epochs, losses, f"{run.id}, {kind}", k))
    return charts.losses(traces)
