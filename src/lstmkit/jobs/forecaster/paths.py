"""Sampled futures of many series at once, whose steps and series depend on each other as in validation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.series.placement import check_future_covariates
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.time_split import ForecastExamples
from lstmkit.errors import SettingError, UserError
from lstmkit.jobs.forecaster.generation import sample_paths
from lstmkit.jobs.forecaster.path_correlation import seed_of, values_at
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.models.base import Model
from lstmkit.training.predict import predict


def path_frame(predictor: ForecasterPredictor, series: SeriesSet, num_paths: int, seed: int | None) -> pd.DataFrame:
    """Paths over the ``horizon`` steps after the end of each series: ``unique_id, ds, path, y``.

    Args:
        predictor: A trained predictor.
        series: The series with their history.
        num_paths: Paths to sample, at least 1.
        seed: Random seed; ``None`` for that of the settings.

    Raises:
        SettingError: ``num_paths`` is not a whole number from 1 up.
        DataError: A future covariate does not reach the end of the horizon.
        UserError: The model has no correlations.
    """
    if not isinstance(num_paths, (int, np.integer)) or num_paths < 1:
        raise SettingError(f"num_paths must be a whole number from 1 up, got {num_paths!r}")
    check_future_covariates(series, predictor.settings.future_covariates, predictor.settings.horizon)
    seed = predictor.settings.seed if seed is None else seed
    sample = _correlated_paths if predictor.settings.method == "direct" else _recursive_paths
    paths = sample(predictor, series, int(num_paths), seed)
    n_series, _, horizon = paths.shape
    stamps = [series.timestamps(i, n, n + horizon) for i, n in enumerate(series.lengths.tolist())]
    every = [index for index in stamps for _ in range(num_paths)]
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.array(series.ids, dtype=object), num_paths * horizon),
            "ds": every[0].append(every[1:]),
            "path": np.tile(np.repeat(np.arange(num_paths), horizon), n_series),
            "y": paths.ravel(),
        }
    )


def _correlated_paths(predictor: ForecasterPredictor, series: SeriesSet, num_paths: int, seed: int) -> np.ndarray:
    """``(N, num_paths, H)`` of the direct method: calibrated quantiles, dependent as in the validation windows."""
    if predictor.path_correlation is None:
        raise UserError(
            "this model has no correlations to sample paths with: it was fitted with valid_fraction=0 or by an older "
            "version; fit it again with a validation split"
        )
    forecast = predictor.calibrated_windows(ends_of(series))
    scores = predictor.path_correlation.sample(series.ids, num_paths, seed)
    scaled = values_at(scores, forecast.quantiles[:, None], predictor.quantile_levels)
    return predictor.scaler.inverse(scaled, forecast.base[:, None], forecast.scale[:, None])


def _recursive_paths(predictor: ForecasterPredictor, series: SeriesSet, num_paths: int, seed: int) -> np.ndarray:
    """``(N, num_paths, H)`` of the recursive method, which samples each series by itself."""

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        assert batch.rows is not None
        [row] = batch.rows
        scaled = sample_paths(
            model,
            batch,
            past=predictor.window_plan.past,
            horizon=predictor.settings.horizon,
            num_samples=num_paths,
            seed=seed_of(seed, series.ids[row]),
            counts=predictor.is_count_data,
        )
        base, scale = (batch.extras[name].double().cpu().numpy() for name in ("base", "scale"))
        values = predictor.scaler.inverse(scaled[0].double().cpu().numpy(), base, scale)
        return [np.rint(values) if predictor.is_count_data else values]

    windows = Loader(predictor.windows(ends_of(series)), 1)
    return np.stack(predict(predictor.model, windows, decode, device=predictor.device))


def ends_of(series: SeriesSet) -> ForecastExamples:
    """The windows before the end of each series."""
    return ForecastExamples(series, np.stack([np.arange(len(series)), series.lengths], axis=1))
