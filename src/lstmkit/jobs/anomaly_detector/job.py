"""Anomaly detection: which steps of a sensor series are abnormal, how strongly, and in which channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lstmkit.data.batch import Source
from lstmkit.data.series.sensor_series import Columns, SensorSeries, SensorSeriesSet, read_sensor_series
from lstmkit.data.tables.table import TABLES
from lstmkit.errors import DataError
from lstmkit.evaluation.anomaly_thresholds import TAIL, true_runs
from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.anomaly_detector import metrics, report
from lstmkit.jobs.anomaly_detector.export import exported_anomaly_detector
from lstmkit.jobs.anomaly_detector.plots import anomaly_figure
from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.jobs.anomaly_detector.pyod import PyODDetector
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.jobs.anomaly_detector.settings import ADAPTIVE, AnomalySettings
from lstmkit.jobs.anomaly_detector.streaming import StreamingDetector
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.look.traces import ExampleSequence
from lstmkit.plots.style import note_selection
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_TIME_COLUMNS = ("start", "end", "peak")
_EVENT_COLUMNS = ("id", "start", "end", "steps", "peak", "score", "threshold", "channel")
_MAX_INSPECTED = 5  # series
_MAX_INSPECTED_STEPS = 2000
_MIN_CALIBRATION_STEPS = 5  # that a threshold is fitted to


class AnomalyDetector(AnomalySettings, Job[AnomalyPredictor]):
    """Learn what normal sensor series look like, and detect the steps that do not. ``fit`` never reads labels.

    Data: a file or frame with one row per step and numeric columns, optionally with timestamps (``time_col``), several
    series (``id_col``) and labels (``label_col``, 0 or 1), which only :meth:`evaluate` reads; or an array ``(T,)`` or
    ``(T, F)``. If the data have labels, ``fit`` holds out the last ``test_fraction`` of each series to test the model.

    >>> import numpy as np
    >>> wave = np.sin(np.arange(600) / 5) + 0.05 * np.random.default_rng(0).standard_normal(600)
    >>> detector = AnomalyDetector(hidden_size=16, epochs=15, window=50, lr=0.01).fit(wave[:500])
    >>> wave[560:565] += 1.0
    >>> results = detector.predict(wave)
    >>> bool(results[0].alarms[560:565].any())
    True
    """

    predictor_class = AnomalyPredictor
    data_formats = TABLES
    answer_suffixes = (".csv",)

    _fitted_to: tuple[SensorSeriesSet, SensorSeriesSet] | None = None  # training and validation part; not saved
    _validation_follows = False  # whether the validation part continues the training part

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> SensorSeriesSet:
        return self._read(data, self.label_col)

    def _read(self, data: Any, label_col: str) -> SensorSeriesSet:
        names = self.predictor.channel_names if self.is_fitted else ()
        scored = tuple(name for name in names if name not in self.covariates) or self.value_cols
        series = read_sensor_series(data, Columns(self.time_col, self.id_col, label_col, scored, self.covariates))
        series.check_values()
        if names and series.channels != names:
            raise DataError(f"{series.name} has {len(series.channels)} channels, the model was fitted to {len(names)}")
        return series

    def with_labels(self, data: Any, y: Any) -> Any:
        """``data`` alone: detectors ignore the labels that scikit-learn and PyOD pass to ``fit``.

        Raises:
            DataError: ``y`` is not an array of 0 and 1.
        """
        labels = np.asarray(y)
        if labels.ndim > 2 or not np.isin(labels, (0, 1)).all():
            raise DataError("the second argument of fit is for labels, 0 and 1: give validation data as validation=…")
        return data

    def split(self, examples: SensorSeriesSet, validation: SensorSeriesSet | None) -> DataSplit:
        """By time, within each series. Training and validation part have no labels.

        If the data have labels, the last ``test_fraction`` of each series is the test part, which is said and reported.
        """
        if self.label_col not in ("", Columns().label) and not examples.has_labels:
            raise DataError(f"{examples.name} has no column {self.label_col!r}: correct label_col")
        if validation is not None:
            _check_not_labels(validation)
            validation = validation.with_channels_of(examples)
        for note in examples.notes:
            self.progress.say(f"{examples.name}: {note}")
        self.progress.say(report.split_note(self, examples))
        test_fraction = self.test_fraction if examples.has_labels else 0.0
        valid_fraction = self.valid_fraction if validation is None else 0.0
        points = [_split_points(len(one), valid_fraction, test_fraction) for one in examples.items]
        edges = [[0, *of_series, len(one)] for of_series, one in zip(points, examples.items, strict=True)]
        train, valid, test = (examples.slice([(e[k], e[k + 1]) for e in edges], labels=k == 2) for k in range(3))
        longest = max((len(one) for one in train.items), default=0)
        if longest < 2 * self.burn_in + 10:
            raise DataError(
                f"{examples.name}: the longest training series has {longest} steps, at least {2 * self.burn_in + 10} "
                "are needed: give more data, or a smaller burn_in, valid_fraction or test_fraction"
            )
        self._validation_follows = validation is None
        if validation is not None:
            valid = validation.slice([(0, len(one)) for one in validation.items], False)
        if len(valid):
            self._check_burn_in(valid)
        return DataSplit(train, valid if len(valid) else None, test if len(test) else None)

    def _check_burn_in(self, valid: SensorSeriesSet) -> None:
        """The threshold is fitted to steps after the burn-in: there must be some, with values in every channel."""
        settled = np.concatenate([one.values[self.burn_in :] for one in valid.items])
        if len(settled) < _MIN_CALIBRATION_STEPS:
            raise DataError(
                f"{valid.name}: the validation part has {len(settled)} steps after the burn-in, a threshold needs "
                f"{_MIN_CALIBRATION_STEPS}: give longer series, a larger valid_fraction, or a smaller burn_in"
            )
        missing = np.isnan(settled).all(axis=0)
        if missing.any():
            name = valid.channels[int(missing.argmax())]
            raise DataError(f"{valid.name}: channel {name!r} has no value in the validation part: leave it out")

    def prepare(self, train: SensorSeriesSet) -> AnomalyPredictor:
        self._fitted_to = (train, train)
        return AnomalyPredictor.fitted(self.snapshot(), train)

    def source(self, examples: SensorSeriesSet) -> Source:
        return self.predictor.source(examples)

    def calibrate(self, valid: SensorSeriesSet | None) -> None:
        """Fit the subspace to the training part, scales and threshold to the validation part.

        Without a validation part these are fitted to the training part, too.
        """
        if self._fitted_to is not None:
            train, _ = self._fitted_to
            self._fitted_to = (train, train if valid is None else valid)
            follows = valid is not None and self._validation_follows
            self.predictor.calibrate(*self._fitted_to, self.progress, normal_follows=follows)

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> list[AnomalyResult]:
        """Scores, thresholds and alarms of every series in ``data``.

        Raises:
            DataError: A channel of a series has no value at all.
        """
        predictor = self.predictor
        return predictor.detect(self.read(data), default_progress())

    def decision_function(self, data: Any) -> np.ndarray:
        """Scores ``(N,)`` of all steps, higher for more abnormal ones, as PyOD's detectors give them."""
        return np.concatenate([result.scores for result in self.predict(data)])

    def score(self, X: Any, y: Any) -> float:
        """Average precision of :meth:`decision_function` against labels ``(N,)``, for scikit-learn's searches."""
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(np.asarray(y).astype(int), self.decision_function(X)))

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(allow_nan=True),
        )

    def stream(self) -> StreamingDetector:
        """A detector for steps as they arrive: the same scores as for a whole series, up to rounding."""
        return StreamingDetector(self.predictor)

    def pyod(self) -> PyODDetector:
        """This detector with PyOD's methods: ``predict`` returns 0 and 1."""
        return PyODDetector(self)

    def to_text(self, predictions: list[AnomalyResult]) -> str:
        """A table of the events, as CSV."""
        events = [event for result in predictions for event in result.events(self.merge_gap, self.max_event_steps)]
        return pd.DataFrame(events, columns=pd.Index(_EVENT_COLUMNS)).to_csv(index=False, lineterminator="\n")

    def to_records(self, predictions: list[AnomalyResult]) -> list[dict[str, Any]]:
        """For each series its events, and the score and threshold of every step."""
        return [
            {
                "id": result.series.name,
                "alarms": [
                    {k: str(v) if k in _TIME_COLUMNS else v for k, v in event.items()}
                    for event in result.events(self.merge_gap, self.max_event_steps)
                ],
                "scores": result.scores.tolist(),
                "thresholds": result.thresholds.tolist(),
            }
            for result in predictions
        ]

    def plot(self, data: Any, predictions: list[AnomalyResult]) -> Figure:
        """The series with the most alarms."""
        figure = anomaly_figure(max(predictions, key=lambda result: int(result.alarms.sum())))
        return note_selection(figure, len(predictions), "series", which="the one with the most alarms")

    def exported(self) -> JobExport:
        return exported_anomaly_detector(self.predictor)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, label_col: str = "", progress: Progress | None = None) -> Evaluation:
        """Score the detector and its baselines on labeled series.

        Args:
            data: Series with labels.
            label_col: Column of the labels; empty for the setting.
            progress: Where to report progress.

        Raises:
            DataError: There are no labels.
        """
        predictor = self.predictor
        series = self._read(data, label_col or self.label_col)
        if not series.has_labels:
            raise DataError(f"{series.name} has no labels to evaluate with: name their column with label_col=NAME")
        predictor.model.eval()
        return self.evaluate_examples(series, progress or default_progress())

    def can_score(self, examples: SensorSeriesSet) -> bool:
        return examples.has_labels

    def evaluate_examples(self, test: SensorSeriesSet, progress: Progress) -> Evaluation:
        results = self.predictor.detect(test, progress)
        labels = [one.labels for one in test.items if one.labels is not None]
        step_days = [one.step_days for one in test.items]
        rows = [
            {"model": name, **self.score_alarms(labels, scored, step_days)}
            for name, scored in self.score_all_models(test, results).items()
        ]
        steps = pd.concat([result.frame() for result in results], ignore_index=True)
        steps.insert(2, "label", np.concatenate(labels).astype(int))
        return Evaluation(
            pd.DataFrame(rows),
            {name: direction for name, direction in metrics.METRIC_DIRECTIONS.items() if name in rows[0]},
            steps,
            tuple(self._notes(labels)),
            results,
            tuple(self._parts() or (metrics.SUB_PCA,)) if self._fitted_to is None else (),
            ScoredExamples(len(labels), "series"),
            not_alternatives=self._parts(),
        )

    def _parts(self) -> dict[str, str]:
        """By name the rows of the table that are parts of the model, and how to get them alone."""
        weights = {metrics.network_name(self): 0, metrics.SUB_PCA: 1} if self.subspace_weight else {}
        return {name: f"it is a part of the model, alone with subspace_weight={w}" for name, w in weights.items()}

    def _notes(self, labels: list[np.ndarray]) -> list[str]:
        fraction = float(np.concatenate(labels).mean())
        count = sum(len(true_runs(true)) for true in labels)
        notes = [
            f"{sum(map(len, labels)):,} steps in {len(labels)} series, {fraction:.1%} of them in {count:,} anomalies."
        ]
        if self.max_event_steps:
            notes.append(f"An alarm longer than {self.max_event_steps:,} steps counts as several events.")
        if fraction in (0, 1):
            every = "an anomaly" if fraction else "normal"
            notes.append(f"Every step is labeled {every}: these scores cannot tell models apart.")
        notes += self._score_notes()
        if self.threshold_method == "rolling_quantile":
            notes.append(
                f"The threshold follows the last {self.threshold_window:,} scores and is set for "
                f"{self.false_alarm_rate:g} false alarms per step."
            )
            if self.false_alarm_rate * (self.threshold_window + 1) < 1:
                notes.append(
                    f"So few scores cannot guarantee a rate under {1 / (self.threshold_window + 1):.2g}: set "
                    f"threshold_window to {math.ceil(1 / self.false_alarm_rate):,} or more."
                )
        elif self.threshold_method not in ADAPTIVE:
            above, count = self.predictor.num_above
            notes.append(
                f"The threshold is set for {self.false_alarm_rate:g} false alarms per step; {above:,} of the {count:,} "
                "calibration steps exceed it."
            )
            needed = TAIL if self.threshold_method == "pot" else 1 / self.false_alarm_rate - 1
            if count < needed and self.false_alarm_rate * (count + 1) < 1:
                notes.append(f"So few steps cannot guarantee a rate under {1 / (count + 1):.2g}, whatever is set.")
        return notes

    def _score_notes(self) -> list[str]:
        """What the score is made of, if a principal subspace was asked for."""
        subspace, model, weight = self.predictor.subspace, self.cell.upper(), self.subspace_weight
        if not weight:
            return []
        if subspace is None:
            return [f"The score of {model} is the network's alone: the training data have no principal subspace."]
        return [
            f"The score of {model} has weight {1 - weight:.2g} for the network and {weight:.2g} for the distance of "
            f"the last {subspace.window:,} steps from the principal subspace of training windows (Sub-PCA)."
        ]

    def score_alarms(
        self, labels: list[np.ndarray], scored: metrics.ScoresAndThresholds, step_days: Sequence[float] = ()
    ) -> dict[str, float]:
        """Scores of one model. Arguments as in :func:`lstmkit.jobs.anomaly_detector.metrics.scores`."""
        return metrics.scores(
            labels,
            scored,
            merge_gap=self.merge_gap,
            vus_buffer=self.vus_buffer,
            max_event_steps=self.max_event_steps,
            step_days=step_days,
        )

    def score_all_models(
        self, test: SensorSeriesSet, results: list[AnomalyResult]
    ) -> dict[str, metrics.ScoresAndThresholds]:
        """Scores and thresholds of every series, by this model and by each baseline."""
        model = {self.cell.upper(): [(result.scores, result.thresholds) for result in results]}
        alone = metrics.network_alone(self.predictor, self._fitted_to and self._fitted_to[1], results)
        return model | alone | metrics.baselines(self.predictor, self._fitted_to, test)

    def report_sections(self, examples: SensorSeriesSet) -> list[Section]:
        evaluation = self.full_evaluation
        results = evaluation.outputs if evaluation else self.predictor.detect(examples, default_progress())
        return report.sections(self.predictor, evaluation, results, examples)

    def example_sequences(self, data: Any, series: int = 1) -> list[ExampleSequence]:
        """Series of ``data``, number ``series`` (from 1) first; of long ones the beginning."""
        predictor = self.predictor
        read = self.read(data)
        if not 1 <= series <= len(read):
            raise DataError(f"there is no series {series}: {read.name} has 1 to {len(read)}")
        rows = [series - 1, *(i for i in range(len(read)) if i != series - 1)][:_MAX_INSPECTED]
        inputs, _ = predictor.encode(read)
        return [_example_sequence(predictor, read.items[row], inputs[row][:_MAX_INSPECTED_STEPS]) for row in rows]


def _example_sequence(predictor: AnomalyPredictor, series: SensorSeries, inputs: np.ndarray) -> ExampleSequence:
    steps = len(inputs)
    labels = {} if series.labels is None else {"labeled as an anomaly": series.labels[:steps]}
    channels = {name: inputs[:, i] for i, name in enumerate(predictor.channel_names)}
    return ExampleSequence(
        torch.from_numpy(inputs)[None].to(next(predictor.network.parameters()).device),
        name=series.name,
        labels=[str(time) for time in series.times[:steps]],
        values=inputs[:, 0],
        annotations=labels | channels,
    )


def _check_not_labels(validation: SensorSeriesSet) -> None:
    """Raise DataError if the validation data are one array of 0 and 1: labels, given by mistake."""
    single = len(validation) == 1 and validation.channels == ("1",) and validation.name == "the array"
    if single and np.isin(validation.items[0].values, (0, 1)).all():
        raise DataError(
            "the validation data hold only 0 and 1, as labels do: fit reads no labels; evaluate takes a frame with a "
            "column of labels"
        )


def _split_points(length: int, valid_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Where the validation part and the test part begin."""
    test = length - report.num_test_steps(length, test_fraction)
    return test - math.floor(valid_fraction * test), test
