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


def _exported(format: str, quantize: str = "none") -> Callable[[Any, Path, Path], Path]:
    """Writes the networks of the job and what their use needs, see ``Job.export``."""

    def write(job: Any, run: Path, folder: Path) -> Path:
        job.export(folder / "export", format, quantize=quantize)
        return Path(shutil.make_archive(str(folder / format), "zip", folder / "export"))

    return write


#: The formats, first the one that most people want.
EXPORTS = (
    Export("run", "Run folder (zip): model, report and scores, for lstmkit predict", _run_folder),
    Export("onnx", "ONNX (zip), to run without PyTorch", _exported("onnx")),
    Export("onnx-int8", "ONNX with weights in 8 bits (zip)", _exported("onnx", "int8")),
    Export("torch", "Programs of PyTorch (.pt2, zip)", _exported("torch")),
)
