"""Protocol of image generation: MNIST's official test digits, with pixels sampled from their gray values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.image_generator.job import ImageGenerator
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def digits(job: ImageGenerator, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Training and test part of the data set, each a file of images and one of labels."""
    train, test = (
        ",".join(str(catalog.locate(folder.name, options[f"{part}_{what}"])) for what in ("images", "labels"))
        for part in ("train", "test")
    )
    fit(train)
    return job.evaluate(test, progress=progress).table


PROTOCOLS = {"digits": digits}
