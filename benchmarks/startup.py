"""Start-up times of the package and the command line: medians of alternating runs, each in its own process."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import machine

ROUNDS = 5
RECORD = Path(__file__).parent.parent / "results/speed/startup.json"
CASES = {
    "import torch": ["-c", "import torch"],
    "import lstmkit": ["-c", "import lstmkit"],
    "lstmkit.LSTM": ["-c", "import lstmkit; lstmkit.LSTM"],
    "lstmkit --help": ["-m", "lstmkit", "--help"],
    "lstmkit fit classifier --help": ["-m", "lstmkit", "fit", "classifier", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write results/speed/startup.json, for docs/speed.md")
    record = parser.parse_args().record
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, arguments in CASES.items():
            times[name].append(seconds(arguments))
    medians = {name: round(statistics.median(measured), 3) for name, measured in times.items()}
    for name, median in medians.items():
        print(f"{name:32} {median:6.2f} s")
    if record:
        about = {**machine.describe(1, 0), "rounds": ROUNDS, "seconds": medians}
        RECORD.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
