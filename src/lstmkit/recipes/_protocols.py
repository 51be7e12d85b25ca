"""Protocols that serve several jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def given_parts(job: Any, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Training, validation and test part, each a file, as the set has them."""
    train, valid, test = (catalog.locate(folder.name, options[part]) for part in ("train", "valid", "test"))
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


def held_out(job: Any, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """One file: the test is what the job itself holds out of it."""
    examples = job.read(catalog.locate(folder.name, options["file"]))
    fit(examples)
    test = job.split(examples, None).test
    assert test is not None
    return job.evaluate_examples(test, progress).table
