"""Protocols of captioning: photographs split by name or by lists, and moving digits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs.captioner.job import Captioner
from lstmkit.progress import Progress
from lstmkit.recipes import Fit
from lstmkit.recipes._moving_mnist import digits, write_sentences


def photographs(job: Captioner, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Photographs with several captions each: sorted by name, the first for training, then validation, then test."""
    pictures, captions = (catalog.locate(folder.name, options[of]) for of in ("pictures", "captions"))
    examples = job.read(f"{pictures},{captions}")
    order = np.argsort(list(examples.ids))
    ends = np.cumsum([options["train"], options["valid"], options["test"]])
    train, valid, test = (examples.subset(rows) for rows in np.split(order, ends)[:3])
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


def listed_splits(job: Captioner, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Photographs with several captions each; a list names those of each part, as in Flickr8k."""
    pictures, captions = (catalog.locate(folder.name, options[of]) for of in ("pictures", "captions"))
    examples = job.read(f"{pictures},{captions}")
    number = {name: row for row, name in enumerate(examples.ids)}
    train, valid, test = (
        examples.subset([number[name] for name in catalog.locate(folder.name, options[part]).read_text().split()])
        for part in ("train", "valid", "test")
    )
    fit(train, valid)
    return job.evaluate(test, progress=progress).table


def sentences(job: Captioner, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Two moving MNIST digits in MP4 files: the official test digits, in directions that training has, and in others.

    For every digit one of the four directions is left out of training: "new pairs" are clips with at least one such.
    """
    with tempfile.TemporaryDirectory() as made:
        parts = {name: Path(made, name) for name in ("train", "valid", "test", "new")}
        for seed, (name, part) in enumerate(parts.items()):
            known = digits(folder, options, "train" if name in ("train", "valid") else "test")
            half = len(known.pictures) - options["valid_digits"]
            some = {"train": slice(half), "valid": slice(half, None)}.get(name, slice(None))
            alone = options["alone"] if name == "train" else 0.0
            count = options[f"{name}_clips"]
            write_sentences(known.part(some), count, part, seed, new=name == "new", alone=alone)
        fit(parts["train"], parts["valid"])
        table = job.evaluate(parts["test"], progress=progress).table
        new = job.evaluate(parts["new"], progress=progress).table  # the same rows in the same order
        return table.assign(**{"exact match, new pairs": new["exact match"].to_numpy()})


PROTOCOLS = {"photographs": photographs, "listed": listed_splits, "sentences": sentences}
