"""Confusion matrix, scores per class and reliability of probabilities, for every job that predicts classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from lstmkit.evaluation.calibration import confidences_and_outcomes, reliability
from lstmkit.plots.classification import confusion_figure, reliability_figure
from lstmkit.report import Section

if TYPE_CHECKING:
    pass


def confusion_section(targets: Any, said: Any, classes: Sequence[str]) -> Section:
    """What was taken for what: true and said classes, ``(N,)`` numbers each, by name."""
    counts = confusion_matrix(targets, said, labels=range(len(classes)))
    table = pd.DataFrame({"true": list(classes)} | dict(zip(classes, counts.T, strict=True)))
    return Section(
        "What it took for what",
        "A row a true class, a column what was said of it; what is right stands on the diagonal.",
        table,
        confusion_figure(counts, classes),
        caption="Confusion: true classes in rows, said ones in columns",
    )


def by_class(targets: Any, said: Any, classes: Sequence[Any], name: str) -> pd.DataFrame:
    """Precision, recall, F1 and how many there are, a row a class.

    Args:
        targets, said: True and said classes ``(N,)``, or which labels hold ``(N, C)``.
        classes: As they stand there; of labels their names.
        name: Of the column of classes.
    """
    several = np.ndim(targets) == 2
    labels = range(len(classes)) if several else classes
    each: Any = precision_recall_fscore_support(targets, said, labels=labels, zero_division=0)  # type: ignore[arg-type]
    columns = dict(zip(("precision", "recall", "F1", "examples"), each, strict=True))
    return pd.DataFrame({name: list(classes), **columns})


def calibration_section(stated: np.ndarray, raw: np.ndarray, targets: np.ndarray) -> Section:
    """Whether probabilities ``(N, C)`` came true, calibrated and as they were before."""
    curves = {
        "calibrated": reliability(*confidences_and_outcomes(stated, targets), bins=10),
        "before": reliability(*confidences_and_outcomes(raw, targets), bins=10),
    }
    numbers = [
        pd.DataFrame({"probabilities": name, "stated": c.stated, "came true": c.observed, "answers": c.count})
        for name, c in curves.items()
    ]
    return Section(
        "Can the probabilities be believed?",
        "Of all answers stated with 80 %, 80 in a hundred should be right; drawn by tenths of the stated probability.",
        pd.concat(numbers, ignore_index=True),
        reliability_figure({name: (curve.stated, curve.observed) for name, curve in curves.items()}),
        caption="Stated probability and share that came true",
    )
