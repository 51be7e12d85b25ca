"""Evaluation protocols of regression on sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.evaluation.regression_metrics import kge, r2
from lstmkit.jobs.regressor.job import Regressor
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

_CFS = 0.3048**3  # cubic meters per cubic foot
_CLIMATOLOGY_DAYS = 15  # on each side of a day of the year


def remaining_life(job: Regressor, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Remaining useful life in cycles at the last cycle of each test engine; training engines run to their failure."""
    train, test = (_engines(folder.name, options[part]) for part in ("train", "test"))
    (target,) = job.target_cols
    last = train.groupby("unit")["cycle"].transform("max")
    fit(train.assign(**{target: last - train["cycle"]}))
    truth = np.loadtxt(catalog.locate(folder.name, options["truth"]))
    ends = test["unit"] != test["unit"].shift(-1)
    test[target] = np.nan
    test.loc[ends, target] = truth
    return job.evaluate(test, progress=progress).table


def _engines(name: str, file: str) -> pd.DataFrame:
    sensors = [f"sensor {k}" for k in range(1, 22)]
    columns = ["unit", "cycle", *(f"setting {k}" for k in range(1, 4)), *sensors]
    return pd.read_csv(catalog.locate(name, file), sep=r"\s+", header=None, names=columns)


def rainfall_runoff(
    job: Regressor, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Daily runoff of basins in the years of the test; an LSTM, then an entity-aware one, beside a climatology."""
    frame: Any = pd.concat([_basin(folder.name, basin, options) for basin in options["basins"]], ignore_index=True)
    frame = frame.merge(_attributes(folder.name, options["attributes"])[["basin", *job.static_cols]], on="basin")
    _, test_from = _dates(options, frame["date"])
    truth = frame.loc[frame["date"] >= test_from, ["basin", "date", "runoff"]]
    models: dict[str, pd.DataFrame] = {}
    for name, entity_aware in (("LSTM", False), ("EA-LSTM", True)):
        job.set_params(entity_aware=entity_aware)
        _fit_by_dates(fit, frame, "date", "runoff", options)
        models[name] = job.predict(frame.drop(columns="runoff"))[["basin", "date", "runoff"]]
    models["climatology"] = _climatology(frame[frame["date"] < test_from], truth)
    return pd.DataFrame([{"model": name, **_by_basin(truth, found)} for name, found in models.items()])


def _basin(name: str, basin: str, options: dict[str, Any]) -> pd.DataFrame:
    """Forcings and runoff (mm a day) of one basin; days without a measurement have no runoff."""
    path = catalog.locate(name, f"daymet_{basin}{options['forcings']}")
    area = float(pd.read_csv(path, header=None, nrows=3)[0].iloc[2])  # square meters
    forcings = pd.read_csv(path, sep=r"\s+", skiprows=3)
    forcings.columns = [column.partition("(")[0] for column in forcings.columns]
    dates = pd.to_datetime(forcings[["Year", "Mnth", "Day"]].set_axis(["year", "month", "day"], axis=1))
    found = forcings[options["columns"]].assign(basin=basin, date=dates)
    flow = pd.read_csv(
        catalog.locate(name, f"{basin}_streamflow_qc.txt"),
        sep=r"\s+",
        header=None,
        names=["basin", "year", "month", "day", "flow", "flag"],
    )
    runoff = (flow["flow"] * _CFS * 86_400 / area * 1000).where(flow["flow"] >= 0)
    flow = pd.DataFrame({"date": pd.to_datetime(flow[["year", "month", "day"]]), "runoff": runoff})
    return found.merge(flow, on="date", how="left")


def _attributes(name: str, kinds: Sequence[str]) -> pd.DataFrame:
    """The static attributes of every basin."""
    tables = [
        pd.read_csv(catalog.locate(name, f"camels_{kind}.txt"), sep=";", dtype={"gauge_id": str}).set_index("gauge_id")
        for kind in kinds
    ]
    return pd.concat(tables, axis=1).rename_axis("basin").reset_index()


def _climatology(train: Any, truth: Any) -> pd.DataFrame:
    """The mean runoff of the basin within 15 days of the day of the year."""
    parts = []
    for basin, days in truth.groupby("basin"):
        own = train[train["basin"] == basin]
        gap = np.abs(days["date"].dt.dayofyear.to_numpy()[:, None] - own["date"].dt.dayofyear.to_numpy())
        near = np.minimum(gap, 366 - gap) <= _CLIMATOLOGY_DAYS
        mean = [own["runoff"].to_numpy()[row].mean() for row in near]
        parts.append(days[["basin", "date"]].assign(runoff=mean))
    return pd.concat(parts)


def _by_basin(truth: Any, found: pd.DataFrame) -> dict[str, float]:
    """Median NSE and KGE, and the NSE of each basin."""
    joined = truth.dropna().merge(found, on=["basin", "date"], suffixes=(" true", ""))
    parts = [(b, part["runoff true"].to_numpy(), part["runoff"].to_numpy()) for b, part in joined.groupby("basin")]
    nse = {str(basin): r2(*pair) for basin, *pair in parts}
    return {
        "median NSE": float(np.median(list(nse.values()))),
        "median KGE": float(np.median([kge(*pair) for _, *pair in parts])),
        **{f"NSE {basin}": value for basin, value in nse.items()},
    }


def by_dates(job: Regressor, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """One table split at two dates; the past of validation and test is their context."""
    frame: Any = pd.read_csv(catalog.locate(folder.name, options["file"]))
    column, zone = options["time"]
    frame[job.time_col] = pd.to_datetime(frame[column], utc=True).dt.tz_convert(zone)
    (target,) = job.target_cols
    frame = frame[[job.time_col, *options["columns"], target]]
    _fit_by_dates(fit, frame, job.time_col, target, options)
    in_test = frame[job.time_col] >= _dates(options, frame[job.time_col])[1]
    return job.evaluate(frame.assign(**{target: frame[target].where(in_test)}), progress=progress).table


def _fit_by_dates(fit: Fit, frame: Any, time: str, target: str, options: dict[str, Any]) -> None:
    valid_from, test_from = _dates(options, frame[time])
    before_test = frame[frame[time] < test_from]
    in_valid = before_test[time] >= valid_from
    fit(before_test[~in_valid], before_test.assign(**{target: before_test[target].where(in_valid)}))


def _dates(options: dict[str, Any], times: Any) -> list[Any]:
    """The first instants of validation and test, in the time zone of the times."""
    return [pd.Timestamp(text, tz=getattr(times.dt, "tz", None)) for text in options["dates"]]


PROTOCOLS = {"remaining_life": remaining_life, "rainfall_runoff": rainfall_runoff, "by_dates": by_dates}
