"""Exported jobs without torch: numpy and onnxruntime, and the ``tokenizers`` library for jobs that read text.

``lstmkit.runtime.load("folder")`` opens what ``lstmkit export RUN -o folder`` wrote; its ``predict`` gives what
``to_records(predict(...))`` of the job gives. The folder ``jobs`` has one module per job.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from lstmkit.data.exported_folder import DESCRIPTION, VERSION
from lstmkit.errors import ModelFileError
from lstmkit.runtime import jobs
from lstmkit.runtime.base import ExportedJob

__all__ = ["ExportedJob", "load"]

_MAX_BYTES = 500_000_000  # of the description


def job_names() -> list[str]:
    """The jobs that have a runtime."""
    return sorted(module.name for module in pkgutil.iter_modules(jobs.__path__))


def load(path: str | Path, threads: int = 1) -> ExportedJob:
    """Open an exported job.

    Args:
        path: The folder that ``lstmkit export`` or ``job.export`` wrote in the format ``onnx``.
        threads: Threads of each operator.

    Raises:
        ModelFileError: The folder holds no export, or one that is damaged or of a newer version.
        MissingLibraryError: ``onnxruntime`` is not installed, or ``tokenizers`` if the job needs it.
    """
    folder = Path(path)
    description = _description(folder)
    name = description["job"]
    if name not in job_names():
        raise ModelFileError(f"{folder} is an export of the job {name!r}, which this lstmkit does not have")
    module = importlib.import_module(f"{jobs.__name__}.{name}")
    runtime = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    try:
        return runtime(folder, description["graphs"], description["settings"], threads)
    except (LookupError, TypeError, ValueError, AttributeError) as err:
        if isinstance(err, ModelFileError):
            raise
        raise ModelFileError(f"{folder} is not a valid export of {name} ({err}): export the run again") from err


def _description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    try:
        if not file.is_file():
            raise ModelFileError(f"{folder} has no {DESCRIPTION}: give a folder that lstmkit export wrote")
        if file.stat().st_size > _MAX_BYTES:
            raise ModelFileError(f"{file} is too large for a description of an export")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        if isinstance(err, ModelFileError):
            raise
        raise ModelFileError(f"{file} cannot be read ({type(err).__name__}): export the run again") from err
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise ModelFileError(f"{file} is no description of an export: export the run again")
    if content["version"] > VERSION:
        raise ModelFileError(f"{file} was written by a newer lstmkit ({content.get('lstmkit')}): install that version")
    fields = {"job": str, "graphs": list, "settings": dict}
    if content.get("format") != "onnx":
        raise ModelFileError(f"{folder} has the format {content.get('format')!r}: export the run with format onnx")
    if not all(isinstance(content.get(name), kind) for name, kind in fields.items()):
        raise ModelFileError(f"{file} is damaged: export the run again")
    return content
