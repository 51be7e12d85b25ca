"""Development tests of the forecaster's defaults: what to choose defaults on, since nothing here is an official test.

``python benchmarks/forecaster_choices.py --data FOLDER`` fits the forecaster to the official training part of each set
without its last horizon (of few series: without three), forecasts what was left out, and writes
``results/defaults/forecaster_choices.json``. FOLDER has ``m3``, ``tourism``, ``m4_hourly``, ``classic_series`` and
``vic_elec``; by default it is ``$LSTMKIT_DATA``. ``--settings '{"window": 104}'`` tries other settings beside the
defaults. Rows of sets and settings that are not run again are kept. All sets take about ten minutes on one core.

Scores are means over forecasts: MASE of the network, of exponential smoothing, and of their combinations; coverage of
the intervals; and CRPS, twice the mean pinball loss of the quantiles, in the unit of MASE. Decision 30 has the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import lstmkit
import machine
from lstmkit.evaluation.forecast_metrics import quantile_columns
from lstmkit.progress import Progress

RECORD = Path(__file__).parent.parent / "results" / "defaults" / "forecaster_choices.json"
LEVELS = (50, 80, 95)
MAX_SERIES = 400  #: Of larger sets, every n-th series.
FEW, ORIGINS_OF_FEW = 10, 3  #: Sets of fewer series are forecast from three origins.
WEIGHTS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Task:
    """A set: values of each series with the development test at the end, and what a user says of them."""

    name: str
    values: list[np.ndarray]
    horizon: int
    season: int
    freq: str | int

    @property
    def origins(self) -> int:
        return ORIGINS_OF_FEW if len(self.values) < FEW else 1

    def until(self, origin: int) -> pd.DataFrame:
        """All series as ``unique_id, ds, y`` without the horizons from ``origin``, 0 the first, on."""
        frames = []
        for i, y in enumerate(self.values):
            n = len(y) - (self.origins - origin) * self.horizon
            # nominal dates: many starts of the sets are, too
            ds = range(n) if isinstance(self.freq, int) else pd.date_range("1900-01-01", periods=n, freq=self.freq)
            frames.append(pd.DataFrame({"unique_id": f"s{i}", "ds": ds, "y": y[:n]}))
        return pd.concat(frames, ignore_index=True)

    def targets(self) -> np.ndarray:
        """``(origins, N, H)``."""
        ends = [y[len(y) - self.origins * self.horizon :].reshape(self.origins, self.horizon) for y in self.values]
        return np.stack(ends, axis=1)

    def units(self) -> np.ndarray:
        """``(N, 1)``: mean absolute seasonal differences before the development test, the unit of MASE."""
        before = [y[: len(y) - self.origins * self.horizon] for y in self.values]
        lags = [self.season if len(y) > self.season else 1 for y in before]
        return np.array([[np.abs(y[s:] - y[:-s]).mean()] for y, s in zip(before, lags, strict=True)])


# ---- sets ------------------------------------------------------------------------------------------------------------

COMPETITIONS = {  # season, horizon and frequency; the horizons of tourism are 24, 8 and 4
    "m3_yearly": (1, 6, "YS"),
    "m3_other": (1, 8, 1),
    "m3_quarterly": (4, 8, "QS"),
    "m3_monthly": (12, 18, "MS"),
    "tourism_yearly": (1, 4, "YS"),
    "tourism_quarterly": (4, 8, "QS"),
    "tourism_monthly": (12, 24, "MS"),
}
CLASSIC = {
    "airline": ("airline-passengers.csv", 12, 12, "MS"),
    "sunspots": ("monthly-sunspots.csv", 12, 12, "MS"),
    "mean_temperatures": ("monthly-mean-temp.csv", 12, 12, "MS"),
    "births": ("daily-total-female-births.csv", 7, 14, "D"),
    "minimum_temperatures": ("daily-min-temperatures.csv", 7, 14, "D"),
    "maximum_temperatures": ("daily-max-temperatures.csv", 7, 14, "D"),
}


def competition(folder: Path, name: str) -> Task:
    season, horizon, freq = COMPETITIONS[name]
    source, period = name.split("_")
    series = pd.read_csv(folder / source / "series.csv.gz")
    ids = series.loc[series["period"] == period.upper(), "series"]
    values = pd.read_csv(folder / source / "values.csv.gz").query("part == 'train'").sort_values(["series", "t"])
    values = values[values["series"].isin(ids)]
    return _task(name, [y.to_numpy(float) for _, y in values.groupby("series")["value"]], horizon, season, freq)


def classic(folder: Path, name: str) -> Task:
    file, season, horizon, freq = CLASSIC[name]
    return _task(name, [_last_column(folder, file)], horizon, season, freq)


def m4_hourly(folder: Path, name: str) -> Task:
    rows = pd.read_csv(folder / "m4_hourly" / "Hourly-train.csv.gz", index_col=0).iloc[::4]
    return _task(name, [row.dropna().to_numpy(float) for _, row in rows.iterrows()], 48, 24, "h")


def electricity(folder: Path, name: str) -> Task:
    if name.endswith("hourly"):
        return _task(name, [_means(_electricity(folder)["demand"], 2)], 48, 24, "h")
    return _task(name, [_means(_electricity(folder)["demand"], 48)], 14, 7, "D")


def weekly(folder: Path, name: str) -> Task:
    electric = _electricity(folder)
    columns = ["TEMP", "PRES", "DEWP"]
    pollution = pd.read_csv(folder / "classic_series" / "pollution.csv.gz", usecols=columns)
    pollution = pollution.interpolate(limit_direction="both")
    values = [_means(electric[column], 336) for column in ("demand", "temperature")]
    values += [_means(_last_column(folder, f"daily-{kind}-temperatures.csv"), 7) for kind in ("min", "max")]
    values += [_means(pollution[column], 168) for column in columns]
    return _task(name, values, 13, 52, "W-SUN")


SETS: dict[str, Callable[[Path, str], Task]] = {
    **dict.fromkeys(COMPETITIONS, competition),
    **dict.fromkeys(CLASSIC, classic),
    "m4_hourly": m4_hourly,
    **dict.fromkeys(("electricity_daily", "electricity_hourly"), electricity),
    "weekly": weekly,
}


def _task(name: str, values: list[np.ndarray], horizon: int, season: int, freq: str | int) -> Task:
    origins = ORIGINS_OF_FEW if len(values) < FEW else 1
    before = [y[: len(y) - origins * horizon] for y in values]
    usable = [y for y, past in zip(values, before, strict=True) if len(past) >= horizon + 2 and np.ptp(past) > 0]
    return Task(name, usable[:: -(-len(usable) // MAX_SERIES)], horizon, season, freq)


def _last_column(folder: Path, file: str) -> np.ndarray:
    return pd.read_csv(folder / "classic_series" / file).iloc[:, -1].to_numpy(float)


def _electricity(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "vic_elec" / "vic_elec.csv.gz").rename(columns=str.lower)


def _means(values: Any, steps: int) -> np.ndarray:
    """Means of whole groups of ``steps`` values."""
    y = np.asarray(values, dtype=float)
    return y[: len(y) // steps * steps].reshape(-1, steps).mean(axis=1)


# ---- scores ----------------------------------------------------------------------------------------------------------


def run(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """Scores of one set by the forecaster with ``settings``."""
    job = lstmkit.Forecaster(horizon=task.horizon, season_length=task.season, **settings)
    start = time.monotonic()
    job.fit(task.until(0), progress=Progress())
    seconds = time.monotonic() - start
    predictor, y, unit = job.predictor, task.targets(), task.units()
    quantiles = forecasts(job, task)
    scores = {"weight": predictor.smoothing_weight, "MASE": mase(y, quantiles[len(LEVELS)], unit)}
    errors = y - quantiles
    taus = np.array(list(quantile_columns(LEVELS)))[:, None, None, None]
    scores["CRPS"] = float((2 * np.maximum(taus * errors, (taus - 1) * errors) / unit).mean())
    for i, level in enumerate(sorted(LEVELS)):
        below, above = quantiles[len(LEVELS) - 1 - i], quantiles[len(LEVELS) + 1 + i]
        scores[f"coverage-{level}"] = 100 * float(((y >= below) & (y <= above)).mean())
    if settings.get("method") != "recursive":
        medians = []
        for predictor.smoothing_weight in (0.0, 1.0):  # medians do not depend on the widths of the intervals
            medians.append(forecasts(job, task)[len(LEVELS)])
        errors = [mase(y, (1 - w) * medians[0] + w * medians[1], unit) for w in WEIGHTS]
        scores |= {"network": errors[0], "smoothing": errors[-1], "half": errors[10], "hindsight": min(errors)}
    plan = predictor.window_plan
    shape = {"series": len(task.values), "origins": task.origins, "window": plan.past, "patch": plan.patch}
    return {**shape, "seconds": round(seconds, 1), **{key: round(value, 4) for key, value in scores.items()}}


def forecasts(job: lstmkit.Forecaster, task: Task) -> np.ndarray:
    """Quantiles of every origin and series, ``(Q, origins, N, H)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of short histories
        frames = [job.predict(task.until(origin)) for origin in range(task.origins)]
    columns = [name.replace("median", "forecast") for name in _columns()]
    return np.stack([np.stack([f[c].to_numpy().reshape(-1, task.horizon) for f in frames]) for c in columns])


def _columns() -> Iterator[str]:
    for level in sorted(LEVELS, reverse=True):
        yield f"forecast-lo-{level}"
    yield "forecast"
    for level in sorted(LEVELS):
        yield f"forecast-hi-{level}"


def mase(y: np.ndarray, median: np.ndarray, unit: np.ndarray) -> float:
    return float((np.abs(y - median) / unit).mean())


def write(row: dict[str, Any]) -> None:
    """Put a row into the record, in the place of an earlier one of its set and settings."""
    before = json.loads(RECORD.read_text(encoding="utf-8"))["rows"] if RECORD.exists() else []
    rows = {(r["set"], json.dumps(r["settings"], sort_keys=True)): r for r in [*before, row]}
    record = {**machine.describe(1, 0), "rows": list(rows.values())}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("LSTMKIT_DATA", "."))
    parser.add_argument("--data", type=Path, default=data, help="folder of the sets")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--settings", nargs="*", type=json.loads, default=[{}], help="settings to try, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sets:
        task = SETS[name](arguments.data, name)
        for settings in arguments.settings:
            row = {"set": name, "settings": settings, **run(task, settings)}
            print(row, flush=True)
            write(row)


if __name__ == "__main__":
    main()
