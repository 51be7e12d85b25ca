"""How the field splits and scores its questions over stories."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.text.question_answering import Questions
from lstmkit.jobs.question_answerer import metrics as scoring
from lstmkit.jobs.question_answerer.job import QuestionAnswerer
from lstmkit.progress import Progress
from lstmkit.recipes import Fit
from lstmkit.recipes._protocols import held_out

_PASSED = 0.95  # a task counts as solved (Weston et al. 2015, section 3)


def tasks(job: QuestionAnswerer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """bAbI: one model for all tasks; the mean accuracy over them, how many are solved, and the accuracy of each."""
    fit(_all_tasks(job, folder, options, "train"))
    found = job.evaluate(_all_tasks(job, folder, options, "test"), progress=progress)
    models = found.table["model"].tolist()
    each = scoring.by_kind(found.details, models).set_index("kind")
    rows = []
    for model in models:
        right = each[model]
        solved = int((right >= _PASSED).sum())
        by_task = {str(kind).split("_")[0]: float(value) for kind, value in right.items()}
        rows.append({"model": model, "accuracy": float(right.mean()), "tasks at 95 %": solved, **by_task})
    return pd.DataFrame(rows)


def _all_tasks(job: QuestionAnswerer, folder: Path, options: dict[str, Any], part: str) -> Questions:
    names = [file.name for file in catalog.entry(folder.name).files if file.name.endswith(options[part])]
    return functools.reduce(operator.add, (job.read(catalog.locate(folder.name, name)) for name in names))


PROTOCOLS = {"tasks": tasks, "held_out": held_out}
