"""What the anomaly detector's ``fit`` leaves: scaling, network, principal subspace, error scale and threshold."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from typing_extensions import Self

from lstmkit.data.batch import Source
from lstmkit.data.series.sensor_series import SensorSeriesSet
from lstmkit.data.statistics import root_mean_square
from lstmkit.decoding.anomaly_scores import AnomalyScoring, above, trailing_distances
from lstmkit.errors import DataError
from lstmkit.evaluation.anomaly_thresholds import extreme_value_threshold, quantile_threshold
from lstmkit.jobs.anomaly_detector.results import AnomalyResult
from lstmkit.jobs.anomaly_detector.scorers import SCORERS, Scorer
from lstmkit.jobs.anomaly_detector.settings import ADAPTIVE, AnomalySettings
from lstmkit.jobs.anomaly_detector.subspace import fit_subspace
from lstmkit.jobs.predictor import Predictor
from lstmkit.models.base import Ensemble, Model
from lstmkit.modules.principal_subspace import PrincipalSubspace
from lstmkit.progress import Progress

_SUBSPACE = "subspace"  # name of the principal subspace within the network
_MIN_STD = 1e-3  # of training targets: those of constant channels have no subspace
_MIN_ERROR = 0.01  # smallest mean error of a channel, in its standard deviations
_VALUE_ROUNDING = 1e-13  # relative to the largest value: a channel that varies less is constant, up to rounding


class AnomalyPredictor(AnomalyScoring, Predictor[AnomalySettings]):
    """Scores sensor series and compares the scores with a threshold.

    The score is a weighted geometric mean of two scores whose mean is 1 on normal data: that of the network's errors,
    and the distance of the last steps from the principal subspace of training windows.

    Attributes:
        channel_names: Every channel that the model reads, ``F``.
        mean: ``(F,)`` of the training split.
        std: ``(F,)`` of the training split; 1 for a constant channel.
        mean_errors: ``(C,)`` mean error of each scored channel on the validation split: the unit of scores.
        validation_scores: The last scores of the validation split, where an adaptive threshold begins.
        constant_threshold: The threshold; NaN if it changes from step to step.
        num_above: How many validation scores exceed the threshold, and how many there are.
        subspace_sizes: Sizes of the principal subspace; ``None`` without one: if its weight is 0, if the training
            series are constant, too short or have more than 500 scored channels, and in models of version 0.1.
    """

    settings: AnomalySettings

    def __init__(self, settings: AnomalySettings, channel_names: tuple[str, ...], mean: Any, std: Any) -> None:
        super().__init__(settings)
        self.channel_names = channel_names
        self.mean, self.std = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
        self.mean_errors = np.ones(len(self.scored_channels))
        self.validation_scores = np.zeros(0)
        self.constant_threshold = math.nan
        self.num_above = (0, 0)
        self.subspace_sizes: dict[str, int] | None = None

    @classmethod
    def fitted(cls, settings: AnomalySettings, train: SensorSeriesSet) -> Self:
        """Fit the scaling of each channel to the training split.

        Raises:
            DataError: A channel has no value there.
        """
        values = np.concatenate([series.values for series in train.items])
        missing = np.isnan(values).all(axis=0)
        if missing.any():
            name = train.channels[int(missing.argmax())]
            raise DataError(f"{train.name}: channel {name!r} has no value in the training split: leave it out")
        mean = np.nanmean(values, axis=0)
        std = root_mean_square(values - mean, axis=0)[0]
        rounding = _VALUE_ROUNDING * np.nanmax(np.abs(values), axis=0)
        return cls(settings, train.channels, mean, np.where(std > rounding, std, np.maximum(1.0, rounding)))

    @property
    def scored_channels(self) -> tuple[str, ...]:
        """Channels that are scored, ``C``: all but the covariates."""
        return tuple(self.channel_names[i] for i in self.scored_columns)

    @property
    def scored_columns(self) -> list[int]:
        """Their places among the channels."""
        return [i for i, name in enumerate(self.channel_names) if name not in self.settings.covariates]

    @property
    def scorer(self) -> Scorer:
        return SCORERS[self.settings.method]

    @property
    def subspace(self) -> PrincipalSubspace | None:
        """The principal subspace of training windows, a part of the network; ``None`` without one."""
        if self.subspace_sizes is None:
            return None
        return cast(PrincipalSubspace, self.network.get_submodule(_SUBSPACE))

    def build(self) -> Model:
        model = self.scorer.build(self.settings, len(self.channel_names), len(self.scored_channels))
        if self.subspace_sizes is not None:
            model.add_module(_SUBSPACE, PrincipalSubspace(**self.subspace_sizes))
        return model

    def _set_subspace(self, subspace: PrincipalSubspace | None) -> None:
        """Put a fitted subspace into all networks."""
        self.subspace_sizes = None
        if subspace is not None:
            self.subspace_sizes = subspace.sizes
            for member in self.model.members if isinstance(self.model, Ensemble) else [self.model]:
                member.add_module(_SUBSPACE, copy.deepcopy(subspace).to(next(member.parameters()).device))

    # ---- encode --------------------------------------------------------------------------------------------------

    def encode(self, series: SensorSeriesSet) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Inputs and targets of every series."""
        pairs = [self.standardize(item.values) for item in series.items]
        return [inputs for inputs, _ in pairs], [targets for _, targets in pairs]

    def source(self, series: SensorSeriesSet) -> Source:
        """Training windows of encoded series."""
        return self.scorer.source(self.settings, *self.encode(series))

    # ---- scores and thresholds -----------------------------------------------------------------------------------

    def errors(self, series: SensorSeriesSet, progress: Progress) -> list[np.ndarray]:
        """Absolute errors of every series, ``(T, C)`` each, in standard deviations."""
        return self.scorer.errors(self.settings, self.model, *self.encode(series), self.device, progress)

    def calibrate(
        self, train: SensorSeriesSet, normal: SensorSeriesSet, progress: Progress, *, normal_follows: bool
    ) -> None:
        """Fit the principal subspace, the scale of both scores and the threshold.

        Args:
            train: The training split.
            normal: Series without anomalies, which scales and threshold are fitted to.
            progress: Where to report progress.
            normal_follows: Whether these series continue the training series of the same names.
        """
        burn_in = self.settings.burn_in
        errors = self.errors(normal, progress)
        settled = np.concatenate([of_series[burn_in:] for of_series in errors])
        counts = np.isfinite(settled).sum(axis=0)
        self.mean_errors = np.maximum(np.nansum(settled, axis=0) / np.maximum(1, counts), _MIN_ERROR)
        training, targets = self.encode(train)[1], self.encode(normal)[1]
        of_train = dict(zip((item.name for item in train.items), training, strict=True)) if normal_follows else {}
        before = [of_train.get(item.name) for item in normal.items]
        self._set_subspace(self._fitted_subspace(training, targets, before))
        scored = (
            self.scores(self.channel_scores(of_series), own, earlier)
            for of_series, own, earlier in zip(errors, targets, before, strict=True)
        )
        scores = np.concatenate([of_series[burn_in:] for of_series in scored])
        self.validation_scores = scores[-self.settings.threshold_window :]
        self.constant_threshold = self.fit_threshold(scores)
        self.num_above = (int((scores > self.constant_threshold).sum()), len(scores))

    def _fitted_subspace(
        self, train: Sequence[np.ndarray], normal: Sequence[np.ndarray], before: Sequence[np.ndarray | None]
    ) -> PrincipalSubspace | None:
        """The subspace of windows of training targets, scaled by normal targets; these have whole windows."""
        if not self.settings.subspace_weight or not np.nanmax(np.nanstd(np.concatenate(train), axis=0)) > _MIN_STD:
            return None
        alone = all(part is None for part in before)
        subspace = fit_subspace(train, max(map(len, normal)) // 2 if alone else None)
        if subspace is not None:
            of_normal = [trailing_distances(subspace, *pair) for pair in zip(normal, before, strict=True)]
            distances = np.concatenate(of_normal)
            subspace.set_scale(distances[np.isfinite(distances)])
        return subspace

    def fit_threshold(self, normal: np.ndarray) -> float:
        """The threshold for scores ``(N,)`` of normal data; NaN if the method is adaptive."""
        method = self.settings.threshold_method
        if method in ADAPTIVE:
            return math.nan
        fit = quantile_threshold if method == "quantile" else extreme_value_threshold
        return float(above(fit(normal, self.settings.false_alarm_rate)))

    def detect(self, series: SensorSeriesSet, progress: Progress) -> list[AnomalyResult]:
        """Scores, thresholds and alarms of every series."""
        results = []
        for item, errors in zip(series.items, self.errors(series, progress), strict=True):
            channel_scores, values = self.channel_scores(errors), item.values[:, self.scored_columns]
            scores = self.scores(channel_scores, self.standardize(item.values)[1])
            results.append(
                AnomalyResult(item, values, scores, channel_scores, self.thresholds(scores), self.scored_channels)
            )
        return results

    # ---- saved ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        past = self.validation_scores if self.settings.threshold_method in ADAPTIVE else self.validation_scores[:0]
        level = None if math.isnan(self.constant_threshold) else self.constant_threshold
        return {
            "channels": list(self.channel_names),
            "level": level,
            "above": list(self.num_above),
            "scores": len(past),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "scale": self.mean_errors.tolist(),
            "past": past.tolist(),
            **({} if self.subspace_sizes is None else {"subspace": self.subspace_sizes}),
        }

    @classmethod
    def from_state(cls, settings: AnomalySettings, state: Mapping[str, Any]) -> Self:
        predictor = cls(settings, tuple(state["channels"]), state["mean"], state["std"])
        predictor.mean_errors = np.array(state["scale"], dtype=np.float64)
        predictor.validation_scores = np.array(state["past"], dtype=np.float64)
        predictor.constant_threshold = math.nan if state["level"] is None else float(state["level"])
        above, count = state["above"]
        predictor.num_above = (int(above), int(count))
        predictor.subspace_sizes = None if "subspace" not in state else dict(state["subspace"])
        predictor._check(state["scores"])
        return predictor

    def _check(self, num_scores: int) -> None:
        names, wide = self.channel_names, len(self.channel_names)
        if not all(isinstance(name, str) for name in names) or len(set(names)) < wide:
            raise ValueError("channel names are not distinct texts")
        if not wide or self.mean.shape != (wide,) or self.std.shape != (wide,) or not (self.std > 0).all():
            raise ValueError("mean and std do not fit the channels")
        if self.mean_errors.shape != (len(self.scored_channels),) or not (self.mean_errors > 0).all():
            raise ValueError("mean errors do not fit the scored channels")
        if self.validation_scores.shape != (num_scores,):
            raise ValueError("validation scores are incomplete")
        sizes = self.subspace_sizes
        if sizes is not None and not all(isinstance(size, int) and 0 < size < 2**31 for size in sizes.values()):
            raise ValueError("its principal subspace has an impossible size")
        if sizes is not None and sizes["channels"] != len(self.scored_channels):
            raise ValueError("its principal subspace does not fit the scored channels")
