"""Formats in which a model can be downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Export:
    """A format.

    Attributes:
        name: Its name in addresses.
        label: What pages call it.
        write: Writes the model of a job and its run folder into a new folder, and returns the file.
    """

    name: str
    label: str
    write: Callable[[Any, Path, Path], Path]


def _run_folder(job: Any, run: Path, folder: Path) -> Path:
    """Model, report, scores and history; ``lstmkit predict`` takes the folder. Checkpoints are left out."""
    copy = folder / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", ".lock"))
    return Path(shutil.make_archive(str(folder / "model"), "zip", copy))


def _onnx(job: Any, run: Path, folder: Path) -> Path:
    """The graphs of the job and what its runtime needs."""
    job.export(folder / "onnx")
    return Path(shutil.make_archive(str(folder / "onnx"), "zip", folder / "onnx"))


_RUN = Export("run", "Run folder (zip): model, report and scores, for lstmkit predict", _run_folder)
_ONNX = Export("onnx", "ONNX (zip), to run without torch", _onnx)


def exports_of(job: Any) -> list[Export]:
    """The formats of a job."""
    return [_RUN, *([_ONNX] if hasattr(job, "export") else [])]
