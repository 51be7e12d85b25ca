"""Scores of a classifier and of its baselines on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, hamming_loss

from lstmkit.data.labeled_examples import LabeledExamples
from lstmkit.evaluation.calibration import TemperatureScaling, confidences_and_outcomes, reliability
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.frontends.video import VideoFrontEnd
from lstmkit.jobs.classifier.predictor import ClassifierPredictor, Probabilities
from lstmkit.jobs.classifier.regression_mixture import regression_probabilities
from lstmkit.jobs.common.classifier_baselines import (
    POINTS,
    class_frequencies,
    nearest_neighbor,
    tfidf_logistic_regression,
)
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.progress import Progress

SINGLE_LABEL_METRICS = {"accuracy": "high", "macro F1": "high", "log loss": "low", "ECE": "low"}
MULTI_LABEL_METRICS = {"micro F1": "high", "macro F1": "high", "Hamming loss": "low", "log loss": "low", "ECE": "low"}


class ClassifierOutputs(NamedTuple):
    """What an evaluation leaves for the report: the test examples and their probabilities."""

    examples: LabeledExamples
    probabilities: Probabilities


class LabeledData(NamedTuple):
    """Examples as the baselines read them: inputs, and targets ``(N,)`` or ``(N, C)``."""

    inputs: Sequence[Any]
    targets: np.ndarray


def evaluate_classifier(
    predictor: ClassifierPredictor,
    test: LabeledExamples,
    train: LabeledExamples | None,
    valid: LabeledExamples | None,
    progress: Progress,
) -> Evaluation:
    """Score a classifier and its baselines.

    Args:
        predictor: The classifier.
        test: Labeled examples that it was not fitted to.
        train: Its training examples, for the baselines; ``None`` if the model was loaded.
        valid: Its validation examples, if there are any.
        progress: Where to report progress.
    """
    settings = predictor.settings
    targets = predictor.targets(test)
    encoded = predictor.front_end.encode(test.inputs)
    probabilities = predictor.probabilities(encoded, progress)
    label = settings.cell.upper()
    alone = parts_alone(predictor, encoded, progress)
    models = {label: probabilities.calibrated, **alone, **baselines(predictor, test, train, valid, progress)}
    rows = [{"model": name, **scores(of_model, targets, settings.threshold)} for name, of_model in models.items()]
    labels = [settings.label_sep.join(own) for own in test.require_labels()]
    details = pd.DataFrame({"id": list(test.ids), "label": labels})
    details[[f"p_{label}" for label in predictor.classes]] = probabilities.calibrated
    summary = calibration_summary(probabilities, targets, predictor.scaling)
    notes = [f"{len(test)} examples. {summary}", *predictor.front_end.notes(encoded)]
    if predictor.regression is not None and predictor.regression.share:
        share = predictor.regression.share
        features = {"ngrams": "tokens and token pairs", "convolutions": "random convolutions (MiniRocket)"}
        notes.insert(
            1,
            f"The probabilities of {label} have weight {1 - share:.2g} for the network and {share:.2g} "
            f"for logistic regression on {features[predictor.regression.kind]}.",
        )
    missing = () if train is not None else ("TF-IDF with logistic regression, or the nearest neighbor",)
    directions = MULTI_LABEL_METRICS if predictor.multi_label else SINGLE_LABEL_METRICS
    outputs = ClassifierOutputs(test, probabilities)
    examples = _scored_examples(probabilities.calibrated, targets, settings.threshold)
    parts = dict.fromkeys(alone, "it is a part of the model")
    return Evaluation(
        pd.DataFrame(rows),
        dict(directions),
        details,
        tuple(notes),
        outputs,
        missing,
        examples,
        not_alternatives=parts,
    )


def _scored_examples(probabilities: np.ndarray, targets: np.ndarray, threshold: float) -> ScoredExamples:
    """The examples with the accuracy, or with several labels the micro F1, of any of them."""
    if targets.ndim == 1:
        correct = (probabilities.argmax(axis=1) == targets).astype(float)
        return ScoredExamples.mean("examples", correct, is_fraction=True)
    predicted = probabilities >= threshold
    hits = (predicted & (targets > 0.5)).sum(axis=1)
    return ScoredExamples.ratio("examples", 2 * hits, predicted.sum(axis=1) + (targets > 0.5).sum(axis=1))


def scores(probabilities: np.ndarray, targets: np.ndarray, threshold: float) -> dict[str, float]:
    """One row of the table.

    Log loss and ECE are NaN if all probabilities are 0 or 1: such a model gives labels, no probabilities.

    Args:
        probabilities: ``(N, C)``.
        targets: Class indices ``(N,)``, or 0 or 1 for each label ``(N, C)``.
        threshold: Probability from which a label counts as predicted, for targets ``(N, C)``.
    """
    multi_label = targets.ndim == 2
    predicted = (probabilities >= threshold).astype(int) if multi_label else probabilities.argmax(axis=1)
    f1 = {
        average: float(f1_score(targets, predicted, average=average, zero_division=0))  # type: ignore[arg-type]
        for average in ("micro", "macro")
    }
    probabilistic = not np.isin(probabilities, (0, 1)).all()
    confidence = {
        "log loss": log_loss(probabilities, targets) if probabilistic else float("nan"),
        "ECE": expected_calibration_error(probabilities, targets) if probabilistic else float("nan"),
    }
    if multi_label:
        hamming = float(hamming_loss(targets, predicted))
        return {"micro F1": f1["micro"], "macro F1": f1["macro"], "Hamming loss": hamming, **confidence}
    return {"accuracy": float(accuracy_score(targets, predicted)), "macro F1": f1["macro"], **confidence}


def log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean log loss; probabilities are clipped to ``[1e-6, 1 - 1e-6]`` so that one zero does not make it infinite."""
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    if targets.ndim == 1:
        return float(-np.log(clipped[np.arange(len(targets)), targets]).mean())
    return float(-np.where(targets > 0.5, np.log(clipped), np.log(1 - clipped)).mean())


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean difference between predicted probability and observed frequency, over bins (Naeini et al. 2015)."""
    return round(reliability(*confidences_and_outcomes(probabilities, targets)).error, 12)  # no residue of rounding


def calibration_summary(probabilities: Probabilities, targets: np.ndarray, scaling: TemperatureScaling) -> str:
    """The calibration error with and without the temperature, in a sentence."""
    calibrated = expected_calibration_error(probabilities.calibrated, targets)
    if scaling.temperature == 1:
        return f"{scaling.describe()}; the expected calibration error (ECE) is {calibrated:.3f}."
    uncalibrated = expected_calibration_error(probabilities.uncalibrated, targets)
    return (
        f"{scaling.describe()}: the expected calibration error (ECE) is {uncalibrated:.3f} before and "
        f"{calibrated:.3f} after."
    )


def parts_alone(
    predictor: ClassifierPredictor, encoded: Sequence[np.ndarray], progress: Progress
) -> dict[str, np.ndarray]:
    """Probabilities ``(N, C)`` of network and regression, each alone, by name; nothing if there is no regression.

    The regression on n-grams has no row: TF-IDF with logistic regression is a baseline.
    """
    mixture = predictor.regression
    if mixture is None or not mixture.share:
        return {}
    with mixture.left_out_of(predictor.model) as regression:
        network = predictor.probabilities(encoded, progress).uncalibrated
    alone = {f"{predictor.settings.cell.upper()}, network alone": network}
    if mixture.kind == "convolutions":
        alone["MiniRocket, logistic regression"] = regression_probabilities(regression, encoded)
    return alone


def baselines(
    predictor: ClassifierPredictor,
    test: LabeledExamples,
    train: LabeledExamples | None,
    valid: LabeledExamples | None,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Probabilities ``(N, C)`` of each baseline, by name. All but the majority class need the training examples."""
    counts, classes = predictor.class_counts, len(predictor.classes)
    frequencies = {"majority class": class_frequencies(counts, predictor.num_examples, len(test))}
    if train is None:
        return frequencies
    train_data, inputs = _labeled_data(predictor, train), _baseline_inputs(predictor, test)
    if test.kind == "text":
        choice = None
        if valid is not None and len(valid):
            held_out = _labeled_data(predictor, valid)
            choice = (held_out.inputs, lambda probabilities: log_loss(probabilities, held_out.targets))
        balanced = predictor.settings.class_weight == "balanced"
        words = tfidf_logistic_regression(
            train_data, choice, inputs, classes=classes, balanced=balanced, progress=progress
        )
        return {"TF-IDF, logistic regression": words, **frequencies}
    longest = max(map(len, train_data.inputs))
    few = (
        test.kind in ("audio", "video") or longest == 1
    )  # many features a step, or one step: no more points than steps
    points = min(POINTS, longest) if few else POINTS
    nearest = nearest_neighbor(train_data, inputs, seed=predictor.settings.seed, progress=progress, points=points)
    return {"1-nearest neighbor": nearest if nearest.ndim == 2 else np.eye(classes)[nearest], **frequencies}


def _labeled_data(predictor: ClassifierPredictor, examples: LabeledExamples) -> LabeledData:
    return LabeledData(_baseline_inputs(predictor, examples), predictor.targets(examples))


def _baseline_inputs(predictor: ClassifierPredictor, examples: LabeledExamples) -> Sequence[Any]:
    """Texts as they are, time series and audio as the network reads them, video clips as thumbnails."""
    if isinstance(predictor.front_end, VideoFrontEnd):
        return predictor.front_end.thumbnails(examples.inputs)
    return examples.inputs if examples.kind == "text" else predictor.front_end.encode(examples.inputs)
