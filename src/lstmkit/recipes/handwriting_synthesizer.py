"""Protocols of the handwriting synthesizer: given splits, and lines of a vector font with held-out words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.ink.hershey_fonts import font_lines
from lstmkit.data.ink.strokes import SPLITS, InkSet
from lstmkit.data.text.lines import read_text
from lstmkit.jobs.handwriting_synthesizer.job import HandwritingSynthesizer
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

_WORD = re.compile(r"\b[a-z]{1,10}\b")
_HELD_OUT = {"valid": 0.1, "test": 0.1}  # fraction of the different words


def single_file_splits(
    job: HandwritingSynthesizer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Training, validation and test split in one file; the test split is scored once."""
    path = catalog.locate(folder.name, options["file"])
    fit(path)
    return job.evaluate(path, progress=progress).table


def font_line_splits(
    job: HandwritingSynthesizer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Short lines of words in a jittered vector font; no word is in two splits."""
    inks = make_font_lines(catalog.locate(folder.name, options["file"]), options)
    fit(inks)
    return job.evaluate(inks, progress=progress).table


def make_font_lines(path: Path, options: dict[str, Any]) -> InkSet:
    """Generate the lines.

    Args:
        path: A text file. Its lowercase words of at most ten letters are split at random.
        options: ``train``, ``valid``, ``test``: number of lines; ``longest``: maximum characters per line; ``seed``.
    """
    words = sorted({word for line in read_text(path) for word in _WORD.findall(line)})
    rng = np.random.default_rng(options["seed"])
    shuffled = [words[i] for i in rng.permutation(len(words))]
    first, inks = 0, []
    for part in SPLITS[::-1]:
        count = int(_HELD_OUT[part] * len(words)) if part in _HELD_OUT else len(words) - first
        texts = [_line(shuffled[first : first + count], options["longest"], rng) for _ in range(options[part])]
        inks += font_lines(texts, seed=int(rng.integers(2**31))).inks
        first += count
    parts = tuple(part for part in SPLITS[::-1] for _ in range(options[part]))
    return InkSet(tuple(inks), "lines of a font", parts)


def _line(words: list[str], max_characters: int, rng: np.random.Generator) -> str:
    """Random words up to the maximum length."""
    line = ""
    while True:
        longer = f"{line} {words[rng.integers(len(words))]}".strip()
        if len(longer) > max_characters:
            return line or longer[:max_characters]
        line = longer


PROTOCOLS = {"parts_in_one": single_file_splits, "lines_of_a_font": font_line_splits}
