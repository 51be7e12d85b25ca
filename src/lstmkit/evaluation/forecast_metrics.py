"""Forecast metrics, computed with utilsforecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from utilsforecast import losses
from utilsforecast.evaluation import evaluate


def forecast_scores(
    forecasts: pd.DataFrame, history: pd.DataFrame, models: Sequence[str], *, season: int, levels: Sequence[int]
) -> pd.DataFrame:
    """Compute forecast metrics, one row per model, averaged over windows and then over series.

    MASE is scaled by the in-sample seasonal naive MAE of ``history`` (Hyndman and Koehler 2006). sMAPE has the form of
    the M4 competition, ``200 |y - f| / (|y| + |f|)``, in percent. CRPS is approximated by twice the mean pinball loss
    over the levels' quantiles and the median. Coverage is in percent.

    Args:
        forecasts: Columns ``unique_id, cutoff, ds, y``, and for each model ``name``, ``name-lo-80``, ``name-hi-80``, …
        history: Columns ``unique_id, ds, y`` of the training data, for the denominator of MASE. Unknown values are NaN,
            not missing rows, since differences are taken ``season`` rows apart.
        models: Column names of the point forecasts.
        season: Steps per season, for MASE.
        levels: Interval levels in percent.

    Returns:
        Columns ``model, MASE, sMAPE, MAE, RMSE, CRPS, coverage-80, …``.
    """
    scored = forecasts.dropna(subset=["y"])
    mase = partial(losses.mase, seasonality=season)
    metrics = {"MASE": mase, "sMAPE": losses.smape, "MAE": losses.mae, "RMSE": losses.rmse}
    scores = {name: _by_series(scored, metric, models, history) for name, metric in metrics.items()}
    # A series whose history is exactly periodic, up to rounding, has no MASE; it counts in the other metrics.
    rounding = history.assign(y=1e-13 * history["y"].abs()).groupby("unique_id")["y"].mean()
    scores["MASE"] = scores["MASE"].mask((scores["MAE"] / scores["MASE"]).le(rounding, axis=0))
    scores["sMAPE"] *= 200
    table = {name: by_series.mean() for name, by_series in scores.items()}
    table["CRPS"] = 2 * _mean_pinball(scored, models, levels)
    for level in levels:
        table[f"coverage-{level}"] = 100 * _by_series(scored, losses.coverage, models, history, level=[level]).mean()
    return pd.DataFrame(table).rename_axis("model").reset_index()


def mase_of_windows(
    forecasts: pd.DataFrame, history: pd.DataFrame, model: str, season: int
) -> tuple[int, Callable[[np.ndarray], float]]:
    """The number of scored windows, and the MASE of a model on any of them: the mean over windows, then over series.

    Args:
        forecasts, history, season: See :func:`forecast_scores`.
        model: Column of the point forecast.
    """
    mase = partial(losses.mase, seasonality=season)
    scored = evaluate(forecasts.dropna(subset=["y"]), metrics=[mase], models=[model], train_df=history)
    series, values = scored["unique_id"].astype("category").cat.codes.to_numpy(), scored[model].to_numpy(dtype=float)

    def score(rows: np.ndarray) -> float:
        counts = np.bincount(series[rows])
        return float((np.bincount(series[rows], values[rows])[counts > 0] / counts[counts > 0]).mean())

    return len(scored), score


def _by_series(
    forecasts: pd.DataFrame,
    metric: Callable[..., Any],
    models: Sequence[str],
    history: pd.DataFrame,
    level: list[int] | None = None,
) -> pd.DataFrame:
    """The mean over the windows of each series; one row per series, one column per model."""
    rows = evaluate(forecasts, metrics=[metric], models=list(models), train_df=history, level=level)
    return rows.groupby("unique_id")[list(models)].mean()


def _mean_pinball(forecasts: pd.DataFrame, models: Sequence[str], levels: Sequence[int]) -> pd.Series:
    total = pd.Series(0.0, index=list(models))
    for quantile, suffix in quantile_columns(levels).items():
        columns = {m: m + suffix for m in models}
        rows = losses.quantile_loss(forecasts, models=columns, q=quantile)
        total += rows.groupby("unique_id")[list(models)].mean().mean()
    return total / (2 * len(levels) + 1)


def quantile_columns(levels: Sequence[int]) -> dict[float, str]:
    """Quantile levels of symmetric intervals and their column suffixes: 80 % gives 0.1 and 0.9.

    >>> quantile_columns([80])
    {0.1: '-lo-80', 0.5: '', 0.9: '-hi-80'}
    """
    low = {round(0.5 - level / 200, 6): f"-lo-{level}" for level in sorted(levels, reverse=True)}
    high = {round(0.5 + level / 200, 6): f"-hi-{level}" for level in sorted(levels)}
    return {**low, 0.5: "", **high}
