"""Forecasting: many series in one global model, a point forecast and calibrated intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.series.covariates import CovariateEncoder
from lstmkit.data.series.forecast_frames import forecast_frame, histories_by_origin, training_frame
from lstmkit.data.series.forecast_windows import Origins, Windows, WindowScaler, rolling_origins
from lstmkit.data.series.series_set import SeriesSet, check_future_covariates, read_series
from lstmkit.data.series.time_split import (
    REGULAR_SEASON_THRESHOLD,
    ForecastExamples,
    Plan,
    check_same_frequency,
    last_timestamps,
    plan_windows,
    seasonal_change,
    split_by_time,
    training_windows,
    validation_windows,
)
from lstmkit.decoding.generation import roll_out
from lstmkit.errors import DataError, SettingError
from lstmkit.evaluation.calibration import conformal_widths
from lstmkit.evaluation.forecast_metrics import forecast_scores, quantile_columns
from lstmkit.jobs.base import DataSplit, Evaluation, Job
from lstmkit.jobs.forecaster import plots as pictures
from lstmkit.jobs.forecaster import report as forecast_report
from lstmkit.jobs.forecaster.baselines import FORECAST_BASELINES, forecast_baselines
from lstmkit.jobs.forecaster.example_sequences import inspection_inputs
from lstmkit.layers.recurrent import Trace
from lstmkit.look import ExampleSequence
from lstmkit.models.base import Ensemble, Model, map_state
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import DistributionHead, QuantileHead
from lstmkit.modules.linear_experts import LinearExperts
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress, default_progress
from lstmkit.report import Section
from lstmkit.settings import setting, settings_class, unknown
from lstmkit.training.predict import predict
from lstmkit.training.train import seeded

MAX_CALIBRATION_WINDOWS = 300  #: Windows that the recursive method calibrates on: each takes many paths.


class Answer(NamedTuple):
    """One window's forecast in scaled values: quantiles ``(H, Q)``, and what turns them back."""

    quantiles: np.ndarray
    base: np.ndarray
    scale: np.ndarray
    target: np.ndarray


@settings_class
class Forecaster(Job):
    """Forecast series, with intervals and the evidence.

    Two ways: ``method="direct"`` answers all steps of the horizon at once with quantiles; ``"recursive"`` is fed its
    own values, drawn from a distribution, step by step.

    Data: a CSV or parquet file or a frame in long form ``unique_id, ds, y``; see ``read_series``.
    Missing values are told to the model as missing; they are never a target, part of a scale, or scored.

    >>> import numpy as np
    >>> series = 10 + np.sin(np.arange(120) * np.pi / 6)
    >>> forecaster = Forecaster(horizon=6, season=12, epochs=1, steps_per_epoch=2, hidden_size=4).fit(series)
    >>> forecaster.predict(series).columns.tolist()[:5]
    ['unique_id', 'ds', 'forecast', 'forecast-lo-50', 'forecast-hi-50']
    """

    name: ClassVar[str] = "forecaster"
    summary: ClassVar[str] = "Forecast many series with intervals, beside SeasonalNaive and AutoETS."

    horizon: int = setting("steps to forecast", default=24, low=1)
    id_col: str = setting("column of the series' name", default="unique_id")
    time_col: str = setting("column of the stamps", default="ds")
    target_col: str = setting("column of the values", default="y")
    freq: str | None = setting("frequency as pandas has it (h, D, MS, …); inferred if not given", default=None)
    past: tuple[str, ...] = setting("covariates known only up to now", default=())
    future: tuple[str, ...] = setting("covariates known over the horizon", default=())
    static: tuple[str, ...] = setting("covariates with one value a series", default=())
    calendar: bool = setting("give the model the calendar (hour, weekday, …)", default=True)
    season: int = setting("steps in a season; 0 for the frequency's (24 for hours, 12 for months, …)", default=0, low=0)
    window: int = setting("past steps the model sees; 0 for a choice by season and horizon", default=0, low=0)
    patch: int = setting("steps folded into one step of the LSTM; 0 for a choice by season", default=0, low=0)
    method: str = setting("all steps at once, or fed its own values", default="direct", choices=("direct", "recursive"))
    distribution: str = setting(
        "of the recursive method", default="student_t", choices=("normal", "student_t", "negative_binomial")
    )
    answer_from: str = setting(
        "direct: the state at the end of the past, or the LSTM run on over the horizon; auto: the horizon if there are "
        "future covariates",
        default="auto",
        choices=("auto", "past", "horizon"),
    )
    samples: int = setting("paths that the recursive method draws", default=200, low=2)
    levels: tuple[int, ...] = setting("intervals, in percent", default=(50, 80, 95), low=1, high=99)
    log: bool = setting("model the logarithm: for values above 0 whose swings grow with their level", default=False)
    level: str = setting("taken out of each window", default="auto", choices=("auto", "none", "mean", "last", "season"))
    scale: str = setting("unit of each window", default="auto", choices=("auto", "none", "std", "difference", "mean"))
    experts: int = setting("linear maps beside the LSTM, which chooses among them; 0 for none", default=4, low=0)
    residual: bool = setting("layers after the first add their input to their output", default=True)
    steps_per_epoch: int = setting("training steps in an epoch; 0 for a pass over all windows", default=50, low=0)
    valid_share: float = setting(
        "share of each series, from its end, to validate and calibrate on", default=0.15, low=0, high=0.5
    )
    test_windows: int = setting("windows at the end held out for the test; -1: up to 5, in a fifth", default=-1, low=-1)

    _plan: Plan | None = field(default=None, init=False, repr=False)
    _features: CovariateEncoder = field(default_factory=CovariateEncoder, init=False, repr=False)
    _last_trained_timestamps: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _interval_widths: np.ndarray | None = field(default=None, init=False, repr=False)

    # ---- from file to windows ------------------------------------------------------------------------------------

    def read(self, data: Any, ahead: Any | None = None) -> SeriesSet:
        """Data as series; a saved model's frequency is asked of them."""
        series = read_series(
            data,
            id_col=self.id_col,
            time_col=self.time_col,
            target_col=self.target_col,
            freq=self.freq if self._plan is None else self._plan.freq,
            past=self.past,
            future=self.future,
            static=self.static,
            ahead=ahead,
        )
        if self._counts and any(((y < 0) | (y % 1 > 0)).any() for y in series.y):
            raise DataError(
                "distribution=negative_binomial is for counts, but not all values are whole numbers from 0 up"
            )
        if self._counts and (self.log or self.level not in ("auto", "none")):
            raise SettingError("distribution=negative_binomial is for counts as they are: without log, with level=none")
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise SettingError(f"levels must be different percentages, at least one, got {list(self.levels)}")
        if self.log:
            worst = next((i for i, y in enumerate(series.y) if (y <= 0).any()), None)
            if worst is not None:
                raise DataError(
                    f"log=true needs values above 0, but series {series.ids[worst]!r} has others: drop --log"
                )
        return series

    def split(self, examples: SeriesSet, validation: SeriesSet | None) -> DataSplit:
        """Each series is cut into training, validation and test, in the order of time.

        With ``valid_share=0`` there is no validation: all epochs are run, and the intervals are the model's own.
        """
        series, h = examples, self.horizon
        valid_share = self.valid_share if validation is None else 0.0
        train_end, seen_end = split_by_time(series, h, valid_share=valid_share, test_windows=self.test_windows)
        self._plan = plan_windows(
            series.freq,
            int(train_end.max()),
            h,
            season=self.season,
            window=self.window,
            patch=self.patch,
            autoregressive=self.method == "recursive",
        )
        y = series if not self.log else replace(series, y=tuple(map(np.log, series.y)))
        change = seasonal_change(y, train_end, self._plan.season, self._plan.past)
        self._plan = replace(self._plan, regular=change < REGULAR_SEASON_THRESHOLD)
        self._last_trained_timestamps = last_timestamps(series, seen_end)
        valid = validation_windows(series, train_end, seen_end, h) if valid_share else None
        if validation is not None:
            check_same_frequency(series, validation)
            valid = validation_windows(validation, np.full(len(validation), 2), validation.lengths, h)
            for uid, end in last_timestamps(validation, validation.lengths).items():
                self._last_trained_timestamps[uid] = max(
                    end, self._last_trained_timestamps.get(uid, end), key=self._parse_timestamp
                )
        test = rolling_origins(series, seen_end, series.lengths - h, stride=h)
        return DataSplit(
            training_windows(series, train_end, h, self._plan),
            valid,
            ForecastExamples(series, test) if len(test) else None,
        )

    def _parse_timestamp(self, text: str) -> Any:
        """A stamp that was kept as text."""
        return int(text) if isinstance(self.plan.freq, int) else pd.Timestamp(text)

    def prepare(self, train: ForecastExamples) -> None:
        """Covariates' means and categories, from the training part."""
        self._features = CovariateEncoder.fit(
            train.series, past=self.past, future=self.future, static=self.static, calendar=self.calendar
        )

    def source(self, examples: ForecastExamples) -> Windows:
        return Windows(
            examples.series,
            self._features,
            self._scaling,
            examples.origins,
            past=self.plan.past,
            horizon=self.horizon,
            ahead=-(-self.horizon // self.plan.patch) * self.plan.patch if self._reads_horizon_states else 0,
            fed=self.method == "recursive",
            counts=self._counts,
        )

    @property
    def plan(self) -> Plan:
        """What fit decided by looking at the data."""
        assert self._plan is not None
        return self._plan

    @property
    def _counts(self) -> bool:
        return self.method == "recursive" and self.distribution == "negative_binomial"

    @property
    def _reads_horizon_states(self) -> bool:
        """Whether the trunk runs on over the horizon, where it can see what is known ahead."""
        if self.method == "recursive" or self.answer_from == "horizon":
            return True
        return self.answer_from == "auto" and bool(self.future)

    @property
    def _scaling(self) -> WindowScaler:
        # A regular series is forecast best as a correction of its last season, others from their last value.
        level, scale = ("season", "difference") if self.plan.regular else ("last", "std")
        if self._counts:  # counts are fed in units of their mean
            level, scale = "none", "mean"
        elif self.method == "recursive":
            level, scale = "mean", "std"
        return WindowScaler(
            log=self.log,
            level=level if self.level == "auto" else self.level,
            scale=scale if self.scale == "auto" else self.scale,
            season=self.plan.season,
        )

    # ---- the network, and what it says ---------------------------------------------------------------------------

    def build(self) -> Model:
        plan, width = self.plan, self.hidden_size
        encoder = PatchEncoder(Windows.N_VALUE_FEATURES + self._features.width, plan.patch, width, self.dropout)
        trunk = build_trunk(
            self.cell, width, width, num_layers=self.num_layers, dropout=self.dropout, residual=self.residual
        )
        if self.method == "recursive":
            return SequenceModel(encoder, trunk, DistributionHead(trunk.output_size, self.distribution))
        # The last state answers for the whole horizon, or each further step of the trunk for its patch.
        answered = plan.patch if self._reads_horizon_states else self.horizon
        head = QuantileHead(trunk.output_size, self._quantiles, self.horizon, answered, self.dropout)
        experts = LinearExperts(plan.past, self.horizon, trunk.output_size, self.experts) if self.experts else None
        return SequenceModel(encoder, trunk, head, experts)

    @property
    def _quantiles(self) -> list[float]:
        return list(quantile_columns(self.levels))

    def _answers(self, examples: ForecastExamples, progress: Progress | None = None) -> Answer:
        """Every window's answer, stacked: quantiles ``(N, H, Q)``, base and target ``(N, H)``, scale ``(N, 1)``."""
        with seeded(self.seed):
            # Paths are drawn for one window at a time, so that no forecast depends on what stands beside it.
            loader = Loader(self.source(examples), 256 if self.method == "direct" else 1)
            answers = predict(
                self.model, loader, self._decode, device=self._device(), progress=progress, title="forecasting"
            )
        return Answer(*(np.stack(parts) for parts in zip(*answers, strict=True)))

    def _decode(self, model: Model, batch: Batch) -> list[Answer]:
        if self.method == "direct":
            quantiles = model(batch.inputs)[0].sort(dim=-1).values  # crossing quantiles are put in order
        else:
            levels = torch.tensor(self._quantiles, device=batch.inputs.device)
            quantiles = torch.quantile(self._paths(model, batch), levels, dim=1).movedim(0, -1)
        assert batch.targets is not None
        targets = batch.targets[:, -self.horizon :] if self.method == "direct" else batch.targets[:, self.plan.past :]
        if self._counts:
            targets = targets / batch.extras["scale"]
        parts = (quantiles, batch.extras["base"], batch.extras["scale"], targets)
        return [Answer(*row) for row in zip(*(p.double().cpu().numpy() for p in parts), strict=True)]

    def _paths(self, model: Model, batch: Batch) -> Tensor:
        """Sampled futures in scaled values: ``(B, samples, H)``."""
        past, n = self.plan.past, self.samples
        torch.manual_seed(self.seed)
        _, state = model(batch.inputs[:, :past])
        state = map_state(state, lambda s: s.repeat_interleave(n, dim=1))
        ahead = batch.inputs[:, past:].repeat_interleave(n, dim=0)
        scale = batch.extras["scale"].float().repeat_interleave(n, dim=0).squeeze(1)
        head = (model.members[0] if isinstance(model, Ensemble) else model).head
        assert isinstance(head, DistributionHead)

        def step(value: Tensor, t: int, state: Any) -> tuple[Tensor, Any]:
            inputs = ahead[:, t].clone()
            inputs[:, 0] = value
            if t:
                inputs[:, 1] = 1.0  # what was drawn counts as observed
            outputs, state = model.step(inputs, state)
            drawn = head.distribution(outputs, scale).sample()
            return drawn / scale if self._counts else drawn, state

        return roll_out(step, ahead[:, 0, 0], state, self.horizon).unflatten(0, (-1, n))

    # ---- calibrated, back in the series' unit --------------------------------------------------------------------

    def calibrate(self, valid: ForecastExamples | None) -> None:
        """Conformal widths in scaled values, one for each interval."""
        self._interval_widths = None
        if valid is not None:
            if self.method == "recursive":
                valid = ForecastExamples(
                    valid.series, valid.origins[:: -(-len(valid.origins) // MAX_CALIBRATION_WINDOWS)]
                )
            answer, k = self._answers(valid), len(self.levels)
            low, high = answer.quantiles[..., :k][..., ::-1], answer.quantiles[..., k + 1 :]
            self._interval_widths = conformal_widths(answer.target, low, high, np.sort(self.levels) / 100)

    def quantiles(self, series: SeriesSet, origins: Origins, progress: Progress | None = None) -> np.ndarray:
        """Calibrated quantiles ``(N, H, Q)`` in the series' unit, of the windows at ``origins (N, 2)``.

        ``Q`` are the lower bounds from the widest interval in, the median, and the upper bounds outwards.
        """
        answer, k = self._answers(ForecastExamples(series, origins), progress), len(self.levels)
        z = answer.quantiles
        if self._interval_widths is not None:
            median = z[..., k : k + 1]
            z[..., :k] = np.minimum(z[..., :k] - self._interval_widths[:, ::-1], median)
            z[..., k + 1 :] = np.maximum(z[..., k + 1 :] + self._interval_widths, median)
            z[..., :k] = np.minimum.accumulate(z[..., :k][..., ::-1], axis=-1)[..., ::-1]
            z[..., k + 1 :] = np.maximum.accumulate(z[..., k + 1 :], axis=-1)
        y = self._scaling.inverse(z, answer.base[..., None], answer.scale[..., None])
        return np.maximum(y, 0.0) if self._counts else y

    def predict(self, data: Any, ahead: Any | None = None) -> pd.DataFrame:
        """The ``horizon`` steps after each series' end.

        Args:
            data: The series, as for ``fit``; also ones it has not seen.
            ahead: File or frame with the future-known covariates over the horizon, if ``data`` has not got them.

        Returns:
            ``unique_id, ds, forecast`` and for each level ``forecast-lo-80, forecast-hi-80``: the median and bounds.

        Raises:
            DataError: The data do not do; of a covariate that does not reach the horizon the missing span is named.
        """
        return self.forecast(self.read(data, ahead))

    def forecast(self, series: SeriesSet) -> pd.DataFrame:
        """As :meth:`predict`, of series that are read already."""
        self.model  # noqa: B018  (says so if there is none)
        check_future_covariates(series, self.future, self.horizon)
        origins = np.stack([np.arange(len(series)), series.lengths], axis=1)
        quantiles = self.quantiles(series, origins)
        return forecast_frame(series, origins, quantiles, self.levels, "forecast").drop(columns=["cutoff", "y"])

    # ---- evidence ------------------------------------------------------------------------------------------------

    def evaluate(
        self, data: Any, *, baselines: Sequence[str] = FORECAST_BASELINES, progress: Progress | None = None
    ) -> Evaluation:
        """A backtest with rolling origins, on what fit has not seen.

        Args:
            data: Series that go on after the part fit was given (training and validation), or new ones.
            baselines: Which to set beside the model, of ``"SeasonalNaive"`` and ``"AutoETS"``.
            progress: Whom to tell.

        Raises:
            DataError: Fit has seen all of them.
            SettingError: There is no such baseline.
        """
        self.model  # noqa: B018
        for name in baselines:
            if name not in FORECAST_BASELINES:
                raise SettingError(unknown(name, FORECAST_BASELINES, what="baseline"))
        series = self.read(data)
        first = np.array([self._first_unseen_step(series, i) for i in range(len(series))])
        origins = rolling_origins(series, first, series.lengths - self.horizon, stride=self.horizon)
        if not len(origins):
            raise DataError(
                f"no series goes on for {self.horizon} steps after what fit has seen: give newer data, or fit with "
                "--test-windows 1 or more"
            )
        return self.backtest(ForecastExamples(series, origins), baselines, progress or default_progress())

    def _first_unseen_step(self, series: SeriesSet, i: int) -> int:
        """First step of series ``i`` after what fit was given; a new series needs some past, of which two windows."""
        until = self._last_trained_timestamps.get(series.ids[i])
        if until is None:
            return max(1, min(2 * self.plan.past, int(series.lengths[i]) - self.horizon))
        timestamps = series.timestamps(i, 0, int(series.lengths[i]))
        try:
            return max(1, int((timestamps <= self._parse_timestamp(until)).sum()))
        except TypeError as err:
            raise DataError("the data and those that fit was given must both have a time zone, or neither") from err

    def score(self, test: ForecastExamples, progress: Progress) -> Evaluation:
        return self.backtest(test, FORECAST_BASELINES, progress)

    def backtest(self, examples: ForecastExamples, baselines: Sequence[str], progress: Progress) -> Evaluation:
        """The model, fitted once, and the baselines, fitted anew at every origin, in one table."""
        series, origins, levels = examples.series, examples.origins, sorted(self.levels)
        label = f"{self.cell.upper()} ({self.method})"
        forecasts = forecast_frame(series, origins, self.quantiles(series, origins, progress), levels, label)
        notes = [
            f"{len(origins)} windows of {self.horizon} steps in {len(np.unique(origins[:, 0]))} series, all after what "
            "training and validation saw. Means over windows, then over series.",
            "Missing values are not scored. sMAPE and coverage in percent; MASE below 1 beats the in-sample seasonal "
            "naive forecast.",
        ]
        if baselines:
            beside, remarks = forecast_baselines(
                histories_by_origin(series, origins),
                self.horizon,
                freq=series.freq,
                season=self.plan.season,
                levels=levels,
                names=baselines,
                progress=progress,
            )
            forecasts = forecasts.merge(beside, on=["unique_id", "cutoff", "ds"], how="left", validate="1:1")
            notes += remarks
        first = series.lengths.copy()
        np.minimum.at(first, origins[:, 0], origins[:, 1])
        history = training_frame(series, first)
        table = forecast_scores(forecasts, history, [label, *baselines], season=self.plan.season, levels=levels)
        best = dict.fromkeys(("MASE", "sMAPE", "MAE", "RMSE", "CRPS"), "low")
        best |= {f"coverage-{level}": f"near:{level}" for level in levels}
        return Evaluation(table, best, forecasts, tuple(notes))

    def trace(self, data: Any, series: str | None = None) -> Trace:
        """Gates and states over the last window of one series (the first, unless named), and over its horizon.

        ``(window + horizon) / patch`` steps; of an ensemble it is the first member's.
        """
        network, (example_sequence, *_) = self.network, self.example_sequences(data, series)
        assert isinstance(network, SequenceModel)
        with torch.no_grad():
            return network.trunk.trace(network.encoder(example_sequence.inputs))

    def sections(self, examples: SeriesSet) -> list[Section]:
        return forecast_report.sections(self, examples)

    def example_sequences(self, data: Any, series: str | None = None) -> list[ExampleSequence]:
        """The last windows of the series, that of ``series`` (the first, unless named) first."""
        self.model  # noqa: B018
        return inspection_inputs(self, self.read(data), series)

    def picture(self, data: Any, answer: pd.DataFrame) -> Figure:
        series = self.read(data)
        return pictures.forecast(series.to_frame(), answer, self.levels, title=f"{self.horizon} steps ahead")

    def text(self, answer: pd.DataFrame) -> str:
        return answer.to_csv(index=False, float_format="%.6g").rstrip()

    def records(self, answer: pd.DataFrame) -> list[dict[str, Any]]:
        return answer.assign(ds=answer["ds"].astype(str)).to_dict("records")

    # ---- saved ---------------------------------------------------------------------------------------------------

    def fingerprint(self, examples: SeriesSet) -> str:
        digest = hashlib.sha256(repr((examples.ids, examples.freq, examples.starts)).encode())
        for y in examples.y:
            digest.update(y.tobytes())
        for name, columns in examples.covariates.items():
            for values in columns:
                digest.update(repr((name, values.tolist())).encode())
        digest.update(repr(sorted(examples.static.items())).encode())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan),
            "features": self._features.to_json(),
            "trained_until": self._last_trained_timestamps,
            "widths": None if self._interval_widths is None else self._interval_widths.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._plan = plan = Plan(**state["plan"])
        if not all(isinstance(n, int) and 0 < n < 2**31 for n in (plan.season, plan.past, plan.patch)):
            raise ValueError("its plan of windows is none")
        self._features = CovariateEncoder.from_json(state["features"])
        self._last_trained_timestamps = dict(state["trained_until"])
        if state["widths"] is not None:
            self._interval_widths = np.array(state["widths"], dtype=float).reshape(self.horizon, len(self.levels))
            if not np.isfinite(self._interval_widths).all():
                raise ValueError("its intervals are no numbers")
