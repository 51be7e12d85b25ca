"""Write the measurements in docs/serving.md from results/serving.json. With --check, only compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marked import fill

ROOT = Path(__file__).parent.parent
NAMES = {
    "classifier": "classifier of short questions",
    "forecaster": "forecaster, 24 hours with three covariates",
    "detector": "step of an anomaly detector, WebSocket",
    "detector_real_time": "step of an anomaly detector, real-time priority",
}


def section(result: dict[str, Any]) -> str:
    """The load on each run, batches, broken requests, slow clients."""
    cases = [(NAMES[name], load) for name, loads in result["loads"].items() for load in loads]
    cases += [("classifier, one by one (`--max-batch 1`)", load) for load in result["classifier_one_by_one"]]
    libraries = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    lines = [
        f"Measured on {result['date']} with {result['cpu']}, {result['cores']}, over the loopback "
        "(`benchmarks/serving.py`). The client asks again as soon as it has an answer, so with many connections the "
        f"latency is that of a full queue. Python {result['python']}, torch {result['torch']}, {libraries}.",
        "",
        "| run | connections | seconds | requests per second | p50, ms | p99, ms | memory, MB: start, end |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(name, load) for name, load in cases),
        "",
        *_faults(result),
    ]
    return "\n".join(lines)


def _row(name: str, load: dict[str, Any]) -> str:
    first, _, last = load["memory_mb"]
    return (
        f"| {name} | {load['connections']} | {load['seconds']:.0f} | {load['requests_per_s']:,.0f} "
        f"| {load['p50_ms']:.2f} | {load['p99_ms']:.2f} | {first:.0f}, {last:.0f} |"
    )


def _faults(result: dict[str, Any]) -> list[str]:
    broken, slow = result["broken_requests"], result["slow_clients"]
    statuses: dict[str, int] = {}
    for half in broken["statuses"]:
        for status, count in half.items():
            statuses[status] = statuses.get(status, 0) + count
    listed = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    memory = ", ".join(f"{each:.0f}" for each in broken["memory_mb"])
    without, beside = slow["without"], slow["with"]
    return [
        f"- **{broken['sent']:,} broken requests**: {listed}; {broken['tracebacks']} tracebacks in the log. Memory "
        f"before, after half and after all of them: {memory} MB.",
        f"- **{slow['clients']} slow clients**, a byte a second: one other client has a p99 of "
        f"{beside['p99_ms']:.2f} ms, without them {without['p99_ms']:.2f} ms.",
        "- **kill -9**: the server starts again on the same port"
        + (", and removes the folder of the killed one." if not result["after_kill_9"]["folders_left"] else "."),
    ]


if __name__ == "__main__":
    record = json.loads((ROOT / "results/serving.json").read_text(encoding="utf-8"))
    fill(ROOT / "docs/serving.md", "load", section(record), "results/serving.json")
