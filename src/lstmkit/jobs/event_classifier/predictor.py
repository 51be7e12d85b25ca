"""What the event classifier's ``fit`` leaves: encoding of events, network, calibration and threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from typing_extensions import Self

from lstmkit.data.tables.row_encoding import DAY, RowEncoding, elapsed_times
from lstmkit.data.tables.row_sequences import RowColumns, RowSequences, read_row_sequences
from lstmkit.data.tables.row_windows import RowWindows, cut_windows
from lstmkit.decoding.event_decisions import EventDecisions
from lstmkit.errors import DataError, listing
from lstmkit.evaluation.calibration import TemperatureScaling, fit_temperature
from lstmkit.evaluation.event_metrics import fit_threshold
from lstmkit.jobs.common.step_outputs import step_outputs
from lstmkit.jobs.event_classifier.settings import EventClassifierSettings
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.column_encoder import ColumnEncoder
from lstmkit.modules.event_head import EventHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

_UNKNOWN_PROBABILITY = 0.02  # of a category in training


class EventPredictor(Predictor[EventClassifierSettings]):
    """Encodes events, runs the network over the events of each entity, and decides.

    Attributes:
        encoding: Of the columns and times of an event.
        classes: The labels, in the order of the network's outputs.
        positive: Index of the class to detect, of two; ``None`` with more classes.
        counts: ``(C,)`` training events of each class.
        scaling: The temperature, and what it was fitted to.
        threshold: Probability from which an event is positive.
    """

    def __init__(
        self,
        settings: EventClassifierSettings,
        encoding: RowEncoding,
        classes: tuple[str, ...],
        positive: int | None,
        counts: np.ndarray,
    ) -> None:
        super().__init__(settings)
        self.encoding, self.classes, self.positive, self.counts = encoding, classes, positive, counts
        self.scaling, self.threshold = TemperatureScaling(), 0.5

    @classmethod
    def fitted(cls, settings: EventClassifierSettings, train: RowSequences) -> Self:
        """Fit the encoding and the classes to the training events.

        Raises:
            DataError: The labels have fewer than two classes, or lack the positive one.
        """
        known = train.require_targets()[train.has_target, 0].astype(str)
        classes, counts = np.unique(known, return_counts=True)
        if len(classes) < 2:
            found = f"only the label {str(classes[0])!r}" if len(classes) else "no label"
            raise DataError(
                f"{train.name}: the training part has {found}, at least two are needed: give more events, or a smaller "
                "valid_fraction, test_fraction or label_delay_days"
            )
        positive = _positive(settings.positive_label, classes.tolist(), counts, train.name)
        encoding = RowEncoding.fitted(
            (train.number_names, train.category_names),
            train.numbers,
            train.categories,
            elapsed=_elapsed(train) if settings.time_features else None,
            clock=train.clock_seconds if settings.time_features else None,
            min_count=settings.min_count,
            bins=settings.numeric_bins,
        )
        return cls(settings, encoding, tuple(classes.tolist()), positive, counts)

    def build(self) -> Model:
        settings = self.settings
        columns = ColumnEncoder(
            self.encoding.num_numbers, self.encoding.vocabulary_sizes, _UNKNOWN_PROBABILITY, self.encoding.edges
        )
        encoder = nn.Sequential(
            columns, nn.Linear(columns.output_size, settings.encoder_size), nn.ReLU(), nn.Dropout(settings.dropout)
        )
        trunk = build_trunk(
            settings.cell,
            settings.encoder_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
            bidirectional=settings.bidirectional,
        )
        head = EventHead(
            trunk.output_size + settings.encoder_size,
            len(self.classes),
            settings.hidden_size,
            settings.dropout,
            self.class_weights.tolist(),
            settings.focal_gamma,
        )
        return SequenceModel(encoder, trunk, head, skip=True)

    @property
    def class_weights(self) -> np.ndarray:
        """``(C,)`` weights of the classes in the loss."""
        if self.settings.class_weight == "none":
            return np.ones(len(self.classes))
        return self.counts.sum() / (len(self.classes) * self.counts)

    @property
    def decisions(self) -> EventDecisions:
        """From the network's logits to probabilities and labels."""
        weights = np.log(self.class_weights)
        return EventDecisions(self.classes, self.positive, self.threshold, self.scaling.temperature, weights)

    @property
    def positive_class(self) -> str:
        """The label to detect; empty if there are more than two."""
        return "" if self.positive is None else self.classes[self.positive]

    @property
    def reads_time(self) -> bool:
        """Whether events need times."""
        return self.encoding.elapsed is not None or bool(self.encoding.periods)

    # ---- read and encode -----------------------------------------------------------------------------------------

    def read(self, data: Any) -> RowSequences:
        """Events with the columns that the model reads; labels are read if they are there.

        Raises:
            DataError: A column is missing or cannot be read.
        """
        settings = self.settings
        columns = RowColumns(
            settings.id_col,
            settings.time_col,
            (settings.label_col,),
            labels=True,
            numeric=self.encoding.number_names,
            categorical=self.encoding.category_names,
            recognize=False,
        )
        return read_row_sequences(data, columns)

    def encode(self, events: RowSequences) -> np.ndarray:
        """Features ``(R, F)`` float32 of all events.

        Raises:
            DataError: The events lack times, or have numbers as times and the model reads dates.
        """
        names = (self.encoding.number_names, self.encoding.category_names)
        if (events.number_names, events.category_names) != names:
            raise DataError(f"{events.name} has other columns than the model reads ({listing(sum(names, ()))})")
        clock = events.clock_seconds
        if self.reads_time and events.seconds is None:
            raise DataError(f"{events.name} has no times, which the model reads: give the column time_col")
        if self.encoding.periods and clock is None:
            raise DataError(f"{events.name}: its times are numbers, the model was fitted to dates: give dates")
        elapsed = _elapsed(events) if self.encoding.elapsed is not None else None
        return self.encoding.encode(events.numbers, events.categories, elapsed, clock)

    def targets(self, events: RowSequences) -> np.ndarray:
        """Class indices ``(R,)``, -1 for events without a label.

        Raises:
            DataError: There is no label column, or a label is not in the training data.
        """
        labels = events.require_targets()[:, 0]
        index: dict[Any, int] = {name: k for k, name in enumerate(self.classes)}
        unknown = sorted({label for label in labels.tolist() if label is not None} - index.keys())
        if unknown:
            raise DataError(
                f"{events.name} has labels that are not in the training data: {listing(unknown)} (its labels: "
                f"{listing(self.classes)}): correct them, or fit again with examples of them"
            )
        return np.array([-1 if label is None else index[label] for label in labels.tolist()], dtype=np.int64)

    def source(self, events: RowSequences) -> RowWindows:
        """Training windows of the labeled events."""
        targets = self.targets(events)
        windows = cut_windows(events.starts, targets >= 0, self.settings.window)
        return RowWindows(self.encode(events), targets, windows, no_target=-1)

    # ---- answer --------------------------------------------------------------------------------------------------

    def logits(self, events: RowSequences, progress: Progress | None = None) -> np.ndarray:
        """Logits of the network ``(R, C)`` for all events.

        Events of an entity run in chunks of 4,096 with the state carried over, so memory does not grow with them; a
        bidirectional network reads all events of an entity at once.
        """
        sequences = np.split(self.encode(events), events.starts[1:-1])
        whole = self.settings.bidirectional
        return step_outputs(self.model, sequences, self.device, progress, "classifying events", whole=whole)

    def probabilities(self, events: RowSequences, progress: Progress | None = None) -> np.ndarray:
        """Calibrated probabilities ``(R, C)`` of all events."""
        return self.decisions.probabilities(self.logits(events, progress))

    def calibrate(self, valid: RowSequences | None, progress: Progress) -> None:
        """Fit temperature and threshold to validation events; without them 1, and the threshold of the costs."""
        settings = self.settings
        by_cost = settings.false_alarm_cost / max(settings.false_alarm_cost + settings.miss_cost, 1e-12)
        default = by_cost if settings.threshold_method == "cost" else 0.5
        self.scaling, self.threshold = TemperatureScaling(), default
        if valid is None:
            return
        known = valid.has_target
        targets, logits = self.targets(valid)[known], self.logits(valid, progress)[known]
        self.scaling = fit_temperature(self.decisions.unweighted(logits), targets)
        if self.positive is not None and (targets == self.positive).any():
            scores = self.decisions.probabilities(logits)[:, self.positive]
            self.threshold = self.fitted_threshold(valid, scores, targets == self.positive)

    def fitted_threshold(self, events: RowSequences, scores: np.ndarray, is_positive: np.ndarray) -> float:
        """The threshold by the rule of the settings.

        Args:
            events: Events, of which those with a label count.
            scores: ``(N,)`` probabilities of the positive class, of those with a label.
            is_positive: ``(N,)`` bool, of those with a label.

        Raises:
            DataError: The rule is a number of alarms per day, and the events have no dates.
        """
        settings, max_alarms = self.settings, np.inf
        if settings.threshold_method == "alarms":
            if events.clock_seconds is None:
                raise DataError(f"{events.name}: threshold_method=alarms needs dates: give time_col, or another method")
            days = np.unique(np.floor(events.clock_seconds[events.has_target] / DAY))
            max_alarms = settings.alarms_per_day * len(days)
        costs = settings.false_alarm_cost, settings.miss_cost
        return fit_threshold(scores, is_positive, settings.threshold_method, costs=costs, max_alarms=max_alarms)

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "encoding": self.encoding.state(),
            "classes": list(self.classes),
            "positive": self.positive_class,
            "counts": self.counts.tolist(),
            "threshold": self.threshold,
            **self.scaling.state(),
        }

    @classmethod
    def from_state(cls, settings: EventClassifierSettings, state: Mapping[str, Any]) -> Self:
        classes = tuple(state["classes"])
        if len(classes) < 2 or len(set(classes)) < len(classes) or not all(isinstance(c, str) for c in classes):
            raise ValueError("its classes are not distinct texts")
        positive = None if len(classes) > 2 else classes.index(state["positive"])
        counts = np.array(state["counts"], dtype=np.int64)
        threshold = float(state["threshold"])
        if counts.shape != (len(classes),) or counts.min() < 1:
            raise ValueError("its counts do not match its classes")
        if not 0 <= threshold <= 2:
            raise ValueError("its threshold is invalid")
        predictor = cls(settings, RowEncoding.from_state(state["encoding"]), classes, positive, counts)
        predictor.scaling, predictor.threshold = TemperatureScaling.from_state(state), threshold
        return predictor


def _elapsed(events: RowSequences) -> np.ndarray | None:
    return None if events.seconds is None else elapsed_times(events.seconds, events.starts)


def _positive(wanted: str, classes: Sequence[str], counts: np.ndarray, name: str) -> int | None:
    """Index of the positive class; ``None`` with more than two classes.

    Raises:
        DataError: The wanted one is not among the labels, or there are more than two.
    """
    if wanted and wanted not in classes:
        raise DataError(
            f"{name}: no training event has the label positive_label={wanted!r} (labels: {listing(classes)})"
        )
    if len(classes) > 2:
        if wanted:
            raise DataError(f"{name} has {len(classes)} labels: positive_label is for two; leave it empty")
        return None
    return classes.index(wanted) if wanted else int(np.argmin(counts))
