"""Run folders: one fit at a time, what a killed fit leaves, more epochs, a full disk."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import lstmkit
import lstmkit.cli
from lstmkit import progress
from lstmkit.errors import ModelFileError, SettingError, UserError
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.jobs.base import Job
from lstmkit.progress import Progress, Task
from lstmkit.training import checkpoint
from lstmkit.training.optimization import learning_rate
from lstmkit.training.run_folder import RunFolder, fitting_process, is_being_fitted

WAVE = np.stack([np.sin(np.arange(200) / 3), np.cos(np.arange(200) / 4)], axis=1)
SETTINGS: dict[str, Any] = {"hidden_size": 2, "window": 10, "steps_per_epoch": 2, "batch_size": 4, "patience": 0}
ABOUT: dict[str, Any] = {"job": "x", "settings": {"epochs": 3}, "data": []}

#: Fits in the folder of its argument until it is killed.
HOLD = """
import sys, time
from pathlib import Path
from lstmkit.training.run_folder import RunFolder, fitting_process, is_being_fitted
about = {"job": "x", "settings": {"epochs": 3}, "data": []}
run = RunFolder.start(Path(sys.argv[1]), about, resume=False, overwrite=False)
print("started", flush=True)
time.sleep(600)
"""


class Killed(BaseException):
    """What nothing catches, as if the process were killed."""


class Recorder(Progress):
    """Records lines, and calls ``at(done)`` at every update of the training."""

    def __init__(self, at: Callable[[int], None] = lambda done: None) -> None:
        self.at, self.lines = at, []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
        yield _Updates(self.at if title == "training" else lambda done: None)


class _Updates:
    def __init__(self, at: Callable[[int], None]) -> None:
        self.at = at

    def update(self, done: int, note: str = "") -> None:
        self.at(done)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write no report page, which takes longer than everything else."""
    monkeypatch.setattr(Job, "write_report", lambda self, path, examples: path.write_text("report"))


def fit(run: Path, epochs: int = 3, progress: Progress | None = None, **how: bool) -> AnomalyDetector:
    return AnomalyDetector(**SETTINGS, epochs=epochs).fit(WAVE, run=run, progress=progress, **how)


def start(path: Path, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
    return RunFolder.start(path, ABOUT, resume=resume, overwrite=overwrite)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights_of(job: Job) -> dict[str, list[Any]]:
    return {name: t.tolist() for name, t in job.model.state_dict().items()}


# ---- one fit at a time -----------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """Whatever it was asked to do; the process is named and nothing is changed. A killed process holds nothing."""
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        before = contents(run)
        assert is_being_fitted(run)
        assert fitting_process(run) == process.pid
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError, match=f"is in use by another fit \\(process {process.pid}\\): wait") as err:
                start(run, **how)
            assert "\n" not in str(err.value)
        assert contents(run) == before
        assert RunFolder.read_run_metadata(run) == ABOUT
    finally:
        process.kill()
        process.communicate()
    assert not is_being_fitted(run)
    assert fitting_process(run) is None
    with start(run, resume=True):
        pass
    assert list(contents(run)) == ["run.json"]


def test_a_fit_that_runs_keeps_others_out_and_lets_them_read(tmp_path: Path) -> None:
    """A finished run that trains on can be loaded meanwhile; afterwards nothing keeps others out."""
    run, messages = tmp_path / "run", []
    before = weights_of(fit(run))

    def meanwhile(done: int) -> None:
        assert weights_of(lstmkit.load(run)) == before
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UserError) as err:
                fit(run, **how)
            messages.append(str(err.value))

    fit(run, epochs=4, progress=Recorder(meanwhile), resume=True)
    assert len(messages) >= 3
    assert all(f"is in use by another fit (process {os.getpid()})" in message for message in messages)
    fit(run, overwrite=True)
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_fit_that_ends_with_an_error_keeps_nobody_out(error: BaseException, tmp_path: Path) -> None:
    def fail(done: int) -> None:
        raise error

    with pytest.raises(type(error)):
        fit(tmp_path / "run", progress=Recorder(fail))
    fit(tmp_path / "run", resume=True)


# ---- what a killed fit leaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"resume": True}, {"overwrite": True}], ids=str)
def test_temporary_files_of_a_killed_fit_are_removed(how: dict[str, bool], tmp_path: Path) -> None:
    """Those of the run's own files; other files of the user stay."""
    run = tmp_path / "run"
    fit(run)
    left = [".weights.safetensors.deadbeef", ".model.json.01234567", "checkpoints/seed-0/.last.safetensors.deadbeef"]
    mine = [".notes.txt.deadbeef", ".model.json.bak", "model.json.deadbeef"]
    for name in [*left, *mine]:
        (run / name).write_bytes(b"\0" * 50)
    fit(run, **how)
    assert [name for name in left if (run / name).exists()] == []
    assert [name for name in mine if not (run / name).exists()] == []


@pytest.mark.parametrize("how", [{}, {"overwrite": True}], ids=str)
def test_a_folder_killed_before_its_run_was_written_is_used_again(how: dict[str, bool], tmp_path: Path) -> None:
    (tmp_path / ".run.json.deadbeef").write_bytes(b"")
    (tmp_path / ".lock").write_text("1")
    start(tmp_path, **how).close()
    assert list(contents(tmp_path)) == ["run.json"]


def test_overwriting_is_never_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the old run is deleted or the new one is written, the folder still is one of a run."""
    run = tmp_path / "run"
    fit(run)
    (run / "notes.txt").write_text("mine")

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_summed_json", killed)
        with pytest.raises(Killed):
            fit(run, overwrite=True)
    fit(run, overwrite=True)
    assert (run / "notes.txt").read_text() == "mine"


# ---- more epochs -----------------------------------------------------------------------------------------------------


def test_a_finished_run_goes_on_with_more_epochs(tmp_path: Path) -> None:
    """From its last state; earlier rows stay, the learning rate is that of the new schedule, and it says so."""
    run, recorder = tmp_path / "run", Recorder()
    fit(run)
    rows = pd.read_csv(run / "history.csv")
    longer = fit(run, epochs=6, progress=recorder, resume=True)
    assert [line for line in recorder.lines if "resuming with epochs=6 instead of 3" in line and "schedule" in line]
    more = pd.read_csv(run / "history.csv")
    assert more["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    pd.testing.assert_frame_equal(more[:3], rows)
    settings = longer._train_settings(torch.device("cpu"), 0)
    expected = [learning_rate(settings, 2 * epoch - 1, 12) for epoch in (4, 5, 6)]
    assert more["lr"][3:].tolist() == pytest.approx(expected)
    assert expected[0] > rows["lr"].iloc[-1]
    assert json.loads((run / "run.json").read_text())["settings"]["epochs"] == 6
    assert lstmkit.load(run).get_params()["epochs"] == 6
    assert weights_of(lstmkit.load(run)) == weights_of(longer)


def test_more_epochs_are_kept_by_a_run_that_is_resumed_again(tmp_path: Path) -> None:
    """Killed while it goes on and resumed, the weights are those of one that was not killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for run in (whole, killed):
        fit(run)
    expected = weights_of(fit(whole, epochs=6, resume=True))

    def kill(done: int) -> None:
        if done >= 10:
            raise Killed

    with pytest.raises(Killed):
        fit(killed, epochs=6, progress=Recorder(kill), resume=True)
    with pytest.raises(SettingError, match="was started with epochs=6, not 3"):
        fit(killed, resume=True)
    recorder = Recorder()
    assert weights_of(fit(killed, epochs=6, progress=recorder, resume=True)) == expected
    assert not [line for line in recorder.lines if "instead of" in line]


def test_other_settings_are_refused_with_more_epochs_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(run)
    before = contents(run)
    with pytest.raises(SettingError, match=r"was started with lr=0\.003, not 0\.1: .*only epochs and budget"):
        AnomalyDetector(**SETTINGS, epochs=6, lr=0.1).fit(WAVE, run=run, resume=True)
    assert contents(run) == before


# ---- the history -----------------------------------------------------------------------------------------------------


def test_the_history_grows_by_a_row_an_epoch(tmp_path: Path) -> None:
    """A kill loses none of its rows and resuming repeats none."""
    run, seen = tmp_path / "run", []

    def look(done: int) -> None:
        path = run / "history.csv"
        seen.append(len(pd.read_csv(path)) if path.exists() else 0)
        if len(seen) == 4:
            raise Killed

    with pytest.raises(Killed):
        fit(run, epochs=4, progress=Recorder(look))
    assert seen == sorted(seen)
    assert seen[-1] >= 1
    resumed = fit(run, epochs=4, resume=True)
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    assert weights_of(resumed) == weights_of(fit(tmp_path / "other", epochs=4))


# ---- a full disk, folders that are gone or must not be written -------------------------------------------------------


@pytest.mark.parametrize("call", range(1, 12))
def test_a_full_disk_names_the_file_and_loses_nothing(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever file it happens: the error names it, no file is half, and the run can be resumed or begun anew."""
    run, calls, real = tmp_path / "run", [0], os.fsync

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device") as err:
            fit(run)
    assert Path(err.value.filename).is_relative_to(run)
    assert not run.exists() or [p.name for p in run.rglob(".*")] == []
    resumed = fit(run, resume=(run / "run.json").exists())
    assert weights_of(resumed) == weights_of(fit(tmp_path / "other"))


def test_a_folder_deleted_during_training_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def delete(done: int) -> None:
        for path in sorted(run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.rmdir()

    with pytest.raises(OSError, match=r"No such file or directory: '.*last\.safetensors'"):
        fit(run, progress=Recorder(delete))


def test_a_read_only_folder_is_named_and_keeps_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since root may write everywhere: the lock is the first file that is written."""
    run = tmp_path / "run"
    fit(run)
    before, real = contents(run), os.open

    def read_only(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", os.fspath(path))
        return real(path, flags, *args, **options)

    for how in ({"resume": True}, {"overwrite": True}):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", read_only)
            with pytest.raises(UserError, match=r"run cannot be written \(Read-only file system\): give a folder"):
                fit(run, **how)
    assert contents(run) == before


# ---- what is said ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return now


def test_a_log_gets_a_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Units done, note and time left, counted from the first update: a resumed task begins with some done."""
    with progress.TerminalProgress().task("training", 1000) as task:
        for second in range(0, 200, 10):
            clock[0] = second
            task.update(400 + second, f"loss {second}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training …",
        "training: 460 of 1000, loss 60, 9 min left",
        "training: 520 of 1000, loss 120, 8 min left",
        "training: 580 of 1000, loss 180, 7 min left",
    ]


def test_the_last_minute_is_in_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """And the counter of a budget has its unit."""
    with progress.TerminalProgress().task("training", 122, "s") as task:
        for second in (0, 61, 121):
            clock[0] = second
            task.update(second)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "training: 61 of 122 s, 2 min left",
        "training: 121 of 122 s, 1 s left",
    ]


def test_a_program_gets_json(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The state of a task when it starts, twice a second and when it is done."""
    shown = progress.JsonProgress(str.upper)
    shown.say("two columns")
    with shown.task("training", 100, "s") as task:
        for tenth in range(9):
            clock[0] = tenth / 10
            task.update(20 + 10 * tenth, f"loss {tenth}")
    captured = capsys.readouterr()
    assert captured.out == ""
    said, *states, ended = map(json.loads, captured.err.splitlines())
    assert (said, ended) == ({"say": "TWO COLUMNS"}, {"ended": "training"})
    assert [(state["done"], state["note"]) for state in states] == [(0, ""), (70, "loss 5"), (100, "loss 8")]
    assert states[0] == {"task": "training", "done": 0, "total": 100, "unit": "s", "note": "", "seconds_left": None}
    assert [state["seconds_left"] for state in states[1:]] == [pytest.approx(0.3), 0]


def test_a_line_about_training_has_its_epoch(
    clock: list[float], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Slow(progress.TerminalProgress):
        @contextmanager
        def task(self, title: str, total: int, unit: str = "") -> Iterator[Task]:
            with super().task(title, total, unit) as task:
                real = task.update

                def slow(done: int, note: str = "") -> None:
                    real(done, note)
                    clock[0] += 3600

                task.update = slow  # type: ignore[method-assign]
                yield task

    fit(tmp_path / "run", progress=Slow())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training: ")]
    assert any(" in epoch 2/3, best validation " in line and line.endswith(" left") for line in lines), lines


def test_repr_says_whether_a_job_is_fitted(tmp_path: Path) -> None:
    job = AnomalyDetector(window=10)
    assert repr(job) == "<AnomalyDetector(window=10), not fitted>"
    loaded = lstmkit.load(fit(tmp_path / "run").save(tmp_path / "model"))
    assert repr(loaded).endswith(", fitted>")


def test_dir_of_the_package_has_public_names_alone() -> None:
    names = dir(lstmkit)
    assert {"AnomalyDetector", "Translator", "LSTM", "load", "UserError", "__version__"} <= set(names)
    assert not {"Any", "importlib", "annotations", "TYPE_CHECKING", "_jobs", "_MODULES"} & set(names)
    assert all(hasattr(lstmkit, name) for name in lstmkit.__all__)


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``command("predict", …)``, in a folder with ``wave.csv``: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(WAVE, columns=["a", "b"]).to_csv("wave.csv", index=False)

    def run(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["lstmkit", *words])
        with pytest.raises(SystemExit) as stop:
            lstmkit.cli.main()
        return (stop.value.code, *capsys.readouterr())

    return run


FIT = ["fit", "anomaly_detector", "wave.csv", "-o", "run", "--hidden-size", "2", "--window", "10"]
FIT += ["--steps-per-epoch", "2", "--batch-size", "4", "--patience", "0"]


def test_resume_with_more_epochs_on_the_command_line(command: Callable[..., Any]) -> None:
    assert command(*FIT, "--epochs", "2")[0] == 0
    code, _, err = command("fit", "anomaly_detector", "wave.csv", "-o", "run", "--resume", "--epochs", "4")
    assert code == 0
    assert "resuming with --epochs 4 instead of 2: from here on the learning rate follows the schedule for 4" in err
    assert pd.read_csv("run/history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    code, _, err = command("fit", "anomaly_detector", "wave.csv", "-o", "run", "--resume", "--hidden-size", "3")
    assert code == 2
    assert "was started with --hidden-size 2, not 3" in err


def test_progress_of_a_command_as_json(command: Callable[..., Any]) -> None:
    code, _, err = command(*FIT, "--epochs", "2", "--progress", "json")
    assert code == 0
    states = [json.loads(line) for line in err.splitlines()]
    training = [state for state in states if state.get("task") == "training"]
    assert training[-1]["done"] == training[-1]["total"] == 4
    assert [set(row) for row in RunFolder.read_history(Path("run"))] == [
        {"seed", "epoch", "train_loss", "valid_loss", "lr", "seconds"}
    ] * 2


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    assert RunFolder.read_history(tmp_path) == []
    (tmp_path / "history.csv").write_text("seed,epoch\n0,x\n", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"history\.csv is damaged"):
        RunFolder.read_history(tmp_path)


def test_answers_are_written_into_a_new_folder_and_confirmed(command: Callable[..., Any]) -> None:
    assert command(*FIT, "--epochs", "1")[0] == 0
    plain = command("predict", "run", "wave.csv")
    assert command("predict", "run", "wave.csv", "-o", "out/deep/x.csv") == (0, "", "written out/deep/x.csv\n")
    assert Path("out/deep/x.csv").read_text() == plain[1]
    code, out, err = command("predict", "run", "wave.csv", "-o", "wave.csv/x.csv")
    assert (code, out) == (2, "")
    assert "wave.csv is a file, not a folder" in err


def test_a_full_disk_is_one_line_with_the_file_and_what_to_do(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = command("-q", *FIT, "--epochs", "1")
    assert (code, out) == (2, "")
    assert err == (
        "error: run/run.json: No space left on device: free disk space and run the command again; "
        "fit goes on with --resume\n"
    )
