"""How the field splits and scores its texts for language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.language_model import LanguageModel
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def given_parts(
    job: LanguageModel, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Training, validation and test part as the set has them: perplexity of the whole test text, the state carried."""
    train, valid, test = (catalog.locate(folder.name, options[part]) for part in ("train", "valid", "test"))
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


def held_out(job: LanguageModel, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The end of the text is the test, what stands before it validates."""
    text = job.read(catalog.locate(folder.name, options["file"]))
    fit(text)
    test = job.split(text, None).test
    assert test is not None
    return job.score(test, progress).table


PROTOCOLS = {"given_parts": given_parts, "held_out": held_out}
