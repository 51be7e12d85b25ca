"""Read series for a forecaster, and check that data and settings go together."""

from __future__ import annotations

from typing import Any

from lstmkit.data.series.placement import check_values
from lstmkit.data.series.series_set import SeriesSet, read_series
from lstmkit.errors import SettingError
from lstmkit.jobs.forecaster.settings import ForecasterSettings


def read_forecast_series(
    settings: ForecasterSettings, data: Any, freq: str | int | None, future_data: Any | None = None
) -> SeriesSet:
    """A file or object as series, checked against the settings.

    Args:
        settings: Columns, covariates and the transformation of the values.
        data: A path, a frame or one-dimensional values; see ``read_series``.
        freq: The frequency that the data must have; ``None`` to infer it.
        future_data: A second table with the future covariates over the horizon.

    Raises:
        DataError: The data cannot be read, or their values do not fit the settings.
        SettingError: Settings contradict each other.
    """
    check_settings(settings)
    series = read_series(
        data,
        id_col=settings.id_col,
        time_col=settings.time_col,
        target_col=settings.target_col,
        freq=freq,
        past=settings.past_covariates,
        future=settings.future_covariates,
        static=settings.static_covariates,
        ahead=future_data,
    )
    check_values(series, counts=_models_counts(settings), log=settings.log_transform)
    return series


def check_settings(settings: ForecasterSettings) -> None:
    """Check that the settings do not contradict each other.

    Raises:
        SettingError: They do.
    """
    if not settings.levels or len(set(settings.levels)) < len(settings.levels):
        raise SettingError(f"levels must be different percentages, at least one, got {list(settings.levels)}")
    if settings.method == "recursive" and settings.patch_length > 1:
        raise SettingError(
            f"patch_length must be 1 with method=recursive, which forecasts one step at a time; got "
            f"{settings.patch_length}: leave patch_length out"
        )
    if _models_counts(settings) and settings.log_transform:
        raise SettingError("distribution=negative_binomial models counts as they are: drop log_transform")
    if _models_counts(settings) and settings.centering not in ("auto", "none"):
        raise SettingError(
            f"distribution=negative_binomial models counts as they are: give centering=none, not {settings.centering!r}"
        )


def _models_counts(settings: ForecasterSettings) -> bool:
    return settings.method == "recursive" and settings.distribution == "negative_binomial"
