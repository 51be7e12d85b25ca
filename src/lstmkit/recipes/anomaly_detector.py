"""Protocols of anomaly detection benchmarks: one model per series, thresholds fitted without labels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import catalog
from lstmkit.data.series.sensor_series import SensorSeries, SensorSeriesSet
from lstmkit.data.tables.table import read_file
from lstmkit.evaluation.anomaly_metrics import nab_raw_score, nab_score
from lstmkit.jobs.anomaly_detector import metrics
from lstmkit.jobs.anomaly_detector.job import AnomalyDetector
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

Pairs = Iterator[tuple[SensorSeriesSet, SensorSeriesSet]]  #: Training and test part of each series.

_PROBATION, _MAX_PROBATION = 0.15, 750  # fraction and steps of a NAB series that train and do not count


def nab(job: AnomalyDetector, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The Numenta anomaly benchmark, standard profile. The start of each series trains and does not count.

    ``NAB`` uses thresholds fitted without labels. ``NAB, best threshold`` uses one factor on all
    thresholds, the best one for all series, as the benchmark chooses it. A run of alarms is one detection, at its
    first step.
    """
    pairs, windows = list(_nab(folder, options)), _windows(folder, options)
    labels, found = _with_thresholds(job, fit, iter(pairs), progress)
    rows = []
    windows_of = [_steps(one, windows[one.name]) for _, test in pairs for one in test.items]
    count = sum(map(len, windows_of))
    after = [known[_probation(len(known)) :] for known in labels]
    for name, judged in found.items():
        ratios = [scores / np.maximum(levels, 1e-12) for scores, levels in judged]
        levels = np.unique(np.quantile(np.concatenate(ratios), 1 - np.geomspace(1e-4, 0.5, 60)))
        points = {level: _points(ratios, windows_of, level, job.merge_gap) for level in (1.0, *levels)}
        own, best = (nab_score(of, count) for of in (points[1.0], max(points.values())))
        counted = [
            (scores[-len(known) :], level[-len(known) :]) for known, (scores, level) in zip(after, judged, strict=True)
        ]
        rows.append({"model": name, "NAB": own, "NAB, best threshold": best} | _scores(after, counted, job))
    return pd.DataFrame(rows)


def _points(ratios: list[np.ndarray], windows: list[list[tuple[int, int]]], level: float, gap: int) -> float:
    each = zip(ratios, windows, strict=True)
    return sum(nab_raw_score(of, one > level, _probation(len(one)), gap) for one, of in each)


def _probation(length: int) -> int:
    return min(int(_PROBATION * length), _MAX_PROBATION)


def _windows(folder: Path, options: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    read = json.loads(catalog.locate(folder.name, options["windows"]).read_text(encoding="utf-8"))
    return {name.replace("/", "__"): of for name, of in read.items()}


def _nab(folder: Path, options: dict[str, Any]) -> Pairs:
    windows = _windows(folder, options)
    for name in sorted(windows):
        frame = read_file(catalog.locate(folder.name, name)).frame
        times = pd.DatetimeIndex(frame["timestamp"])
        one = SensorSeries(name, frame["value"].to_numpy(dtype=np.float64)[:, None], times)
        labels = np.zeros(len(one), dtype=bool)
        for start, stop in _steps(one, windows[name]):
            labels[start:stop] = True
        whole = SensorSeries(name, one.values, times, labels)
        yield _set([one.slice(0, _probation(len(one)))]), _set([whole])


def _steps(one: SensorSeries, windows: list[tuple[str, str]]) -> list[tuple[int, int]]:
    """First step and the step after the last of each window of timestamps."""
    ends = ((pd.Timestamp(first), pd.Timestamp(last)) for first, last in windows)
    return [(int(one.times.searchsorted(a)), int(one.times.searchsorted(b, "right"))) for a, b in ends]


def smap(job: AnomalyDetector, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Telemetry of 54 channels with commands as covariates; training and test part as given."""
    return _scored(job, *_with_thresholds(job, fit, _smap(folder, options), progress))


def _smap(folder: Path, options: dict[str, Any]) -> Pairs:
    ranges: dict[str, list[list[int]]] = {}
    rows = csv.DictReader(io.StringIO(catalog.locate(folder.name, options["labels"]).read_text(encoding="utf-8")))
    for row in rows:  # one channel has two rows
        ranges.setdefault(row["chan_id"], []).extend(json.loads(row["anomaly_sequences"]))
    with np.load(catalog.locate(folder.name, options["values"])) as arrays:
        for channel in sorted(ranges):
            train, test = (
                np.concatenate([arrays[f"{part}_{channel}_value"][:, None], arrays[f"{part}_{channel}_cmd"]], axis=1)
                for part in ("train", "test")
            )
            labels = np.zeros(len(test), dtype=bool)
            for start, last in ranges[channel]:
                labels[start : last + 1] = True
            names = ("telemetry", *(f"command {i}" for i in range(1, train.shape[1])))
            yield (
                _set([SensorSeries(channel, train, np.arange(1, len(train) + 1))], names),
                _set([SensorSeries(channel, test, np.arange(1, len(test) + 1), labels)], names),
            )


def skab(job: AnomalyDetector, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Experiments with a fault: the first ``train`` rows of each train, the others test."""
    return _scored(job, *_with_thresholds(job, fit, _skab(folder, options), progress))


def _skab(folder: Path, options: dict[str, Any]) -> Pairs:
    for file in catalog.entry(folder.name).files:
        if file.name != options["without"]:
            whole, sensors = _experiment(catalog.locate(folder.name, file.name))
            parts = (whole.slice(0, options["train"]), whole.slice(options["train"], len(whole)))
            train, test = (_set([part], sensors) for part in parts)
            yield train.slice([(0, options["train"])], labels=False), test


def _experiment(path: Path) -> tuple[SensorSeries, tuple[str, ...]]:
    frame = read_file(path).frame
    labels = frame["anomaly"].to_numpy(dtype=np.float64) > 0
    sensors = frame.drop(columns=["datetime", "anomaly", "changepoint"])
    times = pd.DatetimeIndex(frame["datetime"])
    return SensorSeries(path.name, sensors.to_numpy(dtype=np.float64), times, labels), tuple(sensors.columns)


def _with_thresholds(
    job: AnomalyDetector, fit: Fit, pairs: Pairs, progress: Progress
) -> tuple[list[np.ndarray], dict[str, metrics.ScoresAndThresholds]]:
    """Labels of all test series; scores and thresholds of each model."""
    labels: list[np.ndarray] = []
    found: dict[str, metrics.ScoresAndThresholds] = {}
    for train, test in pairs:
        fit(train)
        labels += [one.labels for one in test.items if one.labels is not None]
        results = job.predictor.detect(test, progress)
        for name, scored in job.score_all_models(test, results).items():
            found.setdefault(name, []).extend(scored)
    return labels, found


def _scored(
    job: AnomalyDetector, labels: list[np.ndarray], found: dict[str, metrics.ScoresAndThresholds]
) -> pd.DataFrame:
    return pd.DataFrame([{"model": name} | _scores(labels, scored, job) for name, scored in found.items()])


def _scores(labels: list[np.ndarray], scored: metrics.ScoresAndThresholds, job: AnomalyDetector) -> dict[str, float]:
    overlap = metrics.overlap_f1(labels, scored, job.merge_gap, job.max_event_steps)  # the published figures' metric
    return job.score_alarms(labels, scored) | {"overlap F1": overlap}


def _set(items: list[SensorSeries], channels: tuple[str, ...] = ("value",)) -> SensorSeriesSet:
    return SensorSeriesSet(tuple(items), channels, items[0].name)


PROTOCOLS = {"nab": nab, "smap": smap, "skab": skab}
