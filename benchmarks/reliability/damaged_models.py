"""Damaged model and run folders of every job: refused in one line, or the same model; never another answer.

Half of the changes to ``model.json`` and ``run.json`` come with a new SHA-256 that fits, as an attacker would make it:
these must give a model or one line.
"""

from __future__ import annotations

import json
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import Child, peak_mb, resident_mb

import job_cases
import lstmkit
import test_hostile_files as hostile
from lstmkit.errors import UserError
from lstmkit.progress import Progress
from lstmkit.training import checkpoint
from lstmkit.training.run_folder import RunFolder

COUNT = 100_000
HANG_SECONDS = 10.0
_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 10**18, 1e308, -0.5, "", "lstm", [], [0], {}, {"a": 1})


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """``count`` mutations, shared out over the cases of all jobs; each job in a process of its own."""
    names, jobs = list(job_cases.CASES), {}
    with progress.task("damaged models", len(names)) as task:
        for done, name in enumerate(names):
            place = folder / name.replace(":", "-")
            place.mkdir()
            child = Child(lambda n=name, p=place: _mutate_job(n, count // len(names), p), folder / "log.txt")
            ended = child.finish(HANG_SECONDS * count)
            if ended.code:
                raise RuntimeError(f"{name}: {ended}")
            jobs[name] = json.loads((place / "result.json").read_text(encoding="utf-8"))
            task.update(done + 1, name)
    return {
        "jobs": len(jobs),
        "mutations": sum(sum(job["outcomes"].values()) for job in jobs.values()),
        "outcomes": dict(sum((Counter(job["outcomes"]) for job in jobs.values()), Counter())),
        "slowest_seconds": max((job["slowest"], name) for name, job in jobs.items()),
        "growth_mb": max((job["growth_mb"], name) for name, job in jobs.items()),
        "faults": [fault for job in jobs.values() for fault in job["faults"]],
    }


def _mutate_job(name: str, count: int, place: Path) -> None:
    run, rng, outcomes = place / "run", random.Random(f"torture {name}"), Counter()
    job_cases.make(name, epochs=1).fit(job_cases.CASES[name].data(), run=run)
    state = next(run.glob("checkpoints/*/last.safetensors"))
    readers = {
        run / "model.json": lambda: _listed(lstmkit.load(run)),
        run / "weights.safetensors": lambda: _listed(lstmkit.load(run)),
        run / "run.json": lambda: RunFolder.read_run_metadata(run),
        state: lambda: sorted((k, t.tolist()) for k, t in checkpoint.read_tensors(state)[0].items()),
    }
    before = {path: repr(read()) for path, read in readers.items()}
    whole = {path: path.read_bytes() for path in readers}
    slowest, faults, resident = 0.0, [], resident_mb()
    for mutation in range(count):
        path = rng.choice(list(readers))
        forged = path.suffix == ".json" and rng.random() < 0.5
        if forged:
            _forge(path, rng)
        else:
            path.write_bytes(hostile.mutated(whole[path], rng))
        start = time.monotonic()
        try:
            after = repr(readers[path]())
            outcome = "the same" if after == before[path] else "another model, with a forged SHA-256"
            if outcome != "the same" and not forged:
                faults.append(f"{name} {mutation}: another answer of a damaged {path.name}")
        except UserError as err:
            outcome = "refused in a line"
            faults += [f"{name} {mutation}: several lines: {err}"] if "\n" in str(err) else []
        except Exception:
            outcome = "traceback"
            faults.append(f"{name} {mutation}: {path.name} {path.read_bytes()!r} {traceback.format_exc()}")
        outcomes[outcome] += 1
        seconds = time.monotonic() - start
        slowest = max(slowest, seconds)
        faults += [f"{name} {mutation}: {seconds:.0f} s"] if seconds > HANG_SECONDS else []
        path.write_bytes(whole[path])
    result = {"outcomes": outcomes, "slowest": slowest, "growth_mb": peak_mb() - resident, "faults": faults}
    (place / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _listed(job: Any) -> Any:
    weights = {key: (str(t.dtype), t.tolist()) for key, t in job.model.state_dict().items()}
    return weights, json.dumps(job.predictor.state(), default=str), repr(job)


def _forge(path: Path, rng: random.Random) -> None:
    """Change one value of a summed JSON file, and write the SHA-256 that belongs to it."""
    content = json.loads(path.read_bytes())
    del content["sha256"]
    holder, key = rng.choice(list(_places(content)))
    holder[key] = rng.choice(_VALUES)
    checkpoint.write_summed_json(path, content)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested JSON, as the object or list and the key."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)
