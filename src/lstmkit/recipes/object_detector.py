"""Protocols of object detection: moving digits with identities, and clips split by a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.tables.table import read_file
from lstmkit.data.vision.boxed_clips import BoxedClips
from lstmkit.jobs.object_detector.job import ObjectDetector
from lstmkit.progress import Progress
from lstmkit.recipes import Fit
from lstmkit.recipes._moving_digit_boxes import moving_digits
from lstmkit.recipes._moving_mnist import digits

_TIMED_FRAMES = 200  # of the test, one by one


def hidden_digits(job: ObjectDetector, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> Any:
    """MNIST digits that cross and hide each other; the test has the official test digits."""
    parts = {}
    for seed, name in enumerate(("train", "valid", "test")):
        known = digits(folder, options, "test" if name == "test" else "train")
        half = len(known.pictures) - options["valid_digits"]
        some = {"train": slice(half), "valid": slice(half, None)}.get(name, slice(None))
        parts[name] = job.read(moving_digits(known.part(some), options[f"{name}_clips"], seed))
    return _with_and_without_memory(job, fit, parts, progress)


def listed_clips(job: ObjectDetector, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> Any:
    """Clips with a table of boxes, and a table with the part of each clip."""
    boxes, listed = (catalog.locate(folder.name, options[name]) for name in ("boxes", "clips"))
    part_of = dict(read_file(listed).frame[["clip", "split"]].to_numpy().tolist())
    examples = job.read(f"{boxes.parent},{boxes}")
    names = np.array([part_of[each.name.rpartition(".")[0] or each.name] for each in examples.clips])
    parts = {name: examples.subset(np.flatnonzero(names == name)) for name in ("train", "valid", "test")}
    return _with_and_without_memory(job, fit, parts, progress)


def _with_and_without_memory(
    job: ObjectDetector, fit: Fit, parts: dict[str, BoxedClips], progress: Progress
) -> pd.DataFrame:
    """Scores of the network with its memory, of the same network trained frame by frame, and of the baselines.

    Both networks have the same settings and the same number of training steps.
    """
    fit(parts["train"], parts["valid"])
    table = job.evaluate(parts["test"], disturbed=True, progress=progress).table.copy()
    table["frames/s"] = [_frames_per_second(job, parts["test"]), *[np.nan] * (len(table) - 1)]
    job.set_params(recurrent=False)
    fit(parts["train"], parts["valid"])
    alone = job.evaluate(parts["test"], disturbed=True, progress=progress).table.iloc[:1].copy()
    alone["frames/s"] = _frames_per_second(job, parts["test"])
    job.set_params(recurrent=True)
    return pd.concat([table.iloc[:1], alone, table.iloc[1:]], ignore_index=True)


def _frames_per_second(job: ObjectDetector, test: BoxedClips) -> float:
    """Frames of a live stream per second, from the pixels that the model reads to boxes with identities."""
    frames = [frame for each in test.clips for frame in each.clip.frames][:_TIMED_FRAMES]
    live = job.live()
    for frame in frames[:5]:
        live.step(frame)
    started = time.perf_counter()
    for frame in frames:
        live.step(frame)
    return round(len(frames) / (time.perf_counter() - started), 1)


PROTOCOLS = {"hidden_digits": hidden_digits, "listed_clips": listed_clips}
