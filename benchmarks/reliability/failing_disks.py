"""Disks that are full, read-only or gone while a fit writes: one line that names a file, and nothing whole is lost.

After the trouble is over the fit is resumed and gives the model of an undisturbed one. Real disks of a limited size
need the right to mount; without it that part is left out and the record says so.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tiny_fits
from processes import KILLED, Child, Ended

from lstmkit.progress import Progress

COUNT = 200
JOB = "anomaly_detector"
_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO)


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Each part runs ``count`` fits, except that each file operation of a fit fails once with each error."""
    fit = tiny_fits.prepare(JOB, folder)
    return {
        "job": JOB,
        "one_operation_fails": _one_operation_fails(fit, folder, progress),
        "disk_of_limited_size": _small_disks(fit, count, folder, progress),
        "folder_deleted": _deleted_folders(fit, count, folder, progress),
    }


def _one_operation_fails(fit: tiny_fits.TinyFit, folder: Path, progress: Progress) -> dict[str, Any]:
    """The k-th call that syncs, renames or makes a file fails, for every k there is."""
    trials, faults = 0, []
    operations = _operations(fit, folder)
    with progress.task("one file operation fails", operations * len(_ERRORS)) as task:
        for number in _ERRORS:
            for k in range(operations):
                run = folder / "run"
                shutil.rmtree(run, ignore_errors=True)
                failing = fit.function(run)
                ended = Child(lambda k=k, n=number, f=failing: _with_failing(k, n, f), folder / "log.txt").finish(600)
                trials += 1
                faults += _after_trouble(fit, run, folder, ended, may_finish=False)
                task.update(trials)
    return {
        "operations": operations,
        "errors": [errno.errorcode[n] for n in _ERRORS],
        "trials": trials,
        "faults": faults,
    }


def _operations(fit: tiny_fits.TinyFit, folder: Path) -> int:
    """How many file operations an undisturbed fit has."""
    counted, run = folder / "operations.txt", folder / "run"
    shutil.rmtree(run, ignore_errors=True)

    def count() -> None:
        with _patched(lambda call, path: None) as calls:
            fit.function(run)()
        counted.write_text(str(calls[0]))

    Child(count, folder / "log.txt").finish(600)
    return int(counted.read_text())


def _with_failing(k: int, number: int, function: Callable[[], object]) -> None:
    def fail(call: int, path: str | None) -> None:
        if call == k:
            raise OSError(number, os.strerror(number), path)

    with _patched(fail):
        function()


@contextmanager
def _patched(before: Callable[[int, str | None], None]) -> Iterator[list[int]]:
    """Call ``before`` with number and path, before each sync, rename and new folder; a sync knows no path."""
    calls = [0]

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "mkdir" or not os.path.isdir(args[0]):  # one that exists is not made
                calls[0] += 1
                before(calls[0] - 1, None if name == "fsync" else os.fspath(args[0]))
            return original(*args, **kwargs)

        return call

    originals = {name: getattr(os, name) for name in ("fsync", "replace", "mkdir")}
    for name in originals:
        setattr(os, name, watched(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def _small_disks(fit: tiny_fits.TinyFit, count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Fits on disks that are too small by a random amount; then the disk grows. Every fifth one becomes read-only."""
    disk, rng, trials, full, faults = folder / "disk", random.Random(0), 0, 0, []
    disk.mkdir()
    used = sum(path.stat().st_size for path in (folder / "undisturbed-0").rglob("*") if path.is_file()) // 1024
    with progress.task("full and read-only disks", count) as task:
        for trial in range(count):
            size = rng.randint(8, used + 64)
            if _mount("mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)):
                return {"left_out": "mounting a disk is not permitted here"}
            try:
                run = disk / "run"
                if trial % 5 == 4:
                    child = fit.start(run, folder / "log.txt")
                    ended = child.wait(rng.uniform(0, fit.seconds))
                    _mount("mount", "-o", "remount,ro", str(disk))
                    ended = ended or child.finish(600)
                else:
                    ended = fit.start(run, folder / "log.txt").finish(600)
                full += ended.code != 0
                _mount("mount", "-o", f"remount,rw,size={4 * used + 4096}k", str(disk))
                faults += _after_trouble(fit, run, folder, ended, may_finish=True)
            finally:
                _mount("umount", str(disk))
            trials += 1
            task.update(trials)
    return {"trials": trials, "stopped": full, "faults": faults}


def _mount(*command: str) -> int:
    return subprocess.run(command, capture_output=True).returncode


def _deleted_folders(fit: tiny_fits.TinyFit, count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """The folder is deleted at a random moment of the fit."""
    rng, stopped, saved_anew, faults = random.Random(0), 0, 0, []
    with progress.task("deleted folders", count) as task:
        for trial in range(count):
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            child = fit.start(run, folder / "log.txt")
            child.wait(rng.uniform(0, fit.seconds))
            shutil.rmtree(run, ignore_errors=True)
            ended = Ended(0) if child.ended else child.finish(600)
            if ended.code == 2:
                stopped += 1
            elif ended.code:
                faults.append(str(ended))
            elif run.exists():  # it was deleted before the model was saved, so saving made it anew
                saved_anew += 1
                faults += [fault] if (fault := tiny_fits.fault(run, may_lack=True)) else []
            task.update(trial + 1)
    return {"trials": count, "stopped": stopped, "saved_anew": saved_anew, "faults": faults}


def _after_trouble(fit: tiny_fits.TinyFit, run: Path, folder: Path, ended: Ended, *, may_finish: bool) -> list[str]:
    """What is wrong after a fit that could not write: with its message, with its folder, or with the resumed fit."""
    if ended.code == 0 and may_finish:
        return [] if tiny_fits.outcome(run) == fit.outcome else ["the finished run differs from an undisturbed one"]
    if ended.code != 2:
        return [f"the fit {'ended well' if ended.code == 0 else 'hung' if ended.code == KILLED else 'broke'}: {ended}"]
    again = fit.start(run, folder / "log.txt", resume=(run / "run.json").exists()).finish(600)
    if again.code:
        return [f"not resumed after {ended}: {again}"]
    return [] if tiny_fits.outcome(run) == fit.outcome else [f"after {ended} the resumed run differs"]
