"""Plain forecasts of series: the last season again, and exponential smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lstmkit.progress import Progress

FORECAST_BASELINES = ("SeasonalNaive", "AutoETS")

#: AutoETS of longer histories takes minutes and forecasts no better; both baselines see at most this many steps.
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
    """SeasonalNaive and AutoETS (statsforecast), fitted anew at every origin; without a season where none is complete.

    Args:
        histories: For each origin what was known then, ``unique_id, ds, y``, each series up to its own cutoff.
        horizon: Steps to forecast.
        freq: As pandas has it, or a whole number.
        season: Steps in a season.
        levels: Interval levels in percent.
        names: Which of the two.
        progress: Whom to tell.

    Returns:
        ``unique_id, ds, cutoff``, and for each baseline ``name``, ``name-lo-80``, ``name-hi-80``, …; and what must be
        said of them.
    """
    steps = pd.concat([history.groupby("unique_id").size() for history in histories])
    notes = ["Baselines: missing values are interpolated for them, since they take none."]
    if steps.max() > MAX_HISTORY:
        notes.append(f"The baselines see the last {MAX_HISTORY} steps of longer series.")
    if steps.min() < season:
        notes.append(f"With less history than a season ({season} steps) the baselines go without one.")
    frames = []
    with (progress or Progress()).task("baselines", len(histories)) as task:
        for i, history in enumerate(histories):
            recent = history.groupby("unique_id", sort=False).tail(MAX_HISTORY)
            filled = recent.assign(y=recent.groupby("unique_id", sort=False)["y"].transform(_interpolate))
            cutoffs = filled.groupby("unique_id", sort=False)["ds"].last().to_dict()
            lengths = filled["unique_id"].value_counts().to_dict()
            seasonal = filled["unique_id"].map(lengths.get) >= season
            for whole, part in filled.groupby(seasonal):
                engine = _engine(names, freq, season if whole else 1)
                frame = pd.DataFrame(engine.forecast(df=part, h=horizon, level=sorted(levels)))
                frames.append(frame.assign(cutoff=frame["unique_id"].map(cutoffs.get)))
            task.update(i + 1)
    return pd.concat(frames, ignore_index=True), notes


def _engine(names: Sequence[str], freq: str | int, season: int) -> Any:
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS, SeasonalNaive

    # As in R's forecast::ets, a season of more than 24 steps is beyond ETS's seasonal states.
    ets = AutoETS(season_length=season if season <= 24 else 1)
    known = {"SeasonalNaive": SeasonalNaive(season_length=season), "AutoETS": ets}
    return StatsForecast([known[name] for name in names], freq=freq, fallback_model=SeasonalNaive(season_length=1))


def _interpolate(y: pd.Series) -> pd.Series:
    return y.interpolate(limit_direction="both")
