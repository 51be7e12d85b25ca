"""A classifier and what it is held against, scored on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, hamming_loss

from lstmkit.evaluation.calibration import confidences_and_outcomes, reliability
from lstmkit.jobs.common.classifier_baselines import POINTS, by_share, nearest_neighbor, tfidf_logistic_regression
from lstmkit.progress import Progress

ONE = {"accuracy": "high", "macro F1": "high", "log loss": "low", "ECE": "low"}
MULTI_LABEL_METRICS = {"micro F1": "high", "macro F1": "high", "Hamming loss": "low", "log loss": "low", "ECE": "low"}


@dataclass(frozen=True)
class LabeledData:
    """A part of the data as the baselines read it: raw inputs, and targets ``(N,)`` or ``(N, C)``."""

    inputs: Sequence[Any]
    targets: np.ndarray


def scores(stated: np.ndarray, targets: np.ndarray, threshold: float) -> dict[str, float]:
    """A row of the table: probabilities ``(N, C)`` against targets; of a model that only names classes no log loss."""
    several = targets.ndim == 2
    said = (stated >= threshold).astype(int) if several else stated.argmax(axis=1)
    f1 = {
        way: float(f1_score(targets, said, average=way, zero_division=0))  # type: ignore[arg-type]
        for way in ("micro", "macro")
    }
    unsure = not np.isin(stated, (0, 1)).all()
    rest = {
        "log loss": probability_loss(stated, targets) if unsure else float("nan"),
        "ECE": reliability(*confidences_and_outcomes(stated, targets)).error if unsure else float("nan"),
    }
    if several:
        return {"micro F1": f1["micro"], "macro F1": f1["macro"], "Hamming loss": hamming_loss(targets, said), **rest}
    return {"accuracy": float(accuracy_score(targets, said)), "macro F1": f1["macro"], **rest}


def probability_loss(stated: np.ndarray, targets: np.ndarray) -> float:
    """Log loss of probabilities; of none less than a millionth is taken, so that one zero is not all there is."""
    safe = np.clip(stated, 1e-6, 1 - 1e-6)
    if targets.ndim == 1:
        return float(-np.log(safe[np.arange(len(targets)), targets]).mean())
    return float(-np.where(targets > 0.5, np.log(safe), np.log(1 - safe)).mean())


def calibration(raw: np.ndarray, stated: np.ndarray, targets: np.ndarray, temperature: float) -> str:
    """What calibrating did, in a sentence: probabilities ``(N, C)`` before and after."""
    before, after = (reliability(*confidences_and_outcomes(of, targets)).error for of in (raw, stated))
    if temperature == 1:
        return f"Probabilities are not calibrated: the expected calibration error (ECE) is {after:.3f}."
    fitted = f"Temperature {temperature:.2f}, fitted on the validation part"
    return f"{fitted}: the expected calibration error (ECE) is {before:.3f} before and {after:.3f} after."


def baselines(
    kind: str,
    train: LabeledData | None,
    valid: LabeledData | None,
    inputs: Sequence[Any],
    counts: np.ndarray,
    total: int,
    *,
    balanced: bool,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Probabilities ``(N, C)`` by name; what learns needs the training part."""
    told = {"majority class": by_share(counts, total, len(inputs))}
    if train is None:
        return told
    classes = len(counts)
    if kind == "text":
        choice = None
        if valid is not None and len(valid.inputs):
            targets = valid.targets
            choice = (valid.inputs, lambda stated: probability_loss(stated, targets))
        learnt = (train.inputs, train.targets)
        words = tfidf_logistic_regression(learnt, choice, inputs, classes=classes, balanced=balanced, progress=progress)
        return {"TF-IDF, logistic regression": words, **told}
    longest = max(map(len, train.inputs))
    few = kind in ("sound", "video") or longest == 1  # of many bands, or of one step, no more points than there are
    points = min(POINTS, longest) if few else POINTS
    options: dict[str, Any] = {"seed": seed, "progress": progress, "points": points}
    nearest = nearest_neighbor((train.inputs, train.targets), inputs, **options)
    certain = nearest if nearest.ndim == 2 else np.eye(classes)[nearest]
    return {"1 nearest neighbour": certain, **told}
