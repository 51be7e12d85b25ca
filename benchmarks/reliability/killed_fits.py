"""Fits that are killed at random moments and resumed until one ends: its model is that of an undisturbed fit.

The moments are uniform over the time of a whole fit. A resumed fit is killed again: it has its training behind it, so
most kills hit evaluation and report.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import tiny_fits
from processes import KILLED, Child

from lstmkit.progress import Progress

COUNT = 1000


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Kill ``count`` fits, shared out over the jobs."""
    jobs = {name: _measure_job(name, count // len(tiny_fits.JOBS), folder, progress) for name in tiny_fits.JOBS}
    return {"jobs": jobs}


def _measure_job(name: str, count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    folder = folder / name.replace(":", "-")
    folder.mkdir()
    rng, fit = random.Random(name), tiny_fits.prepare(name, folder)
    stages: Counter[str] = Counter()
    faults, finished, equal = [], 0, 0
    with progress.task(f"killing {name}", count) as task:
        while stages.total() < count:
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            while True:
                resume = (run / "run.json").exists()
                child = fit.start(run, folder / "log.txt", resume=resume)
                ended = child.wait(rng.uniform(0, fit.seconds)) or child.kill()
                if ended.code != KILLED:
                    break
                stages[tiny_fits.stage(run) if run.exists() else "before run.json"] += 1
                task.update(min(count, stages.total()))
                if run.exists():
                    checked = Child(lambda run=run: _check(run), folder / "check.txt").finish(60)
                    faults += [str(checked)] if checked.code else []
            finished += 1
            if ended.code:
                faults.append(str(ended))
            elif tiny_fits.outcome(run) == fit.outcome:
                equal += 1
            else:
                faults.append("the finished run differs from an undisturbed one")
    return {"kills": dict(stages), "finished": finished, "equal": equal, "faults": faults, "seconds": fit.seconds}


def _check(run: Path) -> None:
    fault = tiny_fits.fault(run)
    if fault:
        raise RuntimeError(fault)
