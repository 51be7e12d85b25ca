"""What the regressor's ``fit`` leaves: encoding of the columns, network, scales and intervals of the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Batches
from lstmkit.data.sequence_chunks import SequenceChunks
from lstmkit.data.tables.row_encoding import RowEncoding, elapsed_times
from lstmkit.data.tables.row_sequences import RowSequences
from lstmkit.decoding.regression import Predictions, TargetDecoding
from lstmkit.errors import DataError, SettingError, listing
from lstmkit.evaluation.calibration import conformal_widths
from lstmkit.jobs.common.step_outputs import CHUNK_STEPS, step_outputs
from lstmkit.jobs.predictor import Predictor
from lstmkit.jobs.regressor.settings import RegressorSettings
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.column_encoder import ColumnEncoder
from lstmkit.modules.entity_aware_lstm import EntityAwareLSTM
from lstmkit.modules.regression_head import RegressionHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress

_UNKNOWN_PROBABILITY = 0.02  # of a category in training, so that unknown ones have an embedding


@dataclass(frozen=True, eq=False)
class EncodedSequences:
    """Sequences as the network reads them.

    Attributes:
        inputs: ``(T, F)`` float32 of each sequence.
        targets: ``(T, K)`` standardized targets of each, NaN where unknown.
        target_std: ``(N, K)`` float32 deviations of each sequence's standardized targets; 1 if it has fewer than two.
    """

    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    target_std: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


class RegressorPredictor(Predictor[RegressorSettings]):
    """Encodes rows, runs the network over sequences, and decodes predictions with intervals.

    Attributes:
        encoding: Of the columns that are read.
        decoding: Of the targets.
        static_names: Columns with one value per sequence.
    """

    def __init__(
        self,
        settings: RegressorSettings,
        encoding: RowEncoding,
        decoding: TargetDecoding,
        static_names: frozenset[str],
    ) -> None:
        super().__init__(settings)
        self.encoding, self.decoding, self.static_names = encoding, decoding, static_names

    @classmethod
    def fitted(cls, settings: RegressorSettings, train: RowSequences) -> Self:
        """Fit scales and vocabularies to the training split.

        Raises:
            DataError: There is no column to read, or a target has one value only.
            SettingError: The setting ``entity_aware`` does not fit.
        """
        if not train.column_names:
            raise DataError(f"{train.name} has no column to predict from: give one with numbers or categories")
        use_times = settings.time_features and train.seconds is not None
        encoding = RowEncoding.fitted(
            (train.number_names, train.category_names),
            train.numbers,
            train.categories,
            elapsed=elapsed_times(train.seconds, train.starts) if use_times and train.seconds is not None else None,
            clock=train.clock_seconds if use_times else None,
            min_count=settings.min_count,
            compress=settings.compress_tails,
        )
        targets = train.require_targets()
        for name, column in zip(train.target_names, targets.T, strict=True):
            values = np.unique(column[~np.isnan(column)])
            if len(values) < 2:
                found = f"is {values[0]:g} in every row" if len(values) else "has no value"
                raise DataError(
                    f"{train.name}: target column {name!r} {found} of the training split: give rows with other values"
                )
        decoding = TargetDecoding.fitted(
            train.target_names,
            targets,
            settings.levels,
            quantiles=settings.loss == "pinball",
            max_target=settings.max_target,
        )
        if settings.entity_aware and settings.cell != "lstm":
            raise SettingError(f"entity_aware needs cell=lstm, got {settings.cell}")
        if settings.entity_aware and not train.static_names:
            raise SettingError("entity_aware needs static columns: name them with static_cols")
        return cls(settings, encoding, decoding, train.static_names)

    def build(self) -> Model:
        settings, encoding = self.settings, self.encoding
        encoder = ColumnEncoder(encoding.num_numbers, encoding.vocabulary_sizes, _UNKNOWN_PROBABILITY)
        head = RegressionHead(
            settings.hidden_size,
            len(self.decoding.names),
            settings.loss,
            self.decoding.quantile_levels,
            settings.output_dropout,
        )
        return SequenceModel(encoder, self._trunk(encoder), head)

    def _trunk(self, encoder: ColumnEncoder) -> RecurrentLayer:
        settings = self.settings
        sizes = {"num_layers": settings.num_layers, "dropout": settings.dropout}
        if not settings.entity_aware:
            return build_trunk(settings.cell, encoder.output_size, settings.hidden_size, **sizes)
        columns = self.encoding.columns
        static = [i for i, feature in enumerate(encoder.sources) if columns[feature] in self.static_names]
        sizes["dropout"] = settings.dropout if settings.num_layers > 1 else 0.0
        return EntityAwareLSTM(
            encoder.output_size, settings.hidden_size, static=static, batch_first=True, forget_bias=1.0, **sizes
        )

    # ---- encode --------------------------------------------------------------------------------------------------

    def encode(self, rows: RowSequences) -> list[np.ndarray]:
        """Features ``(T, F)`` of each sequence.

        Raises:
            DataError: The model reads times, and the rows have none of their kind.
        """
        encoding = self.encoding
        clock = rows.clock_seconds if encoding.periods else None
        if rows.seconds is None and (encoding.elapsed is not None or encoding.periods):
            raise DataError(
                f"{rows.name} has no column of times, which the model reads: give {self.settings.time_col!r}"
            )
        if encoding.periods and clock is None:
            raise DataError(f"{rows.name}: column {self.settings.time_col!r} has no dates, as the training data have")
        elapsed = None if rows.seconds is None else elapsed_times(rows.seconds, rows.starts)
        features = encoding.encode(rows.numbers, rows.categories, elapsed, clock)
        return np.split(features, rows.starts[1:-1])

    def source(self, rows: RowSequences) -> EncodedSequences:
        """Inputs and standardized targets."""
        targets = self.decoding.standardize(self.targets(rows)).astype(np.float32)
        sequences = np.split(targets, rows.starts[1:-1])
        known = [column[~np.isnan(column)] for sequence in sequences for column in sequence.T]
        std = np.array([values.std() if len(values) > 1 else 1.0 for values in known], dtype=np.float32)
        return EncodedSequences(self.encode(rows), sequences, std.reshape(len(rows), -1))

    def targets(self, rows: RowSequences) -> np.ndarray:
        """Targets ``(R, K)`` that are learned and scored, NaN elsewhere: not within the burn-in.

        With one prediction per sequence they are the last known ones of each sequence, moved to its last row.
        """
        targets = rows.require_targets()
        if self.settings.predict_at == "last_step":
            at_the_end = np.full_like(targets, np.nan)
            for part, end in zip(np.split(targets, rows.starts[1:-1]), rows.starts[1:] - 1, strict=True):
                for k, column in enumerate(part.T):
                    at_the_end[end, k] = column[~np.isnan(column)][-1:].sum() if (column == column).any() else np.nan
            return at_the_end
        steps = np.arange(rows.num_rows) - np.repeat(rows.starts[:-1], rows.lengths)
        return np.where((steps < self.settings.burn_in)[:, None], np.nan, targets)

    def batches(self, source: EncodedSequences, seed: int | None) -> Batches:
        """Mini-batches: chunks of shuffled sequences for training, without a seed whole sequences."""
        settings, every_step = self.settings, self.settings.predict_at == "every_step"
        whole = max(map(len, source.inputs), default=1)
        if seed is None:
            return self._chunks(source, 4 * settings.batch_size, CHUNK_STEPS if every_step else whole)
        fills_a_batch = -(-sum(map(len, source.inputs)) // settings.batch_size)
        segment = settings.segment_steps or max(settings.bptt_steps, fills_a_batch)
        return self._chunks(
            source,
            settings.batch_size,
            min(settings.bptt_steps, segment) if every_step else whole,
            segment_steps=segment if every_step else whole,
            burn_in=settings.burn_in if every_step else 0,
            seed=seed,
            n_batches=settings.steps_per_epoch,
        )

    @staticmethod
    def _chunks(source: EncodedSequences, batch_size: int, chunk_steps: int, **options: Any) -> SequenceChunks:
        extras = {"target_std": source.target_std}
        return SequenceChunks(
            source.inputs, source.targets, batch_size=batch_size, chunk_steps=chunk_steps, extras=extras, **options
        )

    # ---- predictions ---------------------------------------------------------------------------------------------

    def predict(self, rows: RowSequences, progress: Progress | None = None) -> Predictions:
        """Predictions for every row ``(R,)``."""
        return self.decoding.decode(self.outputs(rows, progress or Progress()))

    def outputs(self, rows: RowSequences, progress: Progress) -> np.ndarray:
        """Outputs of the network for every row ``(R, K·Q)``."""
        return step_outputs(self.model, self.encode(rows), self.device, progress, "predicting")

    def answered_rows(self, rows: RowSequences) -> np.ndarray:
        """Indices of the rows that get an answer: all in the order of the table, or the last of each sequence."""
        return rows.starts[1:] - 1 if self.settings.predict_at == "last_step" else np.argsort(rows.rows, kind="stable")

    def calibrate(self, rows: RowSequences, progress: Progress) -> None:
        """Fit the widths of the intervals to rows with targets: split conformal prediction, or of quantiles."""
        self.decoding = self.decoding.without_widths()
        if not self.decoding.levels:
            return
        targets = self.decoding.capped(self.targets(rows))
        known = ~np.isnan(targets).all(axis=1)
        predictions, coverage = self.predict(rows, progress).at(known), np.array(self.decoding.levels) / 100
        widths = [
            conformal_widths(
                targets[known, k, None], predictions.low[:, k, None], predictions.high[:, k, None], coverage
            )
            for k in range(targets.shape[1])
        ]
        self.decoding = replace(
            self.decoding, widths=np.concatenate(widths), num_calibrated=int((~np.isnan(targets)).sum())
        )

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "encoding": self.encoding.state(),
            "targets": self.decoding.state(),
            "static": sorted(self.static_names),
        }

    @classmethod
    def from_state(cls, settings: RegressorSettings, state: Mapping[str, Any]) -> Self:
        encoding, decoding = RowEncoding.from_state(state["encoding"]), TargetDecoding.from_state(state["targets"])
        static = state["static"]
        names = (*encoding.number_names, *encoding.category_names)
        if not isinstance(static, list) or not all(isinstance(name, str) and name in names for name in static):
            raise ValueError("its static columns are not among those that it reads")
        if not names:
            raise ValueError("it reads no column")
        if decoding.names != settings.target_cols or decoding.levels != tuple(sorted(settings.levels)):
            raise ValueError(f"its targets are {listing(decoding.names)}, those of its settings are others")
        if decoding.has_quantiles != (settings.loss == "pinball"):
            raise ValueError("its outputs do not match its loss")
        if settings.entity_aware and (settings.cell != "lstm" or not static):
            raise ValueError("its settings do not match its static columns")
        return cls(settings, encoding, decoding, frozenset(static))
