"""Which threshold keeps its promised false-alarm rate on series that drift: all methods, on the same scores.

Small models, one per series. Series without labels count as normal. NAB trains on the first half of a series, SKAB on
400 rows, SMAP on its training part, and the others on the first 70 %. A method is chosen for each group on the other
groups: the one whose false-alarm rates are nearest to the promised one, in the mean of their logarithms.
Run: python anomaly_thresholds.py [--json PATH], with the data sets in $LSTMKIT_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit import AnomalyDetector
from lstmkit.data import catalog
from lstmkit.data.tables.table import read_file
from lstmkit.evaluation.anomaly_metrics import alarm_counts, event_counts
from lstmkit.evaluation.anomaly_thresholds import merge_gaps

RATE = 0.005
SETTINGS: dict[str, Any] = {"hidden_size": 32, "epochs": 8, "steps_per_epoch": 30, "false_alarm_rate": RATE}
ALL_SCORES = 1_000_000  # a threshold window that keeps every validation score
METHODS = [("quantile", 0), ("pot", 0)]
METHODS += [(method, window) for method in ("rolling", "dynamic", "rolling_quantile") for window in (500, 1000, 2000)]
_MAX_STEPS = 13_000  # of a series without labels


class Case(NamedTuple):
    """A series: its group, the rows of the training part, columns and labels ``(T,)``, and covariates."""

    group: str
    num_train: int
    frame: pd.DataFrame
    labels: np.ndarray
    covariates: tuple[str, ...] = ()


def cases() -> Iterator[Case]:
    """All series."""
    yield from nab()
    for file in catalog.entry("skab").files[2::2]:  # the first one has no fault
        frame = read_file(catalog.locate("skab", file.name)).frame
        sensors = frame.drop(columns=["datetime", "anomaly", "changepoint"]).astype(float)
        yield Case("SKAB", 400, sensors, frame["anomaly"].to_numpy(float) > 0)
    yield from smap()
    unlabeled = {
        "vic_elec": ("vic_elec.csv.gz", ["demand", "temperature"]),
        "classic_series": ("pollution.csv.gz", ["pm2.5", "TEMP", "PRES", "Iws"]),
        "nyc_weather": ("weather.csv.gz", ["temp", "humid", "wind_speed"]),
        "ett": ("ETTh1.csv.gz", ["HUFL", "LUFL", "OT"]),
        "exchange_rate": ("exchange_rate.txt.gz", range(8)),
    }
    for group, (file, columns) in unlabeled.items():
        header = None if group == "exchange_rate" else 0
        frame = pd.read_csv(Path(os.environ["LSTMKIT_DATA"]) / group / file, header=header)
        frame = frame[frame["origin"] == "EWR"] if group == "nyc_weather" else frame
        for column in columns:
            yield from normal(group, frame[column].to_numpy(float))


def normal(group: str, values: np.ndarray) -> Iterator[Case]:
    """Parts of a series without labels."""
    for start in range(0, len(values) - min(len(values), _MAX_STEPS) + 1, _MAX_STEPS):
        part = values[start : start + _MAX_STEPS]
        yield Case(group, int(0.7 * len(part)), pd.DataFrame({"value": part}), np.zeros(len(part), dtype=bool))


def nab() -> Iterator[Case]:
    windows = json.loads(catalog.locate("nab", "combined_windows.json").read_text(encoding="utf-8"))
    for name in sorted(windows):
        frame = read_file(catalog.locate("nab", name.replace("/", "__"))).frame
        times = pd.to_datetime(frame["timestamp"])
        labels = np.zeros(len(frame), dtype=bool)
        for first, last in windows[name]:
            labels |= times.between(first, last).to_numpy()
        group = name.split("/")[0].removesuffix("NoAnomaly").removesuffix("WithAnomaly")
        yield Case(f"NAB {group}", len(frame) // 2, frame[["value"]].astype(float), labels)


def smap() -> Iterator[Case]:
    rows = pd.read_csv(catalog.locate("smap", "labeled_anomalies.csv"))
    with np.load(catalog.locate("smap", "smap.npz")) as arrays:
        for channel in sorted({name for name in rows["chan_id"] if f"train_{name}_value" in arrays})[::3]:
            parts = [
                np.concatenate([arrays[f"{part}_{channel}_value"][:, None], arrays[f"{part}_{channel}_cmd"]], axis=1)
                for part in ("train", "test")
            ]
            num_train, values = len(parts[0]), np.concatenate(parts)
            labels = np.zeros(len(values), dtype=bool)
            for ranges in rows.loc[rows["chan_id"] == channel, "anomaly_sequences"]:
                for first, last in json.loads(ranges):
                    labels[num_train + first : num_train + last + 1] = True
            names = ["telemetry", *(f"command {i}" for i in range(1, values.shape[1]))]
            yield Case("SMAP", num_train, pd.DataFrame(values, columns=names), labels, tuple(names[1:]))


def measure(case: Case) -> list[dict[str, Any]]:
    """One row per method."""
    job = AnomalyDetector(**SETTINGS, covariates=case.covariates, threshold_window=ALL_SCORES)
    job.fit(case.frame[: case.num_train])
    (result,) = job.predict(case.frame[case.num_train :])
    predictor, labels = job.predictor, case.labels[case.num_train :]
    rows = []
    for method, window in METHODS:
        predictor.settings = replace(predictor.settings, threshold_method=method, threshold_window=window or ALL_SCORES)
        threshold = predictor.thresholds(result.scores, predictor.fit_threshold(predictor.validation_scores))
        alarms = result.scores > threshold
        events = merge_gaps(alarms, job.merge_gap)
        found, _, missed = event_counts(labels, events)
        right, false = alarm_counts(labels, events, job.max_event_steps)
        rows.append(
            {"group": case.group, "method": method, "window": window, "rate": float(alarms[~labels].mean())}
            | {"found": found, "anomalies": found + missed, "right": right, "false": false}
            | {"normal steps": int((~labels).sum())}
        )
    return rows


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Each method over all series, its rate in each group, and the method chosen for each group on the others."""
    key = ["method", "window"]
    rates = rows.groupby([*key, "group"], sort=False)["rate"].mean().unstack()
    distance = np.log2(rates / RATE).abs()
    methods = []
    for (method, window), own in rows.groupby(key, sort=False):
        totals = own[["found", "anomalies", "right", "false", "normal steps"]].sum()
        methods.append(
            {
                "method": method,
                "window": int(window),
                "series": len(own),
                "mean rate": round(float(own["rate"].mean()), 5),
            }
            | {"within a factor 3": round(float((own["rate"] <= 3 * RATE).mean()), 3)}
            | {"anomalies found": int(totals["found"]), "anomalies": int(totals["anomalies"])}
            | {"alarm precision": round(float(totals["right"] / (totals["right"] + totals["false"])), 3)}
            | {"false events per 1,000 steps": round(float(1000 * totals["false"] / totals["normal steps"]), 2)}
            | {"rates": rates.loc[(method, window)].round(5).to_dict()}
        )
    chosen = []
    for group in rates.columns:
        best = distance.drop(columns=group).mean(axis=1).idxmin()
        row = {
            "group": group,
            "method": best[0],
            "window": int(best[1]),
            "rate": round(float(rates.loc[best, group]), 5),
        }
        chosen.append(row)
    return {"rate": RATE, "settings": SETTINGS, "methods": methods, "chosen on the other groups": chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all results to this file")
    arguments = parser.parse_args()
    rows = []
    for case in cases():
        rows += measure(case)
        print(f"{case.group}: {len(case.frame):,} steps", flush=True)
    result = summary(pd.DataFrame(rows))
    print(pd.DataFrame(result["methods"]).drop(columns="rates").to_string(index=False))
    print(pd.DataFrame({f"{m['method']} {m['window']}": m["rates"] for m in result["methods"]}).round(4).to_string())
    print(pd.DataFrame(result["chosen on the other groups"]).to_string(index=False))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
