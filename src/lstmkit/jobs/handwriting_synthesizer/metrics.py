"""Scores of drawings: negative log-likelihood per point and pen-lift F1, of the model and of the baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.ink.strokes import InkSet
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.handwriting_synthesizer.predictor import HandwritingPredictor
from lstmkit.jobs.handwriting_synthesizer.results import PointScores
from lstmkit.progress import Progress

_DIRECTIONS = {"NLL per point": "low", "pen NLL": "low", "pen-lift F1": "high"}


def evaluate(predictor: HandwritingPredictor, test: InkSet, progress: Progress) -> Evaluation:
    """Score the model and the baselines on the same drawings.

    Raises:
        DataError: The model needs texts and the drawings have none.
    """
    settings, baselines = predictor.settings, predictor.baselines
    model_scores = predictor.score(test, progress)
    drawings = [ink.points.astype(np.float64) for ink in test.inks]
    scores = {
        f"{settings.cell.upper()}, {settings.mixture_components} Gaussians": model_scores,
        "AR(2)": [baselines.autoregression(points) for points in drawings],
        "Gaussian mixture without memory": [baselines.mixture(points) for points in drawings],
        "single Gaussian": [baselines.single_gaussian(points) for points in drawings],
    }
    lengths = [len(points) for points in drawings]
    points = np.concatenate(drawings)
    details = pd.DataFrame(
        {
            "drawing": np.repeat([ink.name for ink in test.inks], lengths),
            "point": np.concatenate([np.arange(n) for n in lengths]),
            **dict(zip(("dx", "dy", "pen_up"), points.T, strict=True)),
            **{name: np.concatenate([s.nll[:, :2].sum(1) for s in of_model]) for name, of_model in scores.items()},
        }
    )
    rows = []
    for name, of_model in scores.items():
        pen_nll = float(np.concatenate([s.nll[:, 1] for s in of_model]).mean())
        predicted = np.concatenate([s.pen_up for s in of_model]) > 0.5
        values = (details[name].mean(), pen_nll, pen_lift_f1(predicted, points[:, 2] > 0))
        rows.append({"model": name, **dict(zip(_DIRECTIONS, values, strict=True))})
    own = np.array([s.nll[:, :2].sum() for s in model_scores])
    examples = ScoredExamples.ratio("drawings", own, np.array(lengths))
    notes = _notes(predictor, test, model_scores)
    return Evaluation(pd.DataFrame(rows), dict(_DIRECTIONS), details, notes, examples=examples)


def pen_lift_f1(predicted: np.ndarray, lifted: np.ndarray) -> float:
    """F1 score of the points after which the pen is lifted; 0 if no lift is predicted. Both are ``(T,)`` bool.

    >>> pen_lift_f1(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    hits = int((predicted & lifted).sum())
    return 2 * hits / max(1, int(predicted.sum()) + int(lifted.sum()))


def _notes(predictor: HandwritingPredictor, test: InkSet, scores: Sequence[PointScores]) -> tuple[str, ...]:
    scale = predictor.offset_scale
    unit = (
        f"{test.points:,} points of {len(test):,} drawings. NLL in nats of a point's offset, a density per square unit "
        f"of the data, and of its pen. The network predicts offsets divided by {scale:.4g}, which adds 2 ln "
        f"{scale:.4g} = {2 * math.log(scale):.3f} nats per point. No model predicts a standard deviation below "
        f"{predictor.min_std:.3g} units."
    )
    if predictor.characters is None:
        ends = np.mean([of_drawing.nll[:, 2].sum() for of_drawing in scores])
        return (unit, f"The end of a drawing costs another {ends:.3f} nats per drawing; the table does not count it.")
    unknown = sum(c not in predictor.characters for ink in test.inks for c in ink.text)
    return (unit, f"{unknown:,} characters are not in the training split and were ignored.") if unknown else (unit,)
