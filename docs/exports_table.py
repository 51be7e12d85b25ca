"""Write the tables in docs/export.md from results/exports.json. With --check, only compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
NAMES = {"job": "the job itself", "job int8": "the job, int8", "onnx": "ONNX", "int8": "ONNX, int8"}


def jobs(result: dict[str, Any]) -> str:
    """One row per case: size, agreement and speed of its formats."""
    lines = [
        f"Each job with its default size, on the tiny data of the tests, {result['threads']} thread of {result['cpu']} "
        f"(`benchmarks/exports.py`, {result['date']}). Difference: the largest of any number in the answers, and for "
        "`.pt2` in the outputs of the networks. Speed: time of `predict` of the job, divided by that of the runtime.",
        "",
        "| job, data | ONNX | its difference | its speed | `.pt2` | its difference |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in result["cases"]:
        onnx, program = row["onnx"], row["torch"]
        lines.append(
            f"| {row['case'].replace(':', ', ')} | {_size(onnx['bytes'])} "
            f"| {_difference(onnx['difference'])} | {onnx['times the speed of the job']:.1f}× "
            f"| {_size(program['bytes'])} | {_difference(program['difference'])} |"
        )
    return "\n".join(lines)


def recipes(result: dict[str, Any]) -> str:
    """Accuracy, size and time of three recipes."""
    lines = [
        "One network with the settings of a recipe, trained for at most "
        f"{result['recipes'][0]['minutes']:g} minutes, on its test part. The ONNX files ran in a process that cannot "
        "import torch. Seconds: all examples, without reading files, in the second call; those of the job start from "
        "encoded examples.",
        "",
        "| recipe | examples | | accuracy | same labels as the job | size | seconds |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for recipe in result["recipes"]:
        for key, name in NAMES.items():
            row = recipe[key]
            first = f"{recipe['recipe']} | {recipe['examples']:,}" if key == "job" else " | "
            same = "" if key == "job" else f"{row['same labels']:.1%}"
            lines.append(
                f"| {first} | {name} | {row['accuracy']:.3f} | {same} | {_size(row['bytes'])} | {row['seconds']:.2f} |"
            )
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _difference(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")


if __name__ == "__main__":
    record = json.loads((ROOT / "results/exports.json").read_text(encoding="utf-8"))
    fill(ROOT / "docs/export.md", "jobs", jobs(record), "results/exports.json")
    fill(ROOT / "docs/export.md", "recipes", recipes(record), "results/exports.json")
