"""Event classification: a label for every event of a stream, judged by itself and the past of its entity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lstmkit.data.tables.native_frames import records_of, to_native
from lstmkit.data.tables.row_sequences import RowColumns, RowSequences, read_row_sequences
from lstmkit.data.tables.row_windows import RowWindows
from lstmkit.data.tables.table import TABLES
from lstmkit.errors import DataError, SettingError
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.event_classifier.attribution import example_sequences
from lstmkit.jobs.event_classifier.baselines import EventBaselines
from lstmkit.jobs.event_classifier.export import exported_event_classifier
from lstmkit.jobs.event_classifier.leakage import leaking_columns
from lstmkit.jobs.event_classifier.live import LiveEvents
from lstmkit.jobs.event_classifier.metrics import evaluate_events
from lstmkit.jobs.event_classifier.plots import entity_figure
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.jobs.event_classifier.report import event_sections
from lstmkit.jobs.event_classifier.results import answers
from lstmkit.jobs.event_classifier.settings import EventClassifierSettings
from lstmkit.jobs.event_classifier.splitting import split_by_entity, split_by_time
from lstmkit.look.traces import ExampleSequence
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section


class EventClassifier(EventClassifierSettings, Job[EventPredictor]):
    """Label every event of a stream: fraud on cards, failures of machines, attacks, activity.

    Data: a table with a row per event. It has a column of the entity (``id_col``), a time (``time_col``), columns of
    numbers and categories, and a label (``label_col``). Events without a label are context. An event is judged by
    itself and by the past of its entity; with ``bidirectional`` also by what follows.

    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> amount = rng.exponential(size=900)
    >>> again = np.concatenate([np.zeros(30), amount[:-30]])  # the amount before on the same card
    >>> frame = pd.DataFrame({"card": np.arange(900) % 30, "amount": amount, "label": (again + amount > 3).astype(int)})
    >>> job = EventClassifier(id_col="card", time_col="", epochs=8, hidden_size=16, batch_size=4).fit(frame)
    >>> bool(job.evaluation.table["average precision"].iloc[0] > 0.5)
    True
    """

    predictor_class = EventPredictor
    data_formats = TABLES
    answer_suffixes = (".csv",)

    _baselines: EventBaselines | None = None  # fitted to the training part; not saved

    # ---- from file to predictor ----------------------------------------------------------------------------------

    def read(self, data: Any) -> RowSequences:
        if self.is_fitted:
            return self.predictor.read(data)
        if self.threshold_method == "cost" and not self.false_alarm_cost + self.miss_cost:
            raise SettingError("threshold_method=cost needs a cost: give false_alarm_cost or miss_cost above 0")
        columns = RowColumns(
            self.id_col,
            self.time_col,
            (self.label_col,),
            labels=True,
            numeric=self.numeric_cols,
            categorical=self.categorical_cols,
            recognize=not self.numeric_cols,
            ignored=self.ignored_cols,
        )
        events = read_row_sequences(data, columns)
        if not events.column_names:
            raise DataError(f"{events.name} has no column to read beside id, time and label: give more columns")
        return events

    def split(self, examples: RowSequences, validation: RowSequences | None) -> DataSplit:
        """The latest events, or whole entities, are held out. Earlier events of an entity are context of later ones."""
        for events in (examples, validation):
            if events is not None and events.targets is None:
                raise DataError(f"no column {self.label_col!r} in {events.name}: give label_col=NAME")
        if validation is not None and validation.column_names != examples.column_names:
            raise DataError(f"{validation.name} and {examples.name} have different columns: give both the same ones")
        split = split_by_time if self.split_strategy == "time" else split_by_entity
        return split(self, examples, validation)

    def prepare(self, train: RowSequences) -> EventPredictor:
        predictor = EventPredictor.fitted(self.snapshot(), train)
        self._baselines = EventBaselines(predictor, train, self.progress)
        return predictor

    def source(self, examples: RowSequences) -> RowWindows:
        return self.predictor.source(examples)

    def notes_on(self, examples: RowSequences) -> tuple[str, ...]:
        """What was done to read the data, and columns that give the label away."""
        return (*(f"{examples.name}: {note}" for note in examples.notes), *leaking_columns(self.predictor, examples))

    def calibrate(self, valid: RowSequences | None) -> None:
        """Fit temperature and threshold to the validation part; baselines get thresholds by the same rule."""
        self.predictor.calibrate(valid, Progress())
        if self._baselines is not None:
            self._baselines.valid = valid

    def sample(self, examples: RowSequences) -> RowSequences:
        """At most 200 entities with a labeled event, evenly spread."""
        return super().sample(examples.subset(np.unique(examples.entities[examples.has_target])))

    def can_score(self, examples: RowSequences) -> bool:
        return examples.targets is not None and bool(examples.has_target.any())

    # ---- answers -------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> Any:
        """The label of every event and the probability of each class, in the order of the rows.

        Args:
            data: A table with the columns of the training data. Events of an entity are its context, so give the
                earlier ones, too, or use :meth:`live`.

        Returns:
            A data frame ``id, time, label, p_CLASS…``, of the library of the given frame.

        Raises:
            DataError: The data cannot be read.
        """
        predictor = self.predictor
        events = predictor.read(data)
        return to_native(answers(predictor, events, predictor.probabilities(events, default_progress())), data)

    def live(self, *, max_entities: int = 100_000, store: str | Path = "") -> LiveEvents:
        """Classify events as they arrive: the state of each entity is kept, so an event costs one step.

        Args:
            max_entities: Entities whose states are in memory; those of others are in the store.
            store: SQLite file of the states, which goes on where it ended; by default a temporary one.

        Raises:
            SettingError: The model is bidirectional, or ``max_entities`` is below 1.
            ModelFileError: The store is that of another model, or no store.
        """
        return LiveEvents(self.predictor, max_entities, store)

    def to_text(self, predictions: Any) -> str:
        """CSV, a row per event."""
        frame = pd.DataFrame(self.to_records(predictions))
        return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")

    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        return records_of(predictions)

    def plot(self, data: Any, predictions: Any) -> Figure:
        """The events of the entity with the most suspicious one."""
        predictor = self.predictor
        events = predictor.read(data)
        return entity_figure(predictor, events, predictor.probabilities(events))

    def exported(self) -> JobExport:
        return exported_event_classifier(self.predictor)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Scores of the labeled events, of model and baselines.

        Raises:
            DataError: The data have no labels, or a label that is not in the training data.
        """
        predictor = self.predictor
        return self._evaluate(predictor.read(data), progress or default_progress())

    def evaluate_examples(self, test: RowSequences, progress: Progress) -> Evaluation:
        return self._evaluate(test, progress)

    def _evaluate(self, events: RowSequences, progress: Progress) -> Evaluation:
        return evaluate_events(self.predictor, events, self._baselines, progress)

    def report_sections(self, examples: RowSequences) -> list[Section]:
        return event_sections(self.predictor, examples, self.full_evaluation)

    def example_sequences(self, data: Any, entity: str = "") -> list[ExampleSequence]:
        """The events of up to 16 entities, ``entity`` first; by default the one with the most suspicious event."""
        return example_sequences(self.predictor, self.predictor.read(data), entity)
