"""Five tiny jobs that are fitted again and again, and what their finished run is compared with."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Child

import job_cases
import lstmkit
from lstmkit.errors import UserError
from lstmkit.progress import Progress
from lstmkit.training import checkpoint

STAGES = ("before run.json", "before the first checkpoint", "training", "evaluation and report", "report written")
JOBS = ("anomaly_detector", "classifier:audio", "forecaster", "language_model", "translator")
EPOCHS = 6


@dataclass(frozen=True)
class TinyFit:
    """A fit of a tiny job.

    Attributes:
        name: The job, as in ``tests/job_cases.py``.
        data: Its data.
        outcome: What :func:`outcome` has for a run that nothing disturbed.
        stage_seconds: How long such a run is in each of the stages, in their order.
    """

    name: str
    data: Any
    outcome: dict[str, Any]
    stage_seconds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """How long such a run takes, with its report."""
        return sum(self.stage_seconds)

    def start(self, folder: Path, log: Path, **how: bool) -> Child:
        """Fit in another process, into ``folder``."""
        return Child(self.function(folder, **how), log)

    def function(self, folder: Path, **how: bool) -> Callable[[], object]:
        return lambda: _fit(self.name, self.data, folder, **how)


def prepare(name: str, folder: Path, repeats: int = 3) -> TinyFit:
    """Fit the job undisturbed a few times. The first time is here, so that forked fits find everything imported."""
    data, outcomes, times = job_cases.CASES[name].data(), [], []
    _fit(name, data, folder / "first")
    for k in range(repeats):
        run = folder / f"undisturbed-{k}"
        times.append(_time_stages(Child(lambda run=run: _fit(name, data, run), folder / "log.txt"), run))
        outcomes.append(outcome(run))
    if any(other != outcomes[0] for other in outcomes):
        raise RuntimeError(f"{name}: undisturbed fits differ")
    return TinyFit(name, data, outcomes[0], tuple(statistics.median(seconds) for seconds in zip(*times, strict=True)))


def _time_stages(fit: Child, run: Path) -> list[float]:
    """How many seconds a fit spends in each stage."""
    seconds, start = [0.0] * len(STAGES), time.monotonic()
    while (ended := fit.wait(0.001)) is None:
        now = time.monotonic()
        seconds[stage(run)] += now - start
        start = now
    if ended.code:
        raise RuntimeError(f"a fit that nothing disturbed failed: {ended}")
    return seconds


def _fit(name: str, data: Any, folder: Path, **how: bool) -> None:
    job_cases.make(name, epochs=EPOCHS).fit(data, run=folder, progress=Progress(), **how)


def outcome(folder: Path) -> dict[str, Any]:
    """What two equal runs have in common: the files of the model bit by bit, the scores, and which files there are."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {
        "weights": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        "model": hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
        "scores": metrics["test"],
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
    }


def stage(folder: Path) -> int:
    """How far a fit has come, by its files: an index into :data:`STAGES`."""
    if not (folder / "run.json").exists():
        return 0
    if not any(folder.glob("checkpoints/*/last.safetensors")):
        return 1
    if not (folder / "model.json").exists():
        return 2
    return 3 if not (folder / "report.html").exists() else 4


def fault(folder: Path, may_lack: bool = False) -> str:
    """What is wrong with a folder whose fit was disturbed; empty if nothing is.

    Each file can be read, and the model is loaded if it is there and else refused in one line.

    Args:
        folder: The run folder.
        may_lack: Whether files may have been deleted: then a model may be refused, too.
    """
    try:
        for path in folder.glob("*.json"):
            checkpoint.read_json(path)
        for path in folder.glob("checkpoints/*/last.safetensors"):
            checkpoint.read_tensors(path)
    except UserError as err:
        return f"unreadable: {err}"
    try:
        lstmkit.load(folder)
    except UserError as err:
        if (folder / "model.json").exists() and not may_lack:
            return f"the model is not loaded: {err}"
        return f"not one line: {err}" if "\n" in str(err) else ""
    return ""
