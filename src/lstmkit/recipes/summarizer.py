"""How the field splits and scores texts and their summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.summarizer import Summarizer
from lstmkit.progress import Progress


def given_parts(job: Summarizer, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Training, validation and test part as the set has them; the test is summarised once."""
    train, valid, test = (catalog.locate(folder.name, options[part]) for part in ("train", "valid", "test"))
    job.fit(train, valid, progress=progress)
    return job.evaluate(test, progress=progress).table


PROTOCOLS = {"given_parts": given_parts}
