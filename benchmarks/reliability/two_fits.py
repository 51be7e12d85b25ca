"""Two processes that fit into one folder: one is refused in a line, and the run is that of the other alone."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tiny_fits

from lstmkit.progress import Progress

COUNT = 200
JOB = "anomaly_detector"


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Start two fits at once, ``count`` times; then kill the fit that holds the folder and resume it at once."""
    fit = tiny_fits.prepare(JOB, folder)
    endings: Counter[str] = Counter()
    faults = []
    with progress.task("two fits into one folder", 2 * count) as task:
        for trial in range(count):
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            children = [fit.start(run, folder / f"log-{k}.txt") for k in range(2)]
            ended = [child.finish(600) for child in children]
            codes = sorted(e.code for e in ended)
            endings["one fit, one refused in a line" if codes == [0, 2] else f"exit codes {codes}"] += 1
            if codes != [0, 2] or tiny_fits.outcome(run) != fit.outcome:
                faults.append("; ".join(map(str, ended)))
            task.update(trial + 1)
        freed = 0
        for trial in range(count):
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            first = fit.start(run, folder / "log-0.txt")
            while not (run / "run.json").exists() and first.wait(0) is None:
                time.sleep(0.001)
            first.kill()
            second = fit.start(run, folder / "log-1.txt", resume=True).finish(600)
            if second.code or tiny_fits.outcome(run) != fit.outcome:
                faults.append(str(second))
            else:
                freed += 1
            task.update(count + trial + 1)
    return {"job": JOB, "endings": dict(endings), "killed": count, "resumed_at_once": freed, "faults": faults}
