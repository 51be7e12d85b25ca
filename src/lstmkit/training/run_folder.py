"""The run folder: what a fit leaves behind, and what it needs to go on after it was stopped."""

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

#: What a run is made of, in the order in which it goes: the model first, what tells that it is a run last.
_RUN_FILES = (
    *(checkpoint.DESCRIPTION, checkpoint.WEIGHTS, _HISTORY, _METRICS, REPORT, _LOOK),
    *(_CHECKPOINTS, _TENSORBOARD, _RUN),
)


def is_unfinished(path: Path) -> bool:
    """Whether a fit was begun there that has not come to a model."""
    return (path / _RUN).exists() and not (path / checkpoint.DESCRIPTION).exists()


@dataclass(frozen=True)
class RunFolder:
    """A folder with a fit in it: ``run.json`` from the start, checkpoints on the way, the model and report at the end.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def start(cls, path: Path, about: Mapping[str, Any], *, resume: bool, overwrite: bool) -> RunFolder:
        """Make the folder, or take it up again.

        Args:
            path: Where.
            about: Job, settings and the data's fingerprint: a run is only resumed with the same.
            resume: Go on with the run that is there.
            overwrite: Delete the run that is there, and nothing else that may be beside it.

        Raises:
            UserError: There is a run already and neither was asked for; or other files; or nothing to resume.
            SettingError: The run there was started with other settings or data.
        """
        folder = cls(path)
        if resume:
            folder._check_same(about)
            return folder
        cls.check_available(path, overwrite)
        folder._delete()
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(path / _RUN, dict(about))
        return folder

    @staticmethod
    def check_available(path: Path, overwrite: bool = False) -> None:
        """Whether a run can begin there.

        Raises:
            UserError: There is a run already, and it is not to be overwritten; or other files.
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
        """What a run was started with.

        Raises:
            UserError: There is no run.
            ModelFileError: ``run.json`` is damaged.
        """
        if not (path / _RUN).exists():
            raise UserError(f"{path} holds no run to resume: start one without --resume")
        about = checkpoint.read_json(path / _RUN)
        sound = isinstance(about, dict) and isinstance(about.get("settings"), dict)
        if not sound or not {"job", "data"} <= about.keys():
            raise ModelFileError(f"{path / _RUN} is damaged (no job, settings and data): start a new run")
        return about

    def _check_same(self, about: Mapping[str, Any]) -> None:
        before = self.read_run_metadata(self.path)
        if before["job"] != about["job"]:
            raise SettingError(f"{self.path} is a run of the job {before['job']!r}, not {about['job']!r}")
        for name, value in about["settings"].items():
            if before["settings"].get(name, value) != value:
                raise SettingError(
                    f"{self.path} was started with {name}={before['settings'][name]}, not {value}: "
                    f"a run is resumed with its own settings"
                )
        if before["data"] != about["data"]:
            raise UserError(f"{self.path} was started on other data: resume it with the same, or start a new run")

    def _delete(self) -> None:
        for name in _RUN_FILES:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def delete_if_empty(self) -> None:
        """Delete the run if no epoch of it was kept: there is nothing to resume."""
        if not any(self.path.rglob("*.safetensors")):
            self._delete()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def checkpoints(self, member: int) -> Path:
        """Where the checkpoints of one seed's training go."""
        folder = self.path / _CHECKPOINTS / f"seed-{member}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def tensorboard(self, member: int) -> Path:
        """Where one seed's TensorBoard log goes."""
        return self.path / _TENSORBOARD / f"seed-{member}"

    def write_history(self, histories: Sequence[Sequence[Mapping[str, float]]]) -> None:
        """``history.csv``: a row for each seed and epoch."""
        names = ["seed", "epoch", "train_loss", "valid_loss", "lr", "seconds"]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"seed": k, **row} for k, rows in enumerate(histories) for row in rows)
        checkpoint.write_bytes(self.path / _HISTORY, text.getvalue().encode())

    def write_metrics(self, metrics: Any) -> None:
        """``metrics.json``: the scores on the part that training never saw, the baselines' beside them."""
        checkpoint.write_json(self.path / _METRICS, metrics)

    @property
    def report(self) -> Path:
        return self.path / REPORT
