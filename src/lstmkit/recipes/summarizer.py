"""How the field splits and scores texts and their summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.summarizer import Summarizer
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def given_parts(job: Summarizer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Training, validation and test part as the set has them; the test is summarised once."""
    train, valid, test = (catalog.locate(folder.name, options[part]) for part in ("train", "valid", "test"))
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


PROTOCOLS = {"given_parts": given_parts}
