"""What lstmkit does under kills, full disks, damaged files, long streams, threads and forks.

``python benchmarks/reliability`` runs every experiment and writes its figures to ``results/reliability``;
``--only killed_fits --count 50`` runs one of them with fewer trials. The exit code is 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import machine  # noqa: E402
from lstmkit.progress import TerminalProgress  # noqa: E402

EXPERIMENTS = (
    *("killed_fits", "two_fits", "failing_disks", "damaged_models", "damaged_inputs", "long_streams"),
    "threads_and_forks",
)


def run(name: str, count: int | None) -> dict[str, Any]:
    """One experiment and what it found, with machine and versions."""
    experiment = importlib.import_module(name)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = experiment.measure(count or experiment.COUNT, Path(folder), TerminalProgress())
    about = {
        **machine.describe(1, 0),
        "count": count or experiment.COUNT,
        "minutes": round((time.monotonic() - start) / 60, 1),
    }
    return {"what": str(experiment.__doc__).partition("\n")[0], **about, "figures": figures}


def faults(figures: Any) -> list[str]:
    """All faults in an experiment's nested figures."""
    if not isinstance(figures, dict):
        return []
    found = [fault for inner in figures.values() for fault in faults(inner)]
    return [*figures.get("faults", []), *found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=EXPERIMENTS, help="experiments")
    parser.add_argument("--count", type=int, help="trials, mutations or steps instead of the full number")
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "results" / "reliability", help="folder of the figures"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # children are forked, and threads of a pool do not survive that
    arguments.output.mkdir(parents=True, exist_ok=True)
    broken = False
    for name in arguments.only:
        record = run(name, arguments.count)
        (arguments.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        found = faults(record["figures"])
        broken |= bool(found)
        print(f"{name}: {len(found)} faults in {record['minutes']} minutes", *found[:5], sep="\n  ")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
