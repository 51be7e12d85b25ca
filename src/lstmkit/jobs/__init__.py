"""One file a job. Discovered, not listed: a module here with a Job in it is a job."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from lstmkit import checkpoint
from lstmkit.errors import ModelFileError, UserError
from lstmkit.jobs.base import Job
from lstmkit.run import is_unfinished
from lstmkit.settings import unknown


def job_names() -> list[str]:
    """Every job's name: that of its module."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))


def job_class(name: str) -> type[Job]:
    """The job of that name.

    Raises:
        UserError: There is none.
    """
    if name not in job_names():
        raise UserError(unknown(name, job_names(), what="job"))
    module = importlib.import_module(f"{__name__}.{name}")
    jobs = (c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Job))
    return next(c for c in jobs if c.__module__ == module.__name__)  # not what it builds upon


def load(path: str | Path) -> Job:
    """A saved model, as the job it is.

    Args:
        path: The folder that ``save`` or ``fit`` wrote. No code is run from it.

    Raises:
        ModelFileError: No model there, damaged, unfinished, or written by a newer version.
    """
    folder = Path(path)
    if is_unfinished(folder):
        raise ModelFileError(f"{folder} holds a run that was stopped before its model was saved: go on with --resume")
    weights, description = checkpoint.load_model(folder)
    name = description.get("job")
    if name not in job_names():
        raise ModelFileError(f"{folder} is a model of the job {name!r}, which this lstmkit does not have")
    return job_class(name).from_saved(weights, description, folder)
