"""Report sections of every job that predicts classes: confusion matrix, scores by class, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from lstmkit.evaluation.calibration import confidences_and_outcomes, reliability
from lstmkit.plots.classification import confusion_figure, reliability_figure
from lstmkit.report import Section


def confusion_section(targets: Any, predicted: Any, classes: Sequence[str]) -> Section:
    """The confusion matrix.

    Args:
        targets, predicted: True and predicted class indices ``(N,)``.
        classes: ``C`` names.
    """
    counts = confusion_matrix(targets, predicted, labels=range(len(classes)))
    table = pd.DataFrame({"true": list(classes)} | dict(zip(classes, counts.T, strict=True)))
    return Section(
        "Confusion matrix",
        "One row per true class, one column per predicted class. Correct predictions are on the diagonal.",
        table,
        confusion_figure(counts, classes),
        caption="Confusion matrix: true classes in rows, predicted classes in columns",
    )


def scores_by_class(targets: Any, predicted: Any, classes: Sequence[Any], column: str) -> pd.DataFrame:
    """Precision, recall, F1 and the number of examples, one row per class.

    Args:
        targets, predicted: True and predicted classes ``(N,)``, or 0 or 1 for each label ``(N, C)``.
        classes: The classes as they are in ``targets``; of labels ``(N, C)`` their names.
        column: Name of the column of classes.
    """
    multi_label = np.ndim(targets) == 2
    labels = range(len(classes)) if multi_label else classes
    scores: Any = precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=0)  # type: ignore[arg-type]
    columns = dict(zip(("precision", "recall", "F1", "examples"), scores, strict=True))
    return pd.DataFrame({column: list(classes), **columns})


def calibration_section(calibrated: np.ndarray, uncalibrated: np.ndarray, targets: np.ndarray) -> Section:
    """Predicted probability against observed frequency; one curve if the temperature changes nothing.

    Args:
        calibrated, uncalibrated: Probabilities ``(N, C)`` with and without the fitted temperature.
        targets: Class indices ``(N,)``, or 0 or 1 for each label ``(N, C)``.
    """
    unchanged = np.array_equal(calibrated, uncalibrated)
    shown = {"model": calibrated} if unchanged else {"calibrated": calibrated, "uncalibrated": uncalibrated}
    curves = {
        name: reliability(*confidences_and_outcomes(predicted, targets), bins=10) for name, predicted in shown.items()
    }
    tables = [
        pd.DataFrame(
            {
                "probabilities": name,
                "predicted probability": curve.stated,
                "observed frequency": curve.observed,
                "count": curve.count,
            }
        )
        for name, curve in curves.items()
    ]
    return Section(
        "Calibration",
        "Of the predictions with a probability of 80 %, 80 % should be correct. One point per tenth of the predicted "
        "probability.",
        pd.concat(tables, ignore_index=True),
        reliability_figure({name: (curve.stated, curve.observed) for name, curve in curves.items()}),
        caption="Predicted probability and observed frequency",
    )


by_class = scores_by_class  # the name that jobs outside this folder still use
