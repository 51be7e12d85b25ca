"""Baselines for forecasts, from statsforecast: repeated values, exponential smoothing, and decomposition by seasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lstmkit.libraries import imports_of
from lstmkit.progress import Progress

FORECAST_BASELINES = ("SeasonalNaive", "AutoETS")  #: The baselines of every backtest.

#: Baselines on request: the last value, the last week of a season that is a day, and MSTL, which decomposes a series by
#: its day and week (K. Bandara, R. Hyndman, C. Bergmeir 2021, arXiv:2107.13462) and smooths the rest.
OPTIONAL_BASELINES = ("Naive", "WeeklyNaive", "MSTL")

#: Steps of history that the baselines are fitted to. AutoETS takes minutes on more, and is no more accurate.
MAX_HISTORY = 1500


def forecast_baselines(
    histories: Sequence[pd.DataFrame],
    horizon: int,
    *,
    freq: str | int,
    season: int,
    levels: Sequence[int],
    names: Sequence[str] = FORECAST_BASELINES,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Fit SeasonalNaive and AutoETS at every origin and forecast.

    A series shorter than a season is forecast without seasonality.

    Args:
        histories: For each origin the known values ``unique_id, ds, y``, each series up to its own cutoff.
        horizon: Steps to forecast.
        freq: A pandas frequency, or the step of whole-number timestamps.
        season: Season length in steps.
        levels: Interval levels in percent.
        names: Any of :data:`FORECAST_BASELINES` and :data:`OPTIONAL_BASELINES`.
        progress: Where to report progress.

    Returns:
        A frame ``unique_id, ds, cutoff`` with the columns ``name``, ``name-lo-80``, ``name-hi-80``, … of each
        baseline, and notes on how they were fitted.
    """
    steps = pd.concat([history.groupby("unique_id").size() for history in histories])
    recent_histories = [history.groupby("unique_id", sort=False).tail(MAX_HISTORY) for history in histories]
    notes = []
    if any(recent["y"].isna().any() for recent in recent_histories):
        notes.append("Baselines cannot take missing values: these are interpolated for them.")
    if steps.max() > MAX_HISTORY:
        notes.append(f"Baselines are fitted to the last {MAX_HISTORY} steps of longer series.")
    if steps.min() < season:
        notes.append(f"Baselines ignore the season of series that are shorter than a season ({season} steps).")
    frames = []
    with (progress or Progress()).task("baselines", len(histories)) as task:
        for i, recent in enumerate(recent_histories):
            filled = recent.assign(y=recent.groupby("unique_id", sort=False)["y"].transform(_interpolate))
            cutoffs = filled.groupby("unique_id", sort=False)["ds"].last().to_dict()
            lengths = filled["unique_id"].value_counts().to_dict()
            has_season = filled["unique_id"].map(lengths.get) >= season
            for seasonal, rows in filled.groupby(has_season):
                shortest = min(lengths[uid] for uid in rows["unique_id"].unique())
                engine = _statsforecast(names, freq, season if seasonal else 1, shortest)
                frame = pd.DataFrame(engine.forecast(df=rows, h=horizon, level=sorted(levels)))
                frames.append(frame.assign(cutoff=frame["unique_id"].map(cutoffs.get)))
            task.update(i + 1)
    return pd.concat(frames, ignore_index=True), notes


def _statsforecast(names: Sequence[str], freq: str | int, season: int, steps: int) -> Any:
    """The models by name, for series of at least ``steps`` steps."""
    with imports_of("forecast", "the forecaster"):
        from statsforecast import StatsForecast
        from statsforecast.models import MSTL, AutoETS, Naive, SeasonalNaive

    week = 7 * season
    # As in R's forecast::ets, ETS has no seasonal states for seasons of more than 24 steps.
    ets = AutoETS(season_length=season if season <= 24 else 1)
    models = {
        "SeasonalNaive": SeasonalNaive(season_length=season),
        "AutoETS": ets,
        "Naive": Naive(),
        "WeeklyNaive": SeasonalNaive(season_length=week if steps >= week else season, alias="WeeklyNaive"),
        "MSTL": MSTL(season_length=[season, week] if season >= 24 and steps >= 2 * week else season),
    }
    return StatsForecast([models[name] for name in names], freq=freq, fallback_model=SeasonalNaive(season_length=1))


def _interpolate(y: pd.Series) -> pd.Series:
    return y.interpolate(limit_direction="both")
