"""Scores by a recipe's protocol, the run not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.progress import Progress


def by(protocol: Callable[..., pd.DataFrame], job: Any, folder: Path, options: dict[str, Any]) -> pd.DataFrame:
    def fit(data: Any, validation: Any | None = None) -> None:
        job.fit(data, validation=validation)

    return protocol(job, fit, folder, options, Progress())
