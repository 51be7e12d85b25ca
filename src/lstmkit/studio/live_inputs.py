"""Data that a reader types, records or draws, as files that ``predict`` reads."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmkit import settings
from lstmkit.errors import DataError
from lstmkit.studio.forms import Submitted, first_text

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job

_MAX_POINTS = 100_000  # of a drawing


def inputs_of(job: Job) -> list[str]:
    """Those of :data:`lstmkit.jobs.base.LIVE_INPUTS` that a fitted job takes: it reads data of their kind."""
    from lstmkit.jobs.base import LIVE_INPUTS

    kinds = ("", *job.predictor.data_kinds)
    return [name for name in job.live_inputs if LIVE_INPUTS[name] in kinds]


def row_columns(job: Job) -> list[str]:
    """The columns of the texts of a row."""
    fields = settings.declared(type(job))
    return [getattr(job, name) for name, field in fields.items() if field.metadata["names"] == "text column"]


def data_of(job: Job, name: str, values: Submitted, folder: Path) -> Any:
    """Write what was given, and return what ``predict`` takes: mostly a path.

    Args:
        job: The job.
        name: One of :func:`inputs_of`.
        values: What the form sent.
        folder: An empty folder for the file.

    Raises:
        DataError: Nothing was given, or it cannot be used.
    """
    writers = {"lines": _lines, "row": _row, "microphone": _clip, "canvas": _strokes, "count": _count}
    if name not in inputs_of(job):
        raise DataError(f"{job.name} does not take such data: give a file")
    return writers[name](job, values, folder)


def _lines(job: Job, values: Submitted, folder: Path) -> Path:
    lines = [line for line in first_text(values, "lines").splitlines() if line.strip()]
    if not lines:
        raise DataError("there is no text: type one, a line for each")
    path = folder / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _row(job: Job, values: Submitted, folder: Path) -> Path:
    columns = row_columns(job)
    cells = [first_text(values, f"row-{k}").strip() for k in range(len(columns))]
    if not all(cells):
        raise DataError(f"there is no {columns[cells.index('')]}: type one")
    path = folder / "row.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, cells])
    return path


def _clip(job: Job, values: Submitted, folder: Path) -> Path:
    recorded = next((value for value in values.get("recording", ()) if not isinstance(value, str)), None)
    if recorded is None or not recorded.size:
        raise DataError("nothing was recorded: press Record, speak, and press Stop")
    path = folder / "recording.wav"
    with path.open("wb") as file:
        shutil.copyfileobj(recorded.file, file)
    return path


def _strokes(job: Job, values: Submitted, folder: Path) -> Path:
    """Offsets and pen of each point, as an ``.npz`` of one drawing."""
    points = _points(first_text(values, "strokes"))
    if points is None or not 2 <= len(points) <= _MAX_POINTS:
        raise DataError("there is no drawing: draw one in the box")
    offsets = np.diff(points[:, :2], axis=0, prepend=points[:1, :2])
    path = folder / "drawing.npz"
    np.savez(path, strokes=np.column_stack([offsets, points[:, 2]]), offsets=np.array([0, len(points)]))
    return path


def _points(text: str) -> np.ndarray | None:
    """``(N, 3)`` positions and pen of a JSON text; ``None`` if it holds none."""
    try:
        points = np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError):
        return None
    return points if points.ndim == 2 and points.shape[-1] == 3 and np.isfinite(points).all() else None


def _count(job: Job, values: Submitted, folder: Path) -> str:
    text = first_text(values, "count").strip()
    if not text.isascii() or not text.isdigit():
        raise DataError(f"the number must be a whole number, got {text!r}")
    return text
