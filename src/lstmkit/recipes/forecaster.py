"""Evaluation protocols of published forecasting benchmarks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from utilsforecast import losses
from utilsforecast.evaluation import evaluate

from lstmkit.data import catalog
from lstmkit.data.series.forecast_windows import rolling_origins
from lstmkit.data.series.series_set import SeriesSet
from lstmkit.jobs.forecaster.baselines import FORECAST_BASELINES, forecast_baselines
from lstmkit.jobs.forecaster.job import Forecaster
from lstmkit.progress import Progress
from lstmkit.recipes import Fit


def m4(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The M4 competition: one forecast of each series, sMAPE, MASE, and OWA against the published Naive2 scores."""
    train, test = (_m4_long(folder / options[part]) for part in ("train", "test"))
    test["ds"] += test["unique_id"].map(train.groupby("unique_id")["ds"].max().to_dict().get)
    fit(train)
    forecasts = job.predict(train).rename(columns={"forecast": _label(job)})
    baselines, _ = forecast_baselines(
        [train], job.horizon, freq=1, season=job.predictor.window_plan.season, levels=[80], progress=progress
    )
    models = [_label(job), *FORECAST_BASELINES]
    scored = test.merge(forecasts, on=["unique_id", "ds"]).merge(baselines, on=["unique_id", "ds"])
    assert len(scored) == len(test)
    scores = evaluate(
        scored[["unique_id", "ds", "y", *models]],
        metrics=[losses.smape, partial(losses.mase, seasonality=job.predictor.window_plan.season)],
        train_df=train,
    )
    means = scores.groupby("metric")[models].mean()
    smape, mase = 200 * means.loc["smape"], means.loc["mase"]
    owa = (smape / options["naive2_smape"] + mase / options["naive2_mase"]) / 2
    return pd.DataFrame({"model": models, "OWA": owa.to_numpy(), "sMAPE": smape.to_numpy(), "MASE": mase.to_numpy()})


def _m4_long(path: Path) -> pd.DataFrame:
    """A file with one series per row, of different lengths, as ``unique_id, ds, y`` with ``ds`` 1, 2, …"""
    wide = pd.read_csv(path)
    wide.columns = ["unique_id", *range(1, wide.shape[1])]
    return wide.melt("unique_id", var_name="ds", value_name="y").dropna().astype({"ds": int}, copy=False)


def every_window(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Informer's protocol: every variable is standardized on the training part, MSE and MAE over every test window."""
    values = pd.read_csv(folder / options["file"], header=None if options.get("headless") else "infer")
    timestamps = pd.to_datetime(values.pop("date")) if "date" in values else pd.Series(range(len(values)))
    n_train, n_valid, n_test = options["train"], options["valid"], options["test"]
    train = values.iloc[:n_train]
    scaled = (values - train.mean()) / train.std(ddof=0)
    long = pd.DataFrame(
        {
            "unique_id": np.repeat(scaled.columns.astype(str), len(scaled)),
            "ds": np.tile(timestamps, scaled.shape[1]),
            "y": scaled.to_numpy().T.reshape(-1),
        }
    )
    rows = np.tile(np.arange(len(scaled)), scaled.shape[1])
    fit(long[rows < n_train + n_valid])

    end = n_train + n_valid + n_test
    series = job.read(long[rows < end])
    first = [n_train + n_valid] * len(series)
    quantiles = job.predictor.quantiles(series, rolling_origins(series, first, series.lengths - job.horizon), progress)
    median = quantiles[:, :, len(job.levels)]
    forecasts = {_label(job): median.reshape(len(series), -1, job.horizon)}
    y = np.stack(series.y)
    forecasts |= {
        f"seasonal naive ({lag} steps)" if lag > 1 else "last value": _repeat(y, n_train + n_valid, job.horizon, lag)
        for lag in options["naive_lags"]
    }
    truth = np.lib.stride_tricks.sliding_window_view(y[:, n_train + n_valid :], job.horizon, axis=1)
    scores = [{"model": m, **_errors(truth, f)} for m, f in forecasts.items()]
    return pd.DataFrame([*scores, _ets_row(series, job, n_train + n_valid, progress)])


def _repeat(y: np.ndarray, first: int, horizon: int, lag: int) -> np.ndarray:
    """The last ``lag`` values before each origin, repeated over the horizon: ``(series, origins, horizon)``."""
    origins = np.arange(first, y.shape[1] - horizon + 1)
    return y[:, origins[:, None] - lag + np.arange(horizon) % lag]


def _errors(truth: np.ndarray, forecast: np.ndarray) -> dict[str, float]:
    error = truth - forecast
    return {"MSE": float((error**2).mean()), "MAE": float(np.abs(error).mean()), "windows": int(truth[0].shape[0])}


def _ets_row(series: SeriesSet, job: Forecaster, first: int, progress: Progress) -> dict[str, Any]:
    """AutoETS from every ``horizon``-th origin; from every origin it would take days."""
    frame = series.to_frame()
    step = frame.groupby("unique_id", sort=False).cumcount()
    origins = range(first, int(series.lengths[0]) - job.horizon + 1, job.horizon)
    forecasts, _ = forecast_baselines(
        [frame.loc[step < origin, ["unique_id", "ds", "y"]] for origin in origins],
        job.horizon,
        freq=series.freq,
        season=job.predictor.window_plan.season,
        levels=[80],
        names=["AutoETS"],
        progress=progress,
    )
    joined = forecasts.merge(frame, on=["unique_id", "ds"])
    errors = joined["y"] - joined["AutoETS"]
    name = f"AutoETS (every {job.horizon}th window)"
    return {"model": name, "MSE": float((errors**2).mean()), "MAE": float(errors.abs().mean()), "windows": len(origins)}


def held_out(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The job's own backtest: rolling origins over the test part at the end of each series."""
    path = folder / options["file"]
    fit(path)
    return job.evaluate(path, progress=progress).table


def local_time(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Rolling origins, a horizon apart, from local midnight of the day ``test`` on; the model is fitted once.

    The column of instants in UTC is read as local time of ``time_zone``, which the calendar features need.
    """
    zone = "/".join(options["time_zone"])
    frame = pd.read_csv(catalog.locate(folder.name, options["file"]))
    frame[job.time_col] = pd.to_datetime(frame[job.time_col]).dt.tz_convert(zone)
    before = frame[job.time_col] < pd.Timestamp(*options["test"], tz=zone)
    fit(frame[before])
    return job.evaluate(frame, baselines=options["baselines"], progress=progress).table


def trading_days(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Closing prices by the number of the trading day, so that weekends and holidays are not gaps.

    The last ``test`` trading days are forecast from rolling origins, a horizon apart; the model is fitted once.
    """
    prices = pd.read_csv(catalog.locate(folder.name, options["file"]))
    day = prices.groupby(job.id_col).cumcount()
    frame = pd.DataFrame({job.id_col: prices[job.id_col], job.time_col: day, job.target_col: prices["close"]})
    fit(frame[day <= day.max() - options["test"]])
    table = job.evaluate(frame, baselines=("Naive", "AutoETS"), progress=progress).table
    return table.replace({"model": {"Naive": "random walk"}})


def daily_returns(job: Forecaster, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The return from each close to the next, in percent of the price, on the last ``test`` trading days.

    A random walk of the logarithm of the price forecasts a return of 0, one with drift the mean return before the test.
    The direction is right if forecast and return have the same sign; a return of 0 is not scored.
    """
    prices = pd.read_csv(catalog.locate(folder.name, options["file"]))
    change = 100 * prices["close"].transform(np.log).groupby(prices[job.id_col]).diff()
    day = prices.groupby(job.id_col).cumcount()
    frame = pd.DataFrame({job.id_col: prices[job.id_col], job.time_col: day, job.target_col: change})
    fit(frame[(day > 0) & (day <= day.max() - options["test"])])
    series = job.read(frame[day > 0])
    first = series.lengths - options["test"]
    quantiles = job.predictor.quantiles(series, rolling_origins(series, first, series.lengths - 1), progress)
    truth = np.concatenate([y[start:] for y, start in zip(series.y, first, strict=True)])
    drift = [np.full(options["test"], y[:start].mean()) for y, start in zip(series.y, first, strict=True)]
    forecasts = {
        _label(job): quantiles[:, 0, len(job.levels)],
        "random walk (return 0)": np.zeros(len(truth)),
        "random walk with drift": np.concatenate(drift),
    }
    return pd.DataFrame([{"model": name, **_return_scores(truth, forecast)} for name, forecast in forecasts.items()])


def _return_scores(truth: np.ndarray, forecast: np.ndarray) -> dict[str, float | None]:
    """Errors in percent of the price, and how many directions are right; none if the forecast has no sign.

    >>> _return_scores(np.array([1.0, -2.0]), np.array([0.5, 1.0]))["directions right"]
    0.5
    """
    error, moved = truth - forecast, truth != 0
    right = float((np.sign(forecast) == np.sign(truth))[moved].mean()) if forecast.any() else None
    return {"MAE": float(np.abs(error).mean()), "RMSE": float(np.sqrt((error**2).mean())), "directions right": right}


def _label(job: Forecaster) -> str:
    members = f", mean of {job.ensemble_size} seeds" if job.ensemble_size > 1 else ""
    return f"{job.cell.upper()} ({job.method}{members})"


PROTOCOLS = {
    "m4": m4,
    "every_window": every_window,
    "held_out": held_out,
    "local_time": local_time,
    "trading_days": trading_days,
    "daily_returns": daily_returns,
}
