"""Scores, as the field defines them; the libraries named at each do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from utilsforecast import losses
from utilsforecast.evaluation import evaluate


def forecast_scores(
    forecasts: pd.DataFrame, history: pd.DataFrame, models: Sequence[str], *, season: int, levels: Sequence[int]
) -> pd.DataFrame:
    """A table of forecast scores, a row a model, averaged over windows and then over series.

    utilsforecast computes MASE (scaled by the in-sample seasonal-naive MAE of ``history``: Hyndman and Koehler 2006),
    MAE, RMSE, sMAPE (here in the M4 competition's form, ``200 |y - f| / (|y| + |f|)``, in percent), the mean pinball
    loss times two over the levels' quantiles and the median, which approximates CRPS, and the intervals' coverage in
    percent.

    Args:
        forecasts: ``unique_id, cutoff, ds, y``, and for each model ``name``, ``name-lo-80``, ``name-hi-80``, …
        history: ``unique_id, ds, y``: what training saw, for MASE's denominator; unknown values are NaN, not left out,
            since its differences are taken ``season`` rows apart.
        models: Column names of the point forecasts.
        season: Steps in a season, for MASE.
        levels: Interval levels in percent.

    Returns:
        Columns ``model, MASE, sMAPE, MAE, RMSE, CRPS, coverage-80, …``.
    """
    scored = forecasts.dropna(subset=["y"])
    seasonal = partial(losses.mase, seasonality=season)
    plain = {"MASE": seasonal, "sMAPE": losses.smape, "MAE": losses.mae, "RMSE": losses.rmse}
    scores = {name: _by_series(scored, score, models, history) for name, score in plain.items()}
    # A series whose history repeats itself, but for rounding, has no MASE; it counts in the other scores.
    rounding = history.assign(y=1e-9 * history["y"].abs()).groupby("unique_id")["y"].mean()
    scores["MASE"] = scores["MASE"].mask((scores["MAE"] / scores["MASE"]).le(rounding, axis=0))
    scores["sMAPE"] *= 200
    table = {name: by_series.mean() for name, by_series in scores.items()}
    table["CRPS"] = 2 * _mean_pinball(scored, models, levels)
    for level in levels:
        table[f"coverage-{level}"] = 100 * _by_series(scored, losses.coverage, models, history, level=[level]).mean()
    return pd.DataFrame(table).rename_axis("model").reset_index()


def _by_series(
    forecasts: pd.DataFrame,
    score: Callable[..., Any],
    models: Sequence[str],
    history: pd.DataFrame,
    level: list[int] | None = None,
) -> pd.DataFrame:
    """A row a series, a column a model: the mean over its windows."""
    rows = evaluate(forecasts, metrics=[score], models=list(models), train_df=history, level=level)
    return rows.groupby("unique_id")[list(models)].mean()


def _mean_pinball(forecasts: pd.DataFrame, models: Sequence[str], levels: Sequence[int]) -> pd.Series:
    total = pd.Series(0.0, index=list(models))
    for quantile, suffix in quantile_columns(levels).items():
        columns = {m: m + suffix for m in models}
        rows = losses.quantile_loss(forecasts, models=columns, q=quantile)
        total += rows.groupby("unique_id")[list(models)].mean().mean()
    return total / (2 * len(levels) + 1)


def quantile_columns(levels: Sequence[int]) -> dict[float, str]:
    """Quantile levels of symmetric intervals, and the column suffix of each: ``80`` gives 0.1 and 0.9.

    >>> quantile_columns([80])
    {0.1: '-lo-80', 0.5: '', 0.9: '-hi-80'}
    """
    low = {round(0.5 - level / 200, 6): f"-lo-{level}" for level in sorted(levels, reverse=True)}
    high = {round(0.5 + level / 200, 6): f"-hi-{level}" for level in sorted(levels)}
    return {**low, 0.5: "", **high}
