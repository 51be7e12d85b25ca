"""Forecasts of M3 and tourism by default settings, beside other libraries, on the official test parts.

``python benchmarks/forecasters.py --data FOLDER`` fits each model once to the official training part of each set, with
one thread, and writes ``results/defaults/forecasters.json``. FOLDER has ``m3`` and ``tourism``, each with
``series.csv.gz`` (``series, period, h, freq``) and ``values.csv.gz`` (``series, part, t, value``); by default it is
``$LSTMKIT_DATA``.
Peers that are not installed are left out. Scores and times of models that are not run again are kept.

OWA is the mean of the error in percent (sMAPE for M3, MAPE for tourism, as these competitions have it) and MASE, each
divided by that of Naive2: the last value, after a multiplicative seasonal adjustment if the season is significant.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import lstmkit
import machine
from lstmkit.progress import Progress

RECORD = Path(__file__).parent.parent / "results" / "defaults" / "forecasters.json"
LEVELS = (50, 80, 95)
FREQUENCIES = {"YEARLY": "YS", "QUARTERLY": "QS", "MONTHLY": "MS", "OTHER": 1}
DARTS_TIME = {"minutes": 5}  # its default of 100 epochs would take longer on the largest sets
SETS = (
    *(("m3", period) for period in FREQUENCIES),
    *(("tourism", period) for period in ("YEARLY", "QUARTERLY", "MONTHLY")),
)


@dataclass(frozen=True)
class Task:
    """A set to forecast: its official training part as ``unique_id, ds, y``, and its test values ``(N, H)``."""

    name: str
    train: pd.DataFrame
    test: np.ndarray
    season: int
    freq: str | int

    @property
    def horizon(self) -> int:
        return self.test.shape[1]


@dataclass(frozen=True)
class Forecast:
    """Medians ``(N, H)``, and bounds ``(N, H, 2)`` by level if the model has intervals."""

    median: np.ndarray
    bounds: dict[int, np.ndarray]


def read(folder: Path, name: str, period: str) -> Task:
    series = pd.read_csv(folder / name / "series.csv.gz")
    series = series[series["period"] == period]
    values = pd.read_csv(folder / name / "values.csv.gz").sort_values(["series", "part", "t"])
    values = values[values["series"].isin(series["series"])]
    freq, horizon, season = FREQUENCIES[period], int(series["h"].iloc[0]), int(series["freq"].iloc[0])
    train = values[values["part"] == "train"]
    if isinstance(freq, int):
        ds = train["t"].astype(int)
    else:  # nominal dates: many starts of the sets are, too
        calendar = pd.date_range("1900-01-01", periods=int(train["t"].max()), freq=freq)
        ds = pd.Series(calendar[train["t"] - 1], index=train.index)
    frame = pd.DataFrame({"unique_id": train["series"], "ds": ds, "y": train["value"].astype(float)})
    test = values[values["part"] == "test"]["value"].to_numpy(float).reshape(-1, horizon)
    return Task(f"{name}_{period.lower()}", frame.reset_index(drop=True), test, season, freq)


# ---- models ----------------------------------------------------------------------------------------------------------


def ours(task: Task) -> Forecast:
    job = lstmkit.Forecaster(horizon=task.horizon).fit(task.train, progress=Progress())
    return _forecast(job.predict(task.train), task, "forecast")


def of_statsforecast(name: str) -> Callable[[Task], Forecast]:
    def run(task: Task) -> Forecast:
        from statsforecast import StatsForecast, models

        model = getattr(models, name)(season_length=task.season)
        engine = StatsForecast([model], freq=task.freq, fallback_model=models.SeasonalNaive(season_length=1))
        return _forecast(engine.forecast(df=task.train, h=task.horizon, level=list(LEVELS)), task, name)

    return run


def of_neuralforecast(name: str) -> Callable[[Task], Forecast]:
    def run(task: Task) -> Forecast:
        from neuralforecast import NeuralForecast, models
        from neuralforecast.losses.pytorch import MQLoss

        window = 2 * task.horizon  # the library has no default: its tutorials take twice the horizon
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        model = getattr(models, name)(
            h=task.horizon,
            input_size=window,
            loss=MQLoss(level=list(LEVELS)),
            start_padding_enabled=True,
            **quiet,
        )
        engine = NeuralForecast([model], freq=task.freq)
        engine.fit(task.train)
        frame = engine.predict().reset_index()
        return _forecast(frame.rename(columns={f"{name}-median": name}), task, name)

    return run


def of_darts(task: Task) -> Forecast:
    """The LSTM of darts with quantile regression, on series scaled to 0 … 1 as in its user guide."""
    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler
    from darts.models import RNNModel
    from darts.utils.likelihood_models import QuantileRegression

    shortest = int(task.train.groupby("unique_id").size().min())
    window = min(2 * task.horizon, shortest - 2)  # the library has no default
    dates = None if isinstance(task.freq, int) else task.freq
    groups = task.train.groupby("unique_id", sort=False)
    series = [TimeSeries.from_dataframe(rows.reset_index(), "ds", "y", freq=dates) for _, rows in groups]
    scaler = Scaler()
    model = RNNModel(
        input_chunk_length=window,
        training_length=max(window, min(24, shortest - 1)),  # 24 is the default; a series must be longer
        model="LSTM",
        likelihood=QuantileRegression(),
        random_state=1,
        pl_trainer_kwargs={
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "max_time": DARTS_TIME,
        },
    )
    scaled = [s.astype(np.float32) for s in scaler.fit_transform(series)]
    model.fit(scaled)
    samples = scaler.inverse_transform(model.predict(task.horizon, series=scaled, num_samples=200))
    values = np.stack([s.all_values()[:, 0] for s in samples])  # (N, H, samples)
    bounds = {level: np.quantile(values, [0.5 - level / 200, 0.5 + level / 200], axis=-1) for level in LEVELS}
    return Forecast(np.median(values, axis=-1), {level: np.moveaxis(b, 0, -1) for level, b in bounds.items()})


def naive2(task: Task) -> Forecast:
    """The last value, after a multiplicative seasonal adjustment if the autocorrelation at a season is significant."""
    from statsmodels.tsa.seasonal import seasonal_decompose

    rows = []
    for _, y in task.train.groupby("unique_id", sort=False)["y"]:
        values, factors = y.to_numpy(), np.ones(task.season)
        if task.season > 1 and len(values) >= 3 * task.season and _is_seasonal(values, task.season):
            seasonal = seasonal_decompose(values, period=task.season, model="multiplicative").seasonal
            factors = np.roll(seasonal[: task.season], -(len(values) % task.season))
        ahead = np.resize(factors, task.horizon)
        rows.append(values[-1] / factors[-1] * ahead)
    return Forecast(np.stack(rows), {})


def _is_seasonal(values: np.ndarray, season: int) -> bool:
    """The test of the M4 competition: 90 % significance of the autocorrelation at lag ``season``."""
    if (values <= 0).any() or values.std() == 0:
        return False
    centered = values - values.mean()
    acf = np.array([(centered[lag:] * centered[: len(values) - lag]).sum() for lag in range(season + 1)])
    acf = acf / acf[0]
    limit = 1.645 * np.sqrt((1 + 2 * (acf[1:season] ** 2).sum()) / len(values))
    return bool(abs(acf[season]) > limit)


MODELS: dict[str, Callable[[Task], Forecast]] = {
    "lstmkit": ours,
    "Naive2": naive2,
    **{name: of_statsforecast(name) for name in ("SeasonalNaive", "AutoETS", "AutoTheta", "AutoARIMA")},
    "NHITS (neuralforecast)": of_neuralforecast("NHITS"),
    "LSTM (neuralforecast)": of_neuralforecast("LSTM"),
    "LSTM (darts)": of_darts,
}


def _forecast(frame: Any, task: Task, name: str) -> Forecast:
    frame = pd.DataFrame(frame)
    order = {uid: i for i, uid in enumerate(task.train["unique_id"].drop_duplicates())}
    frame = frame.assign(order=frame["unique_id"].map(order.get)).sort_values(["order", "ds"], kind="stable")

    def values(column: str) -> np.ndarray:
        return frame[column].to_numpy(float).reshape(-1, task.horizon)

    bounds = {
        level: np.stack([values(f"{name}-lo-{level}"), values(f"{name}-hi-{level}")], axis=-1)
        for level in LEVELS
        if f"{name}-lo-{level}" in frame
    }
    return Forecast(values(name), bounds)


# ---- scores ----------------------------------------------------------------------------------------------------------


def scores(task: Task, forecast: Forecast) -> dict[str, float]:
    """Means over series: error in percent (sMAPE for M3, MAPE for tourism), MASE, and coverage of the intervals."""
    y, error = task.test, np.abs(task.test - forecast.median)
    unit = (np.abs(y) + np.abs(forecast.median)) / 2 if task.name.startswith("m3") else np.abs(y)
    differences = [
        np.abs(v[s:] - v[:-s]).mean()
        for _, v in ((uid, g.to_numpy()) for uid, g in task.train.groupby("unique_id", sort=False)["y"])
        for s in [task.season if len(v) > task.season else 1]
    ]
    mase = error.mean(axis=1) / np.array(differences)
    found = {"percent": 100 * float((error / unit).mean()), "MASE": float(mase[np.isfinite(mase)].mean())}
    for level, bounds in forecast.bounds.items():
        found[f"coverage-{level}"] = 100 * float(((y >= bounds[..., 0]) & (y <= bounds[..., 1])).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [f"{name}_{period.lower()}" for name, period in SETS]
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LSTMKIT_DATA", ".")), help="folder of the sets"
    )
    parser.add_argument("--sets", nargs="*", choices=names, default=names)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, period in SETS:
        if f"{name}_{period.lower()}" not in arguments.sets:
            continue
        task = read(arguments.data, name, period)
        for model in arguments.models:
            start = time.process_time()  # with one thread, the time it takes on a machine with nothing else to do
            try:
                forecast = MODELS[model](task)
            except ModuleNotFoundError as err:
                print(f"{model} is left out: {err}")
                continue
            seconds = time.process_time() - start
            row = {"set": task.name, "model": model, "series": len(task.test), "seconds": round(seconds, 1)}
            row |= scores(task, forecast)
            print(row, flush=True)
            write(row)


def write(row: dict[str, Any]) -> None:
    """Put a row into the record, in the place of an earlier one of its set and model."""
    before = json.loads(RECORD.read_text(encoding="utf-8"))["rows"] if RECORD.exists() else []
    rows = {(r["set"], r["model"]): r for r in [*before, row]}
    record = {**machine.describe(1, 0), "rows": [with_owa(r, rows) for r in rows.values()]}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def with_owa(row: dict[str, Any], rows: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """A row with OWA, if Naive2 has been run."""
    naive = rows.get((row["set"], "Naive2"))
    if naive is None:
        return row
    return {**row, "OWA": (row["percent"] / naive["percent"] + row["MASE"] / naive["MASE"]) / 2}


if __name__ == "__main__":
    main()
