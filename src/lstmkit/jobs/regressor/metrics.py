"""Scores of the regressor and of its baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.decoding.regression import Predictions
from lstmkit.evaluation import regression_metrics as metrics
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.regressor import baselines
from lstmkit.jobs.regressor.predictor import RegressorPredictor
from lstmkit.progress import Progress

MEAN, LAST, RIDGE, BOOSTING = "mean", "last value", "ridge", "gradient boosting"
_MAX_CATEGORIES = 255  # of a column that gradient boosting reads as categories
_MIN_SCORED = 3  # scored steps of a sequence that has scores of its own


def evaluate_regressor(
    predictor: RegressorPredictor, test: RowSequences, train: RowSequences | None, progress: Progress
) -> Evaluation:
    """Score the model and its baselines on rows with targets.

    Args:
        predictor: Fitted.
        test: Rows; those without targets are context.
        train: What the model was fitted to, for the baselines; ``None`` if it is not known.
        progress: Where to report progress.
    """
    predictions = predictor.predict(test, progress)
    truth = predictor.decoding.capped(predictor.targets(test))
    models = {predictor.settings.cell.upper(): predictions.values, **_simple_baselines(predictor, test, truth)}
    if train is not None:
        models |= _fitted_baselines(predictor, train, test, progress)
    table = pd.DataFrame(
        [{"model": name, **_scores(predictor, test, truth, values)} for name, values in models.items()]
    )
    directions = _directions(table)
    for i, level in enumerate(predictor.decoding.levels):
        table[f"coverage-{level}"] = [_coverage(truth, predictions, i), *[np.nan] * (len(table) - 1)]
        directions[f"coverage-{level}"] = f"near:{level}"
    outputs = RegressionOutputs(test, truth, predictions)
    return Evaluation(
        table,
        directions,
        outputs.frame(predictor),
        tuple(_notes(predictor, truth, LAST in models)),
        outputs,
        (RIDGE, BOOSTING) if train is None else (),
        _scored_sequences(predictor, test, truth, predictions.values),
        not_alternatives={LAST: "it reads true targets of earlier steps, which the model does not"},
    )


class RegressionOutputs:
    """Rows with their targets and predictions.

    Attributes:
        rows: The rows.
        truth: ``(R, K)`` targets, NaN where a row is not scored.
        predictions: Of all rows.
    """

    def __init__(self, rows: RowSequences, truth: np.ndarray, predictions: Predictions) -> None:
        self.rows, self.truth, self.predictions = rows, truth, predictions

    def frame(self, predictor: RegressorPredictor) -> pd.DataFrame:
        """The scored rows: sequence, time, and of each target its true value, prediction and intervals."""
        scored = np.flatnonzero(~np.isnan(self.truth).all(axis=1))
        columns: dict[str, object] = {"id": np.array(self.rows.names, dtype=object)[self.rows.entities[scored]]}
        if self.rows.times is not None:
            columns["time"] = self.rows.times[scored]
        names = predictor.decoding.names
        columns |= {f"true {name}": self.truth[scored, k] for k, name in enumerate(names)}
        return pd.DataFrame(columns | predictor.decoding.columns(self.predictions.at(scored)))

    def by_sequence(self) -> pd.DataFrame:
        """Scores of the first target in each sequence with enough scored steps: RMSE, NSE and KGE."""
        records = []
        for name, start, end in zip(self.rows.names, self.rows.starts[:-1], self.rows.starts[1:], strict=True):
            known = ~np.isnan(self.truth[start:end, 0])
            truth, values = self.truth[start:end, 0][known], self.predictions.values[start:end, 0][known]
            if len(truth) >= _MIN_SCORED:
                scores = {"RMSE": metrics.rmse(truth, values), "NSE": metrics.r2(truth, values)}
                records.append({"sequence": name, "steps": len(truth), **scores, "KGE": metrics.kge(truth, values)})
        return pd.DataFrame(records)


def _simple_baselines(predictor: RegressorPredictor, test: RowSequences, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions ``(R, K)`` of the training mean, and of the last known target if rows have earlier ones."""
    mean = np.broadcast_to(predictor.decoding.mean, truth.shape)
    previous = baselines.previous_values(test, predictor.decoding.capped(test.require_targets()))
    found = {MEAN: mean}
    if predictor.settings.predict_at == "every_step" and not np.isnan(previous[~np.isnan(truth)]).all():
        found[LAST] = np.where(np.isnan(previous), mean, previous)
    return found


def _fitted_baselines(
    predictor: RegressorPredictor, train: RowSequences, test: RowSequences, progress: Progress
) -> dict[str, np.ndarray]:
    """Predictions ``(R, K)`` of ridge regression and gradient boosting on window summaries."""
    numbers, sizes = predictor.encoding.num_numbers, predictor.encoding.vocabulary_sizes
    targets = predictor.targets(train)
    known_rows = ~np.isnan(targets).all(axis=1)
    train_features = baselines.window_summaries(predictor.encode(train), numbers)[known_rows]
    features, targets = baselines.window_summaries(predictor.encode(test), numbers), targets[known_rows]
    categorical = np.zeros(features.shape[1], dtype=bool)
    categorical[numbers : numbers + len(sizes)] = np.array(sizes, dtype=int) <= _MAX_CATEGORIES
    found = {name: np.zeros((len(features), targets.shape[1])) for name in (RIDGE, BOOSTING)}
    with progress.task("baselines", 2 * targets.shape[1]) as task:
        for k, column in enumerate(targets.T):
            known = ~np.isnan(column)
            ridge = baselines.fit_ridge(train_features[known], column[known])
            found[RIDGE][:, k] = ridge(features)
            task.update(2 * k + 1)
            boosting = baselines.fit_gradient_boosting(
                train_features[known], column[known], categorical, predictor.settings.seed
            )
            found[BOOSTING][:, k] = boosting(features)
            task.update(2 * k + 2)
    return {name: predictor.decoding.capped(values) for name, values in found.items()}


def _scores(
    predictor: RegressorPredictor, test: RowSequences, truth: np.ndarray, values: np.ndarray
) -> dict[str, float]:
    """Scores of one model; of several targets the errors are relative to the deviations of the training targets."""
    columns = [(truth[known, k], values[known, k]) for k, known in enumerate(~np.isnan(truth).T) if known.any()]
    std = predictor.decoding.std
    if truth.shape[1] > 1:
        names = [name for name, known in zip(predictor.decoding.names, ~np.isnan(truth).T, strict=True) if known.any()]
        used = std[~np.isnan(truth).all(axis=0)]
        relative = [metrics.rmse(*pair) / own for pair, own in zip(columns, used, strict=True)]
        scores = {"relative RMSE": float(np.mean(relative))}
        scores |= {f"RMSE of {name}": metrics.rmse(*pair) for name, pair in zip(names, columns, strict=True)}
        return scores
    (pair,) = columns
    scores = {"RMSE": metrics.rmse(*pair), "MAE": metrics.mae(*pair), "R²": metrics.r2(*pair)}
    if predictor.settings.rul_score:
        scores["PHM08 score"] = metrics.phm08_score(*pair)
    if len(test) > 1 and predictor.settings.predict_at == "every_step":
        own = RegressionOutputs(test, truth, Predictions(values, values[..., None], values[..., None])).by_sequence()
        if len(own) and not np.isnan(own["NSE"].to_numpy()).all():
            scores |= {"median NSE": float(own["NSE"].median()), "median KGE": float(own["KGE"].median())}
    return scores


def _directions(table: pd.DataFrame) -> dict[str, str]:
    higher = ("R²", "median NSE", "median KGE")
    return {name: "high" if name in higher else "low" for name in table.columns if name != "model"}


def _coverage(truth: np.ndarray, predictions: Predictions, level: int) -> float:
    """Percent of the true values within an interval."""
    known = ~np.isnan(truth)
    low, high = predictions.low[..., level][known], predictions.high[..., level][known]
    return 100 * metrics.interval_coverage(truth[known], low, high)


def _scored_sequences(
    predictor: RegressorPredictor, test: RowSequences, truth: np.ndarray, values: np.ndarray
) -> ScoredExamples:
    """The sequences, which are independent, and the main score of any of them."""
    known = ~np.isnan(truth)
    squares = np.where(known, np.square(values - np.where(known, truth, 0.0)), 0.0)
    sums, counts = (np.add.reduceat(part, test.starts[:-1], axis=0) for part in (squares, known.astype(float)))
    scored = np.flatnonzero(counts.any(axis=1))
    sums, counts = sums[scored], counts[scored]
    std = predictor.decoding.std if truth.shape[1] > 1 else np.ones(1)

    def score(chosen: np.ndarray) -> float:
        total = counts[chosen].sum(axis=0)
        return float(np.mean(np.sqrt(sums[chosen].sum(axis=0) / np.maximum(total, 1))[total > 0] / std[total > 0]))

    return ScoredExamples(len(scored), "sequences", score)


def _notes(predictor: RegressorPredictor, truth: np.ndarray, has_last: bool) -> list[str]:
    settings, decoding = predictor.settings, predictor.decoding
    count = int((~np.isnan(truth)).sum())
    notes = [f"{count:,} target{'s are' if count > 1 else ' is'} scored."]
    if truth.shape[1] > 1:
        notes.append("Relative RMSE is in standard deviations of the training targets, the mean over the targets.")
    if decoding.max_target:
        notes.append(f"Targets above {decoding.max_target:g} count as {decoding.max_target:g}.")
    if settings.burn_in and settings.predict_at == "every_step":
        notes.append(f"The first {settings.burn_in:,} steps of each sequence are not scored.")
    if has_last:
        notes.append("The last value is the true target of the step before, which the model does not read.")
    if decoding.levels and not decoding.num_calibrated:
        notes.append("Intervals are not calibrated.")
    return notes
