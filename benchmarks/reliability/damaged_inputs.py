"""Damaged input files of every format: read or refused in one line, in bounded time and memory."""

from __future__ import annotations

import os
import random
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from processes import Child, peak_mb, resident_mb

import test_hostile_files as hostile
from lstmkit.data import files
from lstmkit.errors import DataError
from lstmkit.progress import Progress

COUNT = 1_000_000
DECODED_MB = 50
HANG_SECONDS = 10.0
MAX_GROWTH_MB = 500  # of a process that reads one sample's mutations


def measure(count: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """``count`` mutations, shared out over the samples; each sample has a process, whose memory is measured."""
    samples = hostile.SAMPLES
    each, results = count // len(samples), {}
    with progress.task("damaged inputs", len(samples)) as task:
        for number, (name, _, _) in enumerate(samples):
            child = Child(lambda n=number: _mutate(n, each, folder), folder / "log.txt")
            ended = child.finish(HANG_SECONDS * each)
            if ended.code:
                raise RuntimeError(f"{name}: {ended}")
            results[f"{number} {name}"] = (folder / "sample.txt").read_text(encoding="utf-8").split("\t")
            task.update(number + 1, name)
    return _summary(results, each)


def _summary(results: dict[str, list[str]], each: int) -> dict[str, Any]:
    return {
        "samples": len(results),
        "mutations": each * len(results),
        "read": sum(int(r[0]) for r in results.values()),
        "refused": sum(int(r[1]) for r in results.values()),
        "slowest_seconds": max((float(r[2]), name) for name, r in results.items()),
        "growth_mb": max((float(r[3]), name) for name, r in results.items()),
        "decoded_mb": DECODED_MB,
        "faults": [fault for r in results.values() for fault in r[4:] if fault],
    }


def _mutate(number: int, count: int, folder: Path) -> None:
    """Read mutations of one sample, and write what came of them to ``sample.txt``."""
    os.environ[files.DECODED_MB_VARIABLE] = str(DECODED_MB)
    name, read, content = hostile.SAMPLES[number]
    place = folder / "sample"
    place.mkdir(exist_ok=True)
    path, whole, rng = place / name, hostile.sample_content(content, place), random.Random(f"torture {number}")
    answers, refused, slowest, faults = 0, 0, 0.0, []
    path.write_bytes(whole)
    read(path)
    before = resident_mb()
    warnings.simplefilter("ignore")
    for mutation in range(count):
        path.write_bytes(hostile.mutated(whole, rng))
        start = time.monotonic()
        try:
            read(path)
            answers += 1
        except DataError as err:
            refused += 1
            faults += [f"{name} {mutation}: several lines"] if "\n" in str(err) else []
        except Exception:
            faults.append(f"{name} {mutation}: {traceback.format_exc()}")
            (folder / f"{number}-{mutation}-{name}").write_bytes(path.read_bytes())
        seconds = time.monotonic() - start
        slowest = max(slowest, seconds)
        faults += [f"{name} {mutation}: {seconds:.0f} s"] if seconds > HANG_SECONDS else []
    path.unlink()
    growth = peak_mb() - before
    faults += [f"{name}: memory grew by {growth:.0f} MB"] if growth > MAX_GROWTH_MB else []
    cells = [answers, refused, slowest, growth, *(fault.replace("\t", " ") for fault in faults)]
    (folder / "sample.txt").write_text("\t".join(map(str, cells)), encoding="utf-8")
