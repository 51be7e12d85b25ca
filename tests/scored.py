"""Run the protocol of a recipe on tiny data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.progress import Progress


def run_protocol(
    protocol: Callable[..., pd.DataFrame], job: Any, folder: Path, options: dict[str, Any]
) -> pd.DataFrame:
    """The table of scores of a job by ``protocol``; the run is not saved."""

    def fit(data: Any, validation: Any | None = None) -> None:
        job.fit(data, validation=validation)

    return protocol(job, fit, folder, options, Progress())
