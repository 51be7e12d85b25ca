"""Series cut by time into training, validation and test, and the windows in each part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstmkit.data.series.forecast_windows import Origins, rolling_origins
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.errors import DataError, SettingError

MAX_VALID_WINDOWS = 3000  #: More validation windows say no more; they are thinned out.
REGULAR_SEASON_THRESHOLD = 0.3  #: Series whose seasonal change is below this are regular.


@dataclass(frozen=True)
class ForecastExamples:
    """Windows over series: where each horizon begins."""

    series: SeriesSet
    origins: Origins


@dataclass(frozen=True)
class Plan:
    """What is decided by looking at the training data.

    Attributes:
        freq: The frequency.
        season: Steps in a season.
        past: Past steps in a window.
        patch: Steps folded into one step of the model.
        regular: Whether a season is nearly the same as the one before, see :func:`seasonal_change`.
    """

    freq: str | int
    season: int
    past: int
    patch: int
    regular: bool


def plan_windows(
    freq: str | int, longest: int, horizon: int, *, season: int, window: int, patch: int, autoregressive: bool
) -> Plan:
    """The plan; ``season``, ``window`` and ``patch`` of 0 are chosen here.

    Hours and minutes see a week, a day to a step of the LSTM; others three seasons, or twice the horizon if longer.

    Args:
        freq: The series' frequency.
        longest: Steps of the longest training series; no window is longer.
        horizon: Steps to forecast.
        season: Steps in a season.
        window: Past steps in a window; rounded up to whole patches.
        patch: Steps folded into one.
        stepwise: The model goes step by step, so that nothing can be folded.

    Raises:
        SettingError: A patch for a model that goes step by step.
    """
    if autoregressive and patch > 1:
        raise SettingError("patch must be 1 with method=recursive, which goes step by step")
    season = season or default_season_length(freq)
    daily = season >= 24 and (isinstance(freq, int) or _is_short(freq))
    past = window or min(max(2 * horizon, (7 if daily else 3) * season, 24), longest)
    patch = patch or (season if daily and past >= 7 * season and not autoregressive else 1)
    return Plan(freq, season, past=-(-past // patch) * patch, patch=patch, regular=False)


def seasonal_change(series: SeriesSet, ends: np.ndarray, season: int, past: int) -> float:
    """How much values a season apart differ, as a share of the deviation within a window: the median over series.

    Near 0 the last season is all but the forecast; at 1 it says nothing. At most 200 series are looked at.

    Args:
        series: The data, in the unit that is modelled.
        ends: Steps of each series to look at.
        season: Steps in a season.
        past: Steps in a window.
    """
    shares = []
    for i in range(0, len(series), -(-len(series) // 200)):
        y = pd.Series(series.y[i][: ends[i]])
        spread = y.rolling(past, min_periods=min(past, season + 1)).std().mean()
        change = y.diff(season).abs().mean()
        if season > 1 and np.isfinite(change) and spread > 0:
            shares.append(change / spread)
    return float(np.median(shares)) if shares else np.inf


def split_by_time(
    series: SeriesSet, horizon: int, *, valid_share: float, test_windows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where training ends and where validation ends in each series, ``(N,)`` each; the test is what follows.

    Args:
        series: The data.
        horizon: Steps to forecast.
        valid_share: Share of what is not test, from its end, to validate on, at least one horizon; 0 for none.
        test_windows: Horizons to hold out; -1 for as many as fit in a fifth of the shortest series, from 1 to 5.

    Raises:
        DataError: A series is too short for it.
    """
    n = series.lengths
    n_windows = test_windows if test_windows >= 0 else max(1, min(5, int(n.min()) // 5 // horizon))
    seen = n - horizon * n_windows
    n_valid = np.maximum(horizon, (valid_share * seen).astype(int)) if valid_share else np.zeros_like(n)
    train = seen - n_valid
    needed = horizon + 2
    short = np.flatnonzero(train < needed)
    if short.size:
        i = short[int(np.argmin(train[short]))]
        others = f" (and {short.size - 1} more)" if short.size > 1 else ""
        held_out = int(horizon * n_windows + n_valid.min())
        raise DataError(
            f"series {series.ids[i]!r}{others} has {n[i]} steps; horizon {horizon} needs {needed + held_out} ({needed} "
            f"to train, {held_out} held out): lower --horizon or leave the series out"
        )
    return train, seen


def training_windows(series: SeriesSet, ends: np.ndarray, horizon: int, plan: Plan) -> ForecastExamples:
    """Every window whose horizon ends by ``ends``, with two seasons of past where the series allows it."""
    first = np.minimum(ends - horizon, max(2, min(plan.past, 2 * plan.season)))
    return ForecastExamples(series.until(ends), rolling_origins(series, first, ends - horizon))


def validation_windows(series: SeriesSet, first: np.ndarray, ends: np.ndarray, horizon: int) -> ForecastExamples:
    """Windows with their horizon in ``first .. ends``, thinned out to :data:`MAX_VALID_WINDOWS`.

    Raises:
        DataError: No series is long enough for one.
    """
    last = ends - horizon
    stride = max(1, int((last - first + 1).clip(0).sum()) // MAX_VALID_WINDOWS)
    origins = rolling_origins(series, first, last, stride)
    if not len(origins):
        raise DataError(f"no validation series is as long as the horizon of {horizon} steps: give longer ones")
    return ForecastExamples(series.until(ends), origins)


def last_timestamps(series: SeriesSet, ends: np.ndarray) -> dict[str, str]:
    """The last stamp of each series' first ``ends[i]`` steps, by name, as text."""
    return {uid: str(series.timestamps(i, 0, int(ends[i]))[-1]) for i, uid in enumerate(series.ids)}


def check_same_frequency(series: SeriesSet, validation: SeriesSet) -> None:
    """Check that validation data have the stamps of the data.

    Raises:
        DataError: Another frequency, or a time zone in one of them only.
    """
    kinds = [
        f"of frequency {s.freq!r}" + (", with a time zone" if getattr(s.starts[0], "tzinfo", None) else "")
        for s in (validation, series)
    ]
    if kinds[0] != kinds[1]:
        raise DataError(f"the validation data have stamps {kinds[0]}, the data {kinds[1]}: give both alike")


def default_season_length(freq: str | int) -> int:
    """Steps in the usual season of a frequency: a day of hours or minutes, a week of days, a year of months.

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
    """Whether a step is a fixed time, as hours and minutes are and months are not, shorter than a day."""
    offset = pd.tseries.frequencies.to_offset(freq)
    return isinstance(offset, pd.offsets.Tick) and offset.nanos < 86_400 * 10**9
