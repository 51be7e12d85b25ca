"""Protocol of piano rolls: splits as published, nats per time step, mean over all steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.music_composer.job import MusicComposer
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def single_file_splits(
    job: MusicComposer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Training, validation and test part in one file; the test part is scored once."""
    path = catalog.locate(folder.name, options["file"])
    fit(path)
    return job.evaluate(path, progress=progress).table


PROTOCOLS = {"parts_in_one": single_file_splits}
