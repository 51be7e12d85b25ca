"""The processes that fit, and what pages show of them. A process goes on if the studio ends, and is found again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lstmkit import settings
from lstmkit.command_options import typed
from lstmkit.errors import UserError
from lstmkit.jobs.settings import settings_of
from lstmkit.studio.workspace import Run
from lstmkit.training.checkpoint import read_summed_json
from lstmkit.training.run_folder import RunFolder, fitting_process, is_being_fitted, is_unfinished

_ERROR = "error: "  # how the command line begins a user's mistake


@dataclass(frozen=True)
class TrainingState:
    """How far a run is.

    Attributes:
        status: ``"training"``; ``"finished"``; ``"stopped"`` before all epochs, with a model; ``"unfinished"``, without
            a model, but it can be resumed; or ``"failed"``.
        error: Why the process ended, if it could not go on.
        task: What is being done, from the process, see :class:`lstmkit.progress.JsonProgress`; empty if nothing is.
        messages: Lines that the process wrote.
        history: Rows of ``history.csv`` so far.
        quiet_seconds: Since the process last said how far it is.
        is_scoring: Whether the training has ended and the process scores the model and writes the report.
    """

    status: str
    error: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[str] = ()
    history: Sequence[Mapping[str, float]] = ()
    quiet_seconds: float = 0.0
    is_scoring: bool = False

    @property
    def has_model(self) -> bool:
        """Whether the model can be used."""
        return self.status in ("finished", "stopped")

    @property
    def can_resume(self) -> bool:
        """Whether training can go on."""
        return self.status in ("stopped", "unfinished")


class Trainings:
    """Starts, stops and watches the processes that fit."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run: Run, data: Path, *, resume: bool = False) -> None:
        """Fit in a process of its own.

        Args:
            run: The run.
            data: Its data.
            resume: Resume it.

        Raises:
            UserError: It is being fitted already.
        """
        if self.is_running(run):
            raise UserError(f"{run.id} is training already: wait until it ends, or stop it")
        with run.log.open("wb") as log:
            self._processes[run.id] = subprocess.Popen(
                [sys.executable, "-m", "lstmkit", *fit_arguments(run, data, resume=resume), "--progress", "json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C stops the studio and not the training
            )

    def stop(self, run: Run) -> None:
        """Interrupt a training as Ctrl-C does: it keeps its best weights. Nothing happens if it has ended.

        A process that scores the model is not interrupted: it would leave no report.
        """
        if not self.state(run).is_scoring:
            self._interrupt(run)

    def _interrupt(self, run: Run) -> None:
        process = self._processes.get(run.id)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
        elif process is None and (number := fitting_process(run.model_folder)) is not None:
            os.kill(number, signal.SIGINT)

    def stop_and_wait(self, run: Run, seconds: float = 30.0) -> None:
        """Interrupt a training and wait until its process has ended.

        Raises:
            UserError: It has not ended after so many seconds.
        """
        self._interrupt(run)
        deadline = time.monotonic() + seconds
        while self.is_running(run):
            if time.monotonic() > deadline:
                raise UserError(f"{run.id} has not stopped after {seconds:.0f} s: wait until it ends, and try again")
            time.sleep(0.05)

    def is_running(self, run: Run) -> bool:
        """Whether a process fits the run: one of this studio, or one that an earlier studio started."""
        process = self._processes.get(run.id)
        return is_being_fitted(run.model_folder) if process is None else process.poll() is None

    def state(self, run: Run) -> TrainingState:
        """How far a run is."""
        log = _read_log(run.log)
        messages, error = log.messages, log.error
        history = RunFolder.read_history(run.model_folder)
        if self.is_running(run):
            quiet = time.time() - run.log.stat().st_mtime if run.log.exists() else 0.0
            return TrainingState("training", "", log.task, messages, history, quiet, log.is_trained)
        if (run.model_folder / "report.html").exists():
            ended = read_summed_json(run.model_folder / "metrics.json")["training"]
            status = "stopped" if "interrupted" in ended else "finished"
            return TrainingState(status, error, messages=messages, history=history)
        can_resume = is_unfinished(run.model_folder) or (run.model_folder / "model.json").exists()
        if can_resume and not error:
            return TrainingState("unfinished", messages=messages, history=history)
        error = error or (messages[-1] if messages else "the training was ended before it began: start it again")
        return TrainingState("failed", error, messages=messages, history=history)


def fit_arguments(run: Run, data: Path, *, resume: bool = False) -> list[str]:
    """The words of the command line that fits a run: ``fit JOB DATA -o RUN --setting value``."""
    cls = settings_of(run.job)
    words = ["fit", run.job, str(data), "-o", str(run.model_folder)]
    if resume:
        return [*words, "--resume"]
    for name, value in run.settings.items():
        if settings.type_of(cls, name) is bool:
            words.append(typed(name if value else f"no_{name}"))
        else:
            text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            words.append(f"{typed(name)}={text}")
    return words


class _Log(NamedTuple):
    """What a process has said: its current task, lines for the reader, an error, and whether training has ended."""

    task: dict[str, Any]
    messages: list[str]
    error: str
    is_trained: bool


def _read_log(path: Path) -> _Log:
    task: dict[str, Any] = {}
    messages: list[str] = []
    error, is_trained = "", False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        entry = _parsed(line)
        if "task" in entry:
            task = entry
            is_trained = is_trained and not _is_training(entry["task"])
        elif "ended" in entry:
            task = {}
            is_trained = is_trained or _is_training(entry["ended"])
        elif "say" in entry:
            messages.append(str(entry["say"]))
        elif line.startswith(_ERROR):
            error = line.removeprefix(_ERROR)
        elif line.strip() and line != "stopped":
            messages.append(line)
    return _Log(task, messages, error, is_trained)


def _is_training(title: object) -> bool:
    """Whether a task is the training: that of an ensemble has a task for each of its models."""
    return str(title).startswith("training")


def _parsed(line: str) -> dict[str, Any]:
    """A line of JSON; empty if it is another line, or one that is still being written."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
