"""Fits that are killed at random moments and resumed until one ends: its model is that of an undisturbed fit.

Each kill is at a random moment of a random stage among those that the fit has ahead of it, so that the short stages are
hit as often as the long ones. A fit is as likely to be left in peace as to be killed in any one of them.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tiny_fits
from processes import KILLED, Child, Ended

from lstmkit.progress import Progress

COUNT = 1000
HANG_SECONDS = 120.0


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Kill ``count`` fits, shared out over the jobs."""
    jobs = {name: _measure_job(name, count // len(tiny_fits.JOBS), folder, progress) for name in tiny_fits.JOBS}
    return {"jobs": jobs}


def _measure_job(name: str, count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    folder = folder / name.replace(":", "-")
    folder.mkdir()
    rng, fit = random.Random(name), tiny_fits.prepare(name, folder)
    kills = Counter(dict.fromkeys(tiny_fits.STAGES, 0))
    faults, finished, equal = [], 0, 0
    with progress.task(f"killing {name}", count) as task:
        while kills.total() < count:
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            while (ended := _disturb(fit, run, rng)).code == KILLED:
                kills[tiny_fits.STAGES[tiny_fits.stage(run)]] += 1
                task.update(min(count, kills.total()))
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
    return {"kills": dict(kills), "finished": finished, "equal": equal, "faults": faults}


def _disturb(fit: tiny_fits.TinyFit, run: Path, rng: random.Random) -> Ended:
    """Start or resume a fit and kill it, or let it end."""
    stage = rng.randrange(tiny_fits.stage(run), len(tiny_fits.STAGES) + 1)
    child = fit.start(run, run.with_name("log.txt"), resume=(run / "run.json").exists())
    hang = time.monotonic() + HANG_SECONDS
    while tiny_fits.stage(run) < stage:
        if ended := child.wait(0.001):
            return ended
        if time.monotonic() > hang:
            raise RuntimeError(f"{fit.name} runs for more than {HANG_SECONDS:.0f} s")
    return child.wait(rng.uniform(0, fit.stage_seconds[stage])) or child.kill()


def _check(run: Path) -> None:
    fault = tiny_fits.fault(run)
    if fault:
        raise RuntimeError(fault)
