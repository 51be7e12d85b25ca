"""The run folder: model, history, metrics and report of a fit, and the checkpoints to resume it."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmkit.errors import ModelFileError, SettingError, UserError
from lstmkit.training import checkpoint

_RUN, _HISTORY, _METRICS, REPORT = "run.json", "history.csv", "metrics.json", "report.html"
_LOOK, _CHECKPOINTS, _TENSORBOARD = "look.html", "checkpoints", "tensorboard"

#: Files of a run in the order of deletion: the model first, ``run.json``, which marks the folder as a run, last.
_RUN_FILES = (
    *(checkpoint.DESCRIPTION, checkpoint.WEIGHTS, _HISTORY, _METRICS, REPORT, _LOOK),
    *(_CHECKPOINTS, _TENSORBOARD, _RUN),
)


def is_unfinished(path: Path) -> bool:
    """Whether the folder holds a fit that was started but has not produced a model."""
    return (path / _RUN).exists() and not (path / checkpoint.DESCRIPTION).exists()


@dataclass(frozen=True)
class RunFolder:
    """The folder of a fit: ``run.json`` from the start, checkpoints during training, model and report at the end.

    Attributes:
        path: The folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     metadata = {"job": "forecaster", "settings": {}, "data": []}
    ...     run = RunFolder.start(Path(parent) / "run", metadata, resume=False, overwrite=False)
    ...     is_unfinished(run.path)
    True
    """

    path: Path

    @classmethod
    def start(
        cls,
        path: Path,
        about: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        old_names: Sequence[str] = (),
    ) -> RunFolder:
        """Create the folder of a new run, or reopen that of an unfinished one.

        Args:
            path: The folder.
            about: Job, settings and fingerprint of the data; a run can only be resumed with the same.
            resume: Resume the run in the folder.
            overwrite: Delete the files of the run in the folder; other files stay.
            old_names: Names of the job in earlier versions, under which a run may have been started.

        Raises:
            UserError: The folder holds a run and neither ``resume`` nor ``overwrite`` is set; it holds other files; or
                it holds no run to resume, or one of other data.
            SettingError: The run was started with another job or other settings.
        """
        folder = cls(path)
        if resume:
            folder._check_matches(about, old_names)
            return folder
        cls.check_available(path, overwrite)
        folder._delete()
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.write_summed_json(path / _RUN, about)
        return folder

    @staticmethod
    def check_available(path: Path, overwrite: bool = False) -> None:
        """Check that a run can start in the folder.

        Raises:
            UserError: The path is a file, or the folder holds other files, or a run that must not be overwritten.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: give another folder")
        if path.exists() and any(path.iterdir()):
            if not (path / _RUN).exists():
                raise UserError(f"{path} holds other files: give a new folder")
            if not overwrite:
                raise UserError(f"{path} holds a run already: --resume it, --overwrite it, or give another folder")

    @staticmethod
    def read_run_metadata(path: Path) -> dict[str, Any]:
        """Read the job, settings and data fingerprint with which a run was started.

        Raises:
            UserError: The folder holds no run.
            ModelFileError: ``run.json`` is damaged.
        """
        if not (path / _RUN).exists():
            raise UserError(f"{path} holds no run to resume: start one without --resume")
        metadata = checkpoint.read_summed_json(path / _RUN)
        if not isinstance(metadata.get("settings"), dict) or not {"job", "data"} <= metadata.keys():
            raise ModelFileError(f"{path / _RUN} is damaged (job, settings or data is missing): start a new run")
        return {name: metadata[name] for name in ("job", "settings", "data")}

    def _check_matches(self, about: Mapping[str, Any], old_names: Sequence[str]) -> None:
        metadata = self.read_run_metadata(self.path)
        if metadata["job"] not in (about["job"], *old_names):
            raise SettingError(f"{self.path} is a run of the job {metadata['job']!r}, not {about['job']!r}")
        for name, value in about["settings"].items():
            if metadata["settings"].get(name, value) != value:
                raise SettingError(
                    f"{self.path} was started with {name}={metadata['settings'][name]}, not {value}: "
                    f"resume it with the same settings, or start a new run"
                )
        if metadata["data"] != about["data"]:
            raise UserError(f"{self.path} was started on other data: resume it with the same, or start a new run")

    def _delete(self) -> None:
        for name in _RUN_FILES:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def delete_if_empty(self) -> None:
        """Delete the run if it has no checkpoint and so cannot be resumed."""
        if not any(self.path.rglob("*.safetensors")):
            self._delete()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def checkpoints(self, member: int) -> Path:
        """The folder for the checkpoints of one ensemble member; it is created."""
        folder = self.path / _CHECKPOINTS / f"seed-{member}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def tensorboard(self, member: int) -> Path:
        """The folder for the TensorBoard log of one ensemble member."""
        return self.path / _TENSORBOARD / f"seed-{member}"

    def write_history(self, histories: Sequence[Sequence[Mapping[str, float]]]) -> None:
        """Write ``history.csv``, one row per ensemble member and epoch."""
        names = ["seed", "epoch", "train_loss", "valid_loss", "lr", "seconds"]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"seed": k, **row} for k, rows in enumerate(histories) for row in rows)
        checkpoint.write_bytes(self.path / _HISTORY, text.getvalue().encode())

    def write_metrics(self, metrics: Any) -> None:
        """Write ``metrics.json``: the scores of model and baselines on the test set."""
        checkpoint.write_json(self.path / _METRICS, metrics)

    @property
    def report(self) -> Path:
        """Path of the HTML report."""
        return self.path / REPORT
