"""The jobs: one folder each. A folder here is a job; nothing lists it elsewhere.

This module imports no job and none of their libraries: names and settings are there at once, the rest on demand.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmkit.errors import ModelFileError, SettingError, UserError
from lstmkit.libraries import import_library
from lstmkit.settings import unknown

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job


def job_names() -> list[str]:
    """Every job, by the name of its folder, which is also its name on the command line."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg and m.name != "common")


def class_name(name: str) -> str:
    """The class of a job: the name of its folder in camel case.

    >>> class_name("language_model")
    'LanguageModel'
    """
    return "".join(word.capitalize() for word in name.split("_"))


def job_class(name: str) -> type[Job]:
    """The class of the job with that name.

    Raises:
        UserError: There is no such job.
        MissingLibraryError: A library that the job needs is not installed; the message names the extra that has it.
    """
    if name not in job_names():
        raise UserError(unknown(name, job_names(), what="job"))
    from lstmkit.jobs.settings import settings_of

    module = import_library(f"{__name__}.{name}.job", settings_of(name).extra, class_name(name))
    return getattr(module, class_name(name))


def load(path: str | Path, *, train: Any = None, validation: Any = None) -> Job:
    """Load a saved model as the job that it is.

    Args:
        path: The folder that ``save`` or ``fit`` wrote. No code is run from it.
        train: The data that the model was fitted to. With them ``evaluate`` lists all baselines that ``fit`` listed.
        validation: The validation data that ``fit`` got, if any.

    Raises:
        ModelFileError: The folder holds no model, or one that is damaged, unfinished, or of a newer version.
        SettingError: ``validation`` was given without ``train``.
        DataError: ``train`` are not the data that the run was fitted to.
    """
    from lstmkit.training import checkpoint
    from lstmkit.training.run_folder import RunFolder, is_unfinished

    folder = Path(path)
    if validation is not None and train is None:
        raise SettingError("validation=... is the second part of train=...: give both, or none")
    if is_unfinished(folder):
        raise ModelFileError(
            f"{folder} holds a run that was stopped before its model was saved: fit again with resume=True"
        )
    weights, description = checkpoint.load_model(folder)
    name = current_name(description.get("job"))
    if name is None:
        job = description.get("job")
        raise ModelFileError(f"{folder} is a model of the job {job!r}, which this lstmkit does not have")
    job = job_class(name).from_saved(weights, description, folder)
    if train is None:
        return job
    digests = RunFolder.read_run_metadata(folder)["data"] if (folder / "run.json").exists() else None
    return job.restore_training_data(train, validation, digests=digests)


def current_name(name: object) -> str | None:
    """Today's name of a job that may be saved under an earlier one; ``None`` if there is no such job.

    >>> current_name("composer")
    'music_composer'
    """
    from lstmkit.jobs.settings import settings_of

    return next((job for job in job_names() if name == job or name in settings_of(job).old_names), None)
