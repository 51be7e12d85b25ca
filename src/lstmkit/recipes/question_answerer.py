"""Protocols of question answering: the field's splits and scores."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.text.question_answering import Questions
from lstmkit.jobs.question_answerer.job import QuestionAnswerer
from lstmkit.jobs.question_answerer.metrics import scores_by_question_type
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

_PASSED = 0.95  # accuracy at which a task counts as solved (Weston et al. 2015, section 3)


def tasks(job: QuestionAnswerer, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """bAbI: one model for all tasks; mean accuracy, number of solved tasks, and the accuracy of each task."""
    fit(_all_tasks(job, folder, options, "train"))
    evaluation = job.evaluate(_all_tasks(job, folder, options, "test"), progress=progress)
    models = evaluation.table["model"].tolist()
    by_type = scores_by_question_type(evaluation.details, models).set_index("question type")
    rows = []
    for model in models:
        accuracy = by_type[model]
        num_solved = int((accuracy >= _PASSED).sum())
        by_task = {str(task).split("_")[0]: float(value) for task, value in accuracy.items()}
        rows.append({"model": model, "accuracy": float(accuracy.mean()), "tasks at 95 %": num_solved, **by_task})
    return pd.DataFrame(rows)


def _all_tasks(job: QuestionAnswerer, folder: Path, options: dict[str, Any], part: str) -> Questions:
    names = [file.name for file in catalog.entry(folder.name).files if file.name.endswith(options[part])]
    return functools.reduce(operator.add, (job.read(catalog.locate(folder.name, name)) for name in names))


PROTOCOLS = {"tasks": tasks}
