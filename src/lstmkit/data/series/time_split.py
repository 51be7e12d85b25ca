"""Chronological split of series into training, validation and test, and the forecast windows of each split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_windows import rolling_origins
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.data.series.window_arrays import ForecastWindows
from lstmkit.errors import DataError, SettingError

MAX_VALID_WINDOWS = 3000  #: If there are more, they are subsampled.
REGULAR_SEASON_THRESHOLD = 0.3  #: A season is stable if its :func:`seasonal_change` is below this.


@dataclass(frozen=True)
class ForecastExamples(ForecastWindows):
    """Series that were read, and the origins of their forecast windows."""

    series: SeriesSet


@dataclass(frozen=True)
class Plan:
    """Window sizes chosen from the training data.

    Attributes:
        freq: The frequency.
        season: Steps per season.
        past: Past steps per window.
        patch: Time steps per patch; a patch is one step of the model.
        regular: Whether the season is stable, see :func:`seasonal_change`.
    """

    freq: str | int
    season: int
    past: int
    patch: int
    regular: bool


def plan_windows(
    freq: str | int, max_length: int, horizon: int, *, season: int, window: int, patch: int, autoregressive: bool
) -> Plan:
    """Choose season, window and patch length if they are 0.

    For frequencies below a day, a window is a week and a patch a day. For others, a window is three seasons, or twice
    the horizon if that is longer.

    Args:
        freq: Frequency of the series.
        max_length: Steps of the longest training series, the maximum window.
        horizon: Steps to forecast.
        season: Steps per season; 0 for the default of the frequency.
        window: Past steps per window, rounded up to whole patches; 0 to choose.
        patch: Steps per patch; 0 to choose.
        autoregressive: Whether the model forecasts step by step, without patches.

    Raises:
        SettingError: ``patch`` is above 1 for an autoregressive model.
    """
    if autoregressive and patch > 1:
        raise SettingError(f"patch_length={patch}: method=recursive forecasts step by step: give patch_length=1")
    season = season or default_season_length(freq)
    has_daily_season = season >= 24 and (isinstance(freq, int) or _is_short(freq))
    past = window or min(max(2 * horizon, (7 if has_daily_season else 3) * season, 24), max_length)
    patch = patch or (season if has_daily_season and past >= 7 * season and not autoregressive else 1)
    return Plan(freq, season, past=-(-past // patch) * patch, patch=patch, regular=False)


def seasonal_change(series: SeriesSet, ends: np.ndarray, season: int, past: int) -> float:
    """Mean absolute seasonal difference, relative to the standard deviation within a window; median over series.

    Near 0, the last season predicts the next one; near 1, it does not. At most 200 series are used.

    Args:
        series: The data, in the unit that is modeled.
        ends: Steps of each series to use.
        season: Steps per season.
        past: Steps per window.
    """
    ratios = []
    for i in range(0, len(series), -(-len(series) // 200)):
        values = series.y[i][: ends[i]]
        values = values - np.nanmean(values)  # large levels and tiny values lose digits when squared
        y = pd.Series(values / np.nanmax(np.abs(values), initial=1e-300))
        deviation = y.rolling(past, min_periods=min(past, season + 1)).std().mean()
        change = y.diff(season).abs().mean()
        if season > 1 and np.isfinite(change) and deviation > 0:
            ratios.append(change / deviation)
    return float(np.median(ratios)) if ratios else np.inf


def split_by_time(
    series: SeriesSet, horizon: int, *, valid_fraction: float, test_windows: int
) -> tuple[np.ndarray, np.ndarray]:
    """End of training and end of validation in each series, ``(N,)`` each. The test split is the rest.

    A series that is too short for all three is in training as a whole.

    Args:
        series: The data.
        horizon: Steps to forecast.
        valid_fraction: Fraction of the steps before the test for validation, at least one horizon; 0 for none.
        test_windows: Horizons in the test split; -1 for as many as fit in a fifth of the shortest series that is long
            enough for one, from 1 to 5.

    Raises:
        DataError: No series is long enough.
    """
    n = series.lengths
    n_valid, min_train = horizon if valid_fraction else 0, horizon + 2
    fewest = test_windows if test_windows >= 0 else 1
    long_enough = n >= min_train + n_valid + horizon * fewest
    if not long_enough.any():
        i = int(np.argmax(n))
        which = f"series {series.ids[i]!r}" if len(n) == 1 else f"the longest series, {series.ids[i]!r},"
        held_out = n_valid + horizon * fewest
        raise DataError(
            f"{which} has {n[i]} steps, but horizon {horizon} needs {min_train + held_out} ({min_train} for training, "
            f"{held_out} for validation and test): give longer series or a smaller horizon"
        )
    n_windows = test_windows if test_windows >= 0 else max(1, min(5, int(n[long_enough].min()) // 5 // horizon))
    valid_end = n - horizon * n_windows
    train = valid_end - np.maximum(n_valid, (valid_fraction * valid_end).astype(int))
    return np.where(long_enough, train, n), np.where(long_enough, valid_end, n)


def training_windows(series: SeriesSet, ends: np.ndarray, horizon: int, plan: Plan) -> ForecastExamples:
    """All windows with a horizon that ends by ``ends``, and with two seasons of past if the series is long enough.

    A series with less than two steps before its only horizon has none.
    """
    first = np.maximum(2, np.minimum(ends - horizon, min(plan.past, 2 * plan.season)))
    return ForecastExamples(series.until(ends), rolling_origins(series, first, ends - horizon))


def validation_windows(series: SeriesSet, first: np.ndarray, ends: np.ndarray, horizon: int) -> ForecastExamples:
    """Windows with a horizon within ``first .. ends``, subsampled to :data:`MAX_VALID_WINDOWS`.

    Raises:
        DataError: No series is long enough for a window.
    """
    last = ends - horizon
    stride = max(1, int((last - first + 1).clip(0).sum()) // MAX_VALID_WINDOWS)
    origins = rolling_origins(series, first, last, stride)
    if not len(origins):
        raise DataError(f"no validation series has the {horizon} steps of the horizon: give longer series")
    return ForecastExamples(series.until(ends), origins)


def last_timestamps(series: SeriesSet, ends: np.ndarray) -> dict[str, str]:
    """Timestamp of step ``ends[i] - 1`` of each series, as text by series id."""
    return {uid: str(series.timestamps(i, 0, int(ends[i]))[-1]) for i, uid in enumerate(series.ids)}


def check_same_frequency(series: SeriesSet, validation: SeriesSet) -> None:
    """Check that validation data have the frequency of the data, and a time zone if the data have one.

    Raises:
        DataError: They differ.
    """
    frequencies = [
        f"of frequency {s.freq!r}" + (", with a time zone" if getattr(s.starts[0], "tzinfo", None) else "")
        for s in (validation, series)
    ]
    if frequencies[0] != frequencies[1]:
        raise DataError(
            f"the validation data have timestamps {frequencies[0]}, the data {frequencies[1]}: give both the same"
        )


def default_season_length(freq: str | int) -> int:
    """Default steps per season: a day for hours and minutes, a week for days, a year for weeks, months and quarters.

    >>> [default_season_length(f) for f in ("h", "15min", "D", "B", "W-SUN", "MS", "QE-DEC", "YS-JAN", 1)]
    [24, 96, 7, 5, 52, 12, 4, 1, 1]
    """
    if isinstance(freq, int):
        return 1
    offset = pd.tseries.frequencies.to_offset(freq)
    name = offset.name.split("-")[0]
    by_name = {"D": 7, "B": 5, "W": 52, "MS": 12, "ME": 12, "BMS": 12, "BME": 12, "QS": 4, "QE": 4}
    if name in by_name:
        return max(1, by_name[name] // offset.n)
    day = 86_400 * 10**9
    return max(1, day // offset.nanos) if isinstance(offset, pd.offsets.Tick) else 1


def _is_short(freq: str) -> bool:
    """Whether a step has a fixed duration shorter than a day."""
    offset = pd.tseries.frequencies.to_offset(freq)
    return isinstance(offset, pd.offsets.Tick) and offset.nanos < 86_400 * 10**9
