"""Exported jobs beside the jobs: agreement, size and speed of every format, and the accuracy with weights in 8 bits.

Every case of the tests is fitted for an epoch with the default size of its job, and exported. The recipes are fitted
for at most ``--minutes`` each; their ONNX files answer the test part in a process that cannot import torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import lstmkit
import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from job_cases import CASES
from lstmkit import recipes, runtime
from lstmkit.data import catalog
from lstmkit.jobs import job_class
from lstmkit.jobs.base import Job
from lstmkit.progress import Progress
from test_runtime import DETERMINISTIC, runtime_data
from timing import in_turns

RECORD = Path(__file__).parent.parent / "results/exports.json"
RECIPES = ("japanese_vowels", "trec", "fsdd")
SECONDS = 2.0  # for each implementation that is timed

#: Answers in a process that can import numpy and onnxruntime, but not torch.
WITHOUT_TORCH = """
import sys
for name in ("torch", "pandas", "scipy"):
    sys.modules[name] = None
import json, time
import numpy as np
from lstmkit import runtime
folder, data, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with np.load(data) as arrays:
    inputs = [arrays[f"{k}"] if arrays[f"{k}"].ndim else str(arrays[f"{k}"]) for k in range(len(arrays))]
exported = runtime.load(folder)
exported.predict(inputs, **options)
start = time.perf_counter()
answers = exported.predict(inputs, **options)
print(json.dumps({"seconds": time.perf_counter() - start, "labels": [answer["label"] for answer in answers]}))
"""


def difference(found: Any, expected: Any) -> float:
    """The largest difference of numbers; infinite if anything else differs."""
    if isinstance(expected, dict):
        if found.keys() != expected.keys():
            return float("inf")
        return max((difference(found[key], value) for key, value in expected.items()), default=0.0)
    if isinstance(expected, (list, tuple, np.ndarray)):
        if len(found) != len(expected):
            return float("inf")
        return max((difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if isinstance(expected, (float, np.floating)):
        both_missing = np.isnan(expected) and np.isnan(found)
        return 0.0 if both_missing else abs(float(found) - float(expected))
    return 0.0 if found == expected else float("inf")


def size(folder: Path, without: str = "") -> int:
    """Bytes of the files of a folder, but for those that match a pattern."""
    return sum(path.stat().st_size for path in folder.iterdir() if not (without and path.match(without)))


def job_row(name: str, folder: Path) -> dict[str, Any]:
    """ONNX and torch files of one case: agreement, bytes, and time of the job divided by that of the export."""
    case = CASES[name]
    cls = job_class(name.partition(":")[0])
    needed = {k: v for k, v in case.settings.items() if k not in ("hidden_size", "embedding_size", "feature_size")}
    job = cls(**{**needed, "epochs": 1}).fit(case.data(), progress=Progress())
    job.export(folder / "onnx")
    options = {**case.predict_options, **DETERMINISTIC.get(name, {})}
    data, own = runtime_data(job, name, case.other())
    exported = runtime.load(folder / "onnx")
    answers = [lambda: job.predict(case.other(), **options), lambda: exported.predict(data, **options, **own)]
    torch.set_num_threads(1)
    by_torch, by_onnx = in_turns(answers, SECONDS)
    job.export(folder / "torch", "torch")
    return {
        "case": name,
        "graphs": len(exported.graphs),
        "onnx": {
            "bytes": size(folder / "onnx"),
            "difference": difference(answers[1](), job.to_records(answers[0]())),
            "times the speed of the job": round(by_onnx.ratio(by_torch)[0], 2),
        },
        "torch": {
            "bytes": sum(
                path.stat().st_size for path in (folder / "torch").glob("*.pt2") if "_kernels" not in path.name
            ),
            "difference": program_difference(job, folder / "torch"),
        },
    }


def program_difference(job: Job, folder: Path) -> float:
    """The largest difference between the networks of a job and their programs, for the example inputs."""
    largest = 0.0
    for name, graph in job.exported().graphs.items():
        for suffix in ("", "_kernels"):
            program = torch.export.load(folder / f"{name}{suffix}.pt2").module()
            with torch.no_grad():
                expected, found = graph.module.eval()(*graph.inputs.values()), program(*graph.inputs.values())
            pairs = [(expected, found)] if isinstance(expected, torch.Tensor) else zip(expected, found, strict=True)
            largest = max(largest, *(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()))
    return largest


def fitted(name: str, minutes: float) -> tuple[Job, Any]:
    """A job fitted to the training part of a recipe, one network, and the test part."""
    recipe = recipes.recipe(name)
    folder = catalog.locate(recipe.data)
    job = job_class(recipe.job)(**{**recipe.settings, "ensemble_size": 1, "budget": f"{minutes:g}min"})

    def fit(data: Any, validation: Any | None = None) -> None:
        job.fit(data, validation=validation, progress=Progress())

    with mock.patch.object(type(job), "evaluate", autospec=True, side_effect=type(job).evaluate) as evaluate:
        recipes.protocols(recipe.job)[recipe.protocol](job, fit, folder, recipe.options, Progress())
    return job, evaluate.call_args.args[1]


def recipe_row(name: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Accuracy on the test part, bytes and seconds: of the job, of its ONNX file, and of both with 8-bit weights."""
    job, test = fitted(name, minutes)
    examples = job.read(test)
    true = [labels[0] for labels in examples.require_labels()]
    inputs = [getattr(one, "samples", one) for one in examples.inputs]
    options = {"sample_rate": examples.inputs[0].sample_rate} if hasattr(examples.inputs[0], "samples") else {}
    np.savez(folder / "data.npz", **{str(k): one for k, one in enumerate(inputs)})
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    labels: list[str] = []
    for key, quantize in (("job", "none"), ("job int8", "int8")):
        job.export(folder / key, "safetensors", quantize=quantize)
        found, seconds = _labels(lstmkit.load(folder / key), examples)
        labels = labels or found
        rows[key] = {**_scores(found, true, size(folder / key), seconds), "same labels": _fraction(found, labels)}
    for quantize in ("none", "int8"):
        job.export(folder / quantize, quantize=quantize)
        command = [sys.executable, "-c", WITHOUT_TORCH, folder / quantize, folder / "data.npz", json.dumps(options)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        row = _scores(done["labels"], true, size(folder / quantize), done["seconds"])
        rows["onnx" if quantize == "none" else quantize] = {**row, "same labels": _fraction(done["labels"], labels)}
    return {"recipe": name, "minutes": minutes, "examples": len(true), **rows}


def _labels(job: Job, examples: Any) -> tuple[list[str], float]:
    """The labels of all examples, and the seconds that the network took, after a first call."""
    encoded = job.predictor.front_end.encode(examples.inputs)
    job.predictor.predict_probabilities(encoded)
    start = time.perf_counter()
    probabilities = job.predictor.predict_probabilities(encoded)
    seconds = time.perf_counter() - start
    return [job.classes[k] for k in probabilities.argmax(axis=1)], seconds


def _scores(labels: list[str], true: list[str], size: int, seconds: float) -> dict[str, Any]:
    return {"accuracy": _fraction(labels, true), "bytes": size, "seconds": round(seconds, 3)}


def _fraction(labels: list[str], others: list[str]) -> float:
    return round(statistics.mean(a == b for a, b in zip(labels, others, strict=True)), 4)


def in_folder(work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        row = work(Path(folder))
    print(json.dumps(row), flush=True)
    return row


def replaced(rows: list[dict[str, Any]], others: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The rows, with those of the same name among the others in their place."""
    named = {row[key]: row for row in (*rows, *others)}
    return [*named.values()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases and recipes; by default all")
    parser.add_argument("--minutes", type=float, default=2.0, help="longest training of a recipe")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the rows to results/exports.json",
    )
    given = parser.parse_args()
    names = [name for name in CASES if name.partition(":")[0] in runtime.job_names()]
    cases = [in_folder(lambda f, n=n: job_row(n, f)) for n in names if not given.only or n in given.only]
    scored = [
        in_folder(lambda f, n=n: recipe_row(n, given.minutes, f)) for n in RECIPES if not given.only or n in given.only
    ]
    if given.record:
        before = json.loads(RECORD.read_text(encoding="utf-8")) if given.only else {"cases": [], "recipes": []}
        about = {
            **machine.describe(1, 0),
            "cases": replaced(before["cases"], cases, "case"),
            "recipes": replaced(before["recipes"], scored, "recipe"),
        }
        RECORD.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
