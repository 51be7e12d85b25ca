"""Protocols of translation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.translator.job import Translator
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def given_parts(job: Translator, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Training, validation and test part of the data set, two files each; the test part is translated once."""
    train, valid, test = (
        ",".join(str(catalog.locate(folder.name, options[f"{part}_{side}"])) for side in ("source", "target"))
        for part in ("train", "valid", "test")
    )
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


PROTOCOLS = {"given_parts": given_parts}
