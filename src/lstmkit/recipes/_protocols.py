"""Protocols that every job has; one of the same name in ``recipes/<job>.py`` replaces it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def given_parts(job: Any, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The data set's own split: training, validation and test file, named by the options."""
    train, valid, test = (catalog.locate(folder.name, options[part]) for part in ("train", "valid", "test"))
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


def held_out(job: Any, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """A single file; the job's own split holds out the test set."""
    examples = job.read(catalog.locate(folder.name, options["file"]))
    fit(examples)
    test = job.split(examples, None).test
    assert test is not None
    return job.evaluate_examples(test, progress).table


PROTOCOLS = {"given_parts": given_parts, "held_out": held_out}
