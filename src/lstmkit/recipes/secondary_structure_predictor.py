"""How the field scores secondary structure: chains that training could know from the test are left out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.proteins.chains import without_shared_kmers
from lstmkit.jobs.secondary_structure_predictor.job import SecondaryStructurePredictor
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def homology_reduced(
    job: SecondaryStructurePredictor, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Training chains that share ``shared`` residues in a row with a test chain are dropped.

    Of the others every ``valid_every``-th validates: a file may be in order of length.
    """
    given, test = (job.read(catalog.locate(folder.name, options[part])) for part in ("train", "test"))
    kept = given.subset(without_shared_kmers(given, test, options["shared"]))
    progress.say(f"{len(given) - len(kept)} of {len(given)} training chains are like one of the test: left out")
    last = options["valid_every"] - 1
    valid = range(last, len(kept), options["valid_every"])
    fit(kept.subset([i for i in range(len(kept)) if i not in valid]), kept.subset(valid))
    return job.evaluate(test, progress=progress).table


PROTOCOLS = {"without_likes": homology_reduced}
