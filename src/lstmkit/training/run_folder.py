"""The run folder: model, model card, history, metrics and report of a fit, and the checkpoints to resume it."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, SoftFileLock, Timeout
from typing_extensions import Self

from lstmkit.errors import ModelFileError, SettingError, UserError, one_line
from lstmkit.progress import seconds_in
from lstmkit.training import checkpoint

T = TypeVar("T")

_RUN, HISTORY, METRICS, REPORT = "run.json", "history.csv", "metrics.json", "report.html"
CARD = "README.md"
_LOOK, _CHECKPOINTS, _TENSORBOARD = "look.html", "checkpoints", "tensorboard"
_LOCK = ".lock"  # held by the process that fits; the system frees it when the process ends, however it ends

#: Settings that may be greater when a run is resumed, and their size.
_MAY_GROW: Mapping[str, Callable[[Any], float]] = {"epochs": float, "budget": seconds_in}

#: Files of a run in the order of deletion: the model first, ``run.json``, which marks the folder as a run, last.
_RUN_FILES = (
    *(checkpoint.DESCRIPTION, checkpoint.WEIGHTS, HISTORY, METRICS, REPORT, CARD, _LOOK),
    *(_CHECKPOINTS, _TENSORBOARD, _RUN),
)


def is_unfinished(path: Path) -> bool:
    """Whether the folder holds a fit that was started but has not produced a model."""
    return (path / _RUN).exists() and not (path / checkpoint.DESCRIPTION).exists()


def is_being_fitted(path: Path) -> bool:
    """Whether a process fits in the folder right now."""
    lock = path / _LOCK
    if not lock.exists():
        return False
    try:
        _acquire(path).release()
    except UserError:
        return True
    return False


def fitting_process(path: Path) -> int | None:
    """The process that fits in the folder; ``None`` if none does, or if the system does not let its id be read."""
    return _process_in(path / _LOCK) if is_being_fitted(path) else None


@dataclass(frozen=True)
class RunFolder:
    """The folder of a fit: ``run.json`` from the start, checkpoints during training, model and report at the end.

    One process at a time fits in a folder; others may read it. Leave the context, or call :meth:`close`, to let another
    process fit.

    Attributes:
        path: The folder.
        lock: What keeps other fits out.
        started_with: The settings that the run was started with, if it is resumed with greater ones; else empty.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     metadata = {"job": "forecaster", "settings": {}, "data": []}
    ...     with RunFolder.start(Path(parent) / "run", metadata, resume=False, overwrite=False) as run:
    ...         is_unfinished(run.path)
    True
    """

    path: Path
    lock: Any = field(repr=False, compare=False)
    started_with: Mapping[str, Any] = field(default_factory=dict)

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
        """Create the folder of a new run, or reopen that of an earlier one.

        Args:
            path: The folder.
            about: Job, settings and fingerprint of the data; a run can only be resumed with the same. Only ``epochs``
                may be greater; ``run.json`` then has the new value.
            resume: Resume the run in the folder.
            overwrite: Delete the files of the run in the folder; other files stay.
            old_names: Names of the job in earlier versions, under which a run may have been started.

        Raises:
            UserError: The folder holds a run and neither ``resume`` nor ``overwrite`` is set; it holds other files; it
                holds no run to resume, or one of other data; it cannot be written; or another process fits in it.
            SettingError: The run was started with another job or other settings.
        """
        is_new = not path.exists()
        cls.check(path, about, resume=resume, overwrite=overwrite, old_names=old_names)
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, _acquire(path))
        try:
            if resume:
                return folder._reopened(about, old_names)
            _check_content(path, overwrite)
            folder._remove_temporary_files()
            folder._delete(_RUN_FILES[:-1])
            checkpoint.write_summed_json(path / _RUN, about)
        except BaseException:
            folder.close()
            if is_new:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes fit in the folder."""
        if self.lock.is_locked:
            with contextlib.suppress(OSError):  # some systems delete no open file
                (self.path / _LOCK).unlink()
            self.lock.release()

    @classmethod
    def check(
        cls,
        path: Path,
        about: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        old_names: Sequence[str] = (),
    ) -> None:
        """Check what :meth:`start` checks, but for the data: ``about`` needs only job and settings. No run is changed.

        Raises:
            UserError: As :meth:`start`, except for a run of other data.
            SettingError: As :meth:`start`.
        """
        if not resume:
            cls.check_available(path, overwrite)
            return
        metadata = cls.read_run_metadata(path)
        _check_lock(path)
        _grown_settings(path, metadata, about, old_names)

    @staticmethod
    def check_available(path: Path, overwrite: bool = False) -> None:
        """Check that a run can start in the folder.

        Raises:
            UserError: The path is a file, or the folder holds other files, or a run that must not be overwritten; or
                another process fits in it.
        """
        _check_content(path, overwrite=True)
        _check_lock(path)
        _check_content(path, overwrite)

    @staticmethod
    def read_run_metadata(path: Path) -> dict[str, Any]:
        """Read the job, settings and data fingerprint with which a run was started.

        Raises:
            UserError: The folder holds no run.
            ModelFileError: ``run.json`` is damaged.
        """
        if not (path / _RUN).exists():
            raise UserError(f"{path} holds no run to resume: start one without resume=True")
        metadata = checkpoint.read_summed_json(path / _RUN)
        if not isinstance(metadata.get("settings"), dict) or not {"job", "data"} <= metadata.keys():
            raise ModelFileError(f"{path / _RUN} is damaged (job, settings or data is missing): start a new run")
        return {name: metadata[name] for name in ("job", "settings", "data")}

    def _reopened(self, about: Mapping[str, Any], old_names: Sequence[str]) -> RunFolder:
        metadata = self.read_run_metadata(self.path)
        grown = _grown_settings(self.path, metadata, about, old_names)
        if metadata["data"] != about["data"]:
            raise UserError(f"{self.path} was started on other data: resume it with the same, or start a new run")
        self._remove_temporary_files()
        if grown:
            checkpoint.write_summed_json(self.path / _RUN, about)
        return replace(self, started_with=grown)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _remove_temporary_files(self) -> None:
        """Delete what earlier fits left that were killed while they wrote a file."""
        checkpoint.remove_temporary_files(self.path, _RUN_FILES)
        for folder in (self.path / _CHECKPOINTS).glob("seed-*"):
            checkpoint.remove_temporary_files(folder, [checkpoint.TRAINING_STATE])

    def delete_if_empty(self) -> None:
        """Delete the run if it has no checkpoint and so cannot be resumed."""
        if not any(self.path.rglob("*.safetensors")):
            self._delete(_RUN_FILES)
            self.close()
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
        checkpoint.write_bytes(self.path / HISTORY, text.getvalue().encode())

    @staticmethod
    def read_history(path: Path) -> list[dict[str, float]]:
        """The rows of ``history.csv`` in the folder ``path``, so far; none if there is no such file.

        A column that a row does not have, such as ``valid_loss`` without validation, is left out.

        Raises:
            ModelFileError: The file is damaged.
        """
        try:
            text = (path / HISTORY).read_text(encoding="utf-8")
            rows = csv.DictReader(io.StringIO(text))
            return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
        except FileNotFoundError:
            return []
        except (UnicodeDecodeError, ValueError, TypeError) as err:
            raise ModelFileError(f"{path / HISTORY} is damaged ({one_line(err)}): delete it") from err

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``: the scores of model and baselines on the test or validation split."""
        checkpoint.write_summed_json(self.path / METRICS, metrics)

    def write_card(self, text: str) -> None:
        """Write ``README.md``, the model card."""
        checkpoint.write_bytes(self.path / CARD, text.encode())

    @staticmethod
    def read_metrics(path: Path, parse: Callable[[Any], T]) -> T | None:
        """What ``parse`` makes of the ``metrics.json`` of the folder ``path``; ``None`` if there is no such file.

        A damaged file is a warning and ``None``: a model predicts without its scores.
        """
        file = path / METRICS
        if not file.exists():
            return None
        try:
            content = checkpoint.read_summed_json(file)
            content.pop("format", None)
            return parse(content)
        except ModelFileError as err:
            reason = str(err)
        except (LookupError, TypeError, ValueError, AttributeError) as err:
            reason = f"{file} is damaged ({one_line(err)}): restore it from a copy, or delete it"
        warnings.warn(f"{reason}; the model is loaded without its evaluation", stacklevel=2)
        return None

    @property
    def report(self) -> Path:
        """Path of the HTML report."""
        return self.path / REPORT


def _grown_settings(
    path: Path, metadata: Mapping[str, Any], about: Mapping[str, Any], old_names: Sequence[str]
) -> dict[str, Any]:
    """The earlier values of the settings that are greater than those that the run was started with.

    Raises:
        SettingError: The run was started with another job or other settings.
    """
    if metadata["job"] not in (about["job"], *old_names):
        raise SettingError(f"{path} is a run of the job {metadata['job']!r}, not {about['job']!r}")
    grown = {}
    for name, value in about["settings"].items():
        before = metadata["settings"].get(name, value)
        size = _MAY_GROW.get(name)
        if size is not None and isinstance(before, type(value)) and size(before) < size(value):
            grown[name] = before
        elif before != value:
            raise SettingError(
                f"{path} was started with {name}={before}, not {value}: "
                f"resume it with the same settings (only epochs and budget may be greater), or start a new run"
            )
    return grown


def _check_content(path: Path, overwrite: bool) -> None:
    """Raise UserError if the path is a file, or a folder of other files or of a run that must not be overwritten."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: give another folder")
    if not path.exists():
        return
    if (path / _RUN).exists():
        if not overwrite:
            raise UserError(f"{path} holds a run already: give resume=True, overwrite=True, or another folder")
    elif any(not _is_left_over(file) for file in path.iterdir()):
        raise UserError(f"{path} holds other files: give a new folder")


def _is_left_over(path: Path) -> bool:
    """Whether a fit left the file that was killed before it had written ``run.json``."""
    return path.name == _LOCK or checkpoint.is_temporary(path, [_RUN])


def _check_lock(path: Path) -> None:
    """Raise UserError if another process fits in the folder."""
    if (path / _LOCK).exists():
        _acquire(path).release()


def _acquire(folder: Path) -> FileLock:
    """The lock of the folder, held by this process.

    Raises:
        UserError: Another process holds it, or the folder cannot be written.
    """
    path = folder / _LOCK
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a pipe, a device or a folder: delete it, or give another folder")
    holder = _process_in(path)
    process = "" if holder is None else f" (process {holder})"
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use by another fit{process}: wait until it ends, or give another folder"
        ) from None
    except OSError as err:
        raise UserError(
            f"{folder} cannot be written ({err.strerror or err}): give a folder that you may write to"
        ) from err
    if not isinstance(lock, SoftFileLock):  # that one, for disks without locks, has the process in its file
        with contextlib.suppress(OSError):  # some systems do not let a locked file be written
            path.write_text(str(os.getpid()))
    return lock


def _process_in(lock: Path) -> int | None:
    """The process that the lock's file names, if it does."""
    try:
        first_line = lock.read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None
    return int(first_line) if first_line.isdigit() else None
