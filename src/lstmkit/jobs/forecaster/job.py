"""The forecaster: one global model for many time series, with calibrated prediction intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lstmkit.data.series.forecast_frames import with_default_names, with_names_of_data
from lstmkit.data.series.forecast_windows import Windows, rolling_origins
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import (
    ForecastExamples,
    check_same_frequency,
    split_by_time,
    training_windows,
    validation_windows,
)
from lstmkit.data.tables.native_frames import as_pandas, records_of, to_native
from lstmkit.data.tables.table import TABLES
from lstmkit.export.graphs import JobExport
from lstmkit.jobs.base import DataSplit, Job, sampled_rows
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.jobs.forecaster.example_sequences import example_windows
from lstmkit.jobs.forecaster.explanation import explain_next_steps
from lstmkit.jobs.forecaster.export import exported_forecaster
from lstmkit.jobs.forecaster.metrics import ALL_BASELINES, backtest, unseen_windows
from lstmkit.jobs.forecaster.paths import path_frame
from lstmkit.jobs.forecaster.plots import forecast_figure
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor, plan_for
from lstmkit.jobs.forecaster.reading import read_forecast_series
from lstmkit.jobs.forecaster.report import forecast_sections
from lstmkit.jobs.forecaster.settings import ForecasterSettings
from lstmkit.layers.recurrent import Trace
from lstmkit.look.traces import ExampleSequence
from lstmkit.models.sequence import SequenceModel
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section

_SAMPLED_WINDOWS = 50  # validation windows that are scored during training


class Forecaster(ForecasterSettings, Job[ForecasterPredictor]):
    """Forecast time series, with prediction intervals and a backtest.

    ``method="direct"`` forecasts quantiles of all steps of the horizon at once. ``method="recursive"`` samples paths
    from a distribution: each sampled value is the next step's input.

    The data are a CSV or parquet file, or a frame, in long format ``unique_id, ds, y``; see ``read_series``.
    The model receives a mask of missing values. They are never imputed, used as a target, used for scaling, or scored.

    >>> import numpy as np
    >>> series = 10 + np.sin(np.arange(120) * np.pi / 6)
    >>> forecaster = Forecaster(horizon=6, season_length=12, epochs=1, steps_per_epoch=2, hidden_size=4).fit(series)
    >>> forecaster.predict(series).columns.tolist()[:5]
    ['unique_id', 'ds', 'forecast', 'forecast-lo-50', 'forecast-hi-50']
    """

    predictor_class = ForecasterPredictor
    data_formats = TABLES
    answer_suffixes = (".csv",)

    # ---- fit -----------------------------------------------------------------------------------------------------

    def read(self, data: Any) -> SeriesSet:
        return self.predictor.read(data) if self.is_fitted else read_forecast_series(self, data, self.freq)

    def split(self, examples: SeriesSet, validation: SeriesSet | None) -> DataSplit:
        """Each series is split by time into training, validation and test.

        With ``valid_fraction=0`` there is no validation: training runs all epochs, and the intervals are the
        network's own quantiles.
        """
        series, horizon = examples, self.horizon
        valid_fraction = self.valid_fraction if validation is None else 0.0
        train_ends, test_starts = split_by_time(
            series, horizon, valid_fraction=valid_fraction, test_windows=self.test_windows
        )
        train = training_windows(series, train_ends, horizon, plan_for(self, series, train_ends))
        valid = validation_windows(series, train_ends, test_starts, horizon) if valid_fraction else None
        if validation is not None:
            check_same_frequency(series, validation)
            valid = validation_windows(validation, np.full(len(validation), 2), validation.lengths, horizon)
        origins = rolling_origins(series, test_starts, series.lengths - horizon, stride=horizon)
        return DataSplit(train, valid, ForecastExamples(series, origins) if len(origins) else None)

    def notes_on(self, examples: SeriesSet) -> tuple[str, ...]:
        """How the data were read: columns that are not used, the inferred frequency, dropped rows."""
        return tuple(examples.notes)

    def prepare(self, train: ForecastExamples) -> ForecasterPredictor:
        return ForecasterPredictor.fitted(self.snapshot(), train)

    def source(self, examples: ForecastExamples) -> Windows:
        return self.predictor.windows(examples)

    def sample(self, examples: ForecastExamples) -> ForecastExamples:
        """At most 50 windows: AutoETS is fitted before each."""
        return replace(examples, origins=examples.origins[sampled_rows(len(examples.origins), _SAMPLED_WINDOWS)])

    def calibrate(self, valid: ForecastExamples | None) -> None:
        """Fit the widths of the intervals, in scaled units, to the validation split."""
        if valid is not None:
            self.predictor.calibrate(valid)

    def keep_context(self, examples: SeriesSet) -> None:
        """Keep the end of every series, the test split included, as the past of newer data."""
        self.predictor.keep_history(examples)

    def data_digest(self, examples: SeriesSet) -> str:
        digest = hashlib.sha256(repr((examples.ids, examples.freq, examples.starts)).encode())
        for y in examples.y:
            digest.update(y.tobytes())
        for name, columns in examples.covariates.items():
            for values in columns:
                digest.update(repr((name, values.tolist())).encode())
        digest.update(repr(sorted(examples.static.items())).encode())
        return digest.hexdigest()

    # ---- forecasts -----------------------------------------------------------------------------------------------

    def predict(self, data: Any, *, future_data: Any | None = None) -> Any:
        """Forecast the ``horizon`` steps after the end of each series.

        Args:
            data: The series with their history, as for ``fit``; they may be new to the model. Only :meth:`evaluate`
                puts the history that the model keeps before newer data.
            future_data: File or frame with the future covariates over the horizon, if ``data`` does not have them.

        Returns:
            A frame of the same kind as ``data`` (pandas, Polars, Arrow; pandas for a file), a row per step: series id
            and timestamp under the names that ``data`` have for them (else ``unique_id`` and ``ds``), ``forecast``, the
            median, and for each level the bounds ``forecast-lo-80, forecast-hi-80``. A series with a history too short
            for the model gets intervals of the width that is usual in training, and a warning.

        Raises:
            DataError: The data cannot be read, or a future covariate does not reach the end of the horizon.
        """
        series = self.predictor.read_histories(data, future_data)
        return to_native(with_names_of_data(self.predictor.forecast(series), series.names), data)

    def sample_paths(
        self, data: Any, num_paths: int = 100, *, future_data: Any | None = None, seed: int | None = None
    ) -> Any:
        """Sample joint futures of all series, from which any statistic follows: of a sum over steps or over series.

        At each step the paths of ``method="direct"`` have the calibrated quantiles of :meth:`predict`. Values between
        two quantiles and beyond the outermost ones are linear functions of a normal score: the tails are normal. Steps
        and series depend on each other as in the validation windows, by a Gaussian copula. A series that validation
        did not have is independent of the others.

        The paths of ``method="recursive"`` are those of the network, each step sampled after the last, without the
        calibration of intervals. Series are independent; counts stay whole numbers from 0 up.

        Args:
            data: The series with their history, as for :meth:`predict`.
            num_paths: Paths of each series.
            future_data: File or frame with the future covariates over the horizon, if ``data`` does not have them.
            seed: Random seed; by default that of the settings. Path ``k`` of one series belongs to path ``k`` of
                every other.

        Returns:
            A frame of the same kind as ``data`` with ``num_paths * horizon`` rows per series: series id, timestamp,
            ``path`` from 0, and the value, under the names that ``data`` have for them (else ``unique_id``, ``ds`` and
            ``y``).

        Raises:
            DataError: The data cannot be read, or a future covariate does not reach the end of the horizon.
            SettingError: ``num_paths`` is not a whole number from 1 up.
            UserError: The model has ``method="direct"`` and no correlations: it was fitted without a validation split
                or by an older version.

        >>> import numpy as np
        >>> series = 10 + np.sin(np.arange(120) * np.pi / 6)
        >>> forecaster = Forecaster(horizon=6, season_length=12, epochs=1, steps_per_epoch=2, hidden_size=4).fit(series)
        >>> paths = forecaster.sample_paths(series, 200)
        >>> paths.columns.tolist(), len(paths)
        (['unique_id', 'ds', 'path', 'y'], 1200)
        >>> totals = paths.groupby("path")["y"].sum()  # over the six steps
        >>> lower, upper = totals.quantile([0.1, 0.9])  # the 80 % interval of the total
        """
        series = self.predictor.read_histories(data, future_data)
        paths = path_frame(self.predictor, series, num_paths, seed)
        return to_native(with_names_of_data(paths, series.names), data)

    def to_text(self, predictions: Any) -> str:
        """The forecasts as CSV; numbers read back equal."""
        return as_pandas(predictions).to_csv(index=False).rstrip()

    def to_records(self, predictions: Any) -> list[dict[str, Any]]:
        frame = as_pandas(predictions)
        time = frame.columns[1]
        return records_of(frame.assign(**{time: frame[time].astype(str)}))

    def plot(self, data: Any, predictions: Any) -> Figure:
        """The forecasts of the first four series, with their intervals, after the end of the data."""
        settings, series = self.predictor.settings, self.predictor.read(data)
        forecast = with_default_names(as_pandas(predictions), series.names)
        title = f"Forecast, {settings.horizon} steps"
        return forecast_figure(series.to_frame(), forecast, settings.levels, title=title, names=series.names)

    def explain(self, data: Any, *, future_data: Any | None = None, series: str | None = None) -> Any:
        """Explain the forecasts of :meth:`predict`: how much each input moves the median, as Shapley values.

        The inputs are each covariate (a future one over the horizon), the calendar features together (``calendar``),
        and the values of the series with past values of future covariates (``history``). The baseline is the forecast
        if all of them are typical: covariates at their mean in training, categories by their frequency, the calendar
        at the center of its cycles, and a history that stands still at the base of its window. Contributions are those
        of the model: they are not effects of a cause.

        Args:
            data: The series with their history, as for :meth:`predict`.
            future_data: File or frame with the future covariates over the horizon, if ``data`` does not have them.
            series: Id of the series to explain; by default all.

        Returns:
            A frame of the same kind as ``data``, a row per series, step and input: series id, timestamp, ``input``,
            ``contribution``, ``baseline`` and ``forecast``, the last three in the unit of the series. The contributions
            of a step sum to ``forecast - baseline``. They are exact with up to 8 inputs, else the mean over 64 sampled
            orders.

        Raises:
            DataError: The data cannot be read, a future covariate does not reach the end of the horizon, or there is no
                series of that id.

        >>> import numpy as np
        >>> values = 10 + np.sin(np.arange(120) * np.pi / 6)
        >>> forecaster = Forecaster(horizon=2, season_length=12, epochs=1, steps_per_epoch=2, hidden_size=4).fit(values)
        >>> forecaster.explain(values).columns.tolist()
        ['unique_id', 'ds', 'input', 'contribution', 'baseline', 'forecast']
        """
        predictor = self.predictor
        examples = predictor.read(data, future_data)
        return to_native(with_names_of_data(explain_next_steps(predictor, examples, series), examples.names), data)

    def exported(self) -> JobExport:
        return exported_forecaster(self.predictor)

    # ---- evaluation and report -----------------------------------------------------------------------------------

    def evaluate(
        self, data: Any, *, baselines: Sequence[str] = ALL_BASELINES, progress: Progress | None = None
    ) -> Evaluation:
        """Backtest on rolling origins after the training and validation data.

        Args:
            data: Series that continue after the training and validation data, or new series.
            baselines: Any of ``"SeasonalNaive"``, ``"AutoETS"`` and ``"LinearRegression"``, which reads covariates and
                is left out without future covariates; on request also ``"Naive"``, which repeats the last value,
                ``"WeeklyNaive"``, the last week by a season of a day, and ``"MSTL"``, decomposition by day and week.
            progress: Where to report progress; by default bars on a terminal.

        Raises:
            DataError: No series continues for a horizon after the training and validation data.
            SettingError: A baseline is unknown.
        """
        predictor = self.predictor
        examples = unseen_windows(predictor, predictor.read(data))
        return backtest(predictor, examples, baselines, progress or default_progress())

    def evaluate_examples(self, test: ForecastExamples, progress: Progress) -> Evaluation:
        return backtest(self.predictor, test, ALL_BASELINES, progress)

    def report_sections(self, examples: SeriesSet) -> list[Section]:
        return forecast_sections(self.predictor, examples, self.full_evaluation)

    def trace(self, data: Any, series: str | None = None) -> Trace:
        """Gates and states over the last window of one series, and over its horizon if the layers run over it.

        Args:
            data: The series.
            series: Which one, by id; by default the first.

        Returns:
            A trace of ``(window + horizon) / patch_length`` steps; of an ensemble, that of the first network.
        """
        network, (example, *_) = self.network, self.example_sequences(data, series)
        assert isinstance(network, SequenceModel)
        with torch.no_grad():
            return network.trunk.trace(network.encoder(example.inputs))

    def example_sequences(self, data: Any, series: str | None = None) -> list[ExampleSequence]:
        """The last windows of the series, that of ``series`` (by default the first) in front."""
        return example_windows(self.predictor, self.predictor.read(data), series)
