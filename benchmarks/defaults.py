"""Default settings beside tuned settings and plain baselines, for every recipe with a recorded result.

``python benchmarks/defaults.py gunpoint trec`` runs the protocols of these recipes with default settings and writes
``results/defaults.json``; ``--missing`` runs those that have no row. Without either, only figures of other records
are updated: tuned scores (``results/*.json``), and forecasts of M3 and tourism (``results/defaults/forecasters.json``).

A setting of a recipe is passed on if it says what the data are or what is scored: it is in the group ``data`` or
``evaluation`` and not in :data:`TUNED`, or it is in :data:`STATED`. All others keep their defaults.
Each row runs in a process of its own with one thread, and is written when it ends. Data sets are found or downloaded as
by ``lstmkit reproduce``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lstmkit.data import catalog
from lstmkit.jobs import job_class
from lstmkit.jobs.settings import settings_of
from lstmkit.progress import Progress, seconds_in
from lstmkit.recipes import Recipe, all_recipes, higher_is_better, protocols, recipe
from lstmkit.settings import declared
from lstmkit.training import checkpoint
from lstmkit.training.provenance import provenance

RESULTS = Path(__file__).parent.parent / "results"

#: Settings of the groups data and evaluation that say neither what the data are nor what is scored, and why.
TUNED = {
    "valid_fraction": "the share of the training part for validation is up to the model",
    "log_transform": "a transformation of the values",
    "centering": "a transformation of the values",
    "scaling": "a transformation of the values",
    "max_transposition": "augmentation of the training part",
    "cache_size": "adds a second model to the table",
    "dynamic_eval_lr": "adds a second model to the table",
}

#: Other settings that are passed on, by job or recipe and name, and why.
STATED = {
    "language_model.tokenization": "the score is per token",
    "recommender.seen_items": "it says which items are ranked",
    "speech_synthesizer.sample_rate": "the score is of mel bands up to half of it",
    "image_generator.class_conditional": "the likelihood is given the label",
    "jsb_chorales_independent.distribution": "the recipe is about independent keys",
    "ljspeech_sample.valid_fraction": "the recipe is about memorization of all recordings",
}

#: Recipes without a row, and why.
LEFT_OUT = {"ptb_small": "its data and its test are those of ptb_regularised; only tuned settings differ"}

#: Primary metrics that are not the first column of the protocol's table, and why.
METRICS = {"xquad": "F1"}  # the baseline answers with a whole sentence: it never matches exactly

#: Names of the model's row if that is not the first one, and why.
MODEL_ROWS = {"an4": "LSTM"}  # the first row has a language model, whose settings and weight were tuned

#: Rows that are not baselines by recipe, and why.
NOT_BASELINES = {
    "ljspeech_sample": "recorded-word concatenation",  # the test recordings are the training recordings: it copies them
}

#: Options of protocols that differ from those of the recipe, and why.
OPTIONS = {"fsdd_george": {"listener": {"run": ""}}}  # a trained transcriber, for a column that is not scored here

#: Number of models that a protocol trains if it is not one; they share the budget.
FITS = {"mr": 10, "fsdd_speakers": 6, "nab": 41, "skab": 30, "smap": 54, "read17": 3}


@dataclass
class TimedFits:
    """Fits a job to the data of a protocol, and adds up the wall time."""

    job: Any
    seconds: float = 0.0

    def __call__(self, data: Any, validation: Any | None = None) -> None:
        start = time.monotonic()
        self.job.fit(data, validation=validation, progress=Progress())
        self.seconds += time.monotonic() - start


def stated(of: Recipe) -> dict[str, Any]:
    """The settings of a recipe that say what the data are or what is scored."""
    groups = {name: field.metadata["group"] for name, field in declared(settings_of(of.job)).items()}
    return {
        name: value
        for name, value in of.settings.items()
        if (groups[name] in ("data", "evaluation") and name not in TUNED)
        or not STATED.keys().isdisjoint({f"{of.job}.{name}", f"{of.name}.{name}"})
    }


def measure(of: Recipe, budget: str) -> dict[str, Any]:
    """The row of a recipe: its protocol with default settings, without the tuned score."""
    settings = stated(of)
    job = job_class(of.job)(**settings, **({"budget": budget} if budget else {}))
    fit = TimedFits(job)
    folder = catalog.locate(of.data, download=True)
    table = protocols(of.job)[of.protocol](job, fit, folder, of.options | OPTIONS.get(of.name, {}), Progress())
    return {
        **compared(of.name, table, job.cell.upper()),
        "seconds": round(fit.seconds, 1),
        "seed": job.seed,
        "budget": budget,
        "settings": settings,
        **provenance("pandas"),
    }


def compared(name: str, table: pd.DataFrame, model: str) -> dict[str, Any]:
    """The score of the model beside those of the baselines.

    Args:
        name: Name of the recipe.
        table: Scores of its protocol, one row per model.
        model: How the names of rows begin that are our model, in variants.

    Raises:
        ValueError: The model has no score.
    """
    metric = METRICS.get(name, table.columns[1])
    scores = {str(n): float(score) for n, score in zip(table["model"], table[metric], strict=True) if pd.notna(score)}
    own = MODEL_ROWS.get(name, str(table["model"][0]))
    if own not in scores:
        raise ValueError(f"{name}: {own} has no {metric}")
    others = {n: s for n, s in scores.items() if not n.startswith(model) and n != NOT_BASELINES.get(name)}
    return {"set": name, "metric": metric, "defaults": scores[own], **beside(scores[own], others, metric)}


def beside(score: float, baselines: dict[str, float], metric: str) -> dict[str, Any]:
    """The best baseline, and whether ``score`` beats it; a tie is a loss, and ``None`` if there is no baseline."""
    if not baselines:
        return {"best_baseline": None, "baseline": None, "won": None}
    high = higher_is_better(metric)
    name = (max if high else min)(baselines, key=lambda n: baselines[n])
    best = baselines[name]
    return {"best_baseline": best, "baseline": name, "won": score > best if high else score < best}


# ---- the record ------------------------------------------------------------------------------------------------------


def tuned_results() -> dict[str, dict[str, Any]]:
    """The recorded results of recipes that get a row, the shortest training first."""
    results = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json")))
    found = [r for r in results if "recipe" in r and r["recipe"] not in LEFT_OUT]
    return {r["recipe"]: r for r in sorted(found, key=lambda r: r["training_minutes"])}


def completed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record: measured rows with job and tuned score, rows of the forecasting record, and recipes without a row."""
    tuned = tuned_results()
    jobs = {of.name: of.job for of in all_recipes()}
    measured = {row["set"]: row for row in rows if row["set"] in tuned}
    found = [
        row | {"job": jobs[name], "tuned": tuned[name]["scores"][0][row["metric"]]} for name, row in measured.items()
    ]
    found += forecasting_rows(json.loads((RESULTS / "defaults/forecasters.json").read_text(encoding="utf-8")))
    return {
        "rows": [_in_order(row) for row in sorted(found, key=lambda row: (row["job"], row["set"]))],
        "not_run": sorted(tuned.keys() - measured.keys()),
    }


def _in_order(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its scores first, and which scores are better."""
    first = {name: row[name] for name in ("job", "set", "metric")}
    first["better"] = "high" if higher_is_better(row["metric"]) else "low"
    return first | {name: row[name] for name in ("defaults", "tuned")} | row


def forecasting_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the sets that ``forecasters.py`` has measured; networks of other libraries are not baselines."""
    found = []
    for name in sorted({row["set"] for row in record["rows"]}):
        rows = {row["model"]: row for row in record["rows"] if row["set"] == name}
        own = rows.pop("lstmkit")
        baselines = {model: row["OWA"] for model, row in rows.items() if "(" not in model}
        found.append(
            {
                "job": "forecaster",
                "set": name,
                "metric": "OWA",
                "defaults": own["OWA"],
                "tuned": None,
                **beside(own["OWA"], baselines, "OWA"),
                "seconds": own["seconds"],
                "seed": record["seed"],
                "budget": "",
                "date": record["date"],
                "source": "results/defaults/forecasters.json",
            }
        )
    return found


def update(row: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the record, with ``row`` in the place of an earlier one of its set; returns it."""
    path = RESULTS / "defaults.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = {r["set"]: r for r in before} | ({row["set"]: row} if row else {})
    record = completed(list(rows.values()))
    checkpoint.write_json(path, record)
    return record


# ---- runs ------------------------------------------------------------------------------------------------------------


def seconds_of(text: str) -> float:
    """``"90s"``, ``"5min"`` or ``"1h"`` in seconds, for argparse."""
    try:
        return seconds_in(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"{text!r} is not {err}") from err


def budget_of(name: str, result: dict[str, Any], budget: float) -> str:
    """The budget of each fit of a recipe, if its tuned training took longer than ``budget`` seconds in all."""
    if not budget or 60 * result["training_minutes"] <= budget:
        return ""
    return f"{budget / FITS.get(name, 1):.0f}s"


def in_a_process(name: str, budget: str, limit: float) -> dict[str, Any]:
    """The row of a recipe, measured with one thread in another process that is killed after ``limit`` seconds.

    Raises:
        subprocess.SubprocessError: It failed or took too long.
    """
    command = [sys.executable, __file__, name, "--measure", *(["--budget", budget] if budget else [])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, timeout=limit, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_all(calls: dict[str, Callable[[], dict[str, Any]]], at_once: int) -> list[str]:
    """Make the calls, ``at_once`` at a time, and write each row when it is there; returns what failed, and how."""
    failed = []
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(call): name for name, call in calls.items()}
        for ended in as_completed(running):
            name = running[ended]
            try:
                row = ended.result()
            except subprocess.TimeoutExpired as err:
                failed.append(f"{name} (ended after {err.timeout:g} s)")
                continue
            except subprocess.CalledProcessError as err:
                failed.append(f"{name} (exit code {err.returncode})")
                continue
            update(row)
            print(", ".join(f"{key} {row[key]}" for key in ("set", "metric", "defaults", "best_baseline", "seconds")))
            sys.stdout.flush()
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tuned = tuned_results()
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes to run, even if they have a row")
    parser.add_argument("--missing", action="store_true", help="run the recipes that have no row")
    parser.add_argument("--jobs", type=int, default=1, help="recipes that run at the same time, one thread each")
    parser.add_argument("--limit", type=seconds_of, default="1h", help="time for one recipe, such as 90s, 5min or 1h")
    parser.add_argument(
        "--budget", type=seconds_of, default=0.0, help="training time of a recipe whose tuned training took longer"
    )
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # the process of one row
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - tuned.keys()):
        parser.error(f"no recorded result of a recipe: {', '.join(unknown)}")
    if arguments.measure:
        warnings.simplefilter("ignore")
        budget = f"{arguments.budget:.0f}s" if arguments.budget else ""
        print(json.dumps(measure(recipe(arguments.names[0]), budget), ensure_ascii=False))
        return
    wanted = {*arguments.names, *(update()["not_run"] if arguments.missing else ())}
    calls = {
        name: partial(in_a_process, name, budget_of(name, result, arguments.budget), arguments.limit)
        for name, result in tuned.items()
        if name in wanted
    }
    failed = run_all(calls, arguments.jobs)
    rows = [row for row in update()["rows"] if row["won"] is not None]
    print(f"defaults beat every baseline on {sum(row['won'] for row in rows)} of {len(rows)} rows")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
