"""Regression on sequences: numbers from columns over time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from lstmkit.data.batch import Batches
from lstmkit.data.tables.native_frames import records_of, to_native
from lstmkit.data.tables.row_sequences import RowColumns, RowSequences, read_row_sequences
from lstmkit.data.tables.table import TABLES
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job
from lstmkit.jobs.common.splitting import inspection_rows, random_split
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.regressor import report
from lstmkit.jobs.regressor.export import exported_regressor, plain_layers
from lstmkit.jobs.regressor.metrics import evaluate_regressor
from lstmkit.jobs.regressor.plots import sequences_figure
from lstmkit.jobs.regressor.predictor import EncodedSequences, RegressorPredictor
from lstmkit.jobs.regressor.settings import RegressorSettings
from lstmkit.jobs.regressor.streaming import LiveRegressor
from lstmkit.look.traces import ExampleSequence
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_MANY_SEQUENCES = 10  # that are split by entity unless split_strategy says otherwise
_MAX_INSPECTED_STEPS = 2000


class Regressor(RegressorSettings, Job[RegressorPredictor]):
    """Predict one or several numbers for each sequence, or for each of its steps, from columns over time.

    Data: a file or frame with one row per step, its sequence (``id_col``), its time (``time_col``), columns of numbers
    and categories, and targets (``target_cols``). A row without a target is context. A prediction reads the rows up to
    its own, never later ones.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> frame = pd.DataFrame({"id": np.repeat(np.arange(20), 30), "x": rng.standard_normal(600)})
    >>> frame["target"] = frame.groupby("id")["x"].cumsum()
    >>> regressor = Regressor(hidden_size=16, epochs=20, batch_size=2, lr=0.01).fit(frame)
    >>> predictions = regressor.predict(frame[["id", "x"]])
    >>> predictions.columns.tolist()
    ['id', 'target', 'target-lo-80', 'target-hi-80', 'target-lo-95', 'target-hi-95']
    >>> bool(np.corrcoef(predictions["target"], frame["target"])[0, 1] > 0.9)
    True
    """

    predictor_class: ClassVar = RegressorPredictor
    data_formats = TABLES
    answer_suffixes = (".csv",)

    _train_split: RowSequences | None = None  # for the baselines; not saved, nor the next
    _validation_is_given = False

    # ---- from file to sequences ----------------------------------------------------------------------------------

    def read(self, data: Any) -> RowSequences:
        numeric, categorical = self.numeric_cols, self.categorical_cols
        if self.is_fitted:
            encoding = self.predictor.encoding
            numeric, categorical = encoding.number_names, encoding.category_names
        columns = RowColumns(
            id=self.id_col,
            time=self.time_col,
            targets=self.target_cols,
            numeric=numeric,
            categorical=categorical,
            recognize=not self.is_fitted and not self.numeric_cols,
            static=self.static_cols,
            ignored=() if self.is_fitted else self.ignored_cols,
        )
        rows = read_row_sequences(data, columns)
        if rows.targets is None:
            return rows
        missing = [name for name in self.target_cols if name not in rows.target_names]
        if missing:
            raise DataError(f"{rows.name} has no target column {listing(missing)}: correct target_cols")
        return rows

    def split(self, examples: RowSequences, validation: RowSequences | None) -> DataSplit:
        """By sequence, or by time within each sequence: the setting ``split_strategy``."""
        self._validation_is_given = validation is not None
        for rows in (examples, *([] if validation is None else [validation])):
            self._require_targets(rows)
        if self.predict_at == "last_step" and self.split_strategy == "time":
            raise SettingError("split_strategy=time is for predictions at every step: give split_strategy=entity")
        if self._splits_by_entity(examples):
            return self._with_targets_only(
                random_split(examples, validation, "sequence", self.valid_fraction, self.test_fraction, self.seed)
            )
        return self._with_targets_only(self._split_strategy_time(examples, validation))

    def _splits_by_entity(self, rows: RowSequences) -> bool:
        if self.split_strategy == "auto":
            return self.predict_at == "last_step" or len(rows) >= _MANY_SEQUENCES
        return self.split_strategy == "entity"

    def _split_strategy_time(self, rows: RowSequences, validation: RowSequences | None) -> DataSplit:
        """The end of each sequence is held out; what is before it stays there as context without targets."""
        steps = np.arange(rows.num_rows) - np.repeat(rows.starts[:-1], rows.lengths)
        lengths = np.repeat(rows.lengths, rows.lengths)
        test_steps = np.floor(self.test_fraction * lengths)
        valid_steps = np.floor((self.valid_fraction if validation is None else 0.0) * lengths)
        in_test, after_train = steps >= lengths - test_steps, steps >= lengths - test_steps - valid_steps
        valid = rows.with_targets_at(after_train & ~in_test).select(~in_test) if validation is None else validation
        return DataSplit(rows.select(~after_train), valid, rows.with_targets_at(in_test))

    def _with_targets_only(self, split: DataSplit) -> DataSplit:
        """The splits without sequences that have no target, ``None`` if none is left."""
        train, valid, test = (
            None if part is None else _with_targets(part) for part in (split.train, split.valid, split.test)
        )
        if train is None:
            raise DataError(f"{split.train.name}: no row of the training split has a target: give more rows with one")
        return DataSplit(train, valid, test)

    def _require_targets(self, rows: RowSequences) -> None:
        if rows.targets is None:
            raise DataError(f"{rows.name} has no target column {listing(self.target_cols)}: correct target_cols")
        if np.isnan(rows.targets).all():
            raise DataError(f"{rows.name}: no row has a value in {listing(self.target_cols)}: give rows with targets")

    def prepare(self, train: RowSequences) -> RegressorPredictor:
        assert train.targets is not None
        if self.max_target:
            train = replace(train, targets=np.minimum(train.targets, self.max_target))
        self._train_split = train
        return RegressorPredictor.fitted(self.snapshot(), train)

    def notes_on(self, examples: RowSequences) -> tuple[str, ...]:
        return (*(f"{examples.name}: {note}" for note in examples.notes), self._split_note(examples))

    def _split_note(self, rows: RowSequences) -> str:
        fractions = f"{self.test_fraction:.0%} test"
        if not self._validation_is_given:
            fractions = f"{self.valid_fraction:.0%} validation, {fractions}"
        if self._splits_by_entity(rows):
            return f"{rows.name}: {len(rows):,} sequences are split as wholes ({fractions})"
        return f"{rows.name}: the end of each of {len(rows):,} sequences is held out ({fractions})"

    def source(self, examples: RowSequences) -> EncodedSequences:
        capped = replace(examples, targets=self.predictor.decoding.capped(examples.require_targets()))
        return self.predictor.source(capped)

    def batches(self, source: EncodedSequences, seed: int | None) -> Batches:
        return self.predictor.batches(source, seed)

    def can_score(self, examples: RowSequences) -> bool:
        return examples.targets is not None and bool((~np.isnan(self.predictor.targets(examples))).any())

    def calibrate(self, valid: RowSequences | None) -> None:
        """Fit the widths of the intervals to the validation split, without one to the training split."""
        rows = valid if valid is not None and self.can_score(valid) else self._train_split
        if rows is not None and rows.targets is not None:
            self.predictor.calibrate(rows, self.progress)

    # ---- predictions ---------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> Any:
        """Predict the targets of each row, or of each sequence.

        Args:
            data: Rows as ``fit`` takes them; targets are not needed and not read.

        Returns:
            A frame of the same kind as ``data`` (pandas for files) with the id and time of each row, and for each
            target ``NAME``, ``NAME-lo-80``, ``NAME-hi-80`` and so on: prediction and intervals. Rows are in the order
            of the table; with ``predict_at="last_step"`` there is one for each sequence.
        """
        self.check_fitted()
        rows = self.read(data)
        return to_native(self._frame(rows), data)

    def _frame(self, rows: RowSequences) -> pd.DataFrame:
        predictor = self.predictor
        answered = predictor.answered_rows(rows)
        columns: dict[str, Any] = {}
        if rows.names != (rows.name,):
            columns[self.id_col] = np.array(rows.names, dtype=object)[rows.entities[answered]]
        if rows.times is not None:
            columns[self.time_col] = rows.times[answered]
        predictions = predictor.predict(rows, self.progress).at(answered)
        return pd.DataFrame(columns | predictor.decoding.columns(predictions))

    def live(self) -> LiveRegressor:
        """A regressor for the rows of one sequence as they arrive: predicts as :meth:`predict`, up to rounding."""
        return LiveRegressor(self.predictor)

    def layers(self) -> nn.Sequential:
        """The network as plain layers in the units of the columns and targets: for C, RTNeural and Neural Amp Modeler.

        They read the columns in the order of the table, ``(B, T, N)``, and give the predictions ``(B, T, K)``; give
        them to :func:`lstmkit.export_c`, :func:`lstmkit.export_rtneural` or :func:`lstmkit.export_nam`.

        Raises:
            UserError: The model does more than such layers can: the message says what.
        """
        return plain_layers(self.predictor)

    def to_text(self, predictions: Any) -> str:
        """CSV with a header."""
        frame = pd.DataFrame(records_of(predictions))
        return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")

    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        """A record for each row of the frame; dates as text."""
        return [
            {name: str(value) if isinstance(value, pd.Timestamp) else value for name, value in record.items()}
            for record in records_of(predictions)
        ]

    def plot(self, data: Any, predictions: Any) -> Figure:
        """The first sequences with their predictions and intervals, and true values if ``data`` have them."""
        rows = self.read(data)
        return sequences_figure(self.predictor, rows, self.predictor.predict(rows, self.progress))

    def exported(self) -> JobExport:
        return exported_regressor(self.predictor)

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, progress: Progress | None = None) -> Evaluation:
        """Score the model and its baselines on rows with targets that it was not fitted to.

        The baselines are the mean of the training targets, the last known target, and ridge regression and gradient
        boosting on summaries of trailing windows. The last two are fitted to the training rows of this object; load a
        model with ``train`` to have them.

        Raises:
            DataError: There is no target.
        """
        self.check_fitted()
        rows = self.read(data)
        self._require_targets(rows)
        if not self.can_score(rows):
            raise DataError(
                f"{rows.name}: all targets are within the burn-in of {self.burn_in} steps: give longer rows"
            )
        return self.evaluate_examples(rows, progress or default_progress())

    def evaluate_examples(self, test: RowSequences, progress: Progress) -> Evaluation:
        return evaluate_regressor(self.predictor, test, self._train_split, progress)

    def report_sections(self, examples: RowSequences) -> list[Section]:
        return report.sections(self.predictor, self.full_evaluation, examples, self._split_note(examples))

    def example_sequences(self, data: Any, sequence: int = 1) -> list[ExampleSequence]:
        """Sequences of ``data``, number ``sequence`` (from 1) first; of long ones the beginning."""
        predictor = self.predictor
        rows = self.read(data)
        inputs = predictor.encode(rows)
        return [
            _example_sequence(predictor, rows, index, inputs[index][:_MAX_INSPECTED_STEPS])
            for index in inspection_rows(sequence, rows, "sequence")
        ]


def _with_targets(rows: RowSequences) -> RowSequences | None:
    """The sequences that have a target; ``None`` if there is none."""
    assert rows.targets is not None
    known = np.add.reduceat(~np.isnan(rows.targets).all(axis=1), rows.starts[:-1]) if len(rows) else np.zeros(0)
    return rows.subset(np.flatnonzero(known)) if known.any() else None


def _example_sequence(
    predictor: RegressorPredictor, rows: RowSequences, index: int, inputs: np.ndarray
) -> ExampleSequence:
    start, steps = int(rows.starts[index]), len(inputs)
    target = predictor.decoding.names[0]
    annotations: dict[str, np.ndarray] = {}
    if rows.targets is not None:
        annotations[f"true {target}"] = rows.targets[start : start + steps, 0]
    for name, column in zip(rows.number_names, rows.numbers.T, strict=True):
        annotations[name] = column[start : start + steps]
    middle = len(predictor.decoding.quantile_levels) // 2
    return ExampleSequence(
        torch.from_numpy(inputs)[None].to(next(predictor.network.parameters()).device),
        name=rows.names[index],
        labels=None if rows.times is None else [str(time) for time in rows.times[start : start + steps]],
        values=inputs[:, 0],
        value_name=predictor.encoding.columns[0],
        annotations=annotations,
        answers={f"{target} at the last step": lambda outputs: outputs[0, -1, middle]},
    )
